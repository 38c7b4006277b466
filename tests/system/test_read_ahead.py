"""Files are asked for ahead of the program that reads them; nothing else is opened, nothing stays open."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from xenkiln.system import read_ahead as module
from xenkiln.system.read_ahead import read_ahead

WAIT_SECONDS = 20


class Kernel:
    """Notes which files it is asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.then: Callable[[], None] = lambda: None

    def advise(self, descriptor: int, offset: int, length: int, advice: int) -> None:
        assert (offset, length, advice) == (0, 0, os.POSIX_FADV_WILLNEED)
        self.asked.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        self.then()

    def wait_for(self, count: int) -> None:
        for _ in range(WAIT_SECONDS * 100):
            if len(self.asked) >= count:
                return
            threading.Event().wait(0.01)
        raise AssertionError(self.asked)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    made = Kernel()
    monkeypatch.setattr(os, "posix_fadvise", made.advise)
    return made


def make_files(tree: Path, *names: str) -> list[str]:
    for name in names:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(bytes(4096))
    return [str(tree / name) for name in names]


def test_every_regular_file_is_asked_for_and_nothing_else_is_opened(tmp_path: Path, kernel: Kernel) -> None:
    outside = tmp_path / "outside"
    make_files(outside, "secret")
    files = make_files(tmp_path / "tree", "a", "folder/b", "folder/deeper/c", "d")
    os.mkfifo(tmp_path / "tree/pipe")  # one that opens it waits for a writer
    (tmp_path / "tree/link").symlink_to(outside / "secret")
    (tmp_path / "tree/far").symlink_to(outside)
    before = count_open()
    with read_ahead(tmp_path / "tree"):
        kernel.wait_for(4)
    assert sorted(kernel.asked) == sorted(files)
    assert count_open() == before


def count_open() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_it_ends_with_the_block(tmp_path: Path, kernel: Kernel) -> None:
    make_files(tmp_path, *map(str, range(50)))
    first, leave = threading.Event(), threading.Event()

    def hold() -> None:
        first.set()
        leave.wait(WAIT_SECONDS)

    kernel.then = hold
    before = threading.active_count()
    with read_ahead(tmp_path):
        assert first.wait(WAIT_SECONDS)
        threading.Timer(0.2, leave.set).start()  # the block has been left by then
    assert len(kernel.asked) < 50
    leave.wait(WAIT_SECONDS)
    assert threading.active_count() <= before + 1  # the timer


def test_it_keeps_to_a_part_of_the_memory(tmp_path: Path, kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    make_files(tmp_path, *map(str, range(10)))
    monkeypatch.setattr(module, "BUDGET_BYTES", 3 * 4096)
    with read_ahead(tmp_path):
        kernel.wait_for(3)
    assert len(kernel.asked) == 3


def test_a_tree_that_goes_meanwhile_is_no_error(tmp_path: Path, kernel: Kernel,
                                                capfd: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    with read_ahead(tmp_path / "gone"):
        pass
    assert kernel.asked == []
    assert capfd.readouterr().err == ""
