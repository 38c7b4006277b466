"""From the parts of a bundle back to the image: every digest checked, holes made again.

Three threads: one reads parts, checks and decrypts them, one decompresses, and the caller's hashes the archive and
writes the image.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import cast

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7
from isal import isal_zlib

from xenkiln.bundle.extraction import CHUNK, ArchiveStream, take_image
from xenkiln.bundle.manifest import Manifest
from xenkiln.bundle.parts import CIPHER_BLOCK_BYTES, PART_BYTES, Secret
from xenkiln.bundle.relay import run_ahead
from xenkiln.errors import BuildError
from xenkiln.system.files import sync_folder

GzipError = cast("type[Exception]", isal_zlib.error)  # its stub takes it for an instance
PACKED_CHUNK = 1 << 18
"""Small, because what of it is not yet decompressed is copied each time that a chunk comes out."""
AHEAD = 8
GZIP_WINDOW = 31
"""zlib's own number for the largest window with a gzip header."""
LARGEST_PART_BYTES = 1 << 30
"""Everybody writes 10 MiB; a part is read whole, so that nothing of a damaged one is used."""


def unbundle(manifest: Manifest, folder: Path, secret: Secret, target: Path) -> None:
    """Write the image to `target`, sparse, whole or not at all; what is there already, or comes meanwhile, stays.

    Raises BuildError naming the part that is missing or damaged, or what else does not fit the manifest.
    """
    with (
        run_ahead(_decrypt(_read_parts(manifest, folder), secret, folder), AHEAD) as packed,
        run_ahead(_decompress(packed, folder), AHEAD) as chunks,
        tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", suffix=".partial") as image,
    ):
        try:
            _write_image(manifest, chunks, folder, image.fileno())
        except OSError as error:
            error.filename = error.filename or str(target)  # a descriptor has no name to tell
            raise
        try:
            os.link(image.name, target)
        except FileExistsError as error:
            raise BuildError("is there already", place=str(target), next_step="give another name") from error
    sync_folder(target.parent)


def _write_image(manifest: Manifest, chunks: Iterator[bytes], folder: Path, image: int) -> None:
    """To the end of the archive, whose digest is of everything, and on to the disk."""
    stream = ArchiveStream(chunks)
    take_image(stream, manifest.size, image, str(folder))
    stream.drain()
    if stream.sha1 != manifest.sha1:
        raise BuildError(f"the archive's SHA-1 is {stream.sha1}, the manifest says {manifest.sha1}", place=str(folder))
    os.fchmod(image, 0o666 & ~_read_umask())
    os.fsync(image)


def _read_umask() -> int:
    umask = os.umask(0o077)
    os.umask(umask)
    return umask


def _read_parts(manifest: Manifest, folder: Path) -> Generator[memoryview]:
    """Each part whole, when its digest is right; its memory is used again for the next one."""
    total = 0
    buffer = memoryview(bytearray(PART_BYTES))
    for number, (name, sha1) in enumerate(manifest.parts):
        path = folder / name
        place = f"{path} (part {number} of {len(manifest.parts)})"
        if not path.is_file():
            raise BuildError("there is no such part", place=place, next_step="fetch the bundle again")
        if (size := path.stat().st_size) > LARGEST_PART_BYTES:
            raise BuildError(f"a part of {size} bytes is none", place=place)
        if size > len(buffer):
            buffer = memoryview(bytearray(size))
        with path.open("rb") as stream:
            data = buffer[: stream.readinto(buffer[:size])]
        if hashlib.sha1(data, usedforsecurity=False).hexdigest() != sha1:
            raise BuildError("is damaged: its SHA-1 is not the one in the manifest", place=place,
                             next_step="fetch this part again")  # fmt: skip
        total += len(data)
        yield data
    if total != manifest.bundled_size:
        raise BuildError(f"the parts are {total} bytes, the manifest says {manifest.bundled_size}", place=str(folder))


def _decrypt(parts: Iterable[memoryview], secret: Secret, folder: Path) -> Generator[bytes]:
    """All but the padding. It may be in the last part alone or in two, and an empty part may follow."""
    decryptor = Cipher(algorithms.AES(secret.key), modes.CBC(secret.iv)).decryptor()
    unpadder = PKCS7(CIPHER_BLOCK_BYTES * 8).unpadder()
    held = b""
    try:
        for data in parts:
            head = max(0, len(data) - CIPHER_BLOCK_BYTES)
            if data:
                yield decryptor.update(held)
                held = bytes(data[head:])
            for start in range(0, head, PACKED_CHUNK):
                yield decryptor.update(data[start : min(start + PACKED_CHUNK, head)])
        yield unpadder.update(decryptor.update(held) + decryptor.finalize()) + unpadder.finalize()
    except ValueError as error:
        raise BuildError("the parts do not end as AES-128-CBC does: they are not all there, or the key is not theirs",
                         place=str(folder)) from error  # fmt: skip


def _decompress(chunks: Iterable[bytes], folder: Path) -> Generator[bytes]:
    stream = isal_zlib.decompressobj(GZIP_WINDOW)
    try:
        for chunk in chunks:
            left = chunk
            while left:
                yield stream.decompress(left, CHUNK)
                left = stream.unconsumed_tail
            if stream.unused_data:
                raise BuildError("there is something behind the gzip stream of the bundle", place=str(folder))
    except GzipError as error:
        raise BuildError(f"what the key opens is no gzip stream: {error}", place=str(folder),
                         next_step="is it this bundle's key?") from error  # fmt: skip
    if not stream.eof:
        raise BuildError("the gzip stream of the bundle ends too early", place=str(folder))
