"""One guest on a running lab, from its disks to the verdict."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from xenkiln.errors import CommandError, HostError, XenkilnError
from xenkiln.lab import host
from xenkiln.lab.archive import write_archive
from xenkiln.lab.console import PHASES, SERVICES, Console
from xenkiln.lab.diagnosis import GIVEN_UP, Cause, Ending, diagnose
from xenkiln.lab.dom0 import make_overlay
from xenkiln.lab.expectations import (
    Expectation,
    View,
    describe_error,
    find_lack_of_kind,
    find_lack_on_console,
    find_lack_over_ssh,
    list_expectations,
)
from xenkiln.lab.guest import Guest, make_job
from xenkiln.lab.network import ADDRESSES
from xenkiln.lab.session import Session
from xenkiln.model.boot import Boot
from xenkiln.model.boot_record import Failure, Met
from xenkiln.model.domain import Deploy
from xenkiln.system.ssh import answers, connect

if TYPE_CHECKING:
    from xenkiln.system.ssh import Answer, Remote
    from xenkiln.system.ssh_channels import Stream

SCRIPT = "/run/lab/guest"
TARGETS_OF_A_GUEST = 18
"""Its job, and no more disks than xvda to xvdp: numbers on dom0's SCSI bus, of which there are 255."""
REBOOTS = 3
LOOK_SECONDS, SSH_SECONDS, EARLY_SSH_SECONDS = 0.2, 1.0, 5.0
CHECK_SECONDS = 2.0
DOM0_SECONDS = 120
IN_THE_WAY = 3
"""scripts/host/lab/guest ends so where another guest has what this one needs."""
NO_MEMORY = "Cannot allocate memory|free memory for the domain|Out of memory"
"""What xl create says of a host that has less than the guest needs."""
ANY = range(256)
ON_CONSOLE = ("console", "login")


class NoRoomError(HostError):
    """The Xen host has too little memory left for the guest."""


@dataclass
class Outcome:
    """What is known of a boot so far; `phases` and the times of `met` in seconds."""

    phases: dict[str, float] = field(default_factory=dict)
    met: list[Met] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=dict)
    failure: Failure | None = None


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


