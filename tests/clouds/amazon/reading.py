"""A completed snapshot read back and compared with the image it was made of."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from xenkiln.clouds.blocks import BLOCK_BYTES, ZEROS, hash_block, read_content
from xenkiln.clouds.calls import PATIENCE, Patience, call_patiently
from xenkiln.clouds.crew import work_together
from xenkiln.errors import CloudError
from xenkiln.system.progress import Tell


def verify_snapshot(
    ebs: Any, snapshot_id: str, image: Path, *, workers: int, tell: Tell, patience: Patience = PATIENCE
) -> None:
    """Compare every block of a snapshot with the image; raises CloudError naming the first bytes that differ.

    A block that the snapshot has and the image has not may hold zeros only.
    """
    zeros = hash_block(ZEROS)
    wanted = dict(read_content(image).blocks)
    tokens = _list_blocks(ebs, snapshot_id, patience)
    missing = sorted(wanted.keys() - tokens.keys())
    if missing:
        raise _make_error(snapshot_id, image, missing[0], "is not in the snapshot")
    done = 0

    def compare(index: int, stop: threading.Event) -> None:
        nonlocal done

        def read() -> bytes:
            answer = ebs.get_snapshot_block(SnapshotId=snapshot_id, BlockIndex=index, BlockToken=tokens[index])
            return bytes(answer["BlockData"].read())

        data = call_patiently(read, f"{snapshot_id}, block {index}", patience, pause=stop.wait)
        if hash_block(data) != wanted.get(index, zeros):
            raise _make_error(snapshot_id, image, index, "has other bytes in the snapshot")
        done += 1

    work_together(sorted(tokens), compare, min(workers, len(tokens)) or 1,
                  lambda: tell(f"compared {done} of {len(tokens)} blocks"))  # fmt: skip


def _list_blocks(ebs: Any, snapshot_id: str, patience: Patience) -> dict[int, str]:
    """Index -> token of each block that was written."""
    tokens: dict[int, str] = {}
    page: dict[str, str] = {}
    while True:
        asked = dict(page)
        answer = call_patiently(
            lambda asked=asked: ebs.list_snapshot_blocks(SnapshotId=snapshot_id, **asked),  # type: ignore[misc]
            snapshot_id, patience,
        )  # fmt: skip
        tokens |= {block["BlockIndex"]: block["BlockToken"] for block in answer["Blocks"]}
        if not answer.get("NextToken"):
            return tokens
        page = {"NextToken": answer["NextToken"]}


def _make_error(snapshot_id: str, image: Path, index: int, what: str) -> CloudError:
    start = index * BLOCK_BYTES
    return CloudError(f"what {image.name} has at byte {start} {what}", place=f"{snapshot_id}, block {index}",
                      next_step="delete the snapshot, and publish the image again")  # fmt: skip
