"""What a program inside a guest's root sees, with the host's own tree standing in for a guest's."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from xenkiln.errors import CommandError
from xenkiln.system.commands import Runner
from xenkiln.system.guest_root import GUEST_ENVIRONMENT, enter_root, mount_guest
from xenkiln.system.mounts import mount_overlay, mount_plain

pytestmark = pytest.mark.root


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Path]:
    """This host's programs under a throw-away layer."""
    runner, top, root = Runner(), tmp_path / "top", tmp_path / "root"
    with mount_plain(runner, "tmpfs", top, "mode=0755"):
        for name in ("upper", "work"):
            (top / name).mkdir()
        with mount_overlay(runner, [Path("/")], top, root):
            yield root


def test_the_environment_is_the_same_whoever_calls(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://user:word@proxy.example.org")
    monkeypatch.setenv("PATH", f"/somewhere/else:{os.environ['PATH']}")
    monkeypatch.setenv("TERM", "strange")
    seen = Runner().read(enter_root(tree, ["env"])).splitlines()
    assert sorted(seen) == sorted(f"{name}={value}" for name, value in GUEST_ENVIRONMENT.items())


def test_the_host_name_is_nobodys(tree: Path) -> None:
    assert Runner().read(enter_root(tree, ["uname", "-n"])).strip() == "localhost"
    assert os.uname().nodename != "localhost"


@pytest.mark.parametrize("mounted", [False, True])
def test_the_kernels_settings_cannot_be_changed(tree: Path, mounted: bool) -> None:
    setting = Path("/proc/sys/kernel/printk_ratelimit_burst")
    before = setting.read_text()
    script = f"cat {setting}; echo 4711 > {setting}"
    runner = Runner()
    if mounted:
        # What a package manager's scriptlets see, which enter the root by themselves.
        with mount_guest(tree, runner), pytest.raises(CommandError, match="exit code"):
            runner.run(["chroot", str(tree), "sh", "-c", script])
    else:
        with pytest.raises(CommandError, match="exit code"):
            runner.run(enter_root(tree, ["sh", "-c", script]))
    assert setting.read_text() == before


def test_there_is_no_network_and_no_process_of_the_host(tree: Path) -> None:
    runner = Runner()
    assert [line.split(":")[0].strip() for line in
            runner.read(enter_root(tree, ["cat", "/proc/net/dev"])).splitlines()[2:]] == ["lo"]  # fmt: skip
    listed = runner.read(enter_root(tree, ["sh", "-c", "echo /proc/[0-9]*"])).split()
    assert len(listed) < 4
