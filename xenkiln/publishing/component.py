"""One component of an image, found by its role."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from xenkiln.publishing.bundling import Bundle
from xenkiln.publishing.records import Records, records_for
from xenkiln.publishing.registering import list_ids
from xenkiln.publishing.subject import Role, Subject
from xenkiln.publishing.target import Target
from xenkiln.system.locks import hold_lock


def open_bundle(subject: Subject, role: Role, target: Target) -> Bundle:
    """The component as it is bundled for a folder: as the classic commands do, without a word of the other two."""
    return Bundle(subject, next(each for each in subject.list_components() if each.role == role), target, {})


def open_registered(subject: Subject, role: Role, target: Target) -> Bundle:
    """The same, where the root filesystem's knows what kernel and ramdisk are at that cloud."""
    components = subject.list_components()
    component = next(each for each in components if each.role == role)
    ids = list_ids(subject, components, records_of(subject, target)) if role == "root" else {}
    return Bundle(subject, component, target, ids)


def records_of(subject: Subject, target: Target) -> Records:
    """What is remembered of the image at that cloud."""
    return records_for(target.name, subject.name)


@contextmanager
def hold_records(subject: Subject, target: Target) -> Iterator[Records]:
    """The same, for whoever changes what is there: one run after the other."""
    records = records_of(subject, target)
    with hold_lock(records.lock, f"{subject.name} at {target.name}", wait=True):
        yield records
