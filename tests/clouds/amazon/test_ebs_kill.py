"""An upload that is killed without a word, and gone on with by the next run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from clouds.amazon.strict_ebs import StrictAmazon
from clouds.amazon.uploading import BLOCK, get_state, list_blocks, upload, write_image

TESTS = Path(__file__).resolve().parents[2]
KILLED = """
import sys, time
from pathlib import Path
from clouds.amazon.uploading import make_clients, upload
from xenkiln.clouds import crew

crew.LOOK_SECONDS = 0.02
ebs, ec2 = make_clients(sys.argv[1])
real, calls = getattr(ebs, sys.argv[3]), 0

def call(**words):
    global calls
    calls += 1
    if calls > int(sys.argv[4]):
        print("held", flush=True)
        time.sleep(600)
    answer = real(**words)
    if sys.argv[5] == "after":
        print("held", flush=True)
        time.sleep(600)
    return answer

setattr(ebs, sys.argv[3], call)
upload((ebs, ec2), Path(sys.argv[2]), workers=1)
"""


@contextmanager
def run_until_held(endpoint: str, image: Path, operation: str, calls: int, moment: str) -> Iterator[None]:
    """A process that uploads, and stops before or after so many calls of an operation; killed at the end."""
    words = [sys.executable, "-c", KILLED, endpoint, str(image), operation, str(calls), moment]
    environment = {**os.environ, "PYTHONPATH": f"{TESTS}{os.pathsep}{TESTS.parent}"}
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield
        finally:
            process.send_signal(signal.SIGKILL)


def wait_for_written(image: Path, count: int) -> dict[str, Any]:
    """The state once it knows of so many blocks in one run."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        state: dict[str, Any] = json.loads(get_state(image).read_text())
        if state["written"] == [[0, count - 1]]:
            return state
        time.sleep(0.01)
    raise AssertionError(state)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return write_image(tmp_path / "root.img", 12 * BLOCK, [(0, 8 * BLOCK)])


def test_a_killed_upload_goes_on_behind_the_last_block_it_kept(
    amazon: StrictAmazon, clients: tuple[Any, Any], image: Path
) -> None:
    with run_until_held(amazon.endpoint, image, "put_snapshot_block", 5, "before"):
        state = wait_for_written(image, 5)
    snapshot = amazon.snapshots[upload(clients, image)]
    assert snapshot.id == state["snapshot_id"]
    assert (amazon.count("StartSnapshot"), amazon.count("PutSnapshotBlock")) == (1, 8)
    assert snapshot.state == "completed"
    assert snapshot.blocks == list_blocks(image)


@pytest.mark.parametrize(
    ("operation", "moment"),
    [("start_snapshot", "before"), ("start_snapshot", "after"), ("put_snapshot_block", "before"),
     ("complete_snapshot", "before"), ("complete_snapshot", "after")],
)  # fmt: skip
def test_a_run_killed_around_any_call_leaves_one_snapshot_at_last(
    operation: str, moment: str, amazon: StrictAmazon, clients: tuple[Any, Any], image: Path
) -> None:
    """What was applied, and of what the killed run never heard, is neither done twice nor believed undone."""
    calls = 0 if moment == "before" else 1
    with run_until_held(amazon.endpoint, image, operation, calls, moment):
        pass
    snapshot_id = upload(clients, image)
    assert list(amazon.snapshots) == [snapshot_id]
    assert amazon.snapshots[snapshot_id].state == "completed"
    assert amazon.snapshots[snapshot_id].blocks == list_blocks(image)
    assert amazon.count("PutSnapshotBlock") == 8
