"""A running lab: started, found again by the files in its folder, told to take disks and to forward ports."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from xenkiln.errors import HostError
from xenkiln.lab import machine, monitor
from xenkiln.lab.network import HOST_ADDRESS
from xenkiln.model.domain import Deploy
from xenkiln.system.files import write_finished

if TYPE_CHECKING:
    from xenkiln.system.services import Service
    from xenkiln.system.ssh import Remote

STATE, KEY = "state.json", "key"
STARTING_SECONDS = 180
DETACHING_SECONDS = 10
POLL_SECONDS = 0.05
SSH = 22
LAST_LINES = 8
PHASES = (("qemu", "Xen version"), ("Xen", "about to get started"), ("dom0", "lab: [0-9.]+ ready"),
          ("dom0's ssh", "lab: [0-9.]+ ssh"))  # fmt: skip
"""What begins, and the line on the machine's console that ends it."""

Tell = Callable[[str], None]


@dataclass(frozen=True)
class State:
    """What finds a running lab again; the private key lies beside it.

    memory_mib: the whole machine's. stays: it ends when it is told to, and not with the run that has started it.
    """

    ssh_port: int
    fingerprint: str
    memory_mib: int
    accelerator: str
    phases: dict[str, float]
    stays: bool = False


def wait_until_ready(folder: Path, process: Service, tell: Tell) -> dict[str, float]:
    """Follow the machine's console to the line that ends the last phase; phase -> seconds.

    Raises HostError with the console's last lines when qemu ends or time runs out.
    """
    console = folder / machine.CONSOLE
    times: dict[str, float] = {}
    started = begun = time.monotonic()
    for phase, ending in PHASES:
        tell(phase)
        while not re.search(ending, text := read_text(console)):
            if (code := process.poll()) is not None or "lab: failed" in text:
                raise _start_failure(folder, f"qemu ended with code {code}" if code is not None else "dom0 gave up")
            if time.monotonic() - started > STARTING_SECONDS:
                raise _start_failure(folder, f"{phase} was not there within {STARTING_SECONDS} s")
            time.sleep(POLL_SECONDS)
        now = time.monotonic()
        times[phase], begun = round(now - begun, 2), now
    return times


def _start_failure(folder: Path, fact: str) -> HostError:
    said = [*read_text(folder / machine.OUTPUT).splitlines(), *read_text(folder / machine.CONSOLE).splitlines()]
    lines = "".join(f"\n  | {line}" for line in said[-LAST_LINES:])
    return HostError(f"the lab's Xen host does not start: {fact}{lines}", place=str(folder),
                     next_step="run it again; `doit clean seal:lab-dom0` has its image made anew")  # fmt: skip


def read_text(path: Path) -> str:
    """What a program has written so far, "" before it has."""
    try:
        return path.read_bytes().decode(errors="replace")
    except FileNotFoundError:
        return ""


def write_state(
    folder: Path, made: machine.Machine, fingerprint: str, phases: dict[str, float], *, stays: bool
) -> State:
    """Note what a later run needs; the lab counts as ready from now on."""
    forwards = _list_forwards(folder)
    port = forwards[HOST_ADDRESS.partition("/")[0], SSH]
    state = State(port, fingerprint, made.memory_mib, made.accelerator, phases, stays)
    write_finished(folder / STATE, json.dumps(asdict(state), indent=1) + "\n", 0o600)
    return state


def read_state(folder: Path) -> State | None:
    """The state of a lab that is ready; None for any other."""
    try:
        return State(**json.loads((folder / STATE).read_text(encoding="ascii")))
    except (OSError, ValueError, TypeError):
        return None


def describe_target(folder: Path, state: State) -> Deploy:
    """The lab as any other Xen host that is reached by ssh."""
    return Deploy(host="127.0.0.1", port=state.ssh_port, key_file=str(folder / KEY), fingerprint=state.fingerprint)


