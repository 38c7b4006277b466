"""What an image is to a firmware: a bare filesystem or a disk, and whether that could boot.

A disk where a filesystem is wanted, or the other way round, is registered without a word and then never boots.
Sources: UEFI specification 2.10, chapter 5 (GPT, protective MBR); the kernel's Documentation/filesystems (magic
numbers); the formats' own specifications; Amazon EC2 User Guide, "User provided kernels" (what pv-grub can read).
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from uuid import UUID

SECTOR_SIZES = (512, 4096)
BOOT_CODE = slice(0, 440)
TABLE_OFFSET, ENTRY_BYTES, ENTRIES = 446, 16, 4
SIGNATURE = slice(510, 512)
PROTECTIVE, ESP_IN_MBR = 0xEE, 0xEF
GPT_SIGNATURE = b"EFI PART"
GPT_ENTRY_BYTES, MOST_GPT_ENTRIES, MOST_GPT_ENTRY_BYTES = 128, 1024, 4096
ESP = UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
BIOS_BOOT = UUID("21686148-6449-6e6f-744e-656564454649")
MAGICS = (
    ("ext", 1080, b"\x53\xef"),
    ("xfs", 0, b"XFSB"),
    ("btrfs", 65536 + 64, b"_BHRfS_M"),
    ("squashfs", 0, b"hsqs"),
    ("reiserfs", 65536 + 52, b"ReIsEr"),
    ("jfs", 32768, b"JFS1"),
    ("iso9660", 32769, b"CD001"),
)
WRAPPINGS = (
    ("qcow2", b"QFI\xfb"),
    ("VHD", b"conectix"),
    ("VHDX", b"vhdxfile"),
    ("VMDK", b"KDMV"),
    ("gzip", b"\x1f\x8b\x08"),
    ("xz", b"\xfd7zXZ\0"),
    ("zstd", b"\x28\xb5\x2f\xfd"),
)
"""What images come in, by how such a file begins."""
READABLE_BY_PV_GRUB = {"ext", "xfs", "reiserfs", "jfs"}


@dataclass(frozen=True)
class ImageKind:
    """table: how it is divided. filesystem: of a bare one its kind, "" where none is known.

    wrapping: of an image that is not raw, its format. has_boot_code: something of a boot loader is in its first
    sector. has_esp and has_bios_boot: there is a partition for UEFI's loaders, or for GRUB's core.
    """

    table: Literal["none", "mbr", "gpt"]
    filesystem: str = ""
    partitions: int = 0
    has_boot_code: bool = False
    has_esp: bool = False
    has_bios_boot: bool = False
    wrapping: str = ""

    def __str__(self) -> str:
        if self.wrapping:
            return f"not raw but {self.wrapping}"
        if self.table == "none":
            bare = f"a bare {self.filesystem} filesystem"
            return bare if self.filesystem else "neither a disk nor a filesystem that is known here"
        loaders = {"boot code": self.has_boot_code, "an EFI system partition": self.has_esp}
        there = " and ".join(name for name, is_there in loaders.items() if is_there) or "no boot loader"
        count = f"{self.partitions} partition{'s' * (self.partitions != 1)}"
        return f"a disk with {self.table.upper()}, {count} and {there}"


def describe_image_kind(image: Path) -> ImageKind:
    """Look at the few sectors that say it; raises OSError."""
    with image.open("rb", buffering=0) as stream:
        descriptor = stream.fileno()
        first = os.pread(descriptor, 512, 0).ljust(512, b"\0")
        wrapping = next((name for name, magic in WRAPPINGS if first.startswith(magic)), "")
        if wrapping:
            return ImageKind("none", wrapping=wrapping)
        filesystem = _find_filesystem(descriptor)
        entries = _list_mbr_types(first, os.fstat(descriptor).st_size)
        gpt = _list_gpt_types(descriptor) if PROTECTIVE in entries else None
    has_code = any(first[BOOT_CODE])
    if gpt is not None:
        return ImageKind("gpt", "", len(gpt), has_code, ESP in gpt, BIOS_BOOT in gpt)
    if entries:
        return ImageKind("mbr", "", len(entries), has_code, ESP_IN_MBR in entries)
    return ImageKind("none", filesystem)


def _find_filesystem(descriptor: int) -> str:
    """A filesystem that begins where the image does."""
    return next((name for name, at, magic in MAGICS if os.pread(descriptor, len(magic), at) == magic), "")


def _list_mbr_types(sector: bytes, size: int) -> list[int]:
    """Types of the used entries; none where it only ends like an MBR, as the boot record of a filesystem may."""
    if sector[SIGNATURE] != b"\x55\xaa":
        return []
    types = []
    for number in range(ENTRIES):
        entry = sector[TABLE_OFFSET + number * ENTRY_BYTES :][:ENTRY_BYTES]
        status, kind = entry[0], entry[4]
        start, count = struct.unpack("<II", entry[8:])
        if status not in (0, 0x80) or start * SECTOR_SIZES[0] >= size:
            return []
        if kind and start and count:
            types.append(kind)
    return types


def _list_gpt_types(descriptor: int) -> list[UUID] | None:
    """Types of the used entries of the first table; None where there is none that could be read."""
    for sector_bytes in SECTOR_SIZES:
        header = os.pread(descriptor, 92, sector_bytes)
        if len(header) < 92 or not header.startswith(GPT_SIGNATURE):
            continue
        table, count, size = struct.unpack("<QII", header[72:88])
        is_sound = GPT_ENTRY_BYTES <= size <= MOST_GPT_ENTRY_BYTES and count <= MOST_GPT_ENTRIES and table < 1 << 48
        if not is_sound:
            continue
        data = os.pread(descriptor, count * size, table * sector_bytes)
        types = [data[at : at + 16] for at in range(0, len(data) - 15, size)]
        return [UUID(bytes_le=each) for each in types if any(each)]
    return None


def find_kind_problem(
    kind: ImageKind,
    virtualization: Literal["hvm", "paravirtual"],
    boot_mode: Literal["legacy-bios", "uefi", "uefi-preferred"] | None,
    has_kernel: bool,
) -> str:
    """Why an image of this kind would not boot so, and what to do; "" where nothing speaks against it."""
    if kind.wrapping:
        return (f"the image is {kind}, and a volume takes it byte for byte: unpack it first, or convert it with"
                " `qemu-img convert -O raw`")  # fmt: skip
    if virtualization == "paravirtual":
        return _find_paravirtual_problem(kind, boot_mode, has_kernel)
    if has_kernel:
        return "an HVM image takes no kernel: leave the kernel out, or publish it as paravirtual"
    if kind.table == "none":
        return (f"the image is {kind}, and an HVM instance boots a disk with a boot loader: publish a disk"
                " (`shapes: [disk]` makes one) after a boot loader was installed in it, or publish the filesystem as"
                " paravirtual with pv-grub's kernel")  # fmt: skip
    if boot_mode in ("uefi", "uefi-preferred") and not kind.has_esp:
        return (f"the image is {kind}, and boot mode {boot_mode} needs an EFI system partition: make one, or choose"
                " boot mode legacy-bios")  # fmt: skip
    if boot_mode == "uefi" or kind.has_boot_code:
        return ""
    advice = "install a boot loader in it (grub-install, extlinux)"
    if kind.has_esp:
        advice += ", or choose boot mode uefi"
    return f"the image is {kind}: a BIOS finds nothing to boot in its first sector; {advice}"


def _find_paravirtual_problem(kind: ImageKind, boot_mode: str | None, has_kernel: bool) -> str:
    if boot_mode is not None:
        return f"a paravirtual image has no firmware: leave boot mode {boot_mode} out"
    if not has_kernel:
        return ("a paravirtual image needs a kernel: give pv-grub's id for the region and architecture (aki-...),"
                " hd0 for a bare filesystem and hd00 for a partition")  # fmt: skip
    if kind.table == "none" and not kind.filesystem:
        return f"the image is {kind}, and pv-grub has nothing to read its menu from: publish a root filesystem"
    if kind.table == "none" and kind.filesystem not in READABLE_BY_PV_GRUB:
        return (f"the image is {kind}, and pv-grub reads {', '.join(sorted(READABLE_BY_PV_GRUB))} only: choose one of"
                " these for the root filesystem")  # fmt: skip
    return ""
