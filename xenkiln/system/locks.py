"""Locks between runs: a build of one recipe, the package cache. Released by the kernel, whatever happens."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from xenkiln.errors import HostError
from xenkiln.system.causes import explain_os_error

LOOKING_TRIES, LOOKING_SECONDS = 15, 0.02
"""Who only looks whether a lock is held has it for an instant: that is no reason to be refused."""

_claims: dict[Path, int] = {}
"""What this process keeps until it ends: path -> descriptor."""
_RUN = os.environ.setdefault("XENKILN_RUN", uuid4().hex)
"""This run and its workers, which inherit it: processes of two PID namespaces may have the same number."""


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
        if not _take(descriptor, wait=False, own=True):
            holder = _read_holder(descriptor)
            if not _is_own(holder):
                raise _in_use(what, holder)
        yield
    finally:
        os.close(descriptor)


def find_lock_problem(path: Path, what: str) -> HostError | None:
    """What would keep this run from taking a lock, found without taking or making it; None for nothing."""
    place = next(folder for folder in path.parents if folder.exists())
    if not os.access(place, os.W_OK | os.X_OK):
        return HostError("cannot be written", place=str(place),
                         next_step="run it with sudo, or put the build elsewhere: XENKILN_BUILD=/a/folder")  # fmt: skip
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    except OSError as error:
        return explain_os_error(error)
    try:
        holder = _find_holder(descriptor)
        return None if holder is None or _is_own(holder) else _in_use(what, holder)
    finally:
        os.close(descriptor)


def is_held(path: Path) -> bool:
    """Whether any run holds a lock; taken for no longer than it takes to see that."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        return _find_holder(descriptor) is not None
    finally:
        os.close(descriptor)


def _find_holder(descriptor: int) -> str | None:
    """Who has it, None for nobody."""
    return None if _try_for_a_moment(descriptor, fcntl.LOCK_SH, own=True) else _read_holder(descriptor)


def _try_for_a_moment(descriptor: int, kind: int, *, own: bool) -> bool:
    """Try to lock until those who only look have gone; with `own` no longer than until it is seen to be ours."""
    for _ in range(LOOKING_TRIES):
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            return True
        if own and _is_own(_read_holder(descriptor)):
            break
        time.sleep(LOOKING_SECONDS)
    return False


def _open_lock(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)


def _take(descriptor: int, *, wait: bool, own: bool = False) -> bool:
    """Lock, and write down who we are; False when another has it, or, with `own`, when this run has."""
    if wait:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    elif not _try_for_a_moment(descriptor, fcntl.LOCK_EX, own=own):
        return False
    os.ftruncate(descriptor, 0)
    words = f"process {os.getpid()} (doit {' '.join(sys.argv[1:])[:200]})"
    os.pwrite(descriptor, f"{words}\n{_RUN}\n".encode(), 0)
    return True


def _read_holder(descriptor: int) -> str:
    """Who holds it, in words, and the mark of that run on a line of its own."""
    return os.pread(descriptor, 400, 0).decode(errors="replace").strip() or "another run"


def _in_use(what: str, holder: str) -> HostError:
    return HostError(
        f"{what} is in use by {holder.splitlines()[0]}", next_step="wait for it to end, or stop it, and run this again"
    )


def _is_own(holder: str) -> bool:
    """Whether the holder is this process, or the one that started it as a worker, in one and the same run."""
    parent = multiprocessing.parent_process()
    found = re.match(r"process (\d+) ", holder)
    own = (os.getpid(), parent.pid if parent else None)
    return found is not None and int(found[1]) in own and holder.splitlines()[-1] == _RUN
