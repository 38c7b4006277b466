"""What kind of image a file is, as the real tools make them, and what is said of one that would not boot."""

from __future__ import annotations

import os
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenkiln.artifacts.shapes import make_boot_sector
from xenkiln.clouds.image_kind import ImageKind, describe_image_kind, find_kind_problem

MIB = 1 << 20
ESP, BIOS_BOOT, LINUX = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B", "21686148-6449-6E6F-744E-656564454649", "linux"
GPT = "label: gpt\nsize=2M, type={}\nsize=4M, type={}\n"


def make_image(path: Path, size: int, *command: str, text: str = "") -> Path:
    """A file of this size that a tool of the host writes into."""
    with path.open("wb") as stream:
        stream.truncate(size)
    if command:
        environment = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
        subprocess.run([*command, path], input=text.encode(), check=True, capture_output=True, env=environment)
    return path


def put(path: Path, start: int, data: bytes) -> Path:
    with path.open("rb+") as stream:
        stream.seek(start)
        stream.write(data)
    return path


@pytest.mark.parametrize(
    ("size", "command", "filesystem"),
    [(4 * MIB, ("mkfs.ext4", "-q"), "ext"), (4 * MIB, ("mkfs.ext2", "-q", "-b", "1024"), "ext"),
     (320 * MIB, ("mkfs.xfs", "-q"), "xfs"), (128 * MIB, ("mkfs.btrfs", "-q"), "btrfs")],
    ids=["ext4", "ext2", "xfs", "btrfs"],
)  # fmt: skip
def test_a_bare_filesystem_is_known(size: int, command: tuple[str, ...], filesystem: str, tmp_path: Path) -> None:
    image = make_image(tmp_path / "root.img", size, *command)
    assert describe_image_kind(image) == ImageKind("none", filesystem)


@pytest.mark.parametrize(
    ("start", "magic", "filesystem"),
    [(0, b"hsqs", "squashfs"), (32769, b"CD001", "iso9660"), (32768, b"JFS1", "jfs"), (65588, b"ReIsEr2", "reiserfs")],
)
def test_filesystems_that_have_no_tool_here_are_known(
    start: int, magic: bytes, filesystem: str, tmp_path: Path
) -> None:
    image = put(make_image(tmp_path / "root.img", MIB), start, magic)
    assert describe_image_kind(image) == ImageKind("none", filesystem)


@pytest.mark.parametrize(
    ("command", "wrapping"),
    [(("qemu-img", "convert", "-f", "raw", "-O", "qcow2"), "qcow2"),
     (("qemu-img", "convert", "-f", "raw", "-O", "vpc"), "VHD"), (("gzip", "-c"), "gzip"), (("xz", "-c"), "xz"),
     (("zstd", "-q", "-c"), "zstd")],
    ids=["qcow2", "vhd", "gzip", "xz", "zstd"],
)  # fmt: skip
def test_an_image_that_is_not_raw_is_known_and_not_sent_so(
    command: tuple[str, ...], wrapping: str, tmp_path: Path
) -> None:
    raw, wrapped = put(make_image(tmp_path / "disk.img", MIB), 0, b"\x90" * 512), tmp_path / "wrapped"
    if command[0] == "qemu-img":
        subprocess.run([*command, raw, wrapped], check=True)
    else:
        with wrapped.open("wb") as stream:
            subprocess.run([*command, raw], check=True, stdout=stream)
    kind = describe_image_kind(wrapped)
    assert kind == ImageKind("none", wrapping=wrapping)
    for virtualization, has_kernel in (("hvm", False), ("paravirtual", True)):
        problem = find_kind_problem(kind, virtualization, None, has_kernel)  # type: ignore[arg-type]
        assert f"not raw but {wrapping}, and a volume takes it byte for byte" in problem


def test_a_filesystem_with_a_boot_record_is_no_disk(tmp_path: Path) -> None:
    image = make_image(tmp_path / "root.img", 4 * MIB, "mkfs.ext4", "-q")
    put(image, 0, b"\xeb\x58\x90EXTLINUX" + b"\x8e" * 499 + b"\x55\xaa")
    assert describe_image_kind(image) == ImageKind("none", "ext")


def test_a_disk_over_an_old_filesystem_is_a_disk(tmp_path: Path) -> None:
    image = make_image(tmp_path / "disk.img", 16 * MIB, "mkfs.ext4", "-q")
    make_table = ["sfdisk", "-q", "--wipe=never", str(image)]
    environment = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
    subprocess.run(make_table, input=b"label: dos\nsize=8M, type=83\n", check=True, env=environment)
    with image.open("rb") as stream:
        assert os.pread(stream.fileno(), 2, 1080) == b"\x53\xef"
    assert describe_image_kind(image) == ImageKind("mbr", "", 1)


