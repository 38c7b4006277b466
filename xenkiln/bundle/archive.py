"""The tar archive inside a bundle: one member, which is the image.

Eucalyptus 1.4 unpacks it with a Java class that takes the raw data of the first member, so that must be a plain one
with a short name; later servers run tar, and a sparse member of the old GNU kind does
(tar's manual, "Basic Tar Format"; bundles of ec2-ami-tools are made so).
"""

from __future__ import annotations

import struct
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from xenkiln.errors import BuildError

BLOCK = 512
RECORD = 20 * BLOCK
MODE = 0o644
LONGEST_NAME = 100
"""Longer ones need a member of their own before the image."""
LARGEST_PLAIN_BYTES = 1 << 33
"""What eleven octal digits hold."""
ENTRIES_IN_HEADER, ENTRIES_IN_EXTENSION = 4, 21
LARGEST_MAP_BYTES = 1 << 24
"""Of a sparse member's headers, which are kept in memory: 700 thousand entries."""
SIZE, CHECKSUM, TYPE, REAL_SIZE = slice(124, 136), slice(148, 156), slice(156, 157), slice(483, 495)
SPARSE_OFFSET, IS_EXTENDED_OFFSET = 386, 482

Extent = tuple[int, int]
"""(offset, length) of data, in bytes."""


@dataclass(frozen=True)
class Layout:
    """An archive around an image of `image_bytes`: what comes before its data, which data, and how much after.

    extents: the image's data, sorted and apart. A plain archive has zeros for what lies between them.
    """

    head: bytes
    image_bytes: int
    extents: tuple[Extent, ...]
    is_sparse: bool

    @property
    def held_bytes(self) -> int:
        """How much of the image is in the archive."""
        return sum(length for _, length in self.extents) if self.is_sparse else self.image_bytes

    @property
    def tail_bytes(self) -> int:
        """Zeros to the end of the data's last block, two blocks of them, and on to a multiple of 10240."""
        end = len(self.head) + self.held_bytes + -self.held_bytes % BLOCK + 2 * BLOCK
        return end + -end % RECORD - len(self.head) - self.held_bytes


def lay_out_plain(name: str, size: int, extents: Sequence[Extent]) -> Layout:
    """Holes are archived as the zeros they stand for; every server reads it."""
    if size >= LARGEST_PLAIN_BYTES:
        raise BuildError(f"an image of {size >> 20} MiB does not fit into a plain tar archive", place=name,
                         next_step="bundle it for a cloud that takes sparse archives")  # fmt: skip
    return Layout(_make_header(name, size), size, tuple(extents), is_sparse=False)


def lay_out_sparse(name: str, size: int, extents: Sequence[Extent]) -> Layout:
    """Only `extents` are archived; a reader makes holes of the rest."""
    entries = list(extents)
    if not entries or sum(entries[-1]) < size:
        entries.append((size, 0))  # where the file ends, as GNU tar says it
    header = bytearray(_make_header(name, 0))
    header[SIZE] = _pack_number(sum(length for _, length in entries))
    header[TYPE] = tarfile.GNUTYPE_SPARSE
    first, rest = entries[:ENTRIES_IN_HEADER], entries[ENTRIES_IN_HEADER:]
    packed = _pack_entries(first)
    header[SPARSE_OFFSET : SPARSE_OFFSET + len(packed)] = packed
    header[IS_EXTENDED_OFFSET] = bool(rest)
    header[REAL_SIZE] = _pack_number(size)
    header[CHECKSUM] = b" " * 8
    header[CHECKSUM] = b"%06o\0 " % sum(header)
    head = bytes(header) + b"".join(_list_extensions(rest))
    if len(head) > LARGEST_MAP_BYTES:
        raise BuildError(f"has {len(entries)} pieces of data with holes between, which are too many", place=name,
                         next_step="copy it without its holes: cp --sparse=never")  # fmt: skip
    return Layout(head, size, tuple(extents), is_sparse=True)


def _make_header(name: str, size: int) -> bytes:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, MODE
    if not name.isascii() or len(name) > LONGEST_NAME or "/" in name or not name:
        raise BuildError(f"a member's name has 1 to {LONGEST_NAME} ASCII characters and no '/'", place=name)
    # mtime, uid and gid are 0, so the same image gives the same bytes.
    return member.tobuf(tarfile.GNU_FORMAT, "ascii")


def _list_extensions(entries: Sequence[Extent]) -> Iterator[bytes]:
    for start in range(0, len(entries), ENTRIES_IN_EXTENSION):
        packed = _pack_entries(entries[start : start + ENTRIES_IN_EXTENSION])
        more = start + ENTRIES_IN_EXTENSION < len(entries)
        yield packed.ljust(ENTRIES_IN_EXTENSION * 24, b"\0") + bytes([more]).ljust(8, b"\0")


def _pack_entries(entries: Sequence[Extent]) -> bytes:
    return b"".join(_pack_number(number) for entry in entries for number in entry)


def _pack_number(number: int) -> bytes:
    """Octal where it fits into eleven digits, else GNU's base 256 with its mark."""
    if number < LARGEST_PLAIN_BYTES:
        return b"%011o\0" % number
    return b"\x80\0\0\0" + struct.pack(">Q", number)
