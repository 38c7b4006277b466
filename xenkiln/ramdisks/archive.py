"""cpio archives as the kernel unpacks them (cpio(5), new ASCII format), the same bytes for the same files."""

from __future__ import annotations

import stat
from collections.abc import Iterable
from dataclasses import dataclass

MAGIC = "070701"
TRAILER = "TRAILER!!!"


@dataclass(frozen=True)
class Entry:
    """One file: `mode` with its type as in inode(7); data is a link's target too. Owned by root."""

    name: str
    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)


def make_folder(name: str) -> Entry:
    """A folder that everybody may read."""
    return Entry(name, stat.S_IFDIR | 0o755)


def make_file(name: str, data: bytes, mode: int) -> Entry:
    """A regular file."""
    return Entry(name, stat.S_IFREG | mode, data)


def make_link(name: str, target: str) -> Entry:
    """A symbolic link."""
    return Entry(name, stat.S_IFLNK | 0o777, target.encode())


def make_device(name: str, major: int, minor: int, mode: int) -> Entry:
    """A character device node."""
    return Entry(name, stat.S_IFCHR | mode, device=(major, minor))


def pack_archive(entries: Iterable[Entry], epoch: int) -> bytes:
    """All entries sorted by name, so a folder comes before what is in it; dated `epoch` (seconds)."""
    blocks = [
        _pack_entry(number, entry, epoch)
        for number, entry in enumerate(sorted(entries, key=lambda entry: entry.name), start=1)
    ]
    blocks.append(_pack_entry(0, Entry(TRAILER, 0), 0))
    return b"".join(blocks)


def _pack_entry(inode: int, entry: Entry, epoch: int) -> bytes:
    name = entry.name.encode() + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    fields = (inode, entry.mode, 0, 0, links, epoch, len(entry.data), 0, 0, *entry.device, len(name), 0)
    header = MAGIC + "".join(f"{field:08x}" for field in fields)
    return _pad(header.encode() + name) + _pad(entry.data)


def _pad(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
