"""Who runs the lab and who joins it: boots at the same time share one Xen host, and `doit lab` leaves one running.

The lock `host.lock` is held by qemu itself, so it says whether a host runs, whatever became of who started it.
`users.lock` is held (shared) by everybody who works on the host, and whoever ends it waits for them.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from xenkiln.errors import HostError
from xenkiln.lab import dom0, host, machine
from xenkiln.lab.accelerator import choose_accelerator
from xenkiln.lab.places import AT_ONCE, hold_file, hold_place
from xenkiln.system.files import remove_path
from xenkiln.system.locks import hold_lock, is_held
from xenkiln.system.services import Service, ended_service, start_service

USUAL_GUESTS_MIB = 2048
"""Room for several guests; of a machine's memory the host gives only what is used."""
QEMU_MIB = 128
JOIN_SECONDS = 240
STOP_SECONDS = 30
LOSING_SECONDS = 3
"""From the end of a connection to a host until it is known that the host has ended."""
HOST_LOCK, USERS_LOCK, STARTING_LOCK = "host.lock", "users.lock", "starting.lock"
GUARD = """"$@" & machine=$!
exec 3</proc/self/fd/{descriptor}
read -r word <&3
[ "$word" = stay ] || kill -9 "$machine"
"""
"""qemu, ended when whoever starts it is gone before having said that it is to stay."""
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
    """A running host, the place on it that is ours, and whether the host was started for us and so ends with us.

    users: the descriptor of users.lock by which an owner counts as one of them. machine: what an owner has started.
    """

    folder: Path
    state: host.State
    place: int
    is_own: bool
    users: int | None = None
    machine: Service | None = None

    def is_lost(self) -> bool:
        """Whether it was another run's, and went with that."""
        deadline = time.monotonic() + LOSING_SECONDS
        while not self.is_own:
            # By now the next one may run there.
            if not is_held(self.folder.parent / HOST_LOCK) or host.read_state(self.folder) != self.state:
                return True
            if time.monotonic() > deadline:
                return False
            time.sleep(WAIT_SECONDS)
        return False

    def ends_now(self) -> bool:
        """Whether the host is about to end, so that nothing on it needs to be tidied up."""
        if not self.is_own or self.users is None:
            return self.is_own
        if not take_alone(self.users):
            return False
        (self.folder / host.STATE).unlink(missing_ok=True)  # nobody joins from now on
        return True


def take_alone(users: int) -> bool:
    """Turn a shared lock into one that nobody else has; where somebody has, it stays as it was."""
    try:
        fcntl.flock(users, AT_ONCE)
    except BlockingIOError:
        fcntl.flock(users, fcntl.LOCK_SH)  # a try that fails loses what was held
        return False
    return True


Start = Callable[[Lab, int, host.Tell], AbstractContextManager[Session]]
"""How a host is started that others may join: lab, MiB of its first guest, whom to tell -> as open_lab."""


def find_memory_problem(guest_mib: int) -> HostError | None:
    """This host has too little memory for a machine with such a guest."""
    needed, there = machine.HOST_MIB + QEMU_MIB + guest_mib, host.available_mib()
    if there >= needed:
        return None
    return HostError(f"{there} MiB of memory are available, a Xen host with a guest of {guest_mib} MiB takes {needed}",
                     place="this host", next_step="end other programs, or lower domain.memory_mib")  # fmt: skip