@pytest.mark.parametrize("boot_code", [b"", b"\xeb\x63\x90GRUB"])
@pytest.mark.parametrize(
    ("table", "kind"),
    [("label: dos\nsize=4M, type=83\n", ("mbr", "", 1, False, False)),
     ("label: dos\nsize=2M, type=ef\nsize=4M, type=83\nsize=4M, type=83\n", ("mbr", "", 3, True, False)),
     (GPT.format(ESP, LINUX), ("gpt", "", 2, True, False)), (GPT.format(BIOS_BOOT, LINUX), ("gpt", "", 2, False, True)),
     (GPT.format(LINUX, LINUX), ("gpt", "", 2, False, False))],
    ids=["mbr", "mbr with esp", "gpt with esp", "gpt with bios boot", "gpt"],
)  # fmt: skip
def test_a_disk_is_known_by_its_table(
    table: str, kind: tuple[Any, ...], boot_code: bytes, tmp_path: Path
) -> None:
    image = put(make_image(tmp_path / "disk.img", 32 * MIB, "sfdisk", "-q", text=table), 0, boot_code)
    name, filesystem, partitions, has_esp, has_bios_boot = kind
    wanted = ImageKind(name, filesystem, partitions, bool(boot_code), has_esp, has_bios_boot)
    assert describe_image_kind(image) == wanted


def test_our_own_disk_has_no_boot_loader(tmp_path: Path) -> None:
    image = put(make_image(tmp_path / "disk.img", 9 * MIB), 0, make_boot_sector("tiny", 8))
    kind = describe_image_kind(image)
    assert kind == ImageKind("mbr", "", 1)
    assert "finds nothing to boot in its first sector; install a boot loader" in find_kind_problem(
        kind, "hvm", None, has_kernel=False
    )
    assert find_kind_problem(kind, "paravirtual", None, has_kernel=True) == ""


@pytest.mark.parametrize("size", [0, 1, 511, 512, 1081, 4096])
def test_what_is_nothing_is_called_so(size: int, tmp_path: Path) -> None:
    assert describe_image_kind(make_image(tmp_path / "x.img", size)) == ImageKind("none")


@pytest.fixture(scope="module")
def disk_with_gpt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gpt") / "disk.img"
    image = make_image(path, 32 * MIB, "sfdisk", "-q", text=GPT.format(ESP, LINUX))
    assert describe_image_kind(image) == ImageKind("gpt", "", 2, has_esp=True)
    return image


@pytest.mark.parametrize("numbers", [(1 << 63, 128, 128), (2, 1 << 31, 128), (2, 128, 1 << 31), (2, 128, 0)])
def test_a_damaged_gpt_is_no_gpt(numbers: tuple[int, int, int], disk_with_gpt: Path) -> None:
    put(disk_with_gpt, 512 + 72, struct.pack("<QII", *numbers))
    assert describe_image_kind(disk_with_gpt) == ImageKind("mbr", "", 1)


EXT, DISK = ImageKind("none", "ext"), ImageKind("mbr", "", 1, has_boot_code=True)
UEFI_DISK, BARE_DISK = ImageKind("gpt", "", 2, has_esp=True), ImageKind("gpt", "", 2)
BOTH = ImageKind("gpt", "", 3, has_boot_code=True, has_esp=True, has_bios_boot=True)


@pytest.mark.parametrize(
    ("kind", "virtualization", "boot_mode", "has_kernel", "words"),
    [
        (DISK, "hvm", None, False, ()),
        (DISK, "hvm", "legacy-bios", False, ()),
        (UEFI_DISK, "hvm", "uefi", False, ()),
        (BOTH, "hvm", "uefi-preferred", False, ()),
        (EXT, "paravirtual", None, True, ()),
        (DISK, "paravirtual", None, True, ()),
        (EXT, "hvm", None, False, ("a bare ext filesystem", "`shapes: [disk]`", "paravirtual with pv-grub's kernel")),
        (ImageKind("none"), "hvm", None, False, ("neither a disk nor a filesystem", "boots a disk")),
        (DISK, "hvm", "uefi", False, ("needs an EFI system partition", "legacy-bios")),
        (DISK, "hvm", "uefi-preferred", False, ("needs an EFI system partition",)),
        (UEFI_DISK, "hvm", "uefi-preferred", False, ("install a boot loader", "or choose boot mode uefi")),
        (UEFI_DISK, "hvm", None, False, ("GPT, 2 partitions and an EFI system partition", "choose boot mode uefi")),
        (BARE_DISK, "hvm", "legacy-bios", False, ("GPT, 2 partitions and no boot loader", "install a boot loader")),
        (DISK, "hvm", None, True, ("takes no kernel", "as paravirtual")),
        (EXT, "paravirtual", None, False, ("needs a kernel", "aki-", "hd0")),
        (EXT, "paravirtual", "legacy-bios", True, ("leave boot mode legacy-bios out",)),
        (ImageKind("none", "btrfs"), "paravirtual", None, True, ("a bare btrfs filesystem", "pv-grub reads ext")),
        (ImageKind("none"), "paravirtual", None, True, ("publish a root filesystem",)),
    ],
)
def test_what_would_not_boot_is_said_and_how_to_mend_it(
    kind: ImageKind, virtualization: Any, boot_mode: Any, has_kernel: bool, words: tuple[str, ...]
) -> None:
    problem = find_kind_problem(kind, virtualization, boot_mode, has_kernel=has_kernel)
    assert bool(problem) == bool(words)
    for word in words:
        assert word in problem


@given(data=st.binary(max_size=2048), at=st.sampled_from([0, 446, 512, 1024, 1080]))
def test_any_bytes_are_of_some_kind(data: bytes, at: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "any.img"
    path.write_bytes(b"\0" * 450 + b"\xee" + b"\0" * 59 + b"\x55\xaaEFI PART" + bytes(2048))
    put(path, at, data)
    assert str(describe_image_kind(path))
