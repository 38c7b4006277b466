"""Programs of ours that somebody else has started: found by what only they have, and ended."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

DELETED = " (deleted)"


@contextmanager
def hold_programs(is_ours: Callable[[Path], bool]) -> Iterator[list[int]]:
    """A pidfd of every process for whose folder in /proc that is true."""
    with ExitStack() as held:
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                # Held from before it is looked at, so that it is not another one by then.
                descriptor = os.pidfd_open(int(process.name))
                held.callback(os.close, descriptor)
                if is_ours(process):
                    found.append(descriptor)
        yield found


def signal_holders(lock: Path, number: signal.Signals) -> None:
    """Signal every process that has a lock's file open, but for this one."""
    place, own = lock.resolve(), str(os.getpid())

    def has_it(process: Path) -> bool:
        return process.name != own and any(each.readlink() == place for each in (process / "fd").iterdir())

    with hold_programs(has_it) as found:
        signal_all(found, number)


def end_module(folders: Iterable[Path], module: str, limit_seconds: float) -> bool:
    """End every process that runs a module of Python in one of these folders, be it removed meanwhile; was there any?

    One that is started there later is none of these. Raises TimeoutError where they take longer.
    """
    places, word = {str(folder.resolve()) for folder in folders}, os.fsencode(module)

    def runs_it(process: Path) -> bool:
        is_here = str((process / "cwd").readlink()).removesuffix(DELETED) in places
        return is_here and word in (process / "cmdline").read_bytes().split(b"\0")

    deadline = time.monotonic() + limit_seconds
    with hold_programs(runs_it) as found:
        signal_all(found, signal.SIGTERM)
        for descriptor in found:
            if not select.select([descriptor], [], [], max(deadline - time.monotonic(), 0))[0]:
                raise TimeoutError
    return bool(found)


def signal_all(descriptors: list[int], number: signal.Signals) -> None:
    """Signal those that have not ended yet."""
    for descriptor in descriptors:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(descriptor, number)
