"""An image out of its archive: as Java's tar of 1.4 took it, and as tar itself does; sparse again on disk."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Protocol

from xenkiln.errors import CommandError
from xenkiln.lab.cloud.manifest import refuse
from xenkiln.system.pipelines import Pipeline, open_pipeline

CHUNK = 1 << 20
HOLE_BYTES, PAGE_BYTES = 1 << 16, 1 << 12
"""Zeros are looked for in large pieces first: most images are mostly empty."""
ZEROS = bytes(HOLE_BYTES)
BLOCK = 512
GZIP = 31
"""zlib's number for the largest window and a gzip header."""


class Taker(Protocol):
    """What takes an archive bit by bit."""

    def write(self, data: bytes) -> None:
        """The next bytes."""

    def finish(self) -> int:
        """No more comes: the size of the image in bytes. Raises Fault."""


class SparseFile:
    """A file that is written from its start to its end; where zeros come it gets holes."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.size = 0
        self._stream = stream

    def write(self, data: bytes) -> None:
        """The next bytes."""
        for piece in cut_at_multiples(data, self.size, HOLE_BYTES):
            if piece == ZEROS[: len(piece)]:
                self._stream.seek(len(piece), 1)
            else:
                self._write_pages(piece)
            self.size += len(piece)

    def _write_pages(self, piece: bytes) -> None:
        for page in cut_at_multiples(piece, self.size, PAGE_BYTES):
            if page == ZEROS[: len(page)]:
                self._stream.seek(len(page), 1)
            else:
                self._stream.write(page)

    def finish(self) -> int:
        """Holes at the end count as well."""
        self._stream.truncate(self.size)
        return self.size


def cut_at_multiples(data: bytes, offset: int, size: int) -> Iterator[bytes]:
    """Pieces that end where multiples of `size` are in a file; `offset` is where the data begins in it."""
    start = 0
    while start < len(data):
        end = start + size - (offset + start) % size
        yield data[start:end]
        start = end


class JavaArchive:
    """The raw data of the first member, as TarInputStream of Eucalyptus 1.4 copies it.

    It would copy the map of a sparse member as if it were data, and take a pax header for the image: such images only
    break when they boot, so they are refused here.
    """

    def __init__(self, target: SparseFile) -> None:
        self._target, self._head = target, bytearray()
        self._left: int | None = None

    def write(self, data: bytes) -> None:
        """The next bytes of the archive."""
        if self._left is None:
            self._head += data
            if len(self._head) < BLOCK:
                return
            self._left = read_header(bytes(self._head[:BLOCK]))
            data = bytes(self._head[BLOCK:])
        self._target.write(data[: self._left])
        self._left -= min(self._left, len(data))

    def finish(self) -> int:
        """The member must have been whole."""
        if self._left != 0:
            raise refuse("the archive ends within its first member")
        return self._target.finish()


def read_header(block: bytes) -> int:
    """The size of a plain member in bytes; raises Fault for any other kind."""
    try:
        size, told = int(block[124:136].strip(b" \0") or b"0", 8), int(block[148:156].strip(b" \0") or b"x", 8)
    except ValueError:
        raise refuse("the archive does not begin with a header of tar") from None
    if told != sum(block) - sum(block[148:156]) + 8 * ord(" "):
        raise refuse("the checksum of the archive's first header is wrong")
    kind = block[156:157]
    if kind not in (b"0", b"\0"):
        shown = ascii(kind.decode("latin-1"))
        raise refuse(f"the archive's first member is of type {shown}, and this release knows plain files alone")
    return size


class GnuArchive:
    """What `tar -xO` makes of the archive."""

    def __init__(self, pipeline: Pipeline, target: SparseFile) -> None:
        self._pipeline, self._target = pipeline, target
        self._thread = threading.Thread(target=self._copy, name="tar")
        self._failure: BaseException | None = None
        self._thread.start()

    def _copy(self) -> None:
        try:
            while data := self._pipeline.output.read(CHUNK):
                self._target.write(data)
        except BaseException as error:  # noqa: BLE001  # raised by finish
            self._failure = error

    def write(self, data: bytes) -> None:
        """The next bytes of the archive; tar may have seen its end before."""
        with suppress(BrokenPipeError):
            self._pipeline.input.write(data)

    def finish(self) -> int:
        """tar must have been content."""
        self.close()
        if self._failure is not None:
            raise self._failure
        try:
            self._pipeline.finish()
        except CommandError as error:
            raise refuse(f"tar does not take the archive: {'; '.join(error.last_lines)}") from None
        return self._target.finish()

    def close(self) -> None:
        """Nobody may be left waiting."""
        with suppress(BrokenPipeError):
            self._pipeline.input.close()
        self._thread.join()


@contextmanager
def open_archive(target: Path, *, as_java: bool) -> Iterator[Taker]:
    """Something that takes an archive and leaves its image in a new file."""
    with target.open("xb", buffering=CHUNK) as stream:
        sparse = SparseFile(stream)
        if as_java:
            yield JavaArchive(sparse)
            return
        with open_pipeline(["tar", "-xO"]) as pipeline:
            taker = GnuArchive(pipeline, sparse)
            try:
                yield taker
            finally:
                taker.close()


def gunzip_once(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The first member of a gzip stream, as Java's GZIPInputStream takes it; raises Fault where there are more."""
    stream = zlib.decompressobj(GZIP)
    for piece in pieces:
        rest = piece
        while rest and not stream.eof:
            try:
                yield stream.decompress(rest, CHUNK)
            except zlib.error as error:
                raise refuse(f"what the parts hold is no gzip stream: {error}") from None
            rest = stream.unconsumed_tail
        if stream.eof and (stream.unused_data or rest):
            raise refuse("something follows the first member of the gzip stream")
    if not stream.eof:
        raise refuse("the gzip stream has no end")


def read_pieces(stream: IO[bytes]) -> Iterator[bytes]:
    """All of a stream."""
    while data := stream.read(CHUNK):
        yield data

