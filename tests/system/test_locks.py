"""Locks between processes: refused by name, released whatever happens, shared by the workers of one run."""

from __future__ import annotations

import multiprocessing
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from xenkiln.errors import HostError
from xenkiln.system.layout import PROJECT
from xenkiln.system.locks import LOOKING_SECONDS, claim_lock, find_lock_problem, hold_lock, is_held, join_claim

HOLDER = """
import sys
from pathlib import Path
from xenkiln.system.locks import claim_lock, hold_lock
sys.argv = ["doit", "build:tiny"]
with hold_lock(Path({path!r}), "the build of tiny"):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def other_process_holding(path: Path) -> Iterator[subprocess.Popen[str]]:
    words = [sys.executable, "-c", HOLDER.format(path=str(path))]
    with subprocess.Popen(words, cwd=PROJECT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_the_second_is_refused_and_told_who_is_first(tmp_path: Path) -> None:
    lock = tmp_path / "work" / "lock"
    with other_process_holding(lock) as first:
        for take in (hold_lock, join_claim):
            with pytest.raises(HostError) as caught, take(lock, "the build of tiny"):
                pass
            assert str(caught.value).startswith(
                f"the build of tiny is in use by process {first.pid} (doit build:tiny)\n  next: wait"
            )
        assert not claim_lock(lock)
        assert str(find_lock_problem(lock, "the build of tiny")).startswith("the build of tiny is in use by process")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_holder_holds_nothing(tmp_path: Path, number: signal.Signals) -> None:
    lock = tmp_path / "lock"
    with other_process_holding(lock) as first:
        first.send_signal(number)
        first.wait()
        with hold_lock(lock, "it"):
            pass


def test_a_waiting_one_gets_its_turn(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with other_process_holding(lock) as first:
        words = [sys.executable, "-c", HOLDER.format(path=str(lock)).replace('tiny")', 'tiny", wait=True)')]
        with subprocess.Popen(words, cwd=PROJECT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as second:
            with pytest.raises(subprocess.TimeoutExpired):
                second.wait(0.3)
            first.kill()
            assert second.stdout is not None
            assert second.stdout.readline() == "held\n"
            second.kill()


def test_it_is_released_after_an_error_too(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), hold_lock(tmp_path / "lock", "it"):
        raise ZeroDivisionError
    with hold_lock(tmp_path / "lock", "it"):
        pass


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("mine")
    (tmp_path / "lock").symlink_to(precious)
    for take in (hold_lock, join_claim):
        with pytest.raises(OSError, match="symbolic links"), take(tmp_path / "lock", "it"):
            pass
    assert precious.read_text() == "mine"


def test_looking_takes_and_makes_nothing(tmp_path: Path) -> None:
    lock = tmp_path / "work" / "tiny" / "lock"
    assert find_lock_problem(lock, "it") is None
    assert list(tmp_path.iterdir()) == []
    with hold_lock(lock, "it"):
        assert find_lock_problem(lock, "it") is None
    assert find_lock_problem(lock, "it") is None


@contextmanager
def other_process_looking(path: Path) -> Iterator[None]:
    """Held as by one who looks, only longer."""
    script = f"import fcntl, time; f = open({str(path)!r}); fcntl.flock(f, fcntl.LOCK_SH); print('held', flush=True)"
    words = [sys.executable, "-c", f"{script}; time.sleep(0.1)"]
    with subprocess.Popen(words, text=True, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield


@pytest.mark.parametrize("take", [hold_lock, join_claim])
def test_one_who_only_looks_is_in_nobodys_way(tmp_path: Path, take: Any) -> None:
    lock = tmp_path / "lock"
    lock.touch()
    with other_process_looking(lock), take(lock, "it"):
        assert is_held(lock)
    with other_process_looking(lock):
        assert not is_held(lock)
    with other_process_looking(lock):
        assert claim_lock(lock)


def test_a_run_loses_no_time_over_its_own_claim(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    assert claim_lock(lock)
    started = time.monotonic()
    with join_claim(lock, "it"):
        assert find_lock_problem(lock, "it") is None
    assert time.monotonic() - started < LOOKING_SECONDS


def join_in_worker(path: Path) -> None:
    with join_claim(path, "it"):
        pass


def hold_in_worker(path: Path) -> None:
    with hold_lock(path, "it"):
        pass


@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_the_workers_of_a_run_share_its_claim_and_nothing_else(tmp_path: Path, method: str) -> None:
    lock = tmp_path / "lock"
    assert claim_lock(lock)
    assert claim_lock(lock)
    context: Any = multiprocessing.get_context(method)
    codes = []
    for action in (join_in_worker, hold_in_worker):
        worker = context.Process(target=action, args=(lock,))
        worker.start()
        worker.join()
        codes.append(worker.exitcode)
    assert codes == [0, 1]
    words = [sys.executable, "-c", HOLDER.format(path=str(lock))]
    stranger = subprocess.run(words, cwd=PROJECT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert "is in use by process" in stranger.stderr
