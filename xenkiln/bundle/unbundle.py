"""From the parts of a bundle back to the image: every digest checked, holes made again."""

from __future__ import annotations

import hashlib
import os
import tarfile
import tempfile
import threading
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from queue import Empty, Queue
from typing import IO, BinaryIO, cast

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7
from isal import isal_zlib

from xenkiln.bundle.archive import TYPE, Extent
from xenkiln.bundle.manifest import Manifest
from xenkiln.bundle.parts import CIPHER_BLOCK_BYTES, GZIP_WINDOW, Secret
from xenkiln.errors import BuildError
from xenkiln.system.files import sync_folder

GzipError = cast("type[Exception]", isal_zlib.error)  # its stub takes it for an instance
CHUNK = 1 << 20
QUEUE_CHUNKS = 4
HOLE_BYTES = 4096
PLAIN_KINDS = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.GNUTYPE_SPARSE)
ZEROS = bytes(HOLE_BYTES)
LARGEST_PART_BYTES = 1 << 30
"""Everybody writes 10 MiB; a part is read whole, so that nothing of a damaged one is used."""


def unbundle(manifest: Manifest, folder: Path, secret: Secret, target: Path) -> None:
    """Write the image to `target`, sparse, whole or not at all; what is there already, or comes meanwhile, stays.

    Raises BuildError naming the part that is missing or damaged, or what else does not fit the manifest.
    """
    with (
        closing(_ahead(_decompress(_decrypt(_read_parts(manifest, folder), secret, folder), folder))) as chunks,
        tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", suffix=".partial") as image,
    ):
        stream = ArchiveStream(chunks)
        _take_image(manifest, stream, folder, image)
        stream.drain()
        if stream.sha1 != manifest.sha1:
            raise BuildError(f"the archive's SHA-1 is {stream.sha1}, the manifest says {manifest.sha1}",
                             place=str(folder))  # fmt: skip
        os.fchmod(image.fileno(), 0o666 & ~_read_umask())
        os.fsync(image.fileno())
        try:
            os.link(image.name, target)
        except FileExistsError as error:
            raise BuildError("is there already", place=str(target), next_step="give another name") from error
    sync_folder(target.parent)


def _read_umask() -> int:
    umask = os.umask(0o077)
    os.umask(umask)
    return umask


def _take_image(manifest: Manifest, stream: ArchiveStream, folder: Path, image: IO[bytes]) -> None:
    # Before tarfile sees it: a long name or a header of other kinds may ask for any amount of memory.
    if (kind := stream.peek(tarfile.BLOCKSIZE)[TYPE]) not in PLAIN_KINDS:
        raise BuildError(f"the archive in the bundle begins with a member of type {kind!r}, and not with a file",
                         place=str(folder))  # fmt: skip
    try:
        with tarfile.open(fileobj=cast(BinaryIO, stream), mode="r|", bufsize=CHUNK) as archive:
            member = archive.next()
            if member is None or member.size != manifest.size:
                raise BuildError(f"the archive holds {member.size if member else 0} bytes, the manifest says"
                                 f" {manifest.size}", place=str(folder))  # fmt: skip
            if member.sparse is not None:
                extents = cast("Sequence[Extent]", member.sparse)  # its stub has the name of another field
                _write_extents(archive, extents, member.size, image, folder)
            elif (content := archive.extractfile(member)) is not None:
                write_sparse(iter(lambda: content.read(CHUNK), b""), image)
            image.truncate(member.size)
    except (tarfile.TarError, IndexError, ValueError) as error:
        raise BuildError(f"what the bundle holds is no tar archive: {error}", place=str(folder)) from error


def _write_extents(
    archive: tarfile.TarFile, extents: Sequence[Extent], size: int, image: IO[bytes], folder: Path
) -> None:
    """Only what a sparse member holds; its map must be one that tar takes too."""
    end = 0
    # tarfile takes the unused fields of a header for entries without a length.
    for start, length in [extent for extent in extents if extent[1]]:
        if start < end or length < 0 or start + length > size:
            raise BuildError("the archive's map of its data is wrong", place=str(folder))
        end = start + length
        image.seek(start)
        for position in range(start, end, CHUNK):
            wanted = min(CHUNK, end - position)
            data = cast(BinaryIO, archive.fileobj).read(wanted)
            if len(data) != wanted:
                raise BuildError("the archive ends too early", place=str(folder))
            image.write(data)


