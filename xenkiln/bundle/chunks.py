"""An image's archive in chunks of one size, wherever the image keeps holes.

Where a chunk begins and which are zeros depends on the archive's bytes alone. What the compressor makes of them does
then too: ISA-L's output differs with the pieces that it is given.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Iterator
from itertools import cycle, groupby
from pathlib import Path

from xenkiln.bundle.archive import Layout
from xenkiln.errors import BuildError

CHUNK = 1 << 18
"""Small enough to stay in a processor's cache on its way from thread to thread."""
ZEROS = bytes(CHUNK)

Piece = tuple[int, int, int]
"""(offset in the archive's data, offset in the image, length) of data within one chunk."""


def is_zeros(chunk: memoryview) -> bool:
    """Whether there are only zeros in a chunk that read_archive made."""
    return chunk.obj is ZEROS


def read_archive(image: Path, layout: Layout, depth: int) -> Generator[memoryview]:
    """The archive's bytes; holes of the image are not read.

    A chunk's memory is used again when `depth` + 1 others have been made after it. Raises BuildError where the image
    is not, or does not stay, what was laid out.
    """
    buffers = cycle([memoryview(bytearray(CHUNK)) for _ in range(depth + 2)])
    with image.open("rb", buffering=0) as stream:
        before = os.fstat(stream.fileno())
        if before.st_size != layout.image_bytes:
            raise BuildError(f"has {before.st_size} bytes, and had {layout.image_bytes} before", place=str(image))
        yield memoryview(layout.head)
        end = 0
        for number, pieces in groupby(_cut_extents(layout), lambda piece: piece[0] // CHUNK):
            begin = number * CHUNK
            yield from _make_zeros(begin - end)
            end = min(begin + CHUNK, layout.held_bytes)
            chunk = next(buffers)[: end - begin]
            try:
                _read_pieces(stream.fileno(), pieces, begin, chunk)
            except OSError as error:
                raise BuildError(f"cannot be read: {error.strerror}", place=str(image)) from error
            yield memoryview(ZEROS)[: len(chunk)] if ZEROS.startswith(chunk) else chunk
        yield from _make_zeros(layout.held_bytes - end)
        yield from _make_zeros(layout.tail_bytes)
        after = os.fstat(stream.fileno())
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise BuildError("changed while it was read", place=str(image))


def _make_zeros(count: int) -> Iterator[memoryview]:
    for left in range(count, 0, -CHUNK):
        yield memoryview(ZEROS)[: min(CHUNK, left)]


def _cut_extents(layout: Layout) -> Iterator[Piece]:
    held = 0
    for start, length in layout.extents:
        begin = held if layout.is_sparse else start
        done = 0
        while done < length:
            step = min(length - done, CHUNK - (begin + done) % CHUNK)
            yield begin + done, start + done, step
            done += step
        held += length


def _read_pieces(descriptor: int, pieces: Iterable[Piece], begin: int, chunk: memoryview) -> None:
    """Fill the chunk at offset `begin` of the archive's data; there are zeros between the pieces."""
    zeros = memoryview(ZEROS)
    done = 0
    for position, start, length in pieces:
        at = position - begin
        chunk[done:at] = zeros[: at - done]
        done = at + length
        if os.preadv(descriptor, [chunk[at:done]], start) != length:
            return  # it shrank, and read_archive will say so
    chunk[done:] = zeros[: len(chunk) - done]
