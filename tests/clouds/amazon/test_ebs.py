"""Snapshots through the EBS direct APIs, against a double that checks every header and sum."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from clouds.amazon.reading import verify_snapshot
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
from xenkiln.clouds.ebs import upload_snapshot
from xenkiln.errors import BuildError, CloudError

SCATTERED = [(BLOCK - 5, 10), (4 * BLOCK, 3 * BLOCK), (9 * BLOCK + 4096, 4096)]
MIXED = 12 * BLOCK + 77


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return write_image(tmp_path / "root.img", MIXED, SCATTERED)


@pytest.mark.parametrize(
    ("size", "extents"),
    [(1, [(0, 1)]), (BLOCK - 1, [(0, BLOCK - 1)]), (BLOCK, [(0, BLOCK)]), (BLOCK + 1, [(BLOCK, 1)]),
     (3 * BLOCK, []), (MIXED, SCATTERED)],
    ids=["a byte", "one less", "a block", "one more", "zeros", "holes"],
)  # fmt: skip
def test_a_snapshot_holds_the_blocks_that_hold_anything(
    size: int, extents: list[tuple[int, int]], amazon: StrictAmazon, clients: tuple[Any, Any], tmp_path: Path
) -> None:
    image = write_image(tmp_path / "root.img", size, extents)
    snapshot = amazon.snapshots[upload(clients, image)]
    assert snapshot.state == "completed"
    assert snapshot.blocks == list_blocks(image)
    assert snapshot.request["VolumeSize"] == 1
    assert snapshot.tags == TAGS | {"made-by": "xenkiln"}
    assert amazon.count("PutSnapshotBlock") == len(snapshot.blocks)
    verify_snapshot(clients[0], snapshot.id, image, workers=WORKERS, tell=lambda _: None, patience=IMPATIENT)


def test_a_volume_is_large_enough_for_the_last_byte(
    amazon: StrictAmazon, clients: tuple[Any, Any], tmp_path: Path
) -> None:
    image = write_image(tmp_path / "root.img", (1 << 30) + 1, [(0, 4096), (1 << 30, 1)])
    snapshot = amazon.snapshots[upload(clients, image)]
    assert snapshot.request["VolumeSize"] == 2
    assert sorted(snapshot.blocks) == [0, 2048]
    assert snapshot.blocks[2048] == b"x" + bytes(BLOCK - 1)


def test_an_image_without_a_byte_is_refused_before_anything_is_asked(
    amazon: StrictAmazon, clients: tuple[Any, Any], tmp_path: Path
) -> None:
    image = write_image(tmp_path / "root.img", 0, [])
    with pytest.raises(BuildError, match="not a single byte"):
        upload(clients, image)
    assert amazon.requests == []
    assert not get_state(image).exists()


@pytest.mark.parametrize("tags", [{"aws:x": "1"}, {"": "1"}, {"a": "x" * 257}, {str(n): "" for n in range(50)}])
def test_tags_that_no_cloud_takes_are_refused_before_anything_is_asked(
    tags: dict[str, str], amazon: StrictAmazon, clients: tuple[Any, Any], image: Path
) -> None:
    with pytest.raises(BuildError, match="tag"):
        upload(clients, image, tags)
    assert amazon.requests == []


def test_a_snapshot_is_found_again_and_not_made_twice(
    amazon: StrictAmazon, clients: tuple[Any, Any], image: Path
) -> None:
    snapshot_id = upload(clients, image)
    puts = amazon.count("PutSnapshotBlock")
    assert upload(clients, image, TAGS | {"revision": "next"}) == snapshot_id
    assert amazon.count("PutSnapshotBlock") == puts
    assert amazon.snapshots[snapshot_id].tags["revision"] == "next"


@pytest.mark.parametrize("fate", ["gone", "error"])
def test_a_snapshot_that_the_cloud_gave_up_is_made_anew(
    fate: str, amazon: StrictAmazon, clients: tuple[Any, Any], image: Path
) -> None:
    first = upload(clients, image)
    if fate == "gone":
        amazon.snapshots[first].blocks.clear()
        amazon.snapshots["snap-moved"] = amazon.snapshots.pop(first)
    else:
        amazon.snapshots[first].state = "error"
    second = upload(clients, image)
    assert second != first
    assert amazon.snapshots[second].blocks == list_blocks(image)


@pytest.mark.parametrize("change", ["bytes", "size"])
def test_a_snapshot_of_another_image_is_not_gone_on_with(
    change: str, amazon: StrictAmazon, clients: tuple[Any, Any], image: Path
) -> None:
    amazon.choose_fault = lambda operation, count: (
        "denied" if operation == "PutSnapshotBlock" and count == 2 else None
    )
    with pytest.raises(CloudError):
        upload(clients, image, workers=1)
    (unfinished,) = amazon.snapshots
    with image.open("rb+") as stream:
        if change == "bytes":
            stream.write(b"y")
        else:
            stream.truncate(MIXED + 1)
    amazon.choose_fault = lambda _operation, _count: None
    snapshot = amazon.snapshots[upload(clients, image)]
    assert unfinished not in amazon.snapshots, "it costs money until it expires"
    assert snapshot.blocks == list_blocks(image)


def test_a_snapshot_of_another_image_that_is_completed_stays(
    amazon: StrictAmazon, clients: tuple[Any, Any], image: Path
) -> None:
    first = upload(clients, image)
    write_image(image, BLOCK, [(0, 1)])
    second = upload(clients, image)
    assert {first, second} == amazon.snapshots.keys()


def test_an_image_that_changes_meanwhile_is_noticed(
    amazon: StrictAmazon, clients: tuple[Any, Any], image: Path
) -> None:
    def change(operation: str, count: int) -> None:
        if operation == "PutSnapshotBlock" and count == 0:
            with image.open("rb+") as stream:
                stream.seek(9 * BLOCK + 4096)
                stream.write(b"other bytes")

    amazon.choose_fault = change
    with pytest.raises(BuildError, match="changed while it was uploaded"):
        upload(clients, image, workers=1)
    assert amazon.count("CompleteSnapshot") == 0


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 2}', '{"format": 1, "written": [[0, 99999999999]]}'])
def test_a_damaged_state_is_as_none(text: str, amazon: StrictAmazon, clients: tuple[Any, Any], image: Path) -> None:
    get_state(image).write_text(text)
    assert amazon.snapshots[upload(clients, image)].blocks == list_blocks(image)


def test_progress_is_told_with_rate_and_remaining_time(
    amazon: StrictAmazon, clients: tuple[Any, Any], image: Path
) -> None:
    """The blocks wait until something was said of them."""
    said: list[str] = []
    spoken = threading.Event()

    def wait(operation: str, count: int) -> None:
        if operation == "PutSnapshotBlock" and count == len(list_blocks(image)) - 1:
            assert spoken.wait(30)

    def tell(text: str) -> None:
        said.append(text)
        if "MiB/s" in text:
            spoken.set()

    amazon.choose_fault = wait
    ebs, ec2 = clients
    upload_snapshot(ebs, ec2, image, description="an image", tags={}, state=get_state(image), workers=1, tell=tell,
                    patience=IMPATIENT)  # fmt: skip
    assert any(text.endswith(" left") for text in said), said


def test_a_snapshot_that_is_not_the_image_is_named(
    amazon: StrictAmazon, clients: tuple[Any, Any], image: Path
) -> None:
    snapshot_id = upload(clients, image)
    blocks = amazon.snapshots[snapshot_id].blocks
    blocks[5] = blocks[4]
    with pytest.raises(CloudError, match=f"byte {5 * BLOCK} has other bytes"):
        verify_snapshot(clients[0], snapshot_id, image, workers=1, tell=lambda _: None, patience=IMPATIENT)
    del blocks[5]
    with pytest.raises(CloudError, match=f"byte {5 * BLOCK} is not in the snapshot"):
        verify_snapshot(clients[0], snapshot_id, image, workers=1, tell=lambda _: None, patience=IMPATIENT)