class GuestBoot:
    """A guest being booted: what is done in turn, and what has come of it."""

    def __init__(self, guest: Guest, boot: Boot, place: Place, folder: Path, console: Path, tell: host.Tell) -> None:
        self.guest, self.boot, self.place, self.folder, self.tell = guest, boot, place, folder, tell
        self.console = Console(console)
        self.outcome = Outcome()
        self.key = folder / "guest-key"
        self.guest_type = "PVH" if guest.is_pvh else "PV"
        self.waiting = list_expectations(boot, self.guest_type)
        self.lacks: dict[str, str] = {}
        self.started = self.begun = time.monotonic()
        self.tried_ssh = self.checked = 0.0
        self.login = ExitStack()
        self.remote: Remote | None = None

    def run(self, session: Session, note: Callable[[str], None]) -> Outcome:
        """Create it, watch it, end it."""
        with host.open_dom0(session.folder, session.state, note) as dom0, self.open_guest(session, dom0), self.login:
            if self.create(dom0):
                ssh = self.find_ssh(session.folder)
                deadline = self.started + self.boot.time_limit_seconds
                view = View(self.console, ssh, self.guest.meta_data or {}, self.guest_type, deadline)
                self.watch(dom0, view, session.folder, note)
        return self.outcome

    @contextmanager
    def open_guest(self, session: Session, dom0: Remote) -> Iterator[None]:
        """Overlays and the job as disks of dom0; at the end the domain, and they, are gone."""
        overlays = [self.folder / f"disk{number}.qcow2" for number in range(len(self.guest.disks))]
        for disk, overlay in zip(self.guest.disks, overlays, strict=True):
            make_overlay(disk.local, overlay)
        job, *targets = self.place.list_targets(len(overlays))
        write_archive(self.folder / "job.tar", make_job(self.guest, self.place.address, targets))
        disks = {job: ("raw", self.folder / "job.tar")}
        disks |= {target: ("qcow2", overlay) for target, overlay in zip(targets, overlays, strict=True)}
        self.tell("guest: its disks")
        if not session.is_own:
            self.clear_place(session, dom0)
        try:
            host.attach_disks(session.folder, disks)
            self.ask(dom0, "unpack", str(job))
            yield
        except BaseException:
            with suppress(XenkilnError):  # what has happened says more
                self.clean_up(session, dom0, list(disks))
            raise
        else:
            self.clean_up(session, dom0, list(disks))

    def ask(self, dom0: Remote, verb: str, word: str, accept: Sequence[int] = (0,)) -> Answer:
        """Have dom0's script do something; it may take no longer than the slowest machine needs for it."""
        return dom0.run(["sh", SCRIPT, verb, word], accept=accept, limit_seconds=DOM0_SECONDS)

    def clean_up(self, session: Session, dom0: Remote, disks: list[int]) -> None:
        """End the domain and take its disks from dom0, unless all that ends with the host."""
        self.tell("end the guest")
        if not session.ends_now() and not host.find_stop(session.folder):
            self.ask(dom0, "destroy", self.guest.name, ANY)
            host.detach_disks(session.folder, disks)

    def clear_place(self, session: Session, dom0: Remote) -> None:
        """End what a killed boot has left here, before its disks are taken away."""
        self.ask(dom0, "clear", self.place.address)
        host.detach_disks(session.folder, self.place.list_targets(TARGETS_OF_A_GUEST - 1))

    def create(self, dom0: Remote) -> bool:
        """Have Xen check the configuration and create the domain; a refusal is the verdict."""
        self.tell("guest: xl create")
        try:
            answer = self.ask(dom0, "create", self.guest.name, (0, IN_THE_WAY))
            if answer.code == IN_THE_WAY:
                raise HostError(f"{answer.err.strip()} on the lab's Xen host", place=self.guest.name,
                                next_step="end that guest there, or doit lab-stop")  # fmt: skip
        except CommandError as error:
            said = "\n".join(error.last_lines)
            if re.search(NO_MEMORY, said):
                raise NoRoomError(f"it has too little memory left for {self.guest.name}", place="the lab's Xen host",
                                  next_step="end guests there, or doit lab-stop") from error  # fmt: skip
            cause = diagnose(said, missing=[], seen_on_network=False, ending="refused")
            self.fail("guest created", said.splitlines()[0] if said else str(error), cause, list(error.last_lines))
        self.end_phase("guest created")
        self.started = time.monotonic()
        return self.outcome.failure is None

    def find_ssh(self, lab: Path) -> Deploy | None:
        """Where the guest's ssh will answer on this host's loopback."""
        if not self.boot.needs_ssh:
            return None
        port = host.forward_port(lab, self.place.address, host.SSH)
        return Deploy(host="127.0.0.1", port=port, key_file=str(self.key))

    def watch(self, dom0: Remote, view: View, machine: Path, note: Callable[[str], None]) -> None:
        """Follow the console until all is met, or it is certain or too late that it will not be."""
        phase = PHASES[0]
        with dom0.stream(["sh", SCRIPT, "watch", self.guest.name]) as stream:
            while self.waiting and self.outcome.failure is None:
                self.console.feed(stream.read(LOOK_SECONDS))
                if (now := self.console.find_phase()) != phase:
                    self.end_phase(phase)
                    phase = now
                self.tell(f"{phase}: {self.waiting[0].name}")
                self.look(view, dom0, note)
                # What is asked inside may have taken its time.
                self.console.feed(stream.read(0))
                self.check_host(machine)
                if self.waiting and (end := self.find_end(stream)):
                    self.fail_for(phase, *end, dom0)
        self.end_phase(phase)

    def check_host(self, machine: Path) -> None:
        """Raise HostError where qemu has stopped everything: neither dom0 nor the guest can say so."""
        if time.monotonic() - self.checked >= CHECK_SECONDS:
            self.checked = time.monotonic()
            if reason := host.find_stop(machine):
                raise HostError(f"qemu has stopped the Xen host: {reason}", place=str(self.folder),
                                next_step="make room there, doit lab-stop, and run this again")  # fmt: skip

    def look(self, view: View, dom0: Remote, note: Callable[[str], None]) -> None:
        """Take out of the list what is met by now."""
        for expectation in [each for each in self.waiting if each.kind in ON_CONSOLE]:
            self.settle(expectation, find_lack_on_console(expectation, view))
        rest = [each for each in self.waiting if each.kind not in ON_CONSOLE]
        if view.ssh is None:
            if rest and self.console.text:
                kind = self.ask(dom0, "kind", self.guest.name, ANY).out.strip()
                self.settle(rest[0], find_lack_of_kind(kind, self.guest_type))
        elif rest and time.monotonic() - self.tried_ssh >= self.count_pause():
            self.look_inside(rest, view, view.ssh, note)
            self.tried_ssh = time.monotonic()

    def count_pause(self) -> float:
        """Seconds between two tries of ssh: one that is not known to be up is asked less often."""
        return SSH_SECONDS if self.console.find_phase() == SERVICES else EARLY_SSH_SECONDS

    def look_inside(self, rest: list[Expectation], view: View, ssh: Deploy, note: Callable[[str], None]) -> None:
        """Log in, once, and look for everything that is to be found inside."""
        try:
            if self.remote is None:
                if not answers(ssh, SSH_SECONDS):
                    raise HostError("no ssh server has answered yet")
                # The network between is inside this machine, and the guest has just made its host key.
                self.remote = self.login.enter_context(connect(ssh, note, trust_any=True))
            for expectation in rest:
                self.settle(expectation, find_lack_over_ssh(expectation, view, self.remote, self.outcome.facts))
        except (HostError, CommandError) as error:
            self.login.close()
            self.remote = None
            for expectation in rest:
                self.lacks[expectation.name] = describe_error(error)

    def settle(self, expectation: Expectation, lack: str) -> None:
        """Note that it is met, or what it lacks."""
        if lack:
            self.lacks[expectation.name] = lack
        elif expectation in self.waiting:
            self.waiting.remove(expectation)
            self.outcome.met.append(Met(expectation.name, round(time.monotonic() - self.started, 2)))

    def find_end(self, stream: Stream) -> tuple[Ending, str] | None:
        """Why waiting longer is of no use, None while it is."""
        starts = max(self.console.starts, 1 + stream.errors.split().count("again"))
        if starts > REBOOTS:
            return "reboots", f"it reboots over and over: its kernel has started {starts} times"
        if self.console.is_flooded:
            return "flood", f"it floods its console: {self.console.size >> 20} MiB so far"
        if "Kernel panic" in self.console.text:
            return "panic", "its kernel panicked"
        if re.search(GIVEN_UP, self.console.text):
            return "time", "its init gave up and waits for a person"
        if "gone" in stream.errors.split():
            return "gone", "its domain has ended: it powered off, or crashed and was destroyed"
        if stream.is_over:
            return "gone", "the Xen host has lost sight of it"
        if time.monotonic() - self.started > self.boot.time_limit_seconds:
            return "time", f"not all was met within {self.boot.time_limit_seconds} s"
        return None

    def fail_for(self, phase: str, ending: Ending, fact: str, dom0: Remote) -> None:
        """Note the failure, with what dom0 can see of the guest."""
        seen = self.ask(dom0, "look", self.guest.name, ANY).out
        missing = list(dict.fromkeys(each.kind for each in self.waiting if each.kind != "paravirtualised"))
        cause = diagnose(self.console.text, missing=missing, seen_on_network="lladdr" in seen, ending=ending)
        self.fail(phase, fact, cause, self.console.list_last_lines())

    def fail(self, phase: str, fact: str, cause: Cause, last_lines: list[str]) -> None:
        """End the boot with a verdict."""
        lacks = {each.name: self.lacks.get(each.name, "not reached") for each in self.waiting}
        self.outcome.failure = Failure(phase, fact, cause.fact, cause.next_step, lacks, tuple(last_lines))

    def end_phase(self, name: str) -> None:
        """Note how long a phase took."""
        now = time.monotonic()
        self.outcome.phases[name] = round(now - self.begun, 2)
        self.begun = now
