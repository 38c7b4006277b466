"""The locks of the lab, and the places that a host has for guests: an address, disks and memory for each."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from xenkiln.lab.network import ADDRESSES

AT_ONCE = fcntl.LOCK_EX | fcntl.LOCK_NB
XEN_SPARE_MIB = 16
"""Page tables and console of a guest, beside its memory."""
TARGETS_OF_A_GUEST = 18
"""Its job, and no more disks than xvda to xvdp: numbers on dom0's SCSI bus, of which there are 255."""


@dataclass(frozen=True)
class Place:
    """Where a guest lies in the lab: one of the places that its network and its SCSI bus have."""

    number: int

    @property
    def address(self) -> str:
        """The guest's own."""
        return ADDRESSES[self.number]

    def list_targets(self, count: int) -> list[int]:
        """The job's disk, then `count` for the guest's."""
        first = 1 + self.number * TARGETS_OF_A_GUEST
        return list(range(first, first + 1 + count))

    def list_all_targets(self) -> list[int]:
        """Every number that a guest at this place can have."""
        return self.list_targets(TARGETS_OF_A_GUEST - 1)


@contextmanager
def hold_file(path: Path, how: int) -> Iterator[int | None]:
    """Hold a flock of that kind; None where another is in the way and `how` has LOCK_NB."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(descriptor, how)
        except BlockingIOError:
            yield None
        else:
            yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def hold_place(folder: Path, guest_mib: int, room_mib: int) -> Iterator[int | None]:
    """One of the places for guests that a running host has, and so much of its memory; None where it has not both."""
    with ExitStack() as stack:
        taken, free = 0, None
        with hold_file(folder / "places.lock", fcntl.LOCK_EX):
            for number in range(len(ADDRESSES)):
                name = folder / f"place-{number}.lock"
                with ExitStack() as look:
                    held = look.enter_context(hold_file(name, AT_ONCE))
                    if held is None:
                        taken += int(name.read_text() or 0)
                    elif free is None:
                        free = (number, held)
                        stack.enter_context(look.pop_all())
            if free is not None and taken + guest_mib <= room_mib:
                os.ftruncate(free[1], 0)
                os.pwrite(free[1], str(guest_mib + XEN_SPARE_MIB).encode(), 0)
            else:
                free = None
        yield free[0] if free else None
