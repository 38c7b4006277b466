"""scripts/guest/grow-root, with stand-ins where this host has no such disk, and with the real resize2fs."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import FakeToolMaker

from xenkiln.system.layout import PROJECT


@pytest.fixture
def grow_root(tmp_path: Path, fake_tool: FakeToolMaker, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The command that grows /dev/xvda1, with stand-ins for what would really do it."""
    (tmp_path / "fstab").write_text("# a comment\n/dev/xvdb /srv ext4 defaults 0 2\n/dev/xvda1 / ext4 defaults 1 1\n")
    monkeypatch.setenv("GROW_ROOT_FSTAB", str(tmp_path / "fstab"))
    monkeypatch.setenv("GROW_ROOT_SYS", str(tmp_path / "sys"))
    return [str(PROJECT / "scripts/guest/grow-root")]


def run(command: list[str]) -> tuple[int, str]:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return result.returncode, result.stdout + result.stderr


def test_a_disk_that_is_no_partition_only_needs_resize2fs(grow_root: list[str], fake_tool: FakeToolMaker) -> None:
    resize = fake_tool("resize2fs", "echo 'The filesystem on /dev/xvda1 is now 1 blocks long.'")
    assert run(grow_root) == (0, "grow-root: /dev/xvda1 fills its disk now\n")
    assert resize.calls == [["/dev/xvda1"]]
    fake_tool("resize2fs", "echo 'The filesystem is already 1 blocks long.  Nothing to do!'")
    assert run(grow_root) == (0, "")


@pytest.mark.parametrize("code", [0, 1, 2])
def test_a_real_partition_grows_first(
    grow_root: list[str], fake_tool: FakeToolMaker, code: int, tmp_path: Path
) -> None:
    (tmp_path / "sys/block/xvda/xvda1").mkdir(parents=True)
    grow = fake_tool("growpart", f"exit {code}")
    resize = fake_tool("resize2fs")
    assert (run(grow_root)[0] == 0) == (code < 2)
    assert grow.calls == [["/dev/xvda", "1"]]
    assert bool(resize.calls) == (code < 2)


def test_a_filesystem_that_cannot_grow_is_told(grow_root: list[str], fake_tool: FakeToolMaker) -> None:
    fake_tool("resize2fs", "echo 'Permission denied to resize' >&2; exit 1")
    code, text = run(grow_root)
    assert code == 1
    assert "/dev/xvda1 could not grow: Permission denied to resize" in text


def test_an_old_guest_without_growpart_uses_sfdisk(
    grow_root: list[str], fake_tool: FakeToolMaker, tmp_path: Path
) -> None:
    """The real sfdisk on a file, reached through a stand-in: there is no such partition on this host."""
    (tmp_path / "sys/block/xvda/xvda1").mkdir(parents=True)
    disk, real = tmp_path / "disk.img", shutil.which("sfdisk", path="/usr/sbin:/sbin")
    with disk.open("wb") as stream:
        stream.truncate(8 << 20)
    subprocess.run([str(real), "--quiet", str(disk)], input=b"2048,2048,L,*\n", check=True)
    fake_tool("sfdisk", f"""case $1 in --help) exec {real} --help ;; esac
        [ "$5" = /dev/xvda ] || exit 9
        exec {real} "$1" "$2" "$3" "$4" '{disk}'""")  # fmt: skip
    told = fake_tool("partx")
    fake_tool("resize2fs")
    assert run(grow_root)[0] == 0
    assert told.calls == [["-u", "-n", "1", "/dev/xvda"]]
    table = subprocess.run([str(real), "--dump", str(disk)], check=True, capture_output=True, text=True).stdout
    assert "start=        2048, size=       14336, type=83, bootable" in table


@pytest.mark.root
def test_a_filesystem_really_grows(grow_root: list[str], tmp_path: Path) -> None:
    # Not mounted: growing a mounted one takes CAP_SYS_RESOURCE, which containers do not have.
    disk = tmp_path / "disk.img"
    with disk.open("wb") as stream:
        stream.truncate(16 << 20)
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", str(disk)], check=True)
    os.truncate(disk, 64 << 20)
    loop = subprocess.check_output(["losetup", "--find", "--show", str(disk)], text=True).strip()
    try:
        (tmp_path / "fstab").write_text(f"{loop} / ext4 defaults 1 1\n")
        assert run(grow_root) == (0, f"grow-root: {loop} fills its disk now\n")
        assert run(grow_root) == (0, "")
    finally:
        subprocess.run(["losetup", "--detach", loop], check=True)
    told = subprocess.check_output(["dumpe2fs", "-h", str(disk)], text=True, stderr=subprocess.DEVNULL)
    values = dict(line.split(":", 1) for line in told.splitlines() if ":" in line)
    assert int(values["Block count"]) * int(values["Block size"]) == 64 << 20