def write_sparse(chunks: Iterable[bytes], image: IO[bytes]) -> None:
    """Write chunks one after the other, with holes for whole blocks of zeros; the last hole is the caller's to make."""
    for chunk in chunks:
        begin = 0
        for start in range(0, len(chunk), HOLE_BYTES):
            block = chunk[start : start + HOLE_BYTES]
            if block == ZEROS[: len(block)]:
                image.write(chunk[begin:start])
                image.seek(len(block), 1)
                begin = start + len(block)
        image.write(chunk[begin:])


class ArchiveStream:
    """What tarfile reads from; takes the SHA-1 of all that goes through."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""
        self._digest = hashlib.sha1(usedforsecurity=False)

    def read(self, count: int) -> bytes:
        """So many bytes, less only at the end."""
        taken = [self._rest]
        have = len(self._rest)
        while have < count and (chunk := next(self._chunks, b"")):
            self._digest.update(chunk)
            taken.append(chunk)
            have += len(chunk)
        data = b"".join(taken) if len(taken) > 1 else self._rest
        self._rest = data[count:]
        return data[:count]

    def peek(self, count: int) -> bytes:
        """The next bytes, which are read again by `read`."""
        data = self.read(count)
        self._rest = data + self._rest
        return data

    def drain(self) -> None:
        """Read to the end: the digest is of everything."""
        for chunk in self._chunks:
            self._digest.update(chunk)

    @property
    def sha1(self) -> str:
        """Of what has been read so far, in hex."""
        return self._digest.hexdigest()


def _read_parts(manifest: Manifest, folder: Path) -> Iterator[bytes]:
    """Each part whole, when its digest is right."""
    total = 0
    for number, (name, sha1) in enumerate(manifest.parts):
        path = folder / name
        place = f"{path} (part {number} of {len(manifest.parts)})"
        try:
            if path.stat().st_size > LARGEST_PART_BYTES:
                raise BuildError(f"a part of {path.stat().st_size} bytes is none", place=place)
            data = path.read_bytes()
        except FileNotFoundError as error:
            raise BuildError("there is no such part", place=place, next_step="fetch the bundle again") from error
        if hashlib.sha1(data, usedforsecurity=False).hexdigest() != sha1:
            raise BuildError("is damaged: its SHA-1 is not the one in the manifest", place=place,
                             next_step="fetch this part again")  # fmt: skip
        total += len(data)
        yield data
    if total != manifest.bundled_size:
        raise BuildError(f"the parts are {total} bytes, the manifest says {manifest.bundled_size}", place=str(folder))


def _decrypt(parts: Iterator[bytes], secret: Secret, folder: Path) -> Iterator[bytes]:
    decryptor = Cipher(algorithms.AES(secret.key), modes.CBC(secret.iv)).decryptor()
    padder = PKCS7(CIPHER_BLOCK_BYTES * 8).unpadder()
    try:
        for data in parts:
            yield padder.update(decryptor.update(data))
        decryptor.finalize()
        yield padder.finalize()
    except ValueError as error:
        raise BuildError("the parts do not end as AES-128-CBC does: they are not all there, or the key is not theirs",
                         place=str(folder)) from error  # fmt: skip


def _decompress(chunks: Iterator[bytes], folder: Path) -> Iterator[bytes]:
    stream = isal_zlib.decompressobj(GZIP_WINDOW)
    try:
        for chunk in chunks:
            while chunk:
                yield stream.decompress(chunk, CHUNK)
                chunk = stream.unconsumed_tail
            if stream.unused_data:
                raise BuildError("there is something behind the gzip stream of the bundle", place=str(folder))
    except GzipError as error:
        raise BuildError(f"what the key opens is no gzip stream: {error}", place=str(folder),
                         next_step="is it this bundle's key?") from error  # fmt: skip
    if not stream.eof:
        raise BuildError("the gzip stream of the bundle ends too early", place=str(folder))


def _ahead(chunks: Iterator[bytes]) -> Generator[bytes]:
    """The same chunks, made in a thread of their own, a few ahead; ends that thread when it is closed."""
    made: Queue[bytes | BaseException | None] = Queue(QUEUE_CHUNKS)
    over = threading.Event()

    def work() -> None:
        end: BaseException | None = None
        try:
            for chunk in chunks:
                made.put(chunk)
                if over.is_set():
                    return
        except BaseException as error:  # noqa: BLE001  # raised in the reader's thread
            end = error
        made.put(end)

    thread = threading.Thread(target=work, name="unpack")
    thread.start()
    try:
        while (item := made.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            if item:
                yield item
    finally:
        over.set()
        while thread.is_alive():
            with suppress(Empty):
                made.get(timeout=0.01)
        thread.join()
