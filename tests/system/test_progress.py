"""Progress: live on a terminal and gone from it at the end, a line now and then elsewhere."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys

import pytest

from xenkiln.system import progress
from xenkiln.system.layout import PROJECT

PROGRAM = """
from xenkiln.system.progress import show_progress
with show_progress("bootstrap:tiny") as tell:
    tell("unpacking [bold]libc6[/] " + "x" * 500)
    tell("setting up libc6")
print("after")
"""


def run_on_terminal() -> str:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}
    with subprocess.Popen([sys.executable, "-c", PROGRAM], cwd=PROJECT, env=environment,
                          stdin=theirs, stdout=theirs, stderr=theirs) as process:  # fmt: skip
        os.close(theirs)
        output = b""
        while True:
            try:
                data = os.read(ours, 65536)
            except OSError:
                break  # a terminal that everybody has closed
            if not data:
                break
            output += data
        os.close(ours)
    assert process.returncode == 0
    return output.decode()


def test_on_a_terminal_it_is_live_in_one_line_and_leaves_nothing() -> None:
    output = run_on_terminal()
    assert "bootstrap:tiny: unpacking [bold]libc6[/] xxx" in output
    assert "bootstrap:tiny: setting up libc6" in output
    assert output.count("\n") == len(re.findall(r"\n(?=\x1b|\r|after|$)", output))
    last = output[output.rindex("\x1b[2K") :] if "\x1b[2K" in output else output
    assert "bootstrap" not in last
    assert "after" in last


def test_on_a_pipe_nothing_is_said_of_what_is_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "__stderr__", stream)
    with progress.show_progress("seal:tiny") as tell:
        tell("first")
    assert stream.getvalue() == ""


def test_on_a_pipe_a_long_step_is_heard_of(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    now = iter([0.0, 5.0, 16.0, 17.0, 33.0])
    monkeypatch.setattr(sys, "__stderr__", stream)
    monkeypatch.setattr("xenkiln.system.progress.time.monotonic", lambda: next(now))
    with progress.show_progress("seal:tiny") as tell:
        for text in ("one", "two", "three", "four"):
            tell(text)
    assert stream.getvalue() == "seal:tiny: two (16 s)\nseal:tiny: four (33 s)\n"


def test_without_stderr_it_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "__stderr__", None)
    with progress.show_progress("seal:tiny") as tell:
        tell("one")
