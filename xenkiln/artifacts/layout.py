"""Reading an ext2, ext3 or ext4 image without mounting it: where its superblocks and inodes lie.

Offsets are those of Linux's Documentation/filesystems/ext4/ (super, group_descr, inodes).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from xenkiln.errors import BuildError

SUPERBLOCK_OFFSET = 1024
SUPERBLOCK_BYTES = 1024
MAGIC = 0xEF53
INCOMPAT_META_BG = 0x10
INCOMPAT_64BIT = 0x80
RO_COMPAT_SPARSE_SUPER = 0x1
GROUP_INODE_UNINIT = 0x1


@dataclass(frozen=True)
class Geometry:
    """The numbers of a superblock that say where everything lies; sizes in bytes."""

    blocks: int
    block_size: int
    first_block: int
    blocks_per_group: int
    inodes_per_group: int
    inode_size: int
    descriptor_size: int
    incompat: int
    ro_compat: int

    @property
    def groups(self) -> int:
        """How many block groups there are."""
        return -(-(self.blocks - self.first_block) // self.blocks_per_group)


def read_geometry(stream: BinaryIO) -> Geometry:
    """The layout of the filesystem in `stream`; raises BuildError for anything else."""
    stream.seek(SUPERBLOCK_OFFSET)
    data = stream.read(SUPERBLOCK_BYTES)
    if len(data) < SUPERBLOCK_BYTES or struct.unpack_from("<H", data, 0x38)[0] != MAGIC:
        raise BuildError("not an ext2, ext3 or ext4 filesystem", place=stream.name)
    low, first, log_size = struct.unpack_from("<I12xII", data, 0x4)
    blocks_per_group, inodes_per_group = struct.unpack_from("<I4xI", data, 0x20)
    incompat, ro_compat = struct.unpack_from("<II", data, 0x60)
    if incompat & INCOMPAT_META_BG:
        raise BuildError("the feature meta_bg is not known here", place=stream.name)
    wide = bool(incompat & INCOMPAT_64BIT)
    return Geometry(
        blocks=low + (struct.unpack_from("<I", data, 0x150)[0] << 32 if wide else 0),
        block_size=1024 << log_size,
        first_block=first,
        blocks_per_group=blocks_per_group,
        inodes_per_group=inodes_per_group,
        inode_size=struct.unpack_from("<H", data, 0x58)[0],
        descriptor_size=struct.unpack_from("<H", data, 0xFE)[0] if wide else 32,
        incompat=incompat,
        ro_compat=ro_compat,
    )


def list_superblocks(geometry: Geometry) -> Iterator[int]:
    """The offset in bytes of each copy of the superblock, the first one first."""
    yield SUPERBLOCK_OFFSET
    for group in range(1, geometry.groups):
        if not geometry.ro_compat & RO_COMPAT_SPARSE_SUPER or _is_power(group):
            yield (geometry.first_block + group * geometry.blocks_per_group) * geometry.block_size


def _is_power(group: int) -> bool:
    """Whether sparse_super keeps a copy in this group: 1 and the powers of 3, 5 and 7."""
    return group == 1 or any(group in (base**n for n in range(1, 32)) for base in (3, 5, 7))


def list_inodes(stream: BinaryIO, geometry: Geometry) -> Iterator[tuple[int, bytes]]:
    """(number, bytes) of each inode that is in use, in order."""
    descriptors_at = (geometry.first_block + 1) * geometry.block_size
    for group in range(geometry.groups):
        stream.seek(descriptors_at + group * geometry.descriptor_size)
        descriptor = stream.read(geometry.descriptor_size)
        if struct.unpack_from("<H", descriptor, 0x12)[0] & GROUP_INODE_UNINIT:
            continue
        bitmap = _read_block_number(descriptor, 0x4, 0x24)
        stream.seek(bitmap * geometry.block_size)
        bits = f"{int.from_bytes(stream.read(geometry.inodes_per_group // 8), 'little'):b}"[::-1]
        stream.seek(_read_block_number(descriptor, 0x8, 0x28) * geometry.block_size)
        table = stream.read(len(bits) * geometry.inode_size)
        for index, bit in enumerate(bits):
            if bit == "1":
                start = index * geometry.inode_size
                yield group * geometry.inodes_per_group + index + 1, table[start : start + geometry.inode_size]


def _read_block_number(descriptor: bytes, low: int, high: int) -> int:
    number: int = struct.unpack_from("<I", descriptor, low)[0]
    if len(descriptor) > high:
        number += struct.unpack_from("<I", descriptor, high)[0] << 32
    return number
