"""An image as an EBS snapshot, through the EBS direct APIs: only the blocks that hold something, in parallel.

(EBS direct APIs reference, version 2019-11-02.)
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from xenkiln.clouds.bandwidth import Bandwidth
from xenkiln.clouds.blocks import BLOCK_BYTES, Content, encode_digest, hash_block, read_block, read_content
from xenkiln.clouds.calls import PATIENCE, Patience, call_patiently
from xenkiln.clouds.crew import work_together
from xenkiln.clouds.ebs_state import UploadState, read_state, write_state
from xenkiln.clouds.ids import check_id
from xenkiln.clouds.snapshots import COMPLETED, PENDING, delete_snapshot, find_snapshot, wait_for_snapshot
from xenkiln.clouds.tags import list_tags
from xenkiln.errors import BuildError, CloudError
from xenkiln.system.progress import Tell

EXPIRY_MINUTES = 1440
"""The service drops a snapshot so long after its last block: a day in which an upload can go on."""
LONGEST_DESCRIPTION = 255
ALGORITHM, AGGREGATION = "SHA256", "LINEAR"
DISAGREEMENTS = {"ConflictException", "ResourceNotFoundException", "ValidationException"}
SEALING_SECONDS, DOUBT_SECONDS = 3600.0, 600.0
UNKNOWN = "ResourceNotFoundException"
PASSING_REASONS = {"WRITE_REQUEST_TIMEOUT", "CONFLICTING_BLOCK_UPDATE"}
CUT_SHORT = "read block data"
"""Of the service's words where a block came too slowly or not whole (nanovms/ops, pull request 1268)."""
MIB = 1 << 20


@dataclass(frozen=True)
class Site:
    """The clients and manners of one upload: ebs and ec2 are boto3's, with as many connections as there are workers."""

    ebs: Any
    ec2: Any
    patience: Patience
    tell: Tell
    bandwidth: Bandwidth | None = None


def upload_snapshot(
    ebs: Any,
    ec2: Any,
    image: Path,
    *,
    description: str,
    tags: Mapping[str, str],
    state: Path,
    workers: int,
    tell: Tell,
    patience: Patience = PATIENCE,
    bandwidth: Bandwidth | None = None,
) -> str:
    """Make a completed snapshot of an image and return its id.

    `state` is a small file, without secrets, by which the next call goes on after any end of this one; left in place
    it makes a further call find the same snapshot again. A snapshot of another image is never gone on with. Raises
    CloudError and BuildError.
    """
    if not 1 <= len(description) <= LONGEST_DESCRIPTION:
        raise BuildError(f"a snapshot's description has 1 to {LONGEST_DESCRIPTION} characters", place=str(image),
                         next_step="shorten it")  # fmt: skip
    list_tags(tags)
    site = Site(ebs, ec2, patience, tell, bandwidth)
    tell(f"reading {image.name}")
    content = read_content(image)
    upload = _find_upload(site, content, state)
    if upload is None:
        upload = UploadState(secrets.token_hex(16), content.size, content.checksum, description, dict(tags))
        write_state(state, upload)
    if not upload.snapshot_id:
        upload.snapshot_id = _start_snapshot(site, content, upload, state)
        write_state(state, upload)
    _update_tags(site, upload, tags, state)
    if not upload.is_completing:
        _put_blocks(site, image, content, upload, state, workers)
    _complete_snapshot(site, content, upload, state)
    return upload.snapshot_id


def _find_upload(site: Site, content: Content, state: Path) -> UploadState | None:
    """An earlier run's upload of the same image that the service still knows; what it has of another is dropped."""
    upload = read_state(state)
    if upload is None:
        return None
    is_same = (upload.size, upload.checksum) == (content.size, content.checksum)
    if not upload.snapshot_id:
        return upload if is_same else None
    found = find_snapshot(site.ec2, upload.snapshot_id, site.patience)
    if is_same and found.state in (PENDING, COMPLETED):
        return upload
    if found.state == PENDING:
        delete_snapshot(site.ec2, upload.snapshot_id, site.patience)
    return None


def _start_snapshot(site: Site, content: Content, upload: UploadState, state: Path) -> str:
    """The same token and words give the same snapshot, so this may be asked again after a lost answer."""
    request = {
        "VolumeSize": content.volume_gib,
        "Description": upload.description,
        "ClientToken": upload.token,
        "Tags": list_tags(upload.tags),
        "Timeout": EXPIRY_MINUTES,
    }
    try:
        answer = call_patiently(
            lambda: site.ebs.start_snapshot(**request), "a new snapshot", site.patience, note=site.tell
        )
    except CloudError as refusal:
        if refusal.code in DISAGREEMENTS:
            state.unlink(missing_ok=True)
        raise
    return check_id(answer.get("SnapshotId"), "snapshot", "a new snapshot")


