"""A signal ends a run wherever it strikes, in one line."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from xenkiln.system.layout import PROJECT

WAIT_SECONDS = 15

SWALLOWING = """
import os, signal, sys, time
from xenkiln.system.interrupts import stop_on_signals
class Dying:
    def __del__(self):
        signal.raise_signal(signal.SIGTERM)
def strike():
    if times:
        times.pop()
        signal.raise_signal(signal.SIGTERM)
times = [1]
stop_on_signals()
if sys.argv[1] == "destructor":
    Dying()
else:
    os.register_at_fork(**{sys.argv[1]: strike})
    if not os.fork():
        os._exit(0)
time.sleep(20)
print("went on")
"""


@pytest.mark.parametrize("where", ["destructor", "before", "after_in_parent"])
def test_a_signal_where_python_swallows_exceptions_ends_us_all_the_same(where: str) -> None:
    words = [sys.executable, "-c", SWALLOWING, where]
    ended = subprocess.run(words, cwd=PROJECT, capture_output=True, text=True, timeout=WAIT_SECONDS)
    assert ended.returncode == -signal.SIGINT
    assert ended.stderr == "\ninterrupted by SIGTERM; the next run goes on from the last finished step\n"
    assert ended.stdout == ""


def test_other_exceptions_that_are_swallowed_are_still_told() -> None:
    script = "from xenkiln.system.interrupts import stop_on_signals as s\ns()\nclass D:\n def __del__(self): 1 / 0\nD()"
    ended = subprocess.run([sys.executable, "-c", script], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert "ZeroDivisionError" in ended.stderr
