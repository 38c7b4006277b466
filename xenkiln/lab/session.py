"""Who runs the lab and who joins it: boots at the same time share one Xen host, and `doit lab` leaves one running.

The lock `host.lock` is held by qemu itself, so it says whether a host runs, whatever became of who started it.
`users.lock` is held (shared) by everybody who works on the host, and whoever ends it waits for them.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from xenkiln.errors import HostError
from xenkiln.lab import dom0, host, machine
from xenkiln.lab.accelerator import choose_accelerator
from xenkiln.lab.network import ADDRESSES
from xenkiln.system.files import remove_path
from xenkiln.system.locks import hold_lock
from xenkiln.system.services import ended_service, start_service

USUAL_GUESTS_MIB = 2048
"""Room for several guests; of a machine's memory the host gives only what is used."""
QEMU_MIB = 128
XEN_SPARE_MIB = 16
"""Page tables and console of a guest, beside its memory."""
JOIN_SECONDS = 240
WAIT_SECONDS = 0.1


@dataclass(frozen=True)
class Lab:
    """Where everything of the lab lies, and the built dom0 that it is made of."""

    folder: Path
    images: Path
    modules: str

    @property
    def host(self) -> Path:
        """The shared host's folder."""
        return self.folder / "host"

    @property
    def boot_files(self) -> Path:
        """Where the unpacked kernels are kept."""
        return self.folder / "dom0"


@dataclass(frozen=True)
class Session:
    """A running host, and whether it was started for us and so ends with us."""

    folder: Path
    state: host.State
    is_own: bool
    users: Path | None = None

    def ends_now(self) -> bool:
        """Whether the host is about to end, so that nothing on it needs to be tidied up."""
        if not self.is_own or self.users is None:
            return self.is_own
        with hold_file(self.users, fcntl.LOCK_EX | fcntl.LOCK_NB) as alone:
            if alone is not None:
                (self.folder / host.STATE).unlink(missing_ok=True)  # nobody joins from now on
            return alone is not None


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


def find_memory_problem(guest_mib: int) -> HostError | None:
    """This host has too little memory for a machine with such a guest."""
    needed, there = machine.DOM0_MIB + machine.XEN_MIB + QEMU_MIB + guest_mib, host.available_mib()
    if there >= needed:
        return None
    return HostError(f"{there} MiB of memory are available, a Xen host with a guest of {guest_mib} MiB takes {needed}",
                     place="this host", next_step="end other programs, or lower domain.memory_mib")  # fmt: skip


