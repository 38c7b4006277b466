"""Programs that run beside us: they end with us, or stay, as they were started to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from processes import is_alive

from xenkiln.errors import HostError
from xenkiln.system.layout import PROJECT
from xenkiln.system.services import ended_service, start_service

STARTER = """
import sys, time
from pathlib import Path
from xenkiln.system.services import start_service
folder = Path(sys.argv[1])
print(start_service(["sleep", "60"], folder, folder / "output", stays=sys.argv[2] == "stays").pid, flush=True)
time.sleep(60)
"""
WAIT_SECONDS = 10


@pytest.mark.parametrize("how", ["stays", "ends"])
def test_it_ends_with_us_unless_it_is_to_stay(tmp_path: Path, how: str) -> None:
    words = [sys.executable, "-c", STARTER, str(tmp_path), how]
    with subprocess.Popen(words, cwd=PROJECT, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout
        pid = int(starter.stdout.readline())
        assert is_alive(pid)
        starter.kill()
    deadline = time.monotonic() + WAIT_SECONDS
    while how == "ends" and is_alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    if how == "stays":
        assert is_alive(pid)
        os.kill(pid, signal.SIGKILL)


def test_it_runs_in_its_folder_and_writes_to_its_file(tmp_path: Path) -> None:
    process = start_service(["sh", "-c", "pwd; echo said >&2; read x || echo nothing to read"], tmp_path,
                            tmp_path / "output", stays=False)  # fmt: skip
    assert process.wait(WAIT_SECONDS) == 0
    assert (tmp_path / "output").read_text() == f"{tmp_path}\nsaid\nnothing to read\n"


def test_it_is_gone_when_we_leave_even_if_it_will_not_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xenkiln.system.services.STOP_SECONDS", 0.2)
    process = start_service(["sh", "-c", "trap '' TERM; echo on; while :; do sleep 0.1; done"], tmp_path,
                            tmp_path / "output", stays=False)  # fmt: skip
    with ended_service(process):
        while not (tmp_path / "output").read_text():
            time.sleep(0.01)
    assert process.returncode == -signal.SIGKILL


def test_what_is_kept_open_stays_open(tmp_path: Path) -> None:
    with (tmp_path / "kept").open("w") as stream:
        argv = ["sh", "-c", f"echo through >/proc/self/fd/{stream.fileno()}"]
        process = start_service(argv, tmp_path, tmp_path / "output", stays=False, keep_open=[stream.fileno()])
        assert process.wait(WAIT_SECONDS) == 0
    assert (tmp_path / "kept").read_text() == "through\n"


def test_a_program_that_is_not_there_is_named_with_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("xenkiln.system.tools.SEARCH_PATH", str(tmp_path))
    with pytest.raises(HostError, match="qemu-system-x86_64") as caught:
        start_service(["qemu-system-x86_64"], tmp_path, tmp_path / "output", stays=False)
    assert "apt-get install qemu-system-x86" in caught.value.next_step
