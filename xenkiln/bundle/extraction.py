"""The image inside an archive, taken out with its holes."""

from __future__ import annotations

import hashlib
import os
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO, cast

from xenkiln.bundle.archive import LARGEST_MAP_BYTES, TYPE, Extent
from xenkiln.errors import BuildError

CHUNK = 1 << 20
HOLE_BYTES = 4096
ZEROS = bytes(CHUNK)
PLAIN_KINDS = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.GNUTYPE_SPARSE)


class ArchiveStream:
    """An archive that goes by once; takes the SHA-1 of all of it. `read` and `tell` are for tarfile."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = memoryview(b"")
        self._position = 0
        self._digest = hashlib.sha1(usedforsecurity=False)

    def take(self, count: int) -> Iterator[memoryview]:
        """The next bytes in pieces as they come, none larger than CHUNK; fewer bytes only where the archive ends."""
        while count and (self._rest or self._fill()):
            piece = self._rest[: min(count, CHUNK)]
            self._rest = self._rest[len(piece) :]
            self._position += len(piece)
            count -= len(piece)
            yield piece

    def _fill(self) -> bool:
        while not self._rest and (chunk := next(self._chunks, None)) is not None:
            self._digest.update(chunk)
            self._rest = memoryview(chunk)
        return bool(self._rest)

    def peek(self, count: int) -> bytes:
        """The next bytes, which come again."""
        data = b"".join(self.take(count))
        self._rest = memoryview(data + self._rest)
        self._position -= len(data)
        return data

    def read(self, count: int) -> bytes:
        """The next bytes of a header, which may not have very many."""
        if self._position > LARGEST_MAP_BYTES:
            raise tarfile.ReadError("its header does not end")
        return b"".join(self.take(count))

    def tell(self) -> int:
        """How many bytes were taken."""
        return self._position

    def drain(self) -> None:
        """Read to the end: the digest is of everything."""
        while self._fill():
            self._rest = self._rest[:0]

    @property
    def sha1(self) -> str:
        """Of what has come so far, in hex."""
        return self._digest.hexdigest()


def take_image(stream: ArchiveStream, size: int, image: int, place: str) -> None:
    """Write the archive's first member, of `size` bytes, to the empty file `image`; BuildError if it is no such."""
    # Before tarfile sees it: a long name or a header of other kinds may ask for any amount of memory.
    if (kind := stream.peek(tarfile.BLOCKSIZE)[TYPE]) not in PLAIN_KINDS:
        raise BuildError(f"the archive in the bundle begins with a member of type {kind!r}, and not with a file",
                         place=place)  # fmt: skip
    try:
        # It reads the headers, and what follows comes from the stream itself.
        member = tarfile.TarFile(fileobj=cast(BinaryIO, stream)).next()
    except (tarfile.TarError, IndexError, ValueError) as error:
        raise BuildError(f"what the bundle holds is no tar archive: {error}", place=place) from error
    if member is None or member.size != size:
        raise BuildError(f"the archive holds {member.size if member else 0} bytes, the manifest says {size}",
                         place=place)  # fmt: skip
    extents = [(0, size)]
    if member.sparse is not None:
        # tarfile takes the unused fields of a header for entries without a length; its stub has another field's name.
        extents = [extent for extent in cast("Sequence[Extent]", member.sparse) if extent[1]]
    end = 0
    os.truncate(image, size)
    for start, length in extents:
        if start < end or length < 0 or start + length > size:
            raise BuildError("the archive's map of its data is wrong", place=place)
        end = start + length
        if write_sparse(stream.take(length), image, start) != end:
            raise BuildError("the archive ends too early", place=place)


def write_sparse(pieces: Iterable[memoryview], image: int, position: int) -> int:
    """Write pieces one behind the other, except whole blocks of zeros; returns where they end."""
    for piece in pieces:
        for start, end in _find_data(piece, position):
            left = piece[start:end]
            while left:
                left = left[os.pwrite(image, left, position + end - len(left)) :]
        position += len(piece)
    return position


def _find_data(piece: memoryview, position: int) -> Iterator[tuple[int, int]]:
    """(start, end) of what is not zero in a piece for `position` of a file, by that file's blocks."""
    if ZEROS.startswith(piece):
        return
    begin = end = 0
    while end < len(piece):
        start, end = end, min(end + HOLE_BYTES - (position + end) % HOLE_BYTES, len(piece))
        if ZEROS.startswith(piece[start:end]):
            if begin < start:
                yield begin, start
            begin = end
    if begin < end:
        yield begin, end