def choose_memory(guest_mib: int) -> int:
    """MiB of the whole machine: what the guest needs, and room for others where there is some."""
    least = machine.HOST_MIB + guest_mib
    usual = machine.HOST_MIB + USUAL_GUESTS_MIB
    return max(least, min(usual, host.available_mib() * 3 // 4))


@contextmanager
def open_lab(lab: Lab, guest_mib: int, tell: host.Tell, start: Start | None = None) -> Iterator[Session]:
    """A running Xen host with a place for the guest: one that runs, or one that is started and ended here.

    `start` starts it where none runs, as share_machine does where nothing is said.
    """
    deadline = time.monotonic() + JOIN_SECONDS
    while True:
        with ExitStack() as stack:
            stack.enter_context(hold_file(lab.folder / USERS_LOCK, fcntl.LOCK_SH))
            with hold_file(lab.folder / HOST_LOCK, AT_ONCE) as lock:
                if lock is not None:
                    break
            state = host.read_state(lab.host)
            place = stack.enter_context(hold_place(lab.host, guest_mib, count_guest_mib(state))) if state else None
            if state and place is not None:
                yield Session(lab.host, state, place, is_own=False)
                return
        if state or time.monotonic() > deadline:
            with open_own_host(lab, guest_mib, tell) as started:
                yield started
            return
        end_orphan(lab)
        tell("wait for the Xen host that another run starts")
        time.sleep(WAIT_SECONDS)
    with (start or share_machine)(lab, guest_mib, tell) as started:
        yield started


def count_guest_mib(state: host.State) -> int:
    """What a host's guests may have in all."""
    return state.memory_mib - machine.HOST_MIB


def end_orphan(lab: Lab) -> None:
    """End a machine whose starter was killed before it was ready: qemu holds the host's lock, and nobody starts it."""
    with hold_file(lab.folder / STARTING_LOCK, AT_ONCE) as alone:
        if alone is not None and host.read_state(lab.host) is None:
            host.kill_machine(lab.host)


@contextmanager
def open_own_host(lab: Lab, guest_mib: int, tell: host.Tell) -> Iterator[Session]:
    """A host that nobody joins; raises HostError where there is too little memory for one more."""
    if problem := find_memory_problem(guest_mib):
        raise problem
    folder = lab.folder / f"host-{os.getpid()}"
    lock = folder.with_name(f"{folder.name}.lock")
    # Held for sweep, which takes a folder without a lock for a killed run's.
    with hold_lock(lock, "this Xen host"), own_machine(lab, folder, guest_mib, tell, ()) as started:
        yield started
    lock.unlink()


@contextmanager
def share_machine(lab: Lab, guest_mib: int, tell: host.Tell) -> Iterator[Session]:
    """Start the host that others may join, and end it when the last of them has gone."""
    with run_shared(lab, guest_mib, tell) as started:
        if started:
            yield started
            return
    with open_lab(lab, guest_mib, tell) as joined:
        yield joined


@contextmanager
def run_shared(lab: Lab, guest_mib: int, tell: host.Tell, *, has_guest: bool = True) -> Iterator[Session | None]:
    """Start it, with a place for a guest of ours if we have one; None where another was quicker."""
    with ExitStack() as stack:
        starting = stack.enter_context(hold_file(lab.folder / STARTING_LOCK, fcntl.LOCK_EX))
        lock = stack.enter_context(hold_file(lab.folder / HOST_LOCK, AT_ONCE))
        if lock is None or starting is None:
            stack.close()
            yield None
            return
        users = stack.enter_context(hold_file(lab.folder / USERS_LOCK, fcntl.LOCK_SH))
        with own_machine(lab, lab.host, guest_mib, tell, (lock,), has_guest=has_guest) as started:
            fcntl.flock(starting, fcntl.LOCK_UN)
            yield replace(started, users=users)
            tell("wait for the other boots on this Xen host")
            while users and started.machine and started.machine.poll() is None and not take_alone(users):
                time.sleep(WAIT_SECONDS)
            (lab.host / host.STATE).unlink(missing_ok=True)


@contextmanager
def own_machine(
    lab: Lab, folder: Path, guest_mib: int, tell: host.Tell, keep_open: tuple[int, ...], *, has_guest: bool = True
) -> Iterator[Session]:
    """A machine that ends with us, with a place for a guest of ours if we have one."""
    made, keys = prepare(lab, folder, guest_mib, tell)
    process = start_service(machine.make_command(made), folder, folder / machine.OUTPUT, stays=False,
                            keep_open=keep_open)  # fmt: skip
    try:
        place_held = hold_place(folder, guest_mib, guest_mib) if has_guest else nullcontext()
        with ended_service(process), place_held as place:
            phases = host.wait_until_ready(folder, process, tell)
            state = host.write_state(folder, made, dom0.read_fingerprint(keys.host), phases, stays=False)
            yield Session(folder, state, place or 0, is_own=True, machine=process)
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


def find_lab(lab: Lab) -> host.State | None:
    """The host that `doit lab` has left running, None where there is none."""
    with hold_file(lab.folder / HOST_LOCK, AT_ONCE) as free:
        state = host.read_state(lab.host) if free is None else None
    return state if state and state.stays else None


def start_lab(lab: Lab, tell: host.Tell) -> host.State:
    """Start a host that stays; raises HostError where one runs. Until it is ready it ends with us, however we end."""
    end_orphan(lab)
    with ExitStack() as stack:
        stack.enter_context(hold_file(lab.folder / STARTING_LOCK, fcntl.LOCK_EX))
        lock = stack.enter_context(hold_file(lab.folder / HOST_LOCK, AT_ONCE))
        if lock is None:
            raise HostError("a Xen host of the lab runs already", place=str(lab.host),
                            next_step="wait for the boot that has started it")  # fmt: skip
        made, keys = prepare(lab, lab.host, 0, tell)
        ours, theirs = os.pipe()
        stack.callback(os.close, theirs)
        argv = ["sh", "-c", GUARD.format(descriptor=ours), "sh", *machine.make_command(made)]
        process = start_service(argv, lab.host, lab.host / machine.OUTPUT, stays=True, keep_open=(lock, ours))
        os.close(ours)
        try:
            phases = host.wait_until_ready(lab.host, process, tell)
            state = host.write_state(lab.host, made, dom0.read_fingerprint(keys.host), phases, stays=True)
        except BaseException:
            host.kill_machine(lab.host)
            raise
        os.write(theirs, b"stay\n")
    return state


def stop_lab(lab: Lab) -> bool:
    """End the host that runs, and remove what it left; False where none does."""
    with ExitStack() as stack:
        if stack.enter_context(hold_file(lab.folder / USERS_LOCK, AT_ONCE)) is None:
            raise HostError("a boot uses the lab's Xen host", place=str(lab.host), next_step="wait for it to end")
        if stack.enter_context(hold_file(lab.folder / STARTING_LOCK, AT_ONCE)) is None:
            raise HostError("the lab's Xen host is just being started", place=str(lab.host),
                            next_step="wait until it is up, then run this again")  # fmt: skip
        found = False
        deadline = time.monotonic() + STOP_SECONDS
        while stack.enter_context(hold_file(lab.folder / HOST_LOCK, AT_ONCE)) is None:
            if time.monotonic() > deadline:
                raise HostError("the lab's Xen host does not end", place=str(lab.host),
                                next_step=f"look for a qemu that runs in {lab.host}, and end it")  # fmt: skip
            if not found:
                host.stop_machine(lab.host)
            found = True
            time.sleep(WAIT_SECONDS)
        # One whose folder somebody has removed holds a lock that nobody finds.
        found = host.kill_machine(lab.host) or found
        remove_path(lab.host)
        return found
