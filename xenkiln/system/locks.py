"""Locks between runs: a build of one recipe, the package cache. Released by the kernel, whatever happens."""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from xenkiln.errors import HostError


@contextmanager
def hold_lock(path: Path, what: str, *, wait: bool = False) -> Iterator[None]:
    """Hold an exclusive lock on `path`; with `wait` stand in line, else raise HostError naming the holder.

    A link in its place is refused (OSError): the holder's name would be written where it leads.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            holder = os.pread(descriptor, 400, 0).decode(errors="replace").strip() or "another run"
            raise HostError(
                f"{what} is in use by {holder}", next_step="wait for it to end, or stop it, and run this again"
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} (doit {' '.join(sys.argv[1:])[:200]})".encode(), 0)
        yield
    finally:
        os.close(descriptor)
