"""A ramdisk made by a guest's own tool, packed again so that it is the same bytes every time.

Old mkinitrd and dracut know no --reproducible: their archives carry the inode numbers and times of the moment.
"""

from __future__ import annotations

import gzip
import lzma
import re
import stat
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from xenkiln.errors import BuildError
from xenkiln.ramdisks.archive import MAGIC, TRAILER, Entry, pack_archive
from xenkiln.system.execution import Context
from xenkiln.system.files import resolve_in_root
from xenkiln.system.steps import Do

_FIELDS = 13
_HEADER_BYTES = 110  # cpio(5): 6 of magic, 13 fields of 8 hex digits
_HEADER = re.compile(rb"070701([0-9A-Fa-f]{104})")
_LEVEL = 6


def make_repack_step(root: Path, output: str) -> Do:
    """Entries sorted, owned by root, dated with the build's date; gzip, which every kernel unpacks."""

    def repack(context: Context) -> None:
        target = resolve_in_root(root, output)
        target.write_bytes(repack_ramdisk(target.read_bytes(), context.epoch, output))

    return Do("pack the ramdisk again, with fixed times and inode numbers", repack)


def repack_ramdisk(data: bytes, epoch: int, place: str) -> bytes:
    """The same files as one gzipped archive; of two with the same name the later one, as the kernel has it."""
    entries: dict[str, Entry] = {}
    while data := data.lstrip(b"\0"):
        if data.startswith(MAGIC.encode()):
            found, used = _read_archive(data, place)
            entries |= {entry.name: entry for entry in found}
            data = data[used:]
        else:
            data = _unpack(data, place)
    return gzip.compress(pack_archive(entries.values(), epoch), _LEVEL, mtime=0)


def _unpack(data: bytes, place: str) -> bytes:
    try:
        if data[:2] == b"\x1f\x8b":
            return gzip.decompress(data)
        if data[:6] == b"\xfd7zXZ\0":
            return lzma.decompress(data)
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise BuildError(f"the ramdisk cannot be unpacked: {error}", place=place) from error
    raise BuildError(f"the ramdisk is packed in an unknown way (it starts with {data[:4].hex()})", place=place)


def _read_archive(data: bytes, place: str) -> tuple[list[Entry], int]:
    """The entries of one archive, and its length in bytes. Hard links carry their data once, with the last."""
    entries: list[Entry] = []
    inodes: list[tuple[int, ...]] = []
    contents: dict[tuple[int, ...], bytes] = {}
    end = 0
    for inode, entry, position in _walk(data, place):
        end = position
        if entry.name == TRAILER:
            break
        entries.append(entry)
        inodes.append(inode)
        if entry.data:
            contents[inode] = entry.data
    linked = [
        replace(entry, data=contents.get(inode, b"")) if stat.S_ISREG(entry.mode) else entry
        for inode, entry in zip(inodes, entries, strict=True)
    ]
    return linked, end


def _walk(data: bytes, place: str) -> Iterator[tuple[tuple[int, ...], Entry, int]]:
    """Each entry with what identifies its inode, and where the next one starts."""
    position = 0
    while header := _HEADER.match(data, position):
        fields = [int(header[1][8 * n : 8 * n + 8], 16) for n in range(_FIELDS)]
        inode, mode, size, name_size = fields[0], fields[1], fields[6], fields[11]
        name_end = position + _HEADER_BYTES + name_size
        name = data[position + _HEADER_BYTES : name_end - 1].decode(errors="surrogateescape")
        start = _align(name_end)
        position = _align(start + size)
        device = (fields[9], fields[10])
        content = data[start : start + size]
        if len(content) < size:
            break
        yield (inode, fields[7], fields[8]), Entry(name, mode, content, device), position
        if name == TRAILER:
            return
    raise BuildError("the ramdisk's archive is cut short", place=place)


def _align(position: int) -> int:
    return (position + 3) & ~3
