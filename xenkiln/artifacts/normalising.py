"""The pass after mke2fs: no time, counter or number in an image that was not there by intent.

mke2fs up to 1.47.0 copies ctime and atime from the source tree, later ones clamp some of them; after
this pass the version no longer shows. The inodes are written by debugfs, which keeps their checksums.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISDIR
from typing import BinaryIO

from xenkiln.artifacts.layout import (
    MAGIC,
    SUPERBLOCK_BYTES,
    Geometry,
    list_inodes,
    list_superblocks,
    read_geometry,
)
from xenkiln.errors import BuildError
from xenkiln.system.execution import Context

GOOD_OLD_INODE_BYTES = 128
RO_COMPAT_METADATA_CSUM = 0x400
KBYTES_WRITTEN_OFFSET = 0x178
CHECKSUM_OFFSET = 0x3FC
CRC32C_POLYNOMIAL = 0x82F63B78  # RFC 3720, B.4, bits reversed


@dataclass(frozen=True)
class InodeTimes:
    """The fields of an inode that are not its content; seconds are signed, as ext4 reads them."""

    mode: int
    atime: int
    ctime: int
    mtime: int
    generation: int
    ctime_extra: int = 0
    mtime_extra: int = 0
    atime_extra: int = 0
    crtime: int | None = None
    crtime_extra: int = 0


def read_times(data: bytes) -> InodeTimes:
    """The times of one inode; those that its size leaves no room for are 0, crtime None."""
    mode, atime, ctime, mtime = struct.unpack_from("<H6xiii", data)
    generation = struct.unpack_from("<I", data, 100)[0]
    if len(data) == GOOD_OLD_INODE_BYTES:
        return InodeTimes(mode, atime, ctime, mtime, generation)
    extra_size, ctime_extra, mtime_extra, atime_extra, crtime, crtime_extra = struct.unpack_from(
        "<H2xIIIiI", data, GOOD_OLD_INODE_BYTES
    )
    if extra_size < 24:  # the six fields just read, and the extra size itself
        return InodeTimes(mode, atime, ctime, mtime, generation)
    return InodeTimes(mode, atime, ctime, mtime, generation,
                      ctime_extra, mtime_extra, atime_extra, crtime, crtime_extra)  # fmt: skip


def list_corrections(times: InodeTimes, epoch: int) -> Iterator[tuple[str, str]]:
    """(field, value) as debugfs takes them, for each field that is not what it must be.

    An mtime is clamped to `epoch`; a folder's is set to it, because whether a step left a file in it
    for a moment must not show. The others are when the image was made, so they are `epoch`. What looks
    older than 1970 is clamped too: mke2fs up to 1.47.0 drops the bits that count on after 2038.
    """
    in_range = 0 <= times.mtime <= epoch and not times.mtime_extra & 3
    wanted = times.mtime if in_range and not S_ISDIR(times.mode) else epoch
    if times.mtime != wanted:
        yield "mtime", f"@{wanted}"
    for field in ("atime", "ctime", "crtime"):
        if getattr(times, field) not in (epoch, None):
            yield field, f"@{epoch}"
    for field in ("atime_extra", "ctime_extra", "mtime_extra", "crtime_extra", "generation"):
        if getattr(times, field):
            yield field, "0"


def list_commands(stream: BinaryIO, geometry: Geometry, epoch: int) -> list[str]:
    """The lines for `debugfs -f` that correct every inode."""
    lines = []
    for number, data in list_inodes(stream, geometry):
        times = read_times(data)
        if times.mode:  # the reserved inodes that nothing uses are all zeros
            lines += [f"sif <{number}> {field} {value}" for field, value in list_corrections(times, epoch)]
    return lines


def normalise_volume(path: Path, context: Context) -> None:
    """Make the image at `path` the same whenever and wherever it was made; raises BuildError if it cannot be."""
    with path.open("rb") as stream:
        geometry = read_geometry(stream)
        commands = list_commands(stream, geometry, context.epoch)
    if commands:
        context.runner.note(f"# {len(commands)} fields to set")
        context.runner.read(["debugfs", "-w", "-f", "-", str(path)], input_text="\n".join(commands) + "\n")
    with path.open("rb+") as stream:
        # debugfs ends with 0 whatever its commands came to.
        if left := list_commands(stream, geometry, context.epoch):
            raise BuildError(f"debugfs did not set {len(left)} fields, the first by: {left[0]}", place=str(path),
                             next_step="the log says why; e2fsprogs 1.47 or newer is needed")  # fmt: skip
        for offset in list_superblocks(geometry):
            clear_counter(stream, offset, geometry)


def clear_counter(stream: BinaryIO, offset: int, geometry: Geometry) -> None:
    """Forget how much was written to the filesystem so far: it depends on what the host's files can do."""
    stream.seek(offset)
    data = bytearray(stream.read(SUPERBLOCK_BYTES))
    if struct.unpack_from("<H", data, 0x38)[0] != MAGIC:
        raise BuildError(f"no superblock at byte {offset}", place=stream.name)
    struct.pack_into("<Q", data, KBYTES_WRITTEN_OFFSET, 0)
    if geometry.ro_compat & RO_COMPAT_METADATA_CSUM:
        struct.pack_into("<I", data, CHECKSUM_OFFSET, compute_crc32c(data[:CHECKSUM_OFFSET]))
    stream.seek(offset)
    stream.write(data)


def compute_crc32c(data: bytes | bytearray) -> int:
    """CRC-32C as ext4 stores it: started with all ones and not inverted at the end."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (CRC32C_POLYNOMIAL if value & 1 else 0)
    return value
