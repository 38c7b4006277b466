"""Who runs the lab and who joins it: locks, places, memory and the state that finds a host again."""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from xenkiln.errors import HostError
from xenkiln.lab import host
from xenkiln.lab.host import State, read_state
from xenkiln.lab.network import ADDRESSES
from xenkiln.lab.places import hold_file, hold_place
from xenkiln.lab.session import (
    Lab,
    Session,
    share_machine,
    start_lab,
    stop_lab,
)

AT_ONCE = fcntl.LOCK_EX | fcntl.LOCK_NB
SHARED = fcntl.LOCK_SH | fcntl.LOCK_NB
HOLDER = """
import fcntl, signal, sys
signal.alarm(20)  # whoever waits for us in vain fails, and does not wait for ever
stream = open(sys.argv[1], "a")
fcntl.flock(stream, int(sys.argv[2]))
print("held", flush=True)
sys.stdin.read()
"""
STATE = State(40001, "SHA256:abc", 2560, "tcg", {"Xen": 2.5})
ROOM_MIB = 4096


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path / "lab", tmp_path / "images", "xen-blkback")


@pytest.fixture(autouse=True)
def nothing_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a machine is prepared or told something")

    for place in ("prepare", "start_service", "host.stop_machine", "host.open_dom0"):
        monkeypatch.setattr(f"xenkiln.lab.session.{place}", refuse)


@contextmanager
def other_process_holding(path: Path, how: int = fcntl.LOCK_EX) -> Iterator[subprocess.Popen[str]]:
    path.parent.mkdir(parents=True, exist_ok=True)
    words = [sys.executable, "-I", "-c", HOLDER, str(path), str(how)]
    with subprocess.Popen(words, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def is_free(path: Path, how: int = AT_ONCE) -> bool:
    with hold_file(path, how) as held:
        return held is not None


def say_nothing(_: str) -> None:
    return None


def test_a_lock_is_held_and_given_back(lab: Lab) -> None:
    path = lab.folder / "deep" / "x.lock"
    with hold_file(path, AT_ONCE) as first:
        assert first is not None
        assert not is_free(path)
    assert is_free(path)
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_lock_is_given_back_after_an_error_too(lab: Lab) -> None:
    path = lab.folder / "x.lock"
    with pytest.raises(BlockingIOError, match="another"), hold_file(path, AT_ONCE):
        raise BlockingIOError("another's")
    assert is_free(path)


def test_another_process_is_in_the_way_until_it_ends(lab: Lab) -> None:
    path = lab.folder / "x.lock"
    with other_process_holding(path) as other:
        assert not is_free(path)
        assert not is_free(path, SHARED)
        other.kill()
        other.wait()
        assert is_free(path)


def test_a_shared_lock_is_shared(lab: Lab) -> None:
    path = lab.folder / "x.lock"
    with hold_file(path, SHARED), other_process_holding(path, fcntl.LOCK_SH):
        assert is_free(path, SHARED)
        assert not is_free(path)


def test_a_link_in_a_locks_place_is_not_followed(lab: Lab) -> None:
    lab.folder.mkdir()
    (lab.folder / "precious").write_text("mine")
    (lab.folder / "x.lock").symlink_to("precious")
    with pytest.raises(OSError, match="symbolic links"), hold_file(lab.folder / "x.lock", AT_ONCE):
        pass


def test_there_is_a_place_for_each_address_and_no_more(tmp_path: Path) -> None:
    assert len(ADDRESSES) == 8
    with ExitStack() as stack:
        numbers = [stack.enter_context(hold_place(tmp_path, 1, ROOM_MIB)) for _ in ADDRESSES]
        assert numbers == list(range(8))
        with hold_place(tmp_path, 1, ROOM_MIB) as number:
            assert number is None
    with hold_place(tmp_path, 1, ROOM_MIB) as number:
        assert number == 0


def test_a_place_comes_with_its_memory_which_no_other_can_have(tmp_path: Path) -> None:
    with hold_place(tmp_path, 900, 1000) as first:
        assert first == 0
        with hold_place(tmp_path, 900, 1000) as second:
            assert second is None
        with hold_place(tmp_path, 80, 1000) as small:
            assert small == 1
    with hold_place(tmp_path, 900, 1000) as again:
        assert again == 0


def test_a_place_that_was_left_is_taken_again(tmp_path: Path) -> None:
    with ExitStack() as stack:
        stack.enter_context(hold_place(tmp_path, 1, ROOM_MIB))
        with hold_place(tmp_path, 1, ROOM_MIB) as left:
            assert left == 1
            assert stack.enter_context(hold_place(tmp_path, 1, ROOM_MIB)) == 2
        with hold_place(tmp_path, 1, ROOM_MIB) as again:
            assert again == 1


def test_places_are_apart_between_processes(tmp_path: Path) -> None:
    with other_process_holding(tmp_path / "place-0.lock"), hold_place(tmp_path, 1, ROOM_MIB) as number:
        assert number == 1


def write(folder: Path, text: str | bytes) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / host.STATE).write_bytes(text.encode() if isinstance(text, str) else text)
    return folder


