"""The one door to other programs: their world, their output, their end, and what we say of it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from processes import is_alive

from xenkiln.errors import CommandError, HostError
from xenkiln.system import processes
from xenkiln.system.commands import Runner, describe_ending, make_printable
from xenkiln.system.interrupts import uninterrupted
from xenkiln.system.layout import PROJECT
from xenkiln.system.processes import LineSplitter, decode_text

WAIT_SECONDS = 20


@pytest.fixture(params=["alone", pytest.param("contained", marks=pytest.mark.root)])
def containment(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Without root a process group is all there is; with it a PID namespace."""
    if request.param == "alone":
        monkeypatch.setattr(processes, "can_contain", lambda: False)
    else:
        assert processes.can_contain()
    return str(request.param)


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    return Runner(tmp_path / "stage.log")


def wait_for_end(pid: int) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while is_alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def list_pids(marker: str) -> list[int]:
    """The processes that have `marker` among their arguments, as this process sees them."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue  # it ended while we looked
        if words[:2] == [b"sleep", marker.encode()]:
            found.append(int(path.parent.name))
    return found


def find_pid(marker: str) -> int:
    deadline = time.monotonic() + WAIT_SECONDS
    while not (found := list_pids(marker)):
        assert time.monotonic() < deadline, f"no process sleeps {marker}"
        time.sleep(0.01)
    return found[0]


def test_the_environment_is_built_and_not_the_callers(
    runner: Runner, monkeypatch: pytest.MonkeyPatch, containment: str
) -> None:
    monkeypatch.setenv("LANG", "tr_TR.UTF-8")
    monkeypatch.setenv("TZ", "Pacific/Chatham")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    monkeypatch.setenv("ROOT_PASSWORD", "hunter2")
    monkeypatch.setenv("http_proxy", "http://proxy:3128")
    monkeypatch.delenv("LD_PRELOAD", raising=False)
    seen = dict(line.split("=", 1) for line in runner.read(["env"], env={"HOME": "/x"}).splitlines())
    assert "hunter2" not in str(seen)
    assert (seen["LANG"], seen["LC_ALL"], seen["TZ"], seen["HOME"]) == ("C.UTF-8", "C.UTF-8", "UTC", "/x")
    assert seen["http_proxy"] == "http://proxy:3128"
    assert seen["PATH"].endswith("/usr/sbin:/usr/bin:/sbin:/bin")


def test_a_failure_shows_the_command_as_typed_its_end_and_its_last_lines(runner: Runner, containment: str) -> None:
    script = "for n in $(seq 30); do echo line $n; done; exit 3"
    with pytest.raises(CommandError) as caught:
        runner.run(["sh", "-c", script, "two words", ""])
    text = str(caught.value)
    assert f"exit code 3: sh -c '{script}' 'two words' ''" in text
    assert re.findall(r"\| line (\d+)", text) == [str(n) for n in range(19, 31)]
    assert f"full output: {runner.log}" in text
    assert "next: " in text
    assert runner.log is not None
    assert "line 1\n" in runner.log.read_text()


def test_what_is_read_fails_with_what_was_said_on_stderr(runner: Runner) -> None:
    with pytest.raises(CommandError) as caught:
        runner.read(["sh", "-c", "echo out; echo why >&2; exit 1"])
    assert caught.value.last_lines == ("why",)
    with pytest.raises(CommandError) as caught:
        runner.read(["sh", "-c", "echo only here; exit 1"])
    assert caught.value.last_lines == ("only here",)


@pytest.mark.parametrize(("code", "words"), [
    (1, "exit code 1"), (137, "exit code 137 (SIGKILL)"), (-11, "killed by SIGSEGV"), (-64, "killed by SIGRTMAX"),
    (-40, "killed by signal 40"), (255, "exit code 255"),
])  # fmt: skip
def test_how_a_command_ended_is_said_in_words(code: int, words: str) -> None:
    assert describe_ending(code) == words


def test_accepted_exit_codes_are_returned(runner: Runner, containment: str) -> None:
    assert runner.run(["sh", "-c", "exit 32"], accept=(0, 1, 32)) == 32
    assert runner.read(["sh", "-c", "echo said; exit 1"], accept=(0, 1)) == "said\n"


def test_a_missing_tool_is_named_with_its_package(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "find_tool", lambda name: None)
    with pytest.raises(HostError, match=r"this host has no mkfs\.xfs\n  next: apt-get install xfsprogs"):
        runner.run(["mkfs.xfs", "image"])


def test_lines_come_as_they_are_printed_the_last_without_a_newline_too(runner: Runner, containment: str) -> None:
    seen: list[str] = []
    runner.run(["printf", r"one\r\ntwo\rthree\n\nlast"], on_line=seen.append)
    assert seen == ["one", "two", "three", "", "last"]


def test_binary_output_harms_neither_log_nor_terminal(runner: Runner) -> None:
    with pytest.raises(CommandError) as caught:
        runner.run(["sh", "-c", r"head -c 300000 /dev/zero; printf '\377\033[2Jred\007\n'; exit 1"])
    assert "\x1b" not in str(caught.value)
    assert "\x07" not in str(caught.value)
    assert "[2Jred" in str(caught.value)
    assert len(str(caught.value)) < 10_000


@given(st.binary(max_size=200), st.integers(1, 50))
def test_lines_do_not_depend_on_how_the_bytes_arrive(data: bytes, size: int) -> None:
    whole: list[str] = []
    pieces: list[str] = []
    LineSplitter(whole.append).feed(data, final=True)
    splitter = LineSplitter(pieces.append)
    for start in range(0, len(data), size):
        splitter.feed(data[start : start + size])
    splitter.feed(b"", final=True)
    assert pieces == whole
    assert "\n".join(whole) == decode_text(data).removesuffix("\n")


@given(st.text())
def test_what_is_shown_is_printable_and_short(text: str) -> None:
    shown = make_printable(text)
    assert shown.replace("\t", "").isprintable()
    assert len(shown) <= 403


def test_more_input_than_a_pipe_holds_is_read_by_a_program_that_answers_first(runner: Runner) -> None:
    text = "x" * 70 + "\n"
    assert runner.read(["sh", "-c", "head -c 300000 /dev/zero | tr '\\0' y; cat"], input_text=text * 5000) == (
        "y" * 300000 + text * 5000
    )


def test_a_program_that_reads_none_of_its_input_is_fine(runner: Runner) -> None:
    assert runner.run(["true"], input_text="secret\n" * 100_000) == 0
    assert runner.run(["sh", "-c", "read line"], accept=(1,)) == 1


def test_a_process_left_in_the_background_does_not_hold_us(runner: Runner, containment: str) -> None:
    marker = f"{3000 + os.getpid() / 1e7 + (containment == 'alone'):.7f}"
    assert runner.run(["sh", "-c", f"sleep {marker} & echo done"]) == 0
    assert runner.read(["sh", "-c", f"sleep {marker} & echo done"]) == "done\n"
    for pid in list_pids(marker):
        wait_for_end(pid)


@pytest.mark.root
def test_a_daemon_that_leaves_its_group_ends_with_the_command(runner: Runner) -> None:
    marker = f"{4000 + os.getpid() / 1e7:.7f}"
    runner.run(["sh", "-c", f"setsid sleep {marker} >/dev/null 2>&1 & sleep 0.1"])
    assert list_pids(marker) == []


WAITING = """
import os, signal, sys
from xenkiln.system import processes
from xenkiln.system.commands import Runner
from xenkiln.system.interrupts import stop_on_signals
if sys.argv[1] == "alone":
    processes.can_contain = lambda: False
