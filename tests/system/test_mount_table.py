"""What the kernel lists of mounts and loop devices, with real ones."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from xenkiln.system.mount_table import MountPoint, clears_itself, list_loop_devices, list_mounts
from xenkiln.system.mounts import enter_namespace


def find_mount(place: Path) -> MountPoint:
    (found,) = (mount for mount in list_mounts() if mount.place == place)
    return found


def test_a_device_that_is_none_clears_nothing() -> None:
    assert not clears_itself("/dev/loop99999")
    assert not clears_itself("tmpfs")


@pytest.mark.root
def test_a_line_tells_kind_source_and_part(tmp_path: Path) -> None:
    enter_namespace()
    whole, part = tmp_path / "a b\tc\\d - e", tmp_path / "part"
    for place in (whole, part):
        place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "a source", whole], check=True)
    (whole / "x").mkdir()
    subprocess.run(["mount", "--bind", whole / "x", part], check=True)
    try:
        mount = find_mount(whole)
        assert (mount.kind, mount.source, mount.part) == ("tmpfs", "a source", "/")
        assert "size=1024k" in mount.options
        assert find_mount(part).part == "/x"
    finally:
        subprocess.run(["umount", part, whole], check=True)


@pytest.mark.root
def test_a_loop_device_names_its_file_and_whether_it_clears_itself(tmp_path: Path) -> None:
    enter_namespace()
    image, place = tmp_path / "an image", tmp_path / "place"
    place.mkdir()
    subprocess.run(["mke2fs", "-q", "-F", image, "4M"], check=True, capture_output=True)
    subprocess.run(["mount", "-o", "loop", image, place], check=True)
    try:
        device = find_mount(place).source
        assert list_loop_devices()[device] == image
        assert clears_itself(device)
    finally:
        subprocess.run(["umount", place], check=True)
    attached = subprocess.run(["losetup", "--find", "--show", image], check=True, capture_output=True, text=True)
    device = attached.stdout.strip()
    try:
        image.unlink()
        assert list_loop_devices()[device] == image
        assert not clears_itself(device)
    finally:
        subprocess.run(["losetup", "-d", device], check=True)
