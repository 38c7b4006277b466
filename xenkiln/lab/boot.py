"""The boot of a guest on a running lab: what is expected of it, looked for until the verdict is certain."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from xenkiln.errors import CommandError, HostError
from xenkiln.lab import host
from xenkiln.lab.console import PHASES, SERVICES, Console
from xenkiln.lab.diagnosis import GIVEN_UP, Cause, Ending, diagnose
from xenkiln.lab.expectations import (
    Expectation,
    View,
    describe_error,
    find_lack_of_kind,
    find_lack_on_console,
    find_lack_over_ssh,
    list_expectations,
)
from xenkiln.lab.guest import Guest
from xenkiln.lab.running_guest import RunningGuest, open_guest
from xenkiln.lab.session import Session
from xenkiln.model.boot import Boot
from xenkiln.model.boot_record import Failure, Met
from xenkiln.model.domain import Deploy
from xenkiln.system.ssh import answers, connect

if TYPE_CHECKING:
    from xenkiln.system.ssh import Remote

REBOOTS = 3
LOOK_SECONDS, SSH_SECONDS, EARLY_SSH_SECONDS = 0.2, 1.0, 5.0
ON_CONSOLE = ("console", "login")


@dataclass
class Outcome:
    """What is known of a boot so far; `phases` and the times of `met` in seconds."""

    phases: dict[str, float] = field(default_factory=dict)
    met: list[Met] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=dict)
    failure: Failure | None = None


class GuestBoot:
    """A guest being booted: what is done in turn, and what has come of it."""

    def __init__(self, guest: Guest, boot: Boot, folder: Path, console: Path, tell: host.Tell) -> None:
        self.guest, self.boot, self.folder, self.tell = guest, boot, folder, tell
        self.console = Console(console)
        self.outcome = Outcome()
        self.key = folder / "guest-key"
        self.guest_type = "PVH" if guest.is_pvh else "PV"
        self.waiting = list_expectations(boot, self.guest_type)
        self.lacks: dict[str, str] = {}
        self.started = self.begun = time.monotonic()
        self.tried_ssh = 0.0
        self.login = ExitStack()
        self.remote: Remote | None = None

    def run(self, session: Session, note: Callable[[str], None]) -> Outcome:
        """Create it, watch it, end it."""
        with (
            open_guest(session, self.guest, self.folder, self.console, self.tell, note) as running,
            self.login,
        ):
            if self.create(running):
                ssh = self.find_ssh(running)
                deadline = self.started + self.boot.time_limit_seconds
                view = View(self.console, ssh, self.guest.meta_data or {}, self.guest_type, deadline)
                self.watch(running, view, note)
        return self.outcome

    def create(self, running: RunningGuest) -> bool:
        """Have it created; a refusal is the verdict."""
        try:
            running.create()
        except CommandError as error:
            said = "\n".join(error.last_lines)
            cause = diagnose(said, missing=[], seen_on_network=False, ending="refused")
            self.fail("guest created", said.splitlines()[0] if said else str(error), cause, list(error.last_lines))
        self.end_phase("guest created")
        self.started = time.monotonic()
        return self.outcome.failure is None

    def find_ssh(self, running: RunningGuest) -> Deploy | None:
        """Where the guest's ssh will answer on this host's loopback."""
        if not self.boot.needs_ssh:
            return None
        return Deploy(host="127.0.0.1", port=running.forward_ssh(), key_file=str(self.key))

    def watch(self, running: RunningGuest, view: View, note: Callable[[str], None]) -> None:
        """Follow the console until all is met, or it is certain or too late that it will not be."""
        phase = PHASES[0]
        with running.hear():
            while self.waiting and self.outcome.failure is None:
                running.listen(LOOK_SECONDS)
                if (now := self.console.find_phase()) != phase:
                    self.end_phase(phase)
                    phase = now
                self.tell(f"{phase}: {self.waiting[0].name}")
                self.look(view, running, note)
                # What is asked inside may have taken its time.
                running.listen(0)
                running.check_host()
                if self.waiting and (end := self.find_end(running)):
                    self.fail_for(phase, *end, running)
        self.end_phase(phase)

    def look(self, view: View, running: RunningGuest, note: Callable[[str], None]) -> None:
        """Take out of the list what is met by now."""
        for expectation in [each for each in self.waiting if each.kind in ON_CONSOLE]:
            self.settle(expectation, find_lack_on_console(expectation, view))
        rest = [each for each in self.waiting if each.kind not in ON_CONSOLE]
        if view.ssh is None:
            if rest and self.console.text:
                self.settle(rest[0], find_lack_of_kind(running.find_type(), self.guest_type))
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

    def find_end(self, running: RunningGuest) -> tuple[Ending, str] | None:
        """Why waiting longer is of no use, None while it is."""
        starts = max(self.console.starts, 1 + running.restarts)
        if starts > REBOOTS:
            return "reboots", f"it reboots over and over: its kernel has started {starts} times"
        if self.console.is_flooded:
            return "flood", f"it floods its console: {self.console.size >> 20} MiB so far"
        if "Kernel panic" in self.console.text:
            return "panic", "its kernel panicked"
        if re.search(GIVEN_UP, self.console.text):
            return "time", "its init gave up and waits for a person"
        if ended := running.find_end():
            return "gone", ended
        if time.monotonic() - self.started > self.boot.time_limit_seconds:
            return "time", f"not all was met within {self.boot.time_limit_seconds} s"
        return None

    def fail_for(self, phase: str, ending: Ending, fact: str, running: RunningGuest) -> None:
        """Note the failure, with what dom0 can see of the guest."""
        seen = running.is_on_network()
        missing = list(dict.fromkeys(each.kind for each in self.waiting if each.kind != "paravirtualised"))
        cause = diagnose(self.console.text, missing=missing, seen_on_network=seen, ending=ending)
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
