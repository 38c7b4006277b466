"""Uploads of a snapshot that meet every fault of the service, of the line, and of the user."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from clouds.amazon.strict_ebs import StrictAmazon
from clouds.amazon.uploading import (
    BLOCK,
    IMPATIENT,
    TAGS,
    WORKERS,
    get_state,
    list_blocks,
    upload,
    write_image,
)
from xenkiln.clouds import ebs
from xenkiln.clouds.ebs import upload_snapshot
from xenkiln.errors import CloudError

SCATTERED = [(BLOCK - 5, 10), (4 * BLOCK, 3 * BLOCK), (9 * BLOCK + 4096, 4096)]
MIXED = 12 * BLOCK + 77


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return write_image(tmp_path / "root.img", MIXED, SCATTERED)


FAULTS = ["throttled", "500", "503", "slow-line", "conflicting", "unknown", "cut", "lost"]


@pytest.mark.parametrize("fault", FAULTS)
def test_every_block_may_fail_once_or_twice(
    fault: str, amazon: StrictAmazon, clients: tuple[Any, Any], image: Path
) -> None:
    amazon.choose_fault = lambda operation, count: (
        fault if operation == "PutSnapshotBlock" and count % 3 != 2 else None
    )
    snapshot = amazon.snapshots[upload(clients, image, workers=1)]
    assert snapshot.state == "completed"
    assert snapshot.blocks == list_blocks(image)
    assert amazon.count("PutSnapshotBlock") == 3 * len(snapshot.blocks)


@pytest.mark.parametrize("operation", ["StartSnapshot", "CompleteSnapshot", "DescribeSnapshots"])
@pytest.mark.parametrize("fault", ["throttled", "500", "503", "cut", "lost"])
def test_every_other_call_may_fail_too(
    operation: str, fault: str, amazon: StrictAmazon, clients: tuple[Any, Any], image: Path
) -> None:
    """An answer that is lost after StartSnapshot leaves no second snapshot, after CompleteSnapshot no failure."""
    amazon.choose_fault = lambda name, count: fault if name == operation and count == 0 else None
    snapshot_id = upload(clients, image)
    assert list(amazon.snapshots) == [snapshot_id]
    assert amazon.snapshots[snapshot_id].state == "completed"
    assert amazon.snapshots[snapshot_id].blocks == list_blocks(image)


def test_a_fault_that_stays_ends_it_in_words_and_the_next_run_goes_on(
    amazon: StrictAmazon, clients: tuple[Any, Any], image: Path
) -> None:
    amazon.choose_fault = lambda operation, count: (
        "throttled" if operation == "PutSnapshotBlock" and count >= 2 else None
    )
    with pytest.raises(CloudError, match=r"RequestThrottledException: too many requests[\s\S]*goes on"):
        upload(clients, image, workers=1)
    assert amazon.count("PutSnapshotBlock") == 2 + IMPATIENT.tries
    state = json.loads(get_state(image).read_text())
    amazon.choose_fault = lambda _operation, _count: None
    before = amazon.count("PutSnapshotBlock")
    snapshot = amazon.snapshots[upload(clients, image)]
    assert snapshot.id == state["snapshot_id"]
    assert snapshot.blocks == list_blocks(image)
    assert amazon.count("PutSnapshotBlock") - before == len(snapshot.blocks) - 2


def test_a_refusal_ends_it_at_once_for_every_thread(
    amazon: StrictAmazon, clients: tuple[Any, Any], image: Path
) -> None:
    amazon.choose_fault = lambda operation, _count: "denied" if operation == "PutSnapshotBlock" else None
    with pytest.raises(CloudError, match="AccessDeniedException") as caught:
        upload(clients, image)
    assert caught.value.next_step == "allow this user the action PutSnapshotBlock in the cloud's policies"
    assert amazon.count("PutSnapshotBlock") <= WORKERS
    assert amazon.count("CompleteSnapshot") == 0


def test_an_interrupted_run_keeps_what_it_wrote_and_leaves_no_thread(
    amazon: StrictAmazon, clients: tuple[Any, Any], image: Path
) -> None:
    """The second block waits until the interrupt comes."""
    interrupted = threading.Event()

    def wait(operation: str, count: int) -> None:
        if operation == "PutSnapshotBlock" and count == 1:
            assert interrupted.wait(30)

    def tell(text: str) -> None:
        if "MiB" in text:
            interrupted.set()
            raise KeyboardInterrupt

    amazon.choose_fault = wait
    with pytest.raises(KeyboardInterrupt):
        upload_snapshot(*clients, image, description="an image", tags=TAGS, state=get_state(image), workers=1,
                        tell=tell, patience=IMPATIENT)  # fmt: skip
    written = json.loads(get_state(image).read_text())["written"]
    assert sum(last - first + 1 for first, last in written) == amazon.count("PutSnapshotBlock") == 2
    assert not [thread for thread in threading.enumerate() if "ThreadPoolExecutor" in thread.name]
    upload(clients, image)
    assert amazon.count("PutSnapshotBlock") == len(list_blocks(image))


def test_what_was_signed_is_not_repeated(amazon: StrictAmazon, clients: tuple[Any, Any], image: Path) -> None:
    """The service shows the headers that it has seen, and a session's token is one of them."""
    amazon.choose_fault = lambda _operation, _count: "signature"
    with pytest.raises(CloudError) as caught:
        upload(clients, image)
    assert caught.value.fact == "StartSnapshot: InvalidSignatureException: The signature does not match."
    assert "check the access key" in caught.value.next_step


