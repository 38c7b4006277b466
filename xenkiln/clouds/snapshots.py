"""Snapshots as EC2 knows them: whether they are there, whether they are ours, and when they are completed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from xenkiln.clouds.calls import Patience, call_patiently
from xenkiln.clouds.refusals import make_plain
from xenkiln.clouds.tags import is_ours, read_tags
from xenkiln.errors import CloudError
from xenkiln.system.progress import Tell

PENDING, COMPLETED, ERROR = "pending", "completed", "error"
NOT_FOUND = "InvalidSnapshot.NotFound"
IN_USE = "InvalidSnapshot.InUse"
LONGEST_LOOK_SECONDS = 15.0


@dataclass(frozen=True)
class Snapshot:
    """state is EC2's word, "" for one that is not there; progress likewise ("42%")."""

    state: str
    progress: str = ""
    is_ours: bool = False
    tags: Mapping[str, str] = field(default_factory=dict)


def find_snapshot(ec2: Any, snapshot_id: str, patience: Patience) -> Snapshot:
    """What the cloud says of a snapshot now; raises CloudError."""
    try:
        answer = call_patiently(lambda: ec2.describe_snapshots(SnapshotIds=[snapshot_id]), snapshot_id, patience)
    except CloudError as error:
        if error.code == NOT_FOUND:
            return Snapshot("")
        raise
    found = answer["Snapshots"]
    if not found:
        return Snapshot("")
    state, progress = (make_plain(str(found[0].get(field) or "")) for field in ("State", "Progress"))
    return Snapshot(state, progress, is_ours(found[0]), read_tags(found[0]))


def wait_for_snapshot(ec2: Any, snapshot_id: str, patience: Patience, tell: Tell, limit_seconds: float) -> bool:
    """Whether it is completed within the limit; raises CloudError for one that the cloud gives up."""
    deadline, looks = time.monotonic() + limit_seconds, 0
    while True:
        found = find_snapshot(ec2, snapshot_id, patience)
        if found.state == COMPLETED:
            return True
        if found.state == ERROR:
            raise CloudError("the cloud could not complete the snapshot", place=snapshot_id,
                             next_step="run it again: a new one is made")  # fmt: skip
        looks += 1
        pause = min(LONGEST_LOOK_SECONDS, patience.pause_seconds(looks))
        if time.monotonic() + pause > deadline:
            return False
        tell(f"waiting for {snapshot_id}, {found.progress or found.state or 'not seen yet'}")
        time.sleep(pause)


def delete_snapshot(ec2: Any, snapshot_id: str, patience: Patience) -> bool:
    """Whether it is gone; False for one that something else is made of. Raises CloudError."""
    try:
        call_patiently(lambda: ec2.delete_snapshot(SnapshotId=snapshot_id), snapshot_id, patience)
    except CloudError as error:
        if error.code == IN_USE:
            return False
        if error.code != NOT_FOUND:
            raise
    return True
