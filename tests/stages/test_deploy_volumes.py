"""Deploying to logical volumes: real loop devices, stand-ins for LVM's programs."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from ssh_host import SshHost, run_sshd
from xen_host import MIB, Setting


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshHost]:
    with run_sshd(tmp_path_factory.mktemp("sshd") / "host") as running:
        yield running


@pytest.fixture
def setting(host: SshHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Setting]:
    yield Setting(host, tmp_path, monkeypatch)
    shutil.rmtree(host.tools)
    host.tools.mkdir()


LVM = {
    "vgs": """[ "$*" = "--noheadings --nosuffix --units b -o vg_extent_size,vg_free GROUP" ] || exit 5
echo "  4194304 FREE" """,
    "lvs": """[ "$*" = "--noheadings --nosuffix --units b -o lv_name,lv_size,lv_attr GROUP" ] || exit 5
cat FOLDER/volumes""",
    "lvcreate": """[ "$1 $2 $3 $5 $7" = "--zero n --name --extents GROUP" ] && [ $# = 7 ] || exit 3
mkdir -p /dev/GROUP && ln -s "$(cat "FOLDER/device-$4")" "/dev/GROUP/$4"
echo "  $4 $(($6 * 4194304)) -wi-a-----" >>FOLDER/volumes""",
}


@pytest.fixture
def group(setting: Setting) -> Iterator[str]:
    """Set up a volume group of two loop devices full of old data."""
    name = f"xenkilntest{os.getpid()}"
    (setting.folder / "volumes").touch()
    loops = []
    for role, size_mib in (("root", 64), ("swap", 8)):
        backing = setting.folder / f"volume-{role}"
        backing.write_bytes(b"old data" * (size_mib * MIB // 8))
        command = ["losetup", "--find", "--show", str(backing)]
        loops.append(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip())
        (setting.folder / f"device-small-{role}").write_text(loops[-1])
    add_lvm(setting, name, free=100 * MIB)
    yield name
    for loop in loops:
        subprocess.run(["losetup", "--detach", loop], check=True)
    shutil.rmtree(f"/dev/{name}", ignore_errors=True)


def add_lvm(setting: Setting, name: str, free: int) -> None:
    for tool, body in LVM.items():
        setting.add_tool(tool, f"#!/bin/sh\n{body}\n".replace("GROUP", name).replace("FREE", str(free)))


@pytest.mark.root
def test_disks_go_to_volumes(setting: Setting, group: str) -> None:
    summary, _ = setting.run(storage="phy", volume_group=group)
    assert summary.startswith("sent vmlinuz, initrd.img, root.img, swap.img")
    for role in ("root", "swap"):
        assert Path(f"/dev/{group}/small-{role}").read_bytes() == (setting.paths.images / f"{role}.img").read_bytes()
    assert f"target=/dev/{group}/small-root" in (setting.etc / "small").read_text()
    assert not (setting.there / "root.img").exists()
    assert setting.run(storage="phy", volume_group=group)[0].startswith("nothing to send")


@pytest.mark.root
@pytest.mark.parametrize(
    ("volume", "fact"),
    [
        ("small-root 4194304 -wi-a-----", "is 4 MiB large, the image takes 64 MiB"),
        ("small-root 67108864 -wi-ao----", "is in use"),
    ],
)
def test_a_volume_that_does_not_fit_or_is_used_is_refused(setting: Setting, group: str, volume: str, fact: str) -> None:
    (setting.folder / "volumes").write_text(f"  {volume}\n")
    Path(f"/dev/{group}").mkdir()
    Path(f"/dev/{group}/small-root").symlink_to((setting.folder / "device-small-root").read_text())
    assert fact in setting.refuse(storage="phy", volume_group=group)


@pytest.mark.root
def test_a_full_or_missing_group_is_refused(setting: Setting, group: str) -> None:
    add_lvm(setting, group, free=8 * MIB)
    assert "72 MiB are needed in it, 8 MiB are free" in setting.refuse(storage="phy", volume_group=group)
    assert "has no volume group other" in setting.refuse(storage="phy", volume_group="other")
