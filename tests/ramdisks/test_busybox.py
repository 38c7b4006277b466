"""The busybox ramdisk: order of modules, the archive's bytes, what is refused."""

from __future__ import annotations

import gzip
import lzma
import stat
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenkiln.errors import BuildError
from xenkiln.model.image import Ramdisk
from xenkiln.ramdisks import archive, busybox
from xenkiln.system.commands import Runner
from xenkiln.system.execution import Context, run_steps
from xenkiln.system.layout import Paths

VERSION = "6.1.0-test"
DEP = """\
kernel/drivers/block/xen-blkfront.ko:
kernel/drivers/net/xen-netfront.ko:
kernel/crypto/fast_sum.ko: kernel/lib/crc16.ko
kernel/crypto/plain_sum.ko:
kernel/fs/ext4/ext4.ko: kernel/fs/jbd2/jbd2.ko kernel/lib/crc16.ko kernel/fs/mbcache.ko
kernel/fs/jbd2/jbd2.ko: kernel/lib/crc16.ko
kernel/fs/mbcache.ko:
kernel/lib/crc16.ko:
"""


def make_elf(*segments: int, wide: bool = True) -> bytes:
    """The header and program headers of an ELF file with segments of these types, by elf(5)."""
    magic = b"\x7fELF" + bytes([2 if wide else 1, 1, 1]) + bytes(9)
    count = len(segments)
    if wide:
        head = struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, 0, 64, 0, 0, 64, 56, count, 0, 0, 0)
        return magic + head + b"".join(struct.pack("<I52x", kind) for kind in segments)
    head = struct.pack("<HHIIIIIHHHHHH", 2, 3, 1, 0, 52, 0, 0, 52, 32, count, 0, 0, 0)
    return magic + head + b"".join(struct.pack("<I28x", kind) for kind in segments)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    modules = root / "lib/modules" / VERSION
    for line in DEP.splitlines():
        path = modules / line.partition(":")[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(path.name.encode())
    (modules / "modules.dep").write_text(DEP)
    (modules / "modules.softdep").write_text("# by hand\nsoftdep ext4 pre: sum missing post: xfs\n")
    (modules / "modules.alias").write_text("alias sum plain_sum\nalias sum fast_sum\nalias fs-ext4 ext4\n")
    (modules / "modules.builtin").write_text("kernel/fs/xfs/xfs.ko\nkernel/crypto/crc32c_generic.ko\n")
    (root / "bin").mkdir()
    (root / "bin/busybox").write_bytes(make_elf(1, 1))
    (root / "tmp").mkdir()
    return root


def order(root: Path, *wanted: str) -> list[str]:
    return [Path(path).name for path in busybox.order_modules(root, VERSION, wanted)]


def test_modules_follow_what_they_depend_on_and_come_once(root: Path) -> None:
    assert order(root, "xen_blkfront", "ext4", "jbd2", "xen-netfront") == [
        "xen-blkfront.ko", "plain_sum.ko", "crc16.ko", "fast_sum.ko", "mbcache.ko", "jbd2.ko", "ext4.ko",
        "xen-netfront.ko",
    ]  # fmt: skip


def test_built_in_modules_need_no_file(root: Path) -> None:
    assert order(root, "xfs", "crc32c-generic") == []


def test_every_missing_module_is_named(root: Path) -> None:
    with pytest.raises(BuildError, match=r"no module btrfs, xenblk"):
        order(root, "xenblk", "ext4", "btrfs")


def test_without_depmod_it_says_so(root: Path) -> None:
    (root / "lib/modules" / VERSION / "modules.dep").unlink()
    with pytest.raises(BuildError, match="depmod has not run"):
        order(root, "ext4")


@pytest.mark.parametrize("wide", [True, False])
def test_a_busybox_that_needs_a_loader_is_refused(root: Path, wide: bool) -> None:
    (root / "bin/busybox").write_bytes(make_elf(1, 3, 1, wide=wide))
    with pytest.raises(BuildError, match="not static"):
        busybox.read_busybox(root)
    (root / "bin/busybox").write_bytes(make_elf(1, 2, 1, wide=wide))
    busybox.read_busybox(root)


def test_an_image_without_busybox_is_refused(root: Path) -> None:
    (root / "bin/busybox").unlink()
    with pytest.raises(BuildError, match="has no busybox") as caught:
        busybox.read_busybox(root)
    assert "busybox-static" in caught.value.next_step


@pytest.mark.parametrize(("suffix", "pack"), [(".xz", lzma.compress), (".gz", gzip.compress)])
def test_packed_modules_are_unpacked(root: Path, suffix: str, pack: object) -> None:
    folder = root / "lib/modules" / VERSION
    plain = folder / "kernel/fs/ext4/ext4.ko"
    packed = plain.with_name(plain.name + suffix)
    packed.write_bytes(pack(plain.read_bytes()))  # type: ignore[operator]
    plain.unlink()
    (folder / "modules.dep").write_text(DEP.replace("ext4.ko:", f"ext4.ko{suffix}:"))
    entries = {entry.name: entry.data for entry in busybox.list_entries(root, VERSION, ["ext4"])}
    assert entries[f"lib/modules/{VERSION}/kernel/fs/ext4/ext4.ko"] == b"ext4.ko"
    assert entries["modules"].decode().splitlines()[-1].endswith("/ext4.ko")


def test_a_packing_it_cannot_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ext4.ko.zst"
    path.write_bytes(b"x")
    with pytest.raises(BuildError, match="cannot unpack"):
        busybox.read_module(path)


def make_ramdisk(root: Path, tmp_path: Path) -> bytes:
    context = Context(Paths("x", tmp_path, tmp_path), Runner(), lambda text: None)
    context.values |= {"epoch": "1200000000", "kernel_version": VERSION}
    ramdisk = Ramdisk(maker="busybox", modules=("xen-blkfront", "xen-netfront", "ext4"))
    run_steps(busybox.make_ramdisk_steps(ramdisk, "ext3", root, "/tmp/initrd"), context)
    return (root / "tmp/initrd").read_bytes()


def test_the_same_image_gives_the_same_ramdisk(root: Path, tmp_path: Path) -> None:
    first = make_ramdisk(root, tmp_path)
    for path in sorted(root.rglob("*.ko"), reverse=True):
        data = path.read_bytes()
        path.unlink()
        path.write_bytes(data)
    assert make_ramdisk(root, tmp_path) == first


def test_cpio_reads_the_ramdisk_back(root: Path, tmp_path: Path) -> None:
    packed = gzip.decompress(make_ramdisk(root, tmp_path))
    listed = subprocess.run(["cpio", "-tv", "--quiet"], input=packed, capture_output=True, check=True)
    assert listed.stderr == b""
    lines = listed.stdout.decode().splitlines()
    names = [line.split()[8] if "->" in line else line.split()[-1] for line in lines]
    assert names == sorted(names)
    assert {"init", "modules", "bin/sh", "dev/console"} <= set(names)
    assert next(line for line in lines if line.endswith("dev/console")).startswith("crw-------")
    assert {line.split()[2] for line in lines} <= {"root", "0"}


@pytest.mark.parametrize("name", ["ext2", "ext3"])
def test_a_driver_that_another_covers_may_be_asked_for_by_name(name: str, root: Path, tmp_path: Path) -> None:
    steps = busybox.make_ramdisk_steps(Ramdisk(maker="busybox", modules=(name,)), name, root, "/tmp/out.img")
    run_steps(steps, Context(Paths("img", tmp_path, tmp_path), Runner(), lambda text: None,
                             {"kernel_version": VERSION, "epoch": "1"}))  # fmt: skip
    assert b"kernel/fs/ext4/ext4.ko" in gzip.decompress((root / "tmp/out.img").read_bytes())


def test_every_applet_of_the_init_script_has_a_link(root: Path) -> None:
    words = set(busybox.INIT.read_text().replace("$(", " ").split())
    used = {"awk", "cat", "cttyhack", "findfs", "insmod", "mount", "setsid", "switch_root", "usleep"}
    assert used <= words
    assert used <= set(busybox.APPLETS)


@given(st.dictionaries(st.text("abcdef/", min_size=1), st.binary(max_size=40), max_size=8), st.integers(0, 2**31))
def test_archives_do_not_depend_on_the_order_of_entries(files: dict[str, bytes], epoch: int) -> None:
    entries = [archive.make_file(name, data, 0o644) for name, data in files.items()]
    packed = archive.pack_archive(entries, epoch)
    assert packed == archive.pack_archive(reversed(entries), epoch)
    assert len(packed) % 4 == 0
    position = 0
    for name in [*sorted(files), "TRAILER!!!"]:
        fields = [int(packed[position + 6 + 8 * i : position + 14 + 8 * i], 16) for i in range(13)]
        assert packed[position : position + 6] == b"070701"
        start = position + 110
        assert packed[start : start + fields[11]] == name.encode() + b"\0"
        data = -(-(start + fields[11]) // 4) * 4
        if name in files:
            assert packed[data : data + fields[6]] == files[name]
            assert (stat.S_ISREG(fields[1]), fields[5]) == (True, epoch)
        position = -(-(data + fields[6]) // 4) * 4
    assert position == len(packed)
