"""Programs of ours that somebody else has started: found by what only they have, and signalled."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

DELETED = " (deleted)"


def signal_programs(is_ours: Callable[[Path], bool], number: signal.Signals | None) -> int:
    """Signal every process for whose folder in /proc that is true; how many there are. None only counts them."""
    found = 0
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            # Held from before it is looked at, so that it is not another one by then.
            descriptor = os.pidfd_open(int(process.name))
            try:
                if is_ours(process):
                    found += 1
                    if number is not None:
                        signal.pidfd_send_signal(descriptor, number)
            finally:
                os.close(descriptor)
    return found


def signal_holders(lock: Path, number: signal.Signals) -> int:
    """Signal every process that has a lock's file open, but for this one."""
    place, own = lock.resolve(), str(os.getpid())

    def has_it(process: Path) -> bool:
        return process.name != own and any(each.readlink() == place for each in (process / "fd").iterdir())

    return signal_programs(has_it, number)


def signal_module(folder: Path, module: str, number: signal.Signals | None) -> int:
    """Signal every process that runs a module of Python in that folder, be it removed meanwhile."""
    place, word = str(folder.resolve()), os.fsencode(module)

    def runs_it(process: Path) -> bool:
        is_here = str((process / "cwd").readlink()).removesuffix(DELETED) == place
        return is_here and word in (process / "cmdline").read_bytes().split(b"\0")

    return signal_programs(runs_it, number)
