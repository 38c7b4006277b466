"""One instance of the lab's cloud as a program: python -m xenkiln.lab.instance FOLDER.

In the folder lie spec.json (xenkiln.model.lab_instance) and lab.json. The program keeps status.json there, writes
console.log while the guest speaks, holds a flock on instance.lock as long as it lives, and ends the guest when it
is told to end (SIGTERM, SIGINT). It exits with 0, or with 1 where the guest could not be created.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from xenkiln.errors import CommandError, HostError, XenkilnError
from xenkiln.lab.attempts import work_on_host
from xenkiln.lab.console import Console
from xenkiln.lab.instance_guest import describe_instance, render_config, require_files
from xenkiln.lab.keeper import start_kept
from xenkiln.lab.network import ADDRESSES
from xenkiln.lab.running_guest import RunningGuest, open_guest
from xenkiln.lab.session import Lab, Session
from xenkiln.model.lab_instance import InstanceSpec, parse_instance
from xenkiln.system.causes import explain_lack
from xenkiln.system.commands import make_printable
from xenkiln.system.files import remove_path, write_finished
from xenkiln.system.interrupts import stop_on_signals, uninterrupted
from xenkiln.system.layout import PROJECT
from xenkiln.system.locks import hold_lock
from xenkiln.system.services import Service, start_service

SPEC, LAB, STATUS, CONSOLE = "spec.json", "lab.json", "status.json", "console.log"
LOCK, OUTPUT, KEEPER_OUTPUT = "instance.lock", "instance.out", "keeper.out"
WORK = "guest"
"""Overlay, job and configuration; there while the program runs."""
ENDING_SECONDS = 180
"""For ending the guest; an emulated dom0 that others keep busy takes its time."""
LISTEN_SECONDS = 1.0
State = Literal["pending", "running", "ended", "failed"]

ENDING_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def _hold_signals() -> None:
    """Let a program that is told to end before it can listen hear it when it can: it inherits this."""
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING_SIGNALS)


_starter = ThreadPoolExecutor(1, "instances", initializer=_hold_signals)
"""The kernel ends an instance with the thread that has started it: this one lives as long as its process."""


@dataclass(frozen=True)
class Status:
    """What status.json says; address and ssh_port (on this host's loopback) are a running guest's."""

    state: State
    reason: str = ""
    address: str = ""
    ssh_port: int | None = None


def start_instance(lab: Lab, folder: Path) -> Service:
    """Start the program for a folder with a spec.json, pending from now on; it ends at once when we end."""
    folder = folder.absolute()
    words = {"folder": str(lab.folder), "images": str(lab.images), "modules": lab.modules}
    write_finished(folder / LAB, json.dumps(words, indent=1) + "\n")
    write_status(folder, Status("pending"))
    argv = [sys.executable, "-m", "xenkiln.lab.instance", str(folder)]
    return _starter.submit(start_service, argv, PROJECT, folder / OUTPUT, stays=False).result()


def write_status(folder: Path, status: Status) -> None:
    """Replace status.json."""
    write_finished(folder / STATUS, json.dumps(asdict(status), indent=1) + "\n")


def read_lab(folder: Path) -> Lab:
    """The lab that start_instance has named; raises HostError where it has not."""
    place = folder / LAB
    try:
        words = json.loads(place.read_text(encoding="utf-8"))
        return Lab(Path(words["folder"]), Path(words["images"]), str(words["modules"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise HostError("does not say which lab to use", place=str(place),
                        next_step="start instances by start_instance") from error  # fmt: skip


class Instance:
    """One instance: what becomes of it, told in its folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.status = Status("pending")

    def run(self) -> None:
        """From pending to the end; the status says which."""
        try:
            write_status(self.folder, self.status)
            lab, spec = read_lab(self.folder), read_spec(self.folder)
            self.run_on(lab, spec, Console(self.folder / CONSOLE))
        except XenkilnError as error:
            self.give_up(error)
        except (OSError, MemoryError) as error:
            self.give_up(explain_lack(error))

    def run_on(self, lab: Lab, spec: InstanceSpec, console: Console) -> None:
        """Run it on one of the lab's hosts, or on another where that is lost before the guest is there."""
        start = partial(start_kept, self.folder / KEEPER_OUTPUT)
        work = partial(self.live, spec, console)
        try:
            reason = work_on_host(lab, spec.memory_mib, work, tell=lambda _: None, note=say, start=start)
            self.finish("ended", reason)
        finally:
            remove_path(self.folder / WORK)

    def live(self, spec: InstanceSpec, console: Console, session: Session) -> str:
        """Create the guest and follow it to its end, which is returned in words.

        What goes wrong before it runs is raised.
        """
        work = self.folder / WORK
        remove_path(work)
        work.mkdir(mode=0o700)
        address = ADDRESSES[session.place]
        guest = describe_instance(spec, self.folder, work, address)
        reason = ""
        try:
            with open_guest(session, guest, work, console, lambda _: None, say) as running:
                running.create()
                self.tell(Status("running", "", address, running.forward_ssh()))
                reason = follow(running)
        except XenkilnError as error:
            if self.status.state == "pending":
                raise
            if session.is_lost():
                return "the Xen host that it ran on has ended"
            reason = reason or describe_reason(error)
        return reason

    def give_up(self, error: XenkilnError) -> None:
        """Write why it could not be created, or why it could not run on."""
        self.finish("failed" if self.status.state == "pending" else "ended", describe_reason(error))

    def tell(self, status: Status) -> None:
        """Write how it stands now."""
        with uninterrupted():
            self.status = status
            write_status(self.folder, status)
            say(f"{status.state} {status.reason}".strip())

    def finish(self, state: State, reason: str) -> None:
        """Write how it has ended, unless that has been told already."""
        if self.status.state in ("pending", "running"):
            self.tell(Status(state, reason))


def read_spec(folder: Path) -> InstanceSpec:
    """The instance that is asked for; raises XenkilnError for whatever would keep it from being created."""
    place = folder / SPEC
    try:
        text = place.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise HostError("is not UTF-8", place=str(place)) from error
    spec = parse_instance(text, str(place))
    require_files(spec, folder)
    render_config(spec)
    return spec


def follow(running: RunningGuest) -> str:
    """Take what it says until it has ended; why it has."""
    with running.hear():
        while not (reason := running.find_end()):
            running.listen(LISTEN_SECONDS)
            running.check_host()
    return "its kernel panicked, and its domain has ended" if "Kernel panic" in running.console.text else reason


def describe_reason(error: XenkilnError) -> str:
    """The error as it can be shown; of a command in dom0 what it said, which is xl's own words."""
    said = error.last_lines if isinstance(error, CommandError) else ()
    return "\n".join(map(make_printable, said or str(error).splitlines()))


def say(line: str) -> None:
    """Add a line to the program's output; where there is no room for it, nothing else must suffer."""
    with suppress(OSError):
        print(line, flush=True)


def main(words: Sequence[str]) -> int:
    """Run the instance of a folder; the exit code."""
    if len(words) != 1 or not Path(words[0]).is_dir():
        print("usage: python -m xenkiln.lab.instance FOLDER", file=sys.stderr)
        return 2
    instance = Instance(Path(words[0]).absolute())
    try:
        with hold_lock(instance.folder / LOCK, "this instance"):
            run_until_told(instance)
    except (XenkilnError, OSError) as error:
        say(str(error))
        return 1
    return 1 if instance.status.state == "failed" else 0


def run_until_told(instance: Instance) -> None:
    """Run it; a signal ends it as if it had ended by itself."""
    try:
        stop_on_signals(ENDING_SECONDS)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING_SIGNALS)
        instance.run()
    except KeyboardInterrupt as interrupt:
        instance.finish("ended", f"it was told to end: {interrupt}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
