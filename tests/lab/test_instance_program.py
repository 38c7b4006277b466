"""An instance as a program, where it fails or waits for a host that never comes."""

from __future__ import annotations

import fcntl
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from instance_folder import make_folder, read_status
from processes import is_alive

from xenkiln.lab import instance
from xenkiln.lab.instance import Status, start_instance
from xenkiln.lab.places import hold_file
from xenkiln.lab.session import HOST_LOCK, STARTING_LOCK, Lab
from xenkiln.system.layout import PROJECT

WAIT_SECONDS = 60


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path / "lab", tmp_path / "lab-dom0", "xen-blkback")


@pytest.fixture
def folder(tmp_path: Path, lab: Lab) -> Path:
    return make_folder(tmp_path / "i-1", lab)


def run_program(*words: str, **more: Any) -> subprocess.CompletedProcess[str]:
    """The program, in a folder where nothing of the project is."""
    argv = [sys.executable, "-m", "xenkiln.lab.instance", *words]
    return subprocess.run(argv, cwd="/", capture_output=True, text=True, check=False, timeout=WAIT_SECONDS, **more)


def test_the_program_fails_where_no_host_was_built(folder: Path, lab: Lab) -> None:
    done = run_program(str(folder))
    assert (done.returncode, done.stderr) == (1, "")
    status = read_status(folder)
    assert status.state == "failed"
    assert "the lab's Xen host has not been built" in status.reason or "this host has no" in status.reason


@pytest.mark.parametrize("words", [[], ["/no/such/folder"], ["/", "/"]])
def test_the_program_wants_one_folder(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert instance.main(words) == 2
    assert capsys.readouterr().err == "usage: python -m xenkiln.lab.instance FOLDER\n"


@contextmanager
def host_in_the_making(lab: Lab) -> Iterator[None]:
    """Somebody starts a host and is not ready: who wants one waits."""
    with hold_file(lab.folder / HOST_LOCK, fcntl.LOCK_EX), hold_file(lab.folder / STARTING_LOCK, fcntl.LOCK_EX):
        yield


def wait_for_lock(folder: Path) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        with hold_file(folder / "instance.lock", fcntl.LOCK_EX | fcntl.LOCK_NB) as free:
            if free is None:
                return
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_program_holds_its_folder_until_it_is_told_to_end(folder: Path, lab: Lab) -> None:
    with host_in_the_making(lab):
        process = start_instance(lab, folder)
        assert read_status(folder) == Status("pending")
        wait_for_lock(folder)
        second = run_program(str(folder))
        assert (second.returncode, second.stdout.count("this instance is in use by process")) == (1, 1)
        assert read_status(folder) == Status("pending")
        process.send_signal(signal.SIGINT)
        assert process.wait(WAIT_SECONDS) == 0
    assert read_status(folder) == Status("ended", "it was told to end: SIGINT")
    assert (folder / "instance.out").read_text() == "ended it was told to end: SIGINT\n"


def test_a_signal_that_comes_before_the_program_listens_is_heard(folder: Path, lab: Lab) -> None:
    with host_in_the_making(lab):
        process = start_instance(lab, folder)
        process.send_signal(signal.SIGTERM)
        assert process.wait(WAIT_SECONDS) == 0
    assert read_status(folder) == Status("ended", "it was told to end: SIGTERM")


SERVER = """
import sys, threading
from pathlib import Path
from xenkiln.lab.instance import start_instance
from xenkiln.lab.session import Lab
folder, lab, images = map(Path, sys.argv[1:])
def answer():
    print(start_instance(Lab(lab, images, ""), folder).pid, flush=True)
thread = threading.Thread(target=answer)
thread.start()
thread.join()
print("answered", flush=True)
sys.stdin.read()
"""


def test_an_instance_outlives_the_thread_that_started_it_and_not_the_process(folder: Path, lab: Lab) -> None:
    words = [sys.executable, "-c", SERVER, str(folder), str(lab.folder), str(lab.images)]
    with (
        host_in_the_making(lab),
        subprocess.Popen(words, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server,
    ):
        assert server.stdout
        pid = int(server.stdout.readline())
        assert server.stdout.readline() == "answered\n"
        wait_for_lock(folder)
        assert is_alive(pid)
        server.kill()
        server.wait()
        deadline = time.monotonic() + WAIT_SECONDS
        while is_alive(pid):
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert read_status(folder) == Status("pending")