def _update_tags(site: Site, upload: UploadState, tags: Mapping[str, str], state: Path) -> None:
    """Whoever goes on may come with other tags, of a newer revision perhaps."""
    if upload.tags == tags:
        return
    wanted = list_tags(tags)
    call_patiently(lambda: site.ec2.create_tags(Resources=[upload.snapshot_id], Tags=wanted), upload.snapshot_id,
                   site.patience, note=site.tell)  # fmt: skip
    upload.tags = dict(tags)
    write_state(state, upload)


class _Pace:
    """Says how far it is, how fast this run was, and how long it takes from here."""

    def __init__(self, done: int, total: int) -> None:
        self._first, self._total, self._started = done, total, time.monotonic()
        self.trouble = ""

    def describe(self, done: int) -> str:
        seconds = time.monotonic() - self._started
        rate = (done - self._first) * BLOCK_BYTES / MIB / seconds if seconds else 0.0
        text = f"{done * BLOCK_BYTES // MIB} of {self._total * BLOCK_BYTES // MIB} MiB"
        if rate:
            left = (self._total - done) * BLOCK_BYTES / MIB / rate
            text += f", {rate:.1f} MiB/s, {int(left) // 60}:{int(left) % 60:02} left"
        return f"{text}; trying again after {self.trouble}" if self.trouble else text


def _put_blocks(
    site: Site, image: Path, content: Content, upload: UploadState, state: Path, workers: int
) -> None:
    missing = [index for index in content.blocks if index not in upload.written]
    pace = _Pace(len(upload.written), len(content.blocks))
    lock = threading.Lock()

    def put(index: int, stop: threading.Event) -> None:
        _put_block(site, upload.snapshot_id, index, content.blocks[index], read(index), pace, stop)
        with lock:
            upload.written.add(index)

    def keep() -> None:
        with lock:
            so_far = replace(upload, written=set(upload.written))
        write_state(state, so_far)
        site.tell(pace.describe(len(so_far.written)))
        pace.trouble = ""

    with image.open("rb", buffering=0) as stream:
        read = _make_reader(stream, image, content)
        try:
            work_together(missing, put, min(workers, len(missing)) or 1, keep)
        finally:
            write_state(state, upload)


def _make_reader(stream: BinaryIO, image: Path, content: Content) -> Callable[[int], bytes]:
    """Reads blocks that must be as they were when their digests were made."""

    def read(index: int) -> bytes:
        data = read_block(stream.fileno(), index, content.size, image)
        if hash_block(data) != content.blocks[index]:
            raise BuildError("the image changed while it was uploaded", place=str(image),
                             next_step="let nothing write to it, and run it again")  # fmt: skip
        return data

    return read


def _put_block(
    site: Site, snapshot_id: str, index: int, digest: bytes, data: bytes, pace: _Pace, stop: threading.Event
) -> None:
    def put() -> None:
        if site.bandwidth:
            site.bandwidth.wait_for(len(data))
        site.ebs.put_snapshot_block(
            SnapshotId=snapshot_id, BlockIndex=index, BlockData=data, DataLength=len(data),
            Checksum=encode_digest(digest), ChecksumAlgorithm=ALGORITHM,
        )  # fmt: skip

    def note(trouble: str) -> None:
        pace.trouble = trouble

    call_patiently(put, f"{snapshot_id}, block {index}", site.patience, note=note, pause=stop.wait,
                   is_transient=_is_passing)  # fmt: skip


def _is_passing(code: str, answer: dict[str, Any]) -> bool:
    """What a block can meet besides: a snapshot just begun is not known everywhere at once, and a slow line."""
    text = str(answer.get("Error", {}).get("Message", "")) + str(answer.get("Message", ""))
    return code == UNKNOWN or answer.get("Reason") in PASSING_REASONS or CUT_SHORT in text


def _complete_snapshot(site: Site, content: Content, upload: UploadState, state: Path) -> None:
    """Seal it, and wait until it is sealed; a snapshot that the service sees otherwise than we is not used again."""
    snapshot_id = upload.snapshot_id
    sent = int(upload.is_completing)
    upload.is_completing = True
    write_state(state, upload)

    def complete() -> None:
        nonlocal sent
        sent += 1
        site.ebs.complete_snapshot(
            SnapshotId=snapshot_id, ChangedBlocksCount=len(content.blocks), Checksum=content.checksum,
            ChecksumAlgorithm=ALGORITHM, ChecksumAggregationMethod=AGGREGATION,
        )  # fmt: skip

    try:
        call_patiently(complete, snapshot_id, site.patience, note=site.tell)
    except CloudError as refusal:
        if refusal.code not in DISAGREEMENTS:
            raise
        # Where an answer was lost, being refused may mean that it is sealed, or about to be.
        is_sealed = sent > 1 and wait_for_snapshot(site.ec2, snapshot_id, site.patience, site.tell, DOUBT_SECONDS)
        if not is_sealed:
            state.unlink(missing_ok=True)
            raise
    else:
        if not wait_for_snapshot(site.ec2, snapshot_id, site.patience, site.tell, SEALING_SECONDS):
            raise CloudError("the snapshot was written, and the cloud does not complete it", place=snapshot_id,
                             next_step="look at it in the cloud's console; run it again to wait on")  # fmt: skip
