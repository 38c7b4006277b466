"""Whose the records of a cloud are: what one user has there, another one neither sees nor takes back."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from xenkiln.errors import HostError
from xenkiln.publishing.records import OWNER, Records, records_for
from xenkiln.publishing.subject import Subject
from xenkiln.publishing.target import Target
from xenkiln.system.locks import hold_lock


def records_of(subject: Subject, target: Target) -> Records:
    """What is remembered of the image at that cloud; HostError where that was another cloud or another user's."""
    owner = name_owner(target)
    records = replace(records_for(target.name, subject.name), owner=owner)
    known = records.read(OWNER)
    if known and known != owner:
        if not target.recipe.embedded:
            then, now = known.get("endpoint"), owner["endpoint"]
            fact = f"its records are of {then}, and the cloud is {now} now"
            if then == now:
                fact = f"its records are of another access key at {then}"
            raise HostError(fact, place=f"{subject.name} at {target.name}",
                            next_step="give each cloud and user a recipe of its own; where it is the same user with"
                            f" a new key or address, remove {records.folder / OWNER}.json")  # fmt: skip
        # The lab's cloud was removed with all that it had.
        records.forget()
    return records


def name_owner(target: Target) -> dict[str, str]:
    """Whose the records are: where, and a digest of the access key."""
    endpoint = target.recipe.dialect if target.recipe.embedded else target.access.ec2_url
    digest = hashlib.sha256(target.access.access_key.encode()).hexdigest()
    return {"endpoint": endpoint or f"Amazon {target.access.region}", "access_key_sha256": digest}


@contextmanager
def hold_records(subject: Subject, target: Target) -> Iterator[Records]:
    """The same, for whoever changes what is there: one run after the other."""
    records = records_of(subject, target)
    with hold_lock(records.lock, f"{subject.name} at {target.name}", wait=True):
        yield records
