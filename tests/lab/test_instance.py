"""An instance's life as its folder tells it, on a host that is pretended."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
from instance_folder import make_folder, read_status, write_spec

from xenkiln.errors import CommandError, HostError
from xenkiln.lab import instance
from xenkiln.lab.attempts import NoRoomError
from xenkiln.lab.console import Console
from xenkiln.lab.guest import Guest
from xenkiln.lab.host import State
from xenkiln.lab.instance import Instance, Status, run_until_told
from xenkiln.lab.session import Lab, Session

SESSION = Session(Path("/lab/host"), State(1, "SHA256:abc", 2560, "tcg", {}), 2, is_own=False)
RUNNING = Status("running", "", "10.0.2.52", 40022)
XL = ("xl cannot create it: Parsing config from /run/lab/guests/i-1/xl.cfg", "libxl: error: \x1b[31mInvalid kernel")


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path / "lab", tmp_path / "lab-dom0", "xen-blkback")


@pytest.fixture
def folder(tmp_path: Path, lab: Lab) -> Path:
    return make_folder(tmp_path / "i-1", lab)


class PretendGuest:
    """A guest whose life is given: each step is done when it is listened to, the last one is its end."""

    def __init__(self, life: list[Callable[[], object]], end: str) -> None:
        self.life, self.end = life, end
        self.creation: Exception | None = None
        self.clean_up: Exception | None = None
        self.console: Console | None = None

    @contextmanager
    def open(self, session: Session, guest: Guest, work: Path, console: Console, *_: object) -> Iterator[Any]:
        assert session is SESSION
        assert guest.config.is_relative_to(work)
        self.console = console
        yield self
        if self.clean_up:
            raise self.clean_up

    def create(self) -> None:
        if self.creation:
            raise self.creation

    def forward_ssh(self) -> int:
        return 40022

    def hear(self) -> Any:
        return nullcontext()

    def find_end(self) -> str:
        return "" if self.life else self.end

    def listen(self, seconds: float) -> None:
        self.life.pop(0)()

    def check_host(self) -> None:
        return None


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Status]:
    """Every status that was written, in order."""
    seen: list[Status] = []
    write = instance.write_status

    def note(folder: Path, status: Status) -> None:
        seen.append(status)
        write(folder, status)

    monkeypatch.setattr(instance, "write_status", note)
    return seen


@pytest.fixture
def guest(monkeypatch: pytest.MonkeyPatch) -> PretendGuest:
    """A guest that says two lines and powers off, on a host that runs."""
    guest = PretendGuest([], "its domain has ended")
    guest.life = [lambda: speak(guest, b"Linux version 6\r\n"), lambda: speak(guest, b"tiny: ready\r\n")]
    monkeypatch.setattr(instance, "open_guest", guest.open)
    monkeypatch.setattr(instance, "work_on_host", lambda lab, mib, work, **_: work(SESSION))
    monkeypatch.setattr(instance, "stop_on_signals", lambda _: None)
    monkeypatch.setattr(Session, "is_lost", lambda _: False)
    return guest


def speak(guest: PretendGuest, said: bytes) -> None:
    assert guest.console
    guest.console.feed(said)


def fail(error: BaseException) -> None:
    raise error


def test_it_is_pending_then_running_then_ended(folder: Path, guest: PretendGuest, told: list[Status]) -> None:
    Instance(folder).run()
    assert told == [Status("pending"), RUNNING, Status("ended", "its domain has ended")]
    assert read_status(folder) == told[-1]
    assert (folder / "console.log").read_bytes() == b"Linux version 6\r\ntiny: ready\r\n"
    assert not (folder / "guest").exists()


def test_while_it_runs_its_status_and_console_can_be_read(folder: Path, guest: PretendGuest) -> None:
    seen: list[Any] = []
    guest.life.append(lambda: seen.extend([read_status(folder), (folder / "console.log").read_bytes()]))
    Instance(folder).run()
    assert seen == [RUNNING, b"Linux version 6\r\ntiny: ready\r\n"]


def test_what_was_there_of_an_earlier_run_goes(folder: Path, guest: PretendGuest, told: list[Status]) -> None:
    (folder / "status.json").write_text(json.dumps({"state": "ended"}))
    (folder / "console.log").write_text("yesterday")
    (folder / "guest").mkdir()
    (folder / "guest" / "disk0.qcow2").write_text("yesterday's")
    Instance(folder).run()
    assert [status.state for status in told] == ["pending", "running", "ended"]
    assert "yesterday" not in (folder / "console.log").read_text()
    assert not (folder / "guest").exists()


def test_a_panic_is_the_reason_of_its_end(folder: Path, guest: PretendGuest, told: list[Status]) -> None:
    guest.life.append(lambda: speak(guest, b"Kernel panic - not syncing: VFS\r\n"))
    Instance(folder).run()
    assert told[-1] == Status("ended", "its kernel panicked, and its domain has ended")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (CommandError("sh guest create", "exit code 1", last_lines=list(XL)),
         f"{XL[0]}\nlibxl: error: \ufffd[31mInvalid kernel"),
        (NoRoomError("it has too little memory left for i-1", place="the lab's Xen host", next_step="end guests"),
         "the lab's Xen host: it has too little memory left for i-1\n  next: end guests"),
        (HostError("this host has no qemu-img"), "this host has no qemu-img"),
        (CommandError("sh guest create", "has not ended within 120 s"),
         "has not ended within 120 s: sh guest create"),
        (MemoryError(), "this host: there is too little free memory"),
        (OSError(28, "No space left on device", "/x/disk0.qcow2"), "/x/disk0.qcow2: No space left on device"),
    ],
)  # fmt: skip
def test_a_guest_that_cannot_be_created_has_failed(
    folder: Path, guest: PretendGuest, told: list[Status], error: Exception, reason: str
) -> None:
    guest.creation = error
    Instance(folder).run()
    assert [status.state for status in told] == ["pending", "failed"]
    assert told[-1].reason.startswith(reason)
    assert not (folder / "guest").exists()


def test_what_stops_its_host_ends_it(folder: Path, guest: PretendGuest, told: list[Status]) -> None:
    guest.life.append(lambda: fail(HostError("qemu has stopped the Xen host: no space is left")))
    Instance(folder).run()
    assert told[1:] == [RUNNING, Status("ended", "qemu has stopped the Xen host: no space is left")]


def test_a_console_that_cannot_be_written_ends_it(folder: Path, guest: PretendGuest, told: list[Status]) -> None:
    guest.life.append(lambda: fail(OSError(28, "No space left on device", str(folder / "console.log"))))
    Instance(folder).run()
    assert told[1] == RUNNING
    assert told[2].state == "ended"
    assert told[2].reason.startswith(f"{folder}/console.log: No space left on device")


def test_an_instance_ends_with_its_host(
    folder: Path, guest: PretendGuest, told: list[Status], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Session, "is_lost", lambda _: True)
    guest.life.append(lambda: fail(HostError("the connection was lost")))
    Instance(folder).run()
    assert told[1:] == [RUNNING, Status("ended", "the Xen host that it ran on has ended")]


def test_a_host_that_is_lost_before_the_guest_is_there_is_no_end(folder: Path, guest: PretendGuest) -> None:
    guest.creation = HostError("the connection was lost")
    with pytest.raises(HostError, match="the connection was lost"):
        Instance(folder).live(instance.read_spec(folder), Console(folder / "console.log"), SESSION)


def test_trouble_with_tidying_up_takes_nothing_from_the_reason(
    folder: Path, guest: PretendGuest, told: list[Status]
) -> None:
    guest.clean_up = HostError("qemu keeps a disk")
    Instance(folder).run()
    assert told[1:] == [RUNNING, Status("ended", "its domain has ended")]


@pytest.mark.parametrize("when", ["pending", "running"])
def test_it_ends_when_it_is_told_to(folder: Path, guest: PretendGuest, told: list[Status], when: str) -> None:
    interrupt = KeyboardInterrupt("SIGTERM")
    if when == "pending":
        guest.creation = interrupt  # type: ignore[assignment]  # as a signal does
    else:
        guest.life.append(lambda: fail(interrupt))
    run_until_told(Instance(folder))
    before = [Status("pending")] if when == "pending" else [Status("pending"), RUNNING]
    assert told == [*before, Status("ended", "it was told to end: SIGTERM")]
    assert not (folder / "guest").exists()


def test_the_first_end_is_the_one_that_is_told(folder: Path, told: list[Status]) -> None:
    ended = Instance(folder)
    ended.finish("failed", "xl cannot create it")
    ended.finish("ended", "it was told to end: SIGTERM")
    assert told == [Status("failed", "xl cannot create it")]


BAD = {
    "a spec that is no JSON": ("spec.json", "{", "spec.json: is not JSON: "),
    "a spec that is no text": ("spec.json", b"\xff", "spec.json: is not UTF-8"),
    "a spec that is not there": ("spec.json", None, "spec.json: No such file or directory"),
    "a kernel that is not there": ("kernel", None, "kernel: there is no such file"),
    "no lab": ("lab.json", None, "lab.json: does not say which lab to use"),
    "half a lab": ("lab.json", '{"folder": "x"}', "lab.json: does not say which lab to use"),
    "a list for a lab": ("lab.json", "[]", "lab.json: does not say which lab to use"),
}


@pytest.mark.parametrize(("name", "content", "reason"), BAD.values(), ids=BAD)
def test_bad_input_fails_before_a_host_is_asked_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: str | bytes | None, reason: str
) -> None:
    monkeypatch.setattr(instance, "work_on_host", lambda *_, **__: pytest.fail("a host is asked for"))
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    Instance(folder).run()
    status = read_status(folder)
    assert (status.state, status.address, status.ssh_port) == ("failed", "", None)
    assert status.reason.startswith(f"{folder}/{reason}")


def test_every_fault_of_a_spec_is_in_the_reason(folder: Path) -> None:
    write_spec(folder, vcpus=0, root_device="vda", memory="96")
    Instance(folder).run()
    assert len(read_status(folder).reason.splitlines()) == 3
    write_spec(folder, arguments="größer")
    Instance(folder).run()
    assert read_status(folder).reason.startswith("arguments: 'größer' cannot be written: only printable ASCII")
