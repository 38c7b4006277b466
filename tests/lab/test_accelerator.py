"""KVM is used where a probe guest really runs: a stand-in for qemu that gets on, gives up or hangs."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from conftest import FakeTool, FakeToolMaker

from xenkiln.lab import accelerator, machine
from xenkiln.lab.accelerator import choose_accelerator, runs_xen

# What qemu does with -serial file:NAME; its process is left in `pid`.
SERIAL = 'echo $$ >pid\nfor word; do case $word in file:*) console=${word#file:} ;; esac; done\n'
BOOTS = SERIAL + "printf '(XEN) Xen version 4.17.5\\n(XEN) Brought up 2 CPUs\\n' >>\"$console\"\nexec sleep 60"
ENDS = SERIAL + "echo 'Could not access KVM kernel module: No such file or directory' >&2\nexit 1"
HANGS = SERIAL + "echo 'Booting from ROM..' >>\"$console\"\nexec sleep 60"
STICKS = SERIAL + "echo '(XEN) Xen version 4.17.5' >>\"$console\"\nexec sleep 60"
STUBBORN = SERIAL + "trap '' TERM\nwhile :; do sleep 0.05; done"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(accelerator, "PROBE_SECONDS", 0.5)
    monkeypatch.setattr("xenkiln.system.services.STOP_SECONDS", 0.3)
    (tmp_path / "scratch").mkdir()
    return tmp_path / "scratch"


def is_left(folder: Path) -> bool:
    """Whether the stand-in, which has written its number down, still runs."""
    return Path(f"/proc/{(folder / 'pid').read_text().strip()}").exists()


def test_a_probe_that_brings_up_its_processors_shows_that_it_runs(folder: Path, fake_tool: FakeToolMaker) -> None:
    tool: FakeTool = fake_tool(machine.QEMU, BOOTS)
    began = time.monotonic()
    assert runs_xen("kvm", Path("/boot files"), folder)
    assert time.monotonic() - began < 5
    assert not is_left(folder)
    (words,) = tool.calls
    options = dict(zip(words, [*words[1:], ""], strict=True))
    assert (options["-accel"], options["-cpu"], options["-m"]) == ("kvm", "host", "256")
    assert (options["-kernel"], options["-serial"]) == ("/boot files/xen", "file:probe.log")
    assert "console=com1" in options["-append"].split()


@pytest.mark.parametrize("body", [ENDS, HANGS, STICKS, STUBBORN], ids=["ends", "hangs", "sticks", "is stubborn"])
def test_a_probe_that_gets_nowhere_shows_that_it_does_not_and_nothing_of_it_stays(
    folder: Path, fake_tool: FakeToolMaker, body: str
) -> None:
    fake_tool(machine.QEMU, body)
    assert not runs_xen("kvm", Path("/boot"), folder)
    assert not is_left(folder)


def test_what_an_earlier_probe_has_said_does_not_count(folder: Path, fake_tool: FakeToolMaker) -> None:
    (folder / "probe.log").write_text("(XEN) Brought up 2 CPUs\n")
    fake_tool(machine.QEMU, HANGS)
    assert not runs_xen("kvm", Path("/boot"), folder)


@pytest.mark.parametrize(("body", "chosen"), [(BOOTS, "kvm"), (ENDS, "tcg")])
def test_kvm_is_chosen_where_the_probe_ran(
    folder: Path, fake_tool: FakeToolMaker, monkeypatch: pytest.MonkeyPatch, body: str, chosen: str
) -> None:
    (folder / "kvm").touch()
    monkeypatch.setattr(accelerator, "DEVICE", folder / "kvm")
    fake_tool(machine.QEMU, body)
    assert choose_accelerator(Path("/boot"), folder) == chosen


def test_without_the_device_nothing_is_tried(
    folder: Path, fake_tool: FakeToolMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accelerator, "DEVICE", folder / "kvm")
    tool = fake_tool(machine.QEMU, BOOTS)
    assert choose_accelerator(Path("/boot"), folder) == "tcg"
    assert tool.calls == []
    assert os.listdir(folder) == []  # noqa: PTH208  # also what begins with a dot
