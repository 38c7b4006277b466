"""A guest on a running Xen host of the lab: its disks, its domain, its console, its end."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from xenkiln.errors import CommandError, HostError, XenkilnError
from xenkiln.lab import host
from xenkiln.lab.archive import write_archive
from xenkiln.lab.attempts import NoRoomError
from xenkiln.lab.console import Console
from xenkiln.lab.dom0 import make_overlay
from xenkiln.lab.guest import Guest, make_job
from xenkiln.lab.places import Place
from xenkiln.lab.session import Session

if TYPE_CHECKING:
    from xenkiln.system.ssh import Answer, Remote
    from xenkiln.system.ssh_channels import Stream

SCRIPT = "/run/lab/guest"
DOM0_SECONDS = 120
CHECK_SECONDS = 2.0
IN_THE_WAY = 3
"""scripts/host/lab/guest ends so where another guest has what this one needs."""
NO_MEMORY = "Cannot allocate memory|free memory for the domain|Out of memory"
"""What xl create says of a host that has less than the guest needs."""
ANY = range(256)


class RunningGuest:
    """What can be asked of a guest while open_guest holds it, and told to it."""

    def __init__(self, session: Session, dom0: Remote, guest: Guest, console: Console, tell: host.Tell) -> None:
        self.session, self.dom0, self.guest, self.console, self.tell = session, dom0, guest, console, tell
        self.place = Place(session.place)
        self.stream: Stream | None = None
        self.checked = 0.0

    def ask(self, verb: str, word: str, accept: Sequence[int] = (0,)) -> Answer:
        """Have dom0's script do something; it may take no longer than the slowest machine needs for it."""
        return self.dom0.run(["sh", SCRIPT, verb, word], accept=accept, limit_seconds=DOM0_SECONDS)

    @contextmanager
    def hold_disks(self, folder: Path) -> Iterator[None]:
        """Overlays and the job as disks of dom0; at the end the domain, and they, are gone."""
        overlays = [folder / f"disk{number}.qcow2" for number in range(len(self.guest.disks))]
        for disk, overlay in zip(self.guest.disks, overlays, strict=True):
            make_overlay(disk.local, overlay)
        job, *targets = self.place.list_targets(len(overlays))
        write_archive(folder / "job.tar", make_job(self.guest, self.place.address, targets))
        disks = {job: ("raw", folder / "job.tar")}
        disks |= {target: ("qcow2", overlay) for target, overlay in zip(targets, overlays, strict=True)}
        self.tell("guest: its disks")
        if not self.session.is_own:
            self.clear_place()
        try:
            host.attach_disks(self.session.folder, disks)
            self.ask("unpack", str(job))
            yield
        except BaseException:
            with suppress(XenkilnError):  # what has happened says more
                self.clean_up(list(disks))
            raise
        else:
            self.clean_up(list(disks))

    def clear_place(self) -> None:
        """End what a killed run has left here, before its disks are taken away."""
        self.ask("clear", self.place.address)
        host.detach_disks(self.session.folder, self.place.list_all_targets())

    def clean_up(self, disks: list[int]) -> None:
        """End the domain and take its disks from dom0, unless all that ends with the host."""
        self.tell("end the guest")
        if not self.session.ends_now() and not host.find_stop(self.session.folder):
            self.ask("destroy", self.guest.name, ANY)
            host.detach_disks(self.session.folder, disks)

    def create(self) -> None:
        """Have Xen check the configuration, create the domain and start it.

        Raises NoRoomError, HostError where another guest is in the way, CommandError with xl's words.
        """
        self.tell("guest: xl create")
        try:
            answer = self.ask("create", self.guest.name, (0, IN_THE_WAY))
        except CommandError as error:
            if re.search(NO_MEMORY, "\n".join(error.last_lines)):
                raise NoRoomError(f"it has too little memory left for {self.guest.name}", place="the lab's Xen host",
                                  next_step="end guests there, or doit lab-stop") from error  # fmt: skip
            raise
        if answer.code == IN_THE_WAY:
            raise HostError(f"{answer.err.strip()} on the lab's Xen host", place=self.guest.name,
                            next_step="end that guest there, or doit lab-stop")  # fmt: skip

    def forward_ssh(self) -> int:
        """The port of this host's loopback where the guest's ssh will answer."""
        return host.forward_port(self.session.folder, self.place.address, host.SSH)

    @contextmanager
    def hear(self) -> Iterator[None]:
        """While inside, its console can be listened to."""
        with self.dom0.stream(["sh", SCRIPT, "watch", self.guest.name]) as self.stream:
            yield

    def listen(self, seconds: float) -> None:
        """Take what its console says, waiting at most so long for anything."""
        if self.stream:
            self.console.feed(self.stream.read(seconds))

    @property
    def restarts(self) -> int:
        """How many times its domain was seen to start again."""
        return self._list_events().count("again")

    def find_end(self) -> str:
        """How it has ended, "" while it runs."""
        if "gone" in self._list_events():
            return "its domain has ended: it powered off, or crashed and was destroyed"
        return "the Xen host has lost sight of it" if self.stream and self.stream.is_over else ""

    def _list_events(self) -> list[str]:
        return self.stream.errors.split() if self.stream else []

    def check_host(self) -> None:
        """Raise HostError where qemu has stopped everything: neither dom0 nor the guest can say so."""
        if time.monotonic() - self.checked >= CHECK_SECONDS:
            self.checked = time.monotonic()
            if reason := host.find_stop(self.session.folder):
                raise HostError(f"qemu has stopped the Xen host: {reason}", place=str(self.session.folder),
                                next_step="make room there, doit lab-stop, and run this again")  # fmt: skip

    def find_type(self) -> str:
        """What Xen itself takes it for: pv or pvh, "" where it does not say."""
        return self.ask("kind", self.guest.name, ANY).out.strip()

    def is_on_network(self) -> bool:
        """Whether dom0 has seen its interface."""
        return "lladdr" in self.ask("look", self.guest.name, ANY).out


@contextmanager
def open_guest(
    session: Session, guest: Guest, folder: Path, console: Console, tell: host.Tell, note: Callable[[str], None]
) -> Iterator[RunningGuest]:
    """Ready to be created on the session's place, its overlays in `folder`; at the end nothing of it is left there."""
    with host.open_dom0(session.folder, session.state, note) as dom0:
        running = RunningGuest(session, dom0, guest, console, tell)
        with running.hold_disks(folder):
            yield running
