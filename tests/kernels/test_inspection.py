"""Looking into ramdisks: every packing, and every way to be damaged."""

from __future__ import annotations

import bz2
import gzip
import lzma
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from xenkiln.errors import BuildError
from xenkiln.kernels import inspection
from xenkiln.kernels.inspection import inspect_ramdisk, list_names
from xenkiln.system.commands import Runner
from xenkiln.system.execution import Context
from xenkiln.system.layout import Paths

VERSION = "6.1.0-1-amd64"
MODULES = f"usr/lib/modules/{VERSION}/kernel/drivers"
NAMES = ("init", f"{MODULES}/block/xen-blkfront.ko", f"{MODULES}/net/xen_netfront.ko.xz", "kernel/fs/ext4.ko.zst")
WANTED = ("xen-blkfront", "xen-netfront", "ext4")


def make_cpio(names: Iterable[str]) -> bytes:
    """An archive by the real cpio."""
    with TemporaryDirectory() as folder:
        for name in names:
            path = Path(folder) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("x" * 1000)
        made = subprocess.run(["cpio", "-o", "-H", "newc", "--quiet"], cwd=folder, check=True, capture_output=True,
                              input="".join(f"{name}\n" for name in names).encode())  # fmt: skip
        return made.stdout


@pytest.fixture(scope="module")
def archive() -> bytes:
    return make_cpio(NAMES)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A guest's root whose kernel has nothing built in."""
    (tmp_path / "root/lib/modules" / VERSION).mkdir(parents=True)
    return tmp_path / "root"


def make_context(folder: Path) -> Context:
    paths = Paths("img", folder, folder)
    return Context(paths, Runner(folder / "log"), lambda text: None, {"kernel_version": VERSION})


def inspect(data: bytes, root: Path, wanted: Iterable[str] = WANTED) -> str:
    path = root.parent / "initrd.img.partial"
    path.write_bytes(data)
    return inspect_ramdisk(path, tuple(wanted), root, make_context(root.parent))


def pack_zstd(data: bytes) -> bytes:
    return subprocess.run(["zstd", "-q", "-c"], input=data, check=True, capture_output=True).stdout


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": gzip.compress,
    "xz": lzma.compress,
    "xz for the kernel": lambda data: lzma.compress(data, check=lzma.CHECK_CRC32),
    "lzma": lambda data: lzma.compress(data, format=lzma.FORMAT_ALONE),
    "zstd": pack_zstd,
}


@pytest.mark.parametrize("packer", PACKERS)
def test_every_packing_is_read(packer: str, archive: bytes, root: Path) -> None:
    assert inspect(PACKERS[packer](archive), root) == "xen-blkfront, xen-netfront, ext4"


@pytest.mark.parametrize("packer", PACKERS)
def test_microcode_may_come_first(packer: str, archive: bytes, root: Path) -> None:
    early = make_cpio(["kernel/x86/microcode/GenuineIntel.bin"])
    assert inspect(early + bytes(512) + PACKERS[packer](archive), root)


def test_archives_packed_in_different_ways_follow_each_other(root: Path) -> None:
    parts = [gzip.compress(make_cpio(NAMES[:1])), lzma.compress(make_cpio(NAMES[1:3])), make_cpio(NAMES[3:])]
    assert inspect(parts[0] + bytes(100) + parts[1] + parts[2], root)


@pytest.mark.parametrize(("missing", "words"), [
    (0, "no /init"), (1, "xen-blkfront"), (2, "xen-netfront"), (3, "ext4"),
])  # fmt: skip
def test_what_is_missing_is_named(missing: int, words: str, root: Path) -> None:
    data = gzip.compress(make_cpio([name for number, name in enumerate(NAMES) if number != missing]))
    with pytest.raises(BuildError, match=words) as failure:
        inspect(data, root)
    assert failure.value.place == "initrd.img"


def test_a_module_that_is_built_in_need_not_be_there(root: Path) -> None:
    (root / "lib/modules" / VERSION / "modules.builtin").write_text("kernel/fs/ext4/ext4.ko\n")
    assert inspect(gzip.compress(make_cpio(NAMES[:3])), root)


@pytest.mark.parametrize("filesystem", ["ext2", "ext3"])
def test_ext4_reads_its_forebears(filesystem: str, archive: bytes, root: Path) -> None:
    assert inspect(archive, root, ["xen-blkfront", filesystem])