stop_on_signals()
def tell(line):
    print(line, flush=True)
Runner().run(["sh", "-c", "sleep " + sys.argv[2] + " & echo waiting; wait"], on_line=tell)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_ends_the_whole_group_and_is_told_in_one_line(containment: str, number: signal.Signals) -> None:
    marker = f"{5000 + number + os.getpid() / 1e7 + 100 * (containment == 'alone'):.7f}"
    words = [sys.executable, "-c", WAITING, containment, marker]
    with subprocess.Popen(words, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        # Its output is read where it is looked after; before that, it may not even be known yet.
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        child = find_pid(marker)
        process.send_signal(number)
        output, _ = process.communicate(timeout=WAIT_SECONDS)
    wait_for_end(child)
    assert process.returncode == -signal.SIGINT  # as a shell expects of an interrupted program: 130
    assert output.startswith("\ninterrupted")
    assert "goes on from the last finished step" in output
    assert "Traceback" not in output


def test_hanging_up_does_not_stop_what_was_started_with_nohup(containment: str) -> None:
    marker = f"{6000 + os.getpid() / 1e7 + 100 * (containment == 'alone'):.7f}"
    words = ["nohup", sys.executable, "-c", WAITING, containment, marker]
    with subprocess.Popen(words, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        find_pid(marker)
        process.send_signal(signal.SIGHUP)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        process.terminate()
        process.communicate(timeout=WAIT_SECONDS)


@pytest.mark.root
def test_killing_us_kills_what_we_started_and_what_that_started() -> None:
    marker = f"{7000 + os.getpid() / 1e7:.7f}"
    words = [sys.executable, "-c", WAITING, "contained", marker]
    with subprocess.Popen(words, cwd=PROJECT, stdout=subprocess.DEVNULL) as process:
        child = find_pid(marker)
        process.kill()
    wait_for_end(child)


def test_a_log_on_a_full_disk_stops_nothing() -> None:
    assert Runner(Path("/dev/full")).run(["echo", "said"]) == 0


def test_a_signal_waits_until_what_must_be_whole_is_done() -> None:
    done = []

    def work() -> None:
        with uninterrupted():
            signal.raise_signal(signal.SIGINT)
            done.append("whole")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["whole"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_a_signal_that_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with uninterrupted():
            signal.raise_signal(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