def test_a_state_is_read_back(tmp_path: Path) -> None:
    assert read_state(write(tmp_path, json.dumps(asdict(STATE)))) == STATE


@pytest.mark.parametrize(
    "text",
    ["", "{", "null", "[]", "7", '"x"', "{}", '{"ssh_port": 1}', json.dumps({**asdict(STATE), "more": 1}), b"\xff\xfe",
     json.dumps(asdict(STATE))[:-3]],
)  # fmt: skip
def test_a_damaged_state_is_no_running_host(tmp_path: Path, text: str | bytes) -> None:
    assert read_state(write(tmp_path, text)) is None


def test_a_state_that_is_not_there_or_no_file_is_no_running_host(tmp_path: Path) -> None:
    assert read_state(tmp_path / "nothing") is None
    (tmp_path / host.STATE).mkdir()
    assert read_state(tmp_path) is None


def test_stopping_what_does_not_run_says_so_and_removes_what_a_killed_one_left(lab: Lab) -> None:
    assert not stop_lab(lab)
    lab.folder.mkdir(exist_ok=True)
    write(lab.host, json.dumps(asdict(STATE)))
    assert not stop_lab(lab)
    assert not lab.host.exists()
    assert is_free(lab.folder / "host.lock")
    assert is_free(lab.folder / "users.lock")


def test_a_host_that_a_boot_uses_is_not_stopped(lab: Lab) -> None:
    lab.folder.mkdir()
    write(lab.host, json.dumps(asdict(STATE)))
    with (
        other_process_holding(lab.folder / "host.lock"),
        other_process_holding(lab.folder / "users.lock", fcntl.LOCK_SH),
        pytest.raises(HostError, match="a boot uses the lab's Xen host"),
    ):
        stop_lab(lab)
    assert read_state(lab.host) == STATE


def test_a_host_that_runs_is_told_to_end_and_waited_for(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.folder.mkdir()
    write(lab.host, json.dumps(asdict(STATE)))
    told: list[Path] = []
    with other_process_holding(lab.folder / "host.lock") as qemu:

        def stop(folder: Path) -> None:
            told.append(folder)
            qemu.kill()

        monkeypatch.setattr("xenkiln.lab.session.host.stop_machine", stop)
        assert stop_lab(lab)
    assert told == [lab.host]
    assert not lab.host.exists()


def test_a_second_host_is_refused_while_another_process_holds_the_lock(lab: Lab) -> None:
    with (
        other_process_holding(lab.folder / "host.lock"),
        pytest.raises(HostError, match="a Xen host of the lab runs already") as caught,
    ):
        start_lab(lab, say_nothing)
    assert caught.value.place == str(lab.host)
    assert not lab.host.exists()


def test_a_boot_that_was_slower_joins_the_host_that_runs(lab: Lab) -> None:
    lab.folder.mkdir()
    write(lab.host, json.dumps(asdict(STATE)))
    with other_process_holding(lab.folder / "host.lock"), share_machine(lab, 96, say_nothing) as joined:
        assert joined == Session(lab.host, STATE, 0, is_own=False)
        assert not is_free(lab.folder / "users.lock")
        assert not joined.ends_now()


def test_a_joined_host_is_lost_when_it_ends_or_another_takes_its_place(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xenkiln.lab.session.LOSING_SECONDS", 0)
    lab.folder.mkdir()
    write(lab.host, json.dumps(asdict(STATE)))
    joined = Session(lab.host, STATE, 0, is_own=False)
    with other_process_holding(lab.folder / "host.lock"):
        assert not joined.is_lost()
        write(lab.host, json.dumps(asdict(replace(STATE, ssh_port=40002))))
        assert joined.is_lost()
        write(lab.host, json.dumps(asdict(STATE)))
        assert not joined.is_lost()
    assert joined.is_lost()
    assert not replace(joined, is_own=True).is_lost()


def test_an_own_host_ends_now_when_nobody_else_uses_it(lab: Lab) -> None:
    lab.folder.mkdir()
    users = lab.folder / "users.lock"
    write(lab.host, json.dumps(asdict(STATE)))
    with hold_file(users, SHARED) as descriptor:
        own = Session(lab.host, STATE, 0, is_own=True, users=descriptor)
        with other_process_holding(users, fcntl.LOCK_SH):
            assert not own.ends_now()
            assert read_state(lab.host) == STATE
        assert not is_free(users)
        assert own.ends_now()
    assert read_state(lab.host) is None
    assert Session(lab.host, STATE, 0, is_own=True).ends_now()


def test_a_host_that_is_just_being_started_is_not_stopped(lab: Lab) -> None:
    lab.folder.mkdir()
    with (
        other_process_holding(lab.folder / "starting.lock"),
        pytest.raises(HostError, match="is just being started"),
    ):
        stop_lab(lab)
