"""CentOS 5's mkinitrd, by a stand-in that knows its options and no others."""

from __future__ import annotations

import gzip
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from conftest import FakeTool, FakeToolMaker
from repositories import make_context

from xenkiln.errors import BuildError, CommandError
from xenkiln.model.image import Ramdisk
from xenkiln.ramdisks import mkinitrd
from xenkiln.ramdisks.repacking import repack_ramdisk
from xenkiln.system.steps import Do, Run

# The usage text of mkinitrd 5.1.19 is what this knows; FILE and VERSION come last.
STRICT = """\
while [ $# -gt 2 ]; do
    case $1 in
    --omit-scsi-modules|--omit-raid-modules|--omit-lvm-modules|--without-usb|-f|-v) ;;
    --with=?*|--preload=?*|--builtin=?*|--image-version|--fstab=?*) ;;
    *) echo "usage: mkinitrd [--version] [--help] [-v] [-f] [--preload <module>] ..." >&2; exit 1 ;;
    esac
    shift
done
[ $# -eq 2 ] || exit 1
printf x | cpio -o -H newc 2>/dev/null </dev/null | gzip -9 >"$1"
"""


def run_maker(ramdisk: Ramdisk, tmp_path: Path, tool: FakeTool) -> list[str]:
    """Run the maker's command on this host instead of inside a root; returns its arguments."""
    output = tmp_path / "root/tmp/initrd.img"
    output.parent.mkdir(parents=True)
    command, repack = mkinitrd.make_ramdisk_steps(ramdisk, "ext3", tmp_path / "root", "/tmp/initrd.img")
    assert isinstance(command, Run)
    assert isinstance(repack, Do)
    assert command.root == tmp_path / "root"
    context = make_context(tmp_path)
    context.values["kernel_version"] = "2.6.18-128.1.6.el5xen"
    context.run([str(output) if word == "/tmp/initrd.img" else word for word in command.argv])
    repack.function(context)
    assert gzip.decompress(output.read_bytes()).endswith(b"TRAILER!!!\0\0\0\0")
    (call,) = tool.calls
    assert call.pop(-2) == str(output)
    return call


def test_the_articles_recipe(tmp_path: Path, fake_tool: FakeToolMaker) -> None:
    ramdisk = Ramdisk(maker="mkinitrd", modules=("xennet", "xenblk"), preload=("xenblk",))
    call = run_maker(ramdisk, tmp_path, fake_tool("mkinitrd", STRICT))
    options = "--omit-scsi-modules --with=xennet --with=xenblk --preload=xenblk"
    assert call == [*options.split(), "2.6.18-128.1.6.el5xen"]


def test_the_front_ends_are_always_there(tmp_path: Path, fake_tool: FakeToolMaker) -> None:
    ramdisk = Ramdisk(maker="mkinitrd", modules=("loop",))
    assert run_maker(ramdisk, tmp_path, fake_tool("mkinitrd", STRICT))[1:-1] == [
        "--with=loop", "--with=xennet", "--with=xenblk", "--preload=xenblk"]  # fmt: skip


def test_the_stand_in_refuses_what_mkinitrd_does_not_know(tmp_path: Path, fake_tool: FakeToolMaker) -> None:
    fake_tool("mkinitrd", STRICT)
    with pytest.raises(CommandError, match="exit code 1"):
        make_context(tmp_path).run(["mkinitrd", "--add-drivers", "xenblk", "out", "version"])


def pack(folder: Path, names: Sequence[str], *packer: str) -> bytes:
    text = "".join(f"{name}\n" for name in names)
    archive = subprocess.run(["cpio", "-o", "-H", "newc", "--quiet"], cwd=folder, input=text.encode(), check=True,
                             capture_output=True).stdout  # fmt: skip
    return subprocess.run(packer, input=archive, check=True, capture_output=True).stdout if packer else archive


def make_tree(folder: Path) -> Path:
    (folder / "bin").mkdir(parents=True)
    (folder / "bin/nash").write_bytes(b"program" * 100)
    (folder / "bin/insmod").hardlink_to(folder / "bin/nash")
    (folder / "bin/sh").symlink_to("nash")
    (folder / "init").write_text("#!/bin/nash\n")
    (folder / "init").chmod(0o755)
    return folder


NAMES = ["bin", "bin/nash", "bin/insmod", "bin/sh", "init"]


@pytest.mark.parametrize("packer", [(), ("gzip",), ("gzip", "-9", "-n"), ("xz", "--check=crc32")])
def test_the_same_files_are_the_same_bytes_whenever_they_were_packed(packer: tuple[str, ...], tmp_path: Path) -> None:
    one = pack(make_tree(tmp_path / "one"), NAMES, *packer)
    make_tree(tmp_path / "other")
    two = pack(make_tree(tmp_path / "two"), NAMES[::-1], *packer)
    packed = repack_ramdisk(one, 1_200_000_000, "initrd")
    assert packed == repack_ramdisk(two, 1_200_000_000, "initrd")
    assert packed != repack_ramdisk(two, 1_200_000_001, "initrd")
    out = tmp_path / "out"
    out.mkdir()
    subprocess.run(["cpio", "-i", "-d", "-m", "--quiet"], cwd=out, input=gzip.decompress(packed), check=True)
    assert (out / "bin/insmod").read_bytes() == (out / "bin/nash").read_bytes() == b"program" * 100
    assert (out / "bin/sh").readlink() == Path("nash")
    assert (out / "init").stat().st_mode & 0o777 == 0o755
    assert (out / "init").stat().st_mtime == 1_200_000_000


def test_archives_one_after_the_other_become_one(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree")
    whole = repack_ramdisk(pack(tree, NAMES), 0, "initrd")
    parts = pack(tree, NAMES[:1]) + bytes(512) + pack(tree, NAMES[1:], "gzip")
    assert repack_ramdisk(parts, 0, "initrd") == whole


@pytest.mark.parametrize("data", [b"\x28\xb5\x2f\xfd____", b"070701" + b"0" * 30, b"\x1f\x8bnonsense", b"nonsense"])
def test_what_is_no_ramdisk_is_refused(data: bytes) -> None:
    with pytest.raises(BuildError, match="the ramdisk"):
        repack_ramdisk(data, 0, "initrd")


def test_a_ramdisk_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    whole = pack(make_tree(tmp_path / "tree"), NAMES)
    for length in (200, len(whole) // 2, whole.index(b"TRAILER") - 120):
        with pytest.raises(BuildError, match="cut short"):
            repack_ramdisk(whole[:length], 0, "initrd")
