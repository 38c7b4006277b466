"""What every test can ask for: stand-ins for real tools, and the rules of the markers."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings
from quick_starts import start_without_fork

# How long one example may take says more of what else the machine does.
settings.register_profile("unhurried", parent=settings.default, deadline=None)
settings.load_profile("unhurried")

FEWEST_WORKERS, MOST_WORKERS = 2, 4
"""Half of the time is spent waiting for other programs; many workers would only wait for the same disk."""


def pytest_configure(config: pytest.Config) -> None:
    """Let the programs that tests start take signals as from a terminal.

    A shell starts what runs in its background with SIGINT ignored, nohup anything with SIGHUP ignored, and
    children inherit that. A handler of our own they do not inherit, and we still bear the hanging up.
    """
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # A worker has not inherited the handler either, and ends with the one that has started it.
    if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN or hasattr(config, "workerinput"):
        signal.signal(signal.SIGHUP, lambda *_: None)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """How many workers run the tests: several run the whole plain suite, none what was chosen of it.

    Tests with a marker share what a machine has once (Xen hosts, loop devices, network addresses); a few tests are
    over before workers have come up.
    """
    is_plain = config.option.markexpr in config.getini("addopts") and not config.option.keyword
    if config.args_source != pytest.Config.ArgsSource.TESTPATHS or not is_plain:
        return 0
    return min(MOST_WORKERS, max(FEWEST_WORKERS, len(os.sched_getaffinity(0))))


def pytest_collection_finish() -> None:
    """Spare the garbage collector what was collected: it stays until the end."""
    gc.freeze()


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Bytes are told by number: packed ones hold the time, and each worker would have tests of its own."""
    return argname if isinstance(val, bytes) else None


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Fail where root is missing: a skipped test would look like a passed one."""
    if item.get_closest_marker("root") and os.geteuid() != 0:
        pytest.fail('this test needs root: run `sudo scripts/env pytest -m "root or network"`', pytrace=False)


@pytest.fixture
def quick_starts(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let the programs of a plain test start quickly; with root they may run for long, and must end with us."""
    with nullcontext() if request.node.get_closest_marker("root") else start_without_fork():
        yield


@dataclass(frozen=True)
class FakeTool:
    """An executable that stands in for a real tool and writes down how it was called."""

    path: Path
    log: Path

    @property
    def calls(self) -> list[list[str]]:
        """The arguments of every call so far, without the command's own name, oldest first."""
        if not self.log.exists():
            return []
        fields = self.log.read_bytes().decode(errors="surrogateescape").split("\0")[:-1]
        calls = []
        while fields:
            count = int(fields[0])
            calls.append(fields[1 : count + 1])
            del fields[: count + 1]
        return calls


FakeToolMaker = Callable[..., FakeTool]


@pytest.fixture
def fake_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeToolMaker:
    """Return make(name, body=""): puts a shell script of that name first on PATH and returns its FakeTool."""
    folder = tmp_path / "fake-tools"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)

    def make(name: str, body: str = "") -> FakeTool:
        tool = FakeTool(path=folder / name, log=folder / f".{name}.calls")
        # A count before each call keeps empty arguments and newlines apart; one write each keeps calls whole.
        record = f"printf '%s\\0' \"$#\" \"$@\" >>'{tool.log}'"
        tool.path.write_text(f"#!/bin/sh\n{record}\n{body}\n", encoding="utf-8")
        tool.path.chmod(0o755)
        return tool

    return make