def test_what_the_service_adds_up_otherwise_is_an_error_and_not_used_again(
    amazon: StrictAmazon, clients: tuple[Any, Any], image: Path
) -> None:
    def lose_a_block(operation: str, _count: int) -> None:
        if operation == "CompleteSnapshot":
            next(iter(amazon.snapshots.values())).blocks.popitem()

    amazon.choose_fault = lose_a_block
    with pytest.raises(CloudError, match="ValidationException: x-amz-ChangedBlocksCount"):
        upload(clients, image)
    assert not get_state(image).exists()




def test_a_snapshot_that_the_cloud_gives_up_while_it_seals_is_said_so(
    amazon: StrictAmazon, clients: tuple[Any, Any], image: Path
) -> None:
    def give_up(operation: str, count: int) -> None:
        if operation == "DescribeSnapshots" and count == 1:
            next(iter(amazon.snapshots.values())).state = "error"

    amazon.choose_fault = give_up
    with pytest.raises(CloudError, match="could not complete the snapshot"):
        upload(clients, image)
    snapshot = amazon.snapshots[upload(clients, image)]
    assert (snapshot.state, snapshot.blocks) == ("completed", list_blocks(image))


def test_a_snapshot_that_is_not_sealed_in_time_is_waited_for_by_the_next_run(
    amazon: StrictAmazon, clients: tuple[Any, Any], image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    amazon.looks_until_completed = 4
    monkeypatch.setattr(ebs, "SEALING_SECONDS", 0)
    with pytest.raises(CloudError, match="the cloud does not complete it"):
        upload(clients, image)
    (snapshot,) = amazon.snapshots.values()
    assert snapshot.state == "pending"
    assert upload(clients, image) == snapshot.id
    assert amazon.count("PutSnapshotBlock") == len(list_blocks(image))


def test_a_token_that_the_service_knows_otherwise_is_not_used_again(
    amazon: StrictAmazon, clients: tuple[Any, Any], image: Path
) -> None:
    amazon.choose_fault = lambda operation, _count: "denied" if operation == "StartSnapshot" else None
    with pytest.raises(CloudError):
        upload(clients, image)
    token = json.loads(get_state(image).read_text())["token"]
    amazon.choose_fault = lambda _operation, _count: None
    clients[0].start_snapshot(VolumeSize=7, Description="of somebody", ClientToken=token)
    with pytest.raises(CloudError, match="ConflictException"):
        upload(clients, image)
    assert amazon.snapshots[upload(clients, image)].blocks == list_blocks(image)
