"""A guest on a host that runs: what dom0's answers to its creation mean, and how its end is seen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from xenkiln.errors import CommandError, HostError, XenkilnError
from xenkiln.lab.attempts import NoRoomError
from xenkiln.lab.console import Console
from xenkiln.lab.guest import Guest
from xenkiln.lab.host import State
from xenkiln.lab.running_guest import RunningGuest
from xenkiln.lab.session import Session
from xenkiln.system.ssh import Answer, Remote

SESSION = Session(Path("/lab/host"), State(1, "SHA256:abc", 2560, "tcg", {}), 3, is_own=False)
REFUSAL = "xl cannot create it: libxl: error: xc_dom_find_loader: no loader found: Invalid kernel"


class PretendDom0:
    """Answers one command, and streams what it is given: pairs of console and stderr."""

    def __init__(self, answer: Answer | XenkilnError, said: Sequence[tuple[bytes, str]] = ()) -> None:
        self.answer, self.said = answer, list(said)
        self.asked: list[list[str]] = []
        self.errors = ""
        self.is_over = False

    def run(self, argv: list[str], *, accept: Sequence[int], limit_seconds: float) -> Answer:
        self.asked.append(argv)
        if isinstance(self.answer, XenkilnError):
            raise self.answer
        assert self.answer.code in accept
        return self.answer

    @contextmanager
    def stream(self, argv: list[str]) -> Iterator[PretendDom0]:
        self.asked.append(argv)
        yield self

    def read(self, seconds: float) -> bytes:
        data, errors = self.said.pop(0)
        self.errors += errors
        self.is_over = not self.said
        return data


def make_guest(folder: Path, *more: Any) -> tuple[RunningGuest, PretendDom0]:
    dom0 = PretendDom0(*more)
    guest = Guest("tiny", folder / "xl.cfg", (), ())
    return RunningGuest(SESSION, cast(Remote, dom0), guest, Console(folder / "console.log"), lambda _: None), dom0


def test_it_is_created_by_its_name(tmp_path: Path) -> None:
    running, dom0 = make_guest(tmp_path, Answer(0, "", ""))
    running.create()
    assert dom0.asked == [["sh", "/run/lab/guest", "create", "tiny"]]
    assert running.place.address == "10.0.2.53"


def test_another_guest_in_the_way_is_named(tmp_path: Path) -> None:
    running, _ = make_guest(tmp_path, Answer(3, "", "there is a domain tiny already\n"))
    with pytest.raises(HostError) as caught:
        running.create()
    assert str(caught.value).startswith("tiny: there is a domain tiny already on the lab's Xen host\n")


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (REFUSAL, CommandError),
        ("xl cannot create it: libxl: failed to free memory for the domain", NoRoomError),
        ("xc: error: panic: xc_dom_boot.c: can't allocate: Out of memory", NoRoomError),
    ],
)
def test_what_xl_says_tells_a_full_host_from_a_bad_guest(tmp_path: Path, line: str, kind: type[XenkilnError]) -> None:
    running, _ = make_guest(tmp_path, CommandError("sh guest create", "exit code 1", last_lines=["Parsing", line]))
    with pytest.raises(XenkilnError) as caught:
        running.create()
    assert type(caught.value) is kind


def test_what_it_says_is_taken_until_its_domain_is_gone(tmp_path: Path) -> None:
    said = [(b"Linux version 6\r\n", ""), (b"", "again\n"), (b"Linux version 6\r\n", ""), (b"bye", "gone\n"), (b"", "")]
    running, dom0 = make_guest(tmp_path, Answer(0, "", ""), said)
    seen = []
    with running.hear():
        while not running.find_end():
            running.listen(1)
            seen.append(running.restarts)
    assert seen == [0, 1, 1, 1]
    assert running.find_end() == "its domain has ended: it powered off, or crashed and was destroyed"
    assert (tmp_path / "console.log").read_bytes() == b"Linux version 6\r\nLinux version 6\r\nbye"
    assert dom0.asked == [["sh", "/run/lab/guest", "watch", "tiny"]]


def test_a_stream_that_breaks_off_is_an_end_too(tmp_path: Path) -> None:
    running, _ = make_guest(tmp_path, Answer(0, "", ""), [(b"Linux", "")])
    with running.hear():
        running.listen(1)
        assert running.find_end() == "the Xen host has lost sight of it"


def test_before_it_is_listened_to_nothing_is_known(tmp_path: Path) -> None:
    running, _ = make_guest(tmp_path, Answer(0, "", ""))
    assert (running.restarts, running.find_end()) == (0, "")