def choose_memory(guest_mib: int) -> int:
    """MiB of the whole machine: what the guest needs, and room for others where there is some."""
    least = machine.DOM0_MIB + machine.XEN_MIB + guest_mib
    usual = machine.DOM0_MIB + machine.XEN_MIB + USUAL_GUESTS_MIB
    return max(least, min(usual, host.available_mib() * 3 // 4))


@contextmanager
def open_lab(lab: Lab, guest_mib: int, tell: host.Tell) -> Iterator[Session]:
    """A running Xen host with room for the guest: one that runs, or one that is started and ended here."""
    deadline = time.monotonic() + JOIN_SECONDS
    while True:
        with hold_file(lab.folder / "users.lock", fcntl.LOCK_SH):
            with hold_file(lab.folder / "host.lock", fcntl.LOCK_EX | fcntl.LOCK_NB) as lock:
                if lock is not None:
                    break
            state = host.read_state(lab.host)
            if state and has_room(lab, state, guest_mib):
                yield Session(lab.host, state, is_own=False)
                return
        if state or time.monotonic() > deadline:
            folder = lab.folder / f"host-{os.getpid()}"
            # Held for sweep, which takes a folder without a lock for a killed run's.
            own = hold_lock(folder.with_name(f"{folder.name}.lock"), "this Xen host")
            with own, own_machine(lab, folder, guest_mib, tell, ()) as started:
                yield started
            folder.with_name(f"{folder.name}.lock").unlink()
            return
        tell("wait for the Xen host that another boot starts")
        time.sleep(WAIT_SECONDS)
    with share_machine(lab, guest_mib, tell) as started:
        yield started


def has_room(lab: Lab, state: host.State, guest_mib: int) -> bool:
    """Whether Xen there has the memory for one more guest."""
    with host.open_dom0(lab.host, state, lambda _: None) as dom0_host:
        told = dom0_host.run(["xl", "info"]).out
    free = next(int(line.partition(":")[2]) for line in told.splitlines() if line.startswith("free_memory"))
    return free >= guest_mib + XEN_SPARE_MIB


@contextmanager
def share_machine(lab: Lab, guest_mib: int, tell: host.Tell) -> Iterator[Session]:
    """Start the host that others may join, and end it when the last of them has gone."""
    with ExitStack() as stack:
        lock = stack.enter_context(hold_file(lab.folder / "host.lock", fcntl.LOCK_EX | fcntl.LOCK_NB))
        if lock is None:
            # Another was quicker.
            yield stack.enter_context(open_lab(lab, guest_mib, tell))
            return
        with own_machine(lab, lab.host, guest_mib, tell, (lock,)) as started:
            yield replace(started, users=lab.folder / "users.lock")
            tell("wait for the other boots on this Xen host")
            with hold_file(lab.folder / "users.lock", fcntl.LOCK_EX):
                (lab.host / host.STATE).unlink(missing_ok=True)


@contextmanager
def own_machine(
    lab: Lab, folder: Path, guest_mib: int, tell: host.Tell, keep_open: tuple[int, ...]
) -> Iterator[Session]:
    """A machine that ends with us."""
    made, keys = prepare(lab, folder, guest_mib, tell)
    process = start_service(machine.make_command(made), folder, folder / machine.OUTPUT, stays=False,
                            keep_open=keep_open)  # fmt: skip
    try:
        with ended_service(process):
            phases = host.wait_until_ready(folder, process, tell)
            yield Session(folder, host.write_state(folder, made, dom0.read_fingerprint(keys.host), phases), is_own=True)
    finally:
        remove_path(folder)


def prepare(lab: Lab, folder: Path, guest_mib: int, tell: host.Tell) -> tuple[machine.Machine, dom0.Keys]:
    """All files of a machine that is about to start; what an earlier one left goes."""
    remove_path(folder)
    folder.mkdir(parents=True, mode=0o700)
    tell("unpack Xen and its dom0")
    boot_files = dom0.unpack_boot_files(lab.images, lab.boot_files)
    keys = dom0.make_keys(folder)
    dom0.fill_folder(folder, lab.images, boot_files, keys, lab.modules)
    return machine.Machine(folder, choose_memory(guest_mib), choose_accelerator(boot_files, folder)), keys


@contextmanager
def hold_place(lab: Path) -> Iterator[int]:
    """One of the places for guests that a running host has; raises HostError when all are taken."""
    with ExitStack() as stack:
        for number in range(len(ADDRESSES)):
            name = lab / f"place-{number}.lock"
            if stack.enter_context(hold_file(name, fcntl.LOCK_EX | fcntl.LOCK_NB)) is not None:
                yield number
                return
    raise HostError(f"the lab has {len(ADDRESSES)} guests already, which is all it has addresses for",
                    place=str(lab), next_step="wait for a boot to end")  # fmt: skip


def start_lab(lab: Lab, tell: host.Tell) -> host.State:
    """Start a host that stays; raises HostError where one runs."""
    with hold_file(lab.folder / "host.lock", fcntl.LOCK_EX | fcntl.LOCK_NB) as lock:
        if lock is None:
            raise HostError("a Xen host of the lab runs already", place=str(lab.host),
                            next_step="wait for the boot that started it, or doit lab-stop")  # fmt: skip
        made, keys = prepare(lab, lab.host, 0, tell)
        process = start_service(machine.make_command(made), lab.host, lab.host / machine.OUTPUT, stays=True,
                                keep_open=(lock,))  # fmt: skip
        try:
            phases = host.wait_until_ready(lab.host, process, tell)
            state = host.write_state(lab.host, made, dom0.read_fingerprint(keys.host), phases)
        except BaseException:
            with ended_service(process):
                raise
    return state


def stop_lab(lab: Lab) -> bool:
    """End the host that runs, and remove what it left; False where none does."""
    with ExitStack() as stack:
        if stack.enter_context(hold_file(lab.folder / "users.lock", fcntl.LOCK_EX | fcntl.LOCK_NB)) is None:
            raise HostError("a boot uses the lab's Xen host", place=str(lab.host), next_step="wait for it to end")
        free = stack.enter_context(hold_file(lab.folder / "host.lock", fcntl.LOCK_EX | fcntl.LOCK_NB))
        if free is None:
            host.stop_machine(lab.host)
            stack.enter_context(hold_file(lab.folder / "host.lock", fcntl.LOCK_EX))
        remove_path(lab.host)
        return free is None
