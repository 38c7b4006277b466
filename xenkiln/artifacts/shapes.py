"""Other shapes of a root filesystem: a partitioned disk, and that disk as qcow2 and VHD."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO
from uuid import UUID

from xenkiln.artifacts.ext import derive_uuid
from xenkiln.errors import BuildError
from xenkiln.system.execution import Context
from xenkiln.system.files import partial_path
from xenkiln.system.steps import Do, Run, Step, Write

SECTOR_BYTES = 512
FIRST_SECTOR = 2048
"""Partitions start at 1 MiB, as every partitioning tool of the last decade has it."""
PARTITION_LINUX = 0x83
BOOTABLE = 0x80
HEADS, SECTORS_PER_TRACK, MAX_CYLINDER = 255, 63, 1023
SECTORS_PER_MIB = (1 << 20) // SECTOR_BYTES
MAX_SECTORS = 0xFFFFFFFF  # MBR addresses have 32 bits: 2 TiB

VHD_EPOCH = 946684800  # 2000-01-01, where the format's seconds start
VHD_FOOTER_BYTES = 512
VHD_COOKIE = b"conectix"

SHAPE_FILES = {"disk": "disk.img", "qcow2": "disk.qcow2", "vhd": "disk.vhd"}
QEMU_OPTIONS = {
    "qcow2": ("-O", "qcow2", "-o", "compat=1.1,cluster_size=65536,lazy_refcounts=off"),
    # force_size: the disk has the size that was asked for, not the next one that CHS numbers can say.
    "vhd": ("-O", "vpc", "-o", "subformat=dynamic,force_size=on"),
}


def make_shape_steps(name: str, shapes: tuple[str, ...], size_mib: int, root: Path, folder: Path,
                     scratch: Path) -> list[Step]:  # fmt: skip
    """The partial files of `shapes` in `folder`, from the filesystem in the file `root`.

    A disk that is only wanted as qcow2 or VHD grows in `scratch` and is removed again.
    """
    if not shapes:
        return []
    keep = "disk" in shapes
    disk = partial_path((folder if keep else scratch) / SHAPE_FILES["disk"])
    sector = make_boot_sector(name, size_mib)
    steps: list[Step] = [
        Write(disk, sector),
        Run("put the filesystem into the partition", ("dd", f"if={root}", f"of={disk}", "bs=64K",
            f"seek={FIRST_SECTOR * SECTOR_BYTES >> 16}", "iflag=fullblock", "conv=sparse,notrunc", "status=none")),
    ]  # fmt: skip
    for shape, options in QEMU_OPTIONS.items():
        if shape in shapes:
            target = partial_path(folder / SHAPE_FILES[shape])
            argv = ("qemu-img", "convert", "-f", "raw", *options, disk, target)
            steps.append(Run(f"make {SHAPE_FILES[shape]}", argv))
    if "vhd" in shapes:
        vhd = partial_path(folder / SHAPE_FILES["vhd"])
        steps.append(Do("give disk.vhd its own id and date", lambda context: pin_vhd(vhd, name, context)))
    if not keep:
        steps.append(Run("remove the raw disk", ("rm", "-f", "--", disk)))
    return steps


def make_boot_sector(name: str, size_mib: int) -> bytes:
    """A partition table with one bootable Linux partition of that size; no boot code.

    The disk's id comes from the recipe's name. Raises BuildError beyond the 2 TiB that the format can say.
    """
    sectors = size_mib * SECTORS_PER_MIB
    if FIRST_SECTOR + sectors > MAX_SECTORS:
        raise BuildError("a partitioned disk cannot be larger than 2 TiB", place=name,
                         next_step="make disks.root.size_mib smaller, or leave out shapes")  # fmt: skip
    disk_id = int.from_bytes(derive_uuid(name, "disk").bytes[:4], "little")
    entry = struct.pack("<B3sB3sII", BOOTABLE, encode_chs(FIRST_SECTOR), PARTITION_LINUX,
                        encode_chs(FIRST_SECTOR + sectors - 1), FIRST_SECTOR, sectors)  # fmt: skip
    return struct.pack("<440xI2x16s48xH", disk_id, entry, 0xAA55)


def encode_chs(sector: int) -> bytes:
    """A sector in the old way, cylinder, head and sector of 255 heads; the highest one where it does not fit."""
    cylinder, rest = divmod(sector, HEADS * SECTORS_PER_TRACK)
    head, track_sector = divmod(rest, SECTORS_PER_TRACK)
    if cylinder > MAX_CYLINDER:
        cylinder, head, track_sector = MAX_CYLINDER, HEADS - 1, SECTORS_PER_TRACK - 1
    return bytes((head, track_sector + 1 | cylinder >> 2 & 0xC0, cylinder & 0xFF))


def pin_vhd(path: Path, name: str, context: Context) -> None:
    """Replace the moment and the random id that qemu-img wrote into the footer and its copy at the start."""
    unique_id = derive_uuid(name, "disk", "vhd")
    with path.open("rb+") as stream:
        size = stream.seek(0, 2)
        for offset in (0, size - VHD_FOOTER_BYTES):
            _pin_footer(stream, offset, unique_id, context.epoch)


def _pin_footer(stream: BinaryIO, offset: int, unique_id: UUID, epoch: int) -> None:
    """Offsets from Microsoft's Virtual Hard Disk Image Format Specification 1.0, "Hard Disk Footer Format"."""
    stream.seek(offset)
    data = bytearray(stream.read(VHD_FOOTER_BYTES))
    if data[:8] != VHD_COOKIE:
        raise BuildError(f"no VHD footer at byte {offset}", place=stream.name)
    struct.pack_into(">I", data, 24, max(0, epoch - VHD_EPOCH))
    data[68:84] = unique_id.bytes
    data[64:68] = bytes(4)
    struct.pack_into(">I", data, 64, ~sum(data) & 0xFFFFFFFF)
    stream.seek(offset)
    stream.write(data)