def test_ext3_does_not_read_ext4(root: Path) -> None:
    with pytest.raises(BuildError, match="ext4"):
        inspect(make_cpio(["init", "ext3.ko"]), root, ["ext4"])


def test_xenblk_is_not_xen_blkfront(root: Path) -> None:
    with pytest.raises(BuildError, match="xenblk"):
        inspect(make_cpio(["init", "xen-blkfront.ko"]), root, ["xenblk"])


@pytest.mark.parametrize("init", ["init", "./init", "/init", "linuxrc"])
def test_init_may_be_written_in_several_ways(init: str, root: Path) -> None:
    data = make_cpio(["init"]).replace(b"init\0", f"{init}\0".encode()) if init == "init" else make_entry(init)
    assert inspect(data, root, []) == ""


def make_entry(name: str) -> bytes:
    """An archive with one empty file, by hand: cpio itself would tidy up the name."""

    def entry(text: str) -> bytes:
        fields = [0] * 13
        fields[11] = len(text) + 1
        raw = b"070701" + b"".join(b"%08X" % field for field in fields) + text.encode() + b"\0"
        return raw + bytes(-len(raw) % 4)

    return entry(name) + entry("TRAILER!!!")


@pytest.mark.parametrize("packer", PACKERS)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
def test_a_ramdisk_that_is_cut_short_is_refused(packer: str, share: float, archive: bytes, root: Path) -> None:
    data = PACKERS[packer](archive)
    with pytest.raises(BuildError):
        inspect(data[: int(len(data) * share)], root)


@pytest.mark.parametrize(("data", "words"), [
    (b"", "lacks"), (bytes(4096), "lacks"), (b"\x7fELF" + bytes(100), "unknown way"),
    (bz2.compress(b"x"), "unknown way"), (b"070701", "cut short"), (b"070701" + b"zzzzzzzz" * 13, "cut short"),
    (b"070701" + b"FFFFFFFF" * 13, "cut short"), (b"\x1f\x8b\x08", "cut short"),
])  # fmt: skip
def test_what_is_no_ramdisk_is_refused(data: bytes, words: str, root: Path) -> None:
    with pytest.raises(BuildError, match=words):
        inspect(data, root)


@pytest.mark.parametrize("packer", ["gzip", "xz", "lzma", "zstd"])
def test_a_bomb_is_not_unpacked(
    packer: str, root: Path, monkeypatch: pytest.MonkeyPatch, archive: bytes
) -> None:
    monkeypatch.setattr(inspection, "MAX_PLAIN_BYTES", 1 << 20)
    with pytest.raises(BuildError, match=r"more than 1 MiB|cannot be unpacked"):
        inspect(PACKERS[packer](archive + bytes(8 << 20)), root)
    assert not list(root.parent.glob("*.cpio"))


def test_a_ramdisk_of_countless_parts_is_given_up(root: Path) -> None:
    with pytest.raises(BuildError, match="more than 100 archives"):
        inspect(gzip.compress(b"") * 1000, root)


SMALL = make_cpio(["init"])
heads = st.sampled_from([b"", b"070701", b"\x1f\x8b\x08\0", b"\xfd7zXZ\0", b"\x5d\0\0", SMALL])
packed_ones = st.sampled_from([PACKERS[name](SMALL) for name in ("plain", "gzip", "xz", "lzma")])


@settings(deadline=None)
@given(st.lists(heads | st.binary(max_size=200), max_size=4).map(b"".join))
@example(b"\x5d\0\0" + b"\xff" * 100)
def test_whatever_the_bytes_the_answer_is_a_build_error(data: bytes) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "initrd.img"
        path.write_bytes(data)
        try:
            list(list_names(path, make_context(folder)))
        except BuildError:
            return


@settings(deadline=None, max_examples=50)
@given(packed_ones, st.integers(0, 10_000), st.integers(1, 255))
def test_one_wrong_byte_is_no_traceback(data: bytes, place: int, change: int) -> None:
    packed = bytearray(data)
    packed[place % len(packed)] ^= change
    with TemporaryDirectory() as name:
        path = Path(name) / "initrd.img"
        path.write_bytes(packed)
        try:
            list(list_names(path, make_context(Path(name))))
        except BuildError:
            return
