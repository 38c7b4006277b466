"""Locks between runs: a build of one recipe, the package cache. Released by the kernel, whatever happens."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from xenkiln.errors import HostError

_claims: dict[Path, int] = {}
"""What this process keeps until it ends: path -> descriptor."""


@contextmanager
def hold_lock(path: Path, what: str, *, wait: bool = False) -> Iterator[None]:
    """Hold an exclusive lock on `path`; with `wait` stand in line, else raise HostError naming the holder.

    A link in its place is refused (OSError): the holder's name would be written where it leads.
    """
    descriptor = _open_lock(path)
    try:
        if not _take(descriptor, wait=wait):
            raise _in_use(what, _read_holder(descriptor))
        yield
    finally:
        os.close(descriptor)


def claim_lock(path: Path) -> bool:
    """Take a lock for the rest of this process's life; False when another has it."""
    if path not in _claims:
        descriptor = _open_lock(path)
        if not _take(descriptor, wait=False):
            os.close(descriptor)
            return False
        _claims[path] = descriptor
    return True


@contextmanager
def join_claim(path: Path, what: str) -> Iterator[None]:
    """Hold a lock, unless this run's main process has claimed it for all its workers; else as hold_lock."""
    descriptor = _open_lock(path)
    try:
        if not _take(descriptor, wait=False):
            holder = _read_holder(descriptor)
            found = re.match(r"process (\d+) ", holder)
            if not found or int(found[1]) not in _list_own_run():
                raise _in_use(what, holder)
        yield
    finally:
        os.close(descriptor)


def _open_lock(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)


def _take(descriptor: int, *, wait: bool) -> bool:
    """Lock, and write down who we are; False when another has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"process {os.getpid()} (doit {' '.join(sys.argv[1:])[:200]})".encode(), 0)
    return True


def _read_holder(descriptor: int) -> str:
    return os.pread(descriptor, 400, 0).decode(errors="replace").strip() or "another run"


def _in_use(what: str, holder: str) -> HostError:
    return HostError(
        f"{what} is in use by {holder}", next_step="wait for it to end, or stop it, and run this again"
    )


def _list_own_run() -> set[int]:
    parent = multiprocessing.parent_process()
    return {os.getpid(), *([parent.pid] if parent and parent.pid else [])}
