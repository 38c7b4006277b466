"""Workers of a real `doit -n 2` that are killed: the run says so and ends, and no process is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from xenkiln.system.layout import PROJECT
from xenkiln.system.workers import describe_end

WORK = """
import os, signal, time
def die(number):
    time.sleep(0.3)
    os.kill(os.getpid(), number)
def sleep(path):
    try:
        open(path, "w").write(str(os.getpid()))
        time.sleep(60)
    finally:
        os.unlink(path)
def wait_for(path):
    while not os.path.exists(path):
        time.sleep(0.01)
"""
DODO = """
from work import *
from xenkiln import actions, tasks
from xenkiln.reporter import KilnReporter
DOIT_CONFIG = {{"reporter": KilnReporter, "dep_file": ":memory:", "backend": "sqlite3"}}
def task_seal():
    yield {{"name": "one", "actions": [(actions.guard, [wait_for, {mark!r}]), (actions.guard, [die, {number}])]}}
    yield {{"name": "two", "actions": [(actions.guard, [sleep, {mark!r}])]}}
"""
METHODS = {"fork": (sys.executable, "-m", "doit"),
           "forkserver": (sys.executable, str(PROJECT / "tests" / "forkserver_doit.py"))}  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_worker_that_is_killed_ends_the_run_with_words(method: str, number: signal.Signals, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    (tmp_path / "work.py").write_text(WORK)
    (tmp_path / "dodo.py").write_text(DODO.format(mark=str(mark), number=int(number)))
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{PROJECT}"}
    run = subprocess.run([*METHODS[method], "-n", "2"], cwd=tmp_path, env=environment, text=True, timeout=40,
                         capture_output=True, check=False)  # fmt: skip
    assert run.returncode == 2, run
    assert f"seal:one: the process that did this was killed by {number.name}" in run.stdout + run.stderr
    assert "next: run it again" in run.stdout + run.stderr
    assert "Traceback" not in run.stdout + run.stderr
    assert not mark.exists(), "the other worker was told to end"


@pytest.mark.parametrize(("code", "task", "words"), [
    (-9, "seal:tiny", "seal:tiny: the process that did this was killed by SIGKILL, as the kernel does where memory"),
    (-11, "", "the process that was to work for this run was killed by SIGSEGV\n"),
    (1, "seal:tiny", "seal:tiny: the process that did this ended with 1\n"),
    (None, "", "the process that was to work for this run is gone\n"),
])  # fmt: skip
def test_how_a_worker_ended(code: int | None, task: str, words: str) -> None:
    assert describe_end(code, task).startswith(words)
