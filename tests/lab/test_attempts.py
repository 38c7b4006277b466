"""Work on a Xen host: on which one it is done, and when it is done once more."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from xenkiln.errors import HostError
from xenkiln.lab import attempts
from xenkiln.lab.attempts import NoRoomError, work_on_host
from xenkiln.lab.host import State, Tell
from xenkiln.lab.session import Lab, Session, Start

LAB = Lab(Path("/lab"), Path("/images"), "")
SHARED = Session(Path("/lab/host"), State(1, "SHA256:abc", 2560, "tcg", {}), 3, is_own=False)
OWN = replace(SHARED, place=0, is_own=True)


def say_nothing(_: str) -> None:
    return None


@contextmanager
def refuse_to_start(lab: Lab, guest_mib: int, tell: Tell) -> Iterator[Session]:
    raise AssertionError("a host runs already")
    yield


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which hosts were opened, in order; at the end of each that is said too."""
    seen: list[str] = []

    @contextmanager
    def open_lab(lab: Lab, guest_mib: int, tell: Tell, start: Start) -> Iterator[Session]:
        assert (lab, guest_mib, start) == (LAB, 96, refuse_to_start)
        seen.append("shared")
        yield SHARED
        seen.append("left")

    @contextmanager
    def open_own_host(lab: Lab, guest_mib: int, tell: Tell) -> Iterator[Session]:
        seen.append("own")
        yield OWN
        seen.append("left")

    monkeypatch.setattr(attempts, "open_lab", open_lab)
    monkeypatch.setattr(attempts, "open_own_host", open_own_host)
    return seen


def work(work: Callable[[Session], str], notes: list[str] | None = None) -> str:
    note = say_nothing if notes is None else notes.append
    return work_on_host(LAB, 96, work, tell=say_nothing, note=note, start=refuse_to_start)


def test_what_the_work_gives_is_given(opened: list[str]) -> None:
    assert work(lambda session: f"on {session.place}") == "on 3"
    assert opened == ["shared", "left"]


def test_a_shared_host_without_room_is_left_for_one_of_our_own(opened: list[str]) -> None:
    notes: list[str] = []

    def need_room(session: Session) -> str:
        if not session.is_own:
            raise NoRoomError("it has too little memory left for tiny")
        return "done"

    assert work(need_room, notes) == "done"
    assert opened == ["shared", "left", "own", "left"]
    assert notes == ["# it has too little memory left for tiny: once more, on a host of its own"]


def test_an_own_host_without_room_is_an_error(opened: list[str]) -> None:
    def need_room(_: Session) -> str:
        raise NoRoomError("it has too little memory left for tiny")

    with pytest.raises(NoRoomError):
        work(need_room)
    assert opened == ["shared", "left", "own"]


def test_work_on_a_host_that_is_lost_is_done_once_more(opened: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Session, "is_lost", lambda _: True)
    times: list[int] = []

    def lose(_: Session) -> str:
        times.append(1)
        if len(times) < 3:
            raise HostError("the connection was lost")
        return "done"

    assert work(lose) == "done"
    assert opened == ["shared", "left"] * 3


def test_what_goes_wrong_on_a_host_that_runs_is_raised(opened: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Session, "is_lost", lambda _: False)

    def fail(_: Session) -> str:
        raise HostError("there is a domain tiny already")

    with pytest.raises(HostError, match="there is a domain tiny already"):
        work(fail)
    assert opened == ["shared"]
