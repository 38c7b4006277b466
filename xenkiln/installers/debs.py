"""Unpacking .deb files ahead of dpkg, on all cores: dpkg itself decompresses one at a time, and some twice."""

from __future__ import annotations

import hashlib
import lzma
import os
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, Protocol

from xenkiln.errors import BuildError

MAGIC = b"!<arch>\n"  # deb(5): a .deb is an ar archive of debian-binary, control.tar.* and data.tar.*
HEADER_BYTES = 60  # name 16, date 12, owner 6, group 6, mode 8, size 10, end 2
CHUNK = 1 << 20
DATA = "data.tar"


class Decompressor(Protocol):
    """What lzma and zlib both offer."""

    def decompress(self, data: bytes, /) -> bytes:
        """The next plain bytes."""


DECOMPRESSORS: dict[str, Callable[[], Decompressor]] = {
    f"{DATA}.xz": lzma.LZMADecompressor,
    f"{DATA}.lzma": lzma.LZMADecompressor,
    f"{DATA}.gz": lambda: zlib.decompressobj(16 + zlib.MAX_WBITS),
}
"""A member that is packed in another way (zstd) stays as it is; dpkg unpacks it."""


def unpack_files(files: Sequence[Path], targets: Sequence[Path], digests: Sequence[str]) -> list[Path]:
    """Write each .deb with a plain data.tar; returns the files whose SHA-256 is not the expected one.

    Both modules release Python's lock while they work, so threads use all cores.
    """
    # The largest first, so that no core is left with a long one at the end.
    rows = sorted(zip(files, targets, digests, strict=True), key=lambda row: -row[0].stat().st_size)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(pool.map(unpack_file, [row[0] for row in rows], [row[1] for row in rows]))
    return [path for (path, _, expected), digest in zip(rows, found, strict=True) if digest != expected]


def unpack_file(source: Path, target: Path) -> str:
    """Write one .deb with a plain data.tar, and return the SHA-256 of the packed one."""
    digest = hashlib.sha256()
    with source.open("rb") as reader, target.open("wb") as writer:
        _read(reader, len(MAGIC), digest)
        writer.write(MAGIC)
        while header := _read(reader, HEADER_BYTES, digest):
            try:
                _copy_member(header, reader, writer, digest)
            except (ValueError, EOFError, lzma.LZMAError, zlib.error):
                break  # damaged: the checksum of the whole file says so
        while _read(reader, CHUNK, digest):
            pass
    return digest.hexdigest()


def _copy_member(header: bytes, reader: BinaryIO, writer: BinaryIO, digest: hashlib._Hash) -> None:
    name = header[:16].decode("ascii").rstrip().rstrip("/")
    size = int(header[48:58])
    start = writer.tell()
    writer.write(header)
    make = DECOMPRESSORS.get(name)
    unpack = make().decompress if make else bytes
    left = size
    while left:
        data = _read(reader, min(CHUNK, left), digest)
        if not data:
            raise EOFError(name)
        left -= len(data)
        writer.write(unpack(data))
    if make:
        _rewrite_header(writer, start, header)
    _read(reader, size % 2, digest)
    if writer.tell() % 2:
        writer.write(b"\n")


def _rewrite_header(writer: BinaryIO, start: int, header: bytes) -> None:
    end = writer.tell()
    length = str(end - start - HEADER_BYTES)
    writer.seek(start)
    writer.write(DATA.ljust(16).encode() + header[16:48] + length.ljust(10).encode() + header[58:])
    writer.seek(end)


def _read(reader: BinaryIO, count: int, digest: hashlib._Hash) -> bytes:
    data = reader.read(count)
    digest.update(data)
    return data


def damaged_error(names: Sequence[str], cache: Path) -> BuildError:
    """What is said of files in the cache that are not what they were."""
    return BuildError(f"the package cache held something else under the names of {', '.join(names)}; it is removed",
                      place=str(cache), next_step="run it again to fetch them anew")  # fmt: skip