@contextmanager
def open_dom0(folder: Path, state: State, note: Tell) -> Iterator[Remote]:
    """A connection to the lab's dom0."""
    from xenkiln.system.ssh import connect  # paramiko takes a moment, and only booting needs it

    with connect(describe_target(folder, state), note) as remote:
        yield remote


def attach_disks(folder: Path, disks: dict[int, tuple[str, Path]]) -> None:
    """Give dom0 disks while it runs: number on its SCSI bus -> (qcow2 or raw, file). They are thrown away."""
    orders: list[monitor.Order] = []
    for target, (form, path) in disks.items():
        node = {"driver": form, "node-name": f"node{target}", "cache": {"direct": False, "no-flush": True},
                "file": {"driver": "file", "filename": str(path)}}  # fmt: skip
        device = {"driver": "scsi-hd", "bus": "scsi0.0", "scsi-id": target, "lun": 0, "drive": f"node{target}",
                  "id": f"disk{target}"}  # fmt: skip
        orders += [("blockdev-add", node), ("device_add", device)]
    monitor.order(folder / machine.MONITOR, *orders)


def detach_disks(folder: Path, targets: list[int]) -> None:
    """Take disks away from a dom0 that has let go of them; raises HostError where qemu keeps one."""
    socket = folder / machine.MONITOR
    deadline = time.monotonic() + DETACHING_SECONDS
    nodes = _list_nodes(socket)
    there = [target for target in targets if f"node{target}" in nodes]
    for target in there:
        with suppress(HostError):  # only the file was attached when somebody was killed
            monitor.order(socket, ("device_del", {"id": f"disk{target}"}))
    for target in there:
        # A device goes when dom0 has been told, and its file not before.
        while f"node{target}" in _list_nodes(socket):
            try:
                monitor.order(socket, ("blockdev-del", {"node-name": f"node{target}"}))
            except HostError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(POLL_SECONDS)


def _list_nodes(socket: Path) -> set[str]:
    return {node["node-name"] for node in monitor.order(socket, ("query-named-block-nodes", {"flat": True}))[0]}


def find_stop(folder: Path) -> str:
    """Why the machine stands still, "" while it runs; qemu stops one whose disks have no room on this host."""
    status = str(monitor.order(folder / machine.MONITOR, ("query-status", {}))[0]["status"])
    return {"running": "", "io-error": "no space is left for what its guests write"}.get(status, status)


def forward_port(folder: Path, address: str, port: int) -> int:
    """Forward a free port of this host's loopback to a guest's; the same one each time it is asked for."""
    socket = folder / machine.MONITOR
    if (known := _list_forwards(folder).get((address, port))) is not None:
        return known
    monitor.order(socket, monitor.say(f"hostfwd_add net0 tcp:127.0.0.1:0-{address}:{port}"))
    return _list_forwards(folder)[address, port]


def _list_forwards(folder: Path) -> dict[tuple[str, int], int]:
    return monitor.list_forwards(monitor.order(folder / machine.MONITOR, monitor.say("info usernet"))[0])


def stop_machine(folder: Path) -> None:
    """Have qemu end; it has nothing to save, so one that does not listen any more is killed."""
    (folder / STATE).unlink(missing_ok=True)
    try:
        monitor.order(folder / machine.MONITOR, ("quit", {}))
    except HostError:
        kill_machine(folder)


def kill_machine(folder: Path) -> bool:
    """Kill what runs in the machine's folder, be that removed meanwhile, and is called qemu; whether anything did."""
    found = False
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            is_here = str((process / "cwd").readlink()).removesuffix(" (deleted)") == str(folder.resolve())
            if is_here and machine.QEMU.encode() in (process / "cmdline").read_bytes():
                os.kill(int(process.name), signal.SIGKILL)
                found = True
    return found


def available_mib() -> int:
    """What this host can give away, proc_meminfo(5)."""
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    found = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    return min(found["MemAvailable"], os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 10) >> 10
