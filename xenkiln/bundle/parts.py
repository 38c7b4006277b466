"""From an image to the parts of a bundle in one pass: tar, SHA-1 of it, gzip, AES-128-CBC, parts of 10 MiB.

Three threads over libraries that release Python's lock: one reads and hashes the archive, one compresses, one
encrypts and hands out parts. The queues between them are short, so the memory taken does not depend on the image.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from typing import Protocol

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7
from isal import isal_zlib

from xenkiln.bundle.archive import Layout
from xenkiln.errors import BuildError
from xenkiln.system.interrupts import uninterrupted

PART_BYTES = 10 << 20
KEY_BYTES = 16
CIPHER_BLOCK_BYTES = 16
CHUNK = 1 << 20
QUEUE_CHUNKS = 4
GZIP_LEVEL = 2
"""Of ISA-L's 0 to 3; beyond it twice the time for 2 % less."""
GZIP_WINDOW = 31
"""zlib's own number for the largest window with a gzip header. One member, as Java of 2009 needs it."""
ZEROS = memoryview(bytes(CHUNK))

Chunk = bytes | memoryview


@dataclass(frozen=True)
class Secret:
    """The key and the iv of one bundle, 16 bytes each."""

    key: bytes
    iv: bytes


@dataclass(frozen=True)
class Part:
    """A finished part: its number, counted from 0, size in bytes and digests in hex."""

    number: int
    size: int
    sha1: str
    md5: str


@dataclass(frozen=True)
class Content:
    """What a manifest says of an image: its size in bytes, the SHA-1 of its archive in hex, and the parts."""

    size: int
    sha1: str
    parts: tuple[Part, ...]

    @property
    def bundled_size(self) -> int:
        """Bytes of all parts."""
        return sum(part.size for part in self.parts)


class Sink(Protocol):
    """Where finished parts go; called in order, by one thread."""

    def __call__(self, part: Part, data: memoryview, /) -> None:
        """Take a part; the memory of `data` is used again after the call."""


def make_secret() -> Secret:
    """A key and an iv that nobody can guess."""
    return Secret(secrets.token_bytes(KEY_BYTES), secrets.token_bytes(KEY_BYTES))


def make_parts(image: Path, layout: Layout, secret: Secret, sink: Sink) -> Content:
    """Bundle an image and give each part to `sink`; an error in any thread ends all, and no part is cut short."""
    plain: Queue[Chunk | None] = Queue(QUEUE_CHUNKS)
    packed: Queue[Chunk | None] = Queue(QUEUE_CHUNKS)
    stop = threading.Event()
    cutter = PartCutter(secret, sink)
    digest = hashlib.sha1(usedforsecurity=False)
    with ThreadPoolExecutor(2) as pool:
        try:
            workers = [pool.submit(_relay, plain, _make_compressor(), packed.put, stop),
                       pool.submit(_relay, packed, cutter.add, _drop, stop)]  # fmt: skip
            for chunk in read_archive(image, layout):
                if stop.is_set():
                    break
                plain.put(chunk)
                digest.update(chunk)
            plain.put(None)
            for worker in workers:
                worker.result()
        except BaseException:
            # Nobody may be left waiting, whatever comes meanwhile; what waits for us takes all, and does nothing.
            stop.set()
            with uninterrupted():
                plain.put(None)
            raise
    return Content(layout.image_bytes, digest.hexdigest(), tuple(cutter.parts))


def _relay(
    source: Queue[Chunk | None],
    work: Callable[[Chunk | None], Iterable[Chunk]],
    put: Callable[[Chunk | None], None],
    stop: threading.Event,
) -> None:
    """Pass on what `work` makes of each chunk, and of None at the end; after an error only take, so nobody waits."""
    failure: BaseException | None = None
    while True:
        chunk = source.get()
        if not stop.is_set():
            try:
                for made in work(chunk):
                    put(made)
            except BaseException as error:  # noqa: BLE001  # raised below
                failure = error
                stop.set()
        if chunk is None:
            break
    put(None)
    if failure is not None:
        raise failure


def _drop(_: Chunk | None) -> None:
    """Nobody is behind the last thread."""


def _make_compressor() -> Callable[[Chunk | None], Iterable[Chunk]]:
    stream = isal_zlib.compressobj(GZIP_LEVEL, isal_zlib.DEFLATED, GZIP_WINDOW)

    def compress(chunk: Chunk | None) -> Iterable[Chunk]:
        yield stream.flush() if chunk is None else stream.compress(chunk)

    return compress


class PartCutter:
    """Encrypts what it is given into parts; None ends the last one."""

    def __init__(self, secret: Secret, sink: Sink) -> None:
        self.parts: list[Part] = []
        self._sink = sink
        self._padder = PKCS7(CIPHER_BLOCK_BYTES * 8).padder()
        self._encryptor = Cipher(algorithms.AES(secret.key), modes.CBC(secret.iv)).encryptor()
        self._buffer = memoryview(bytearray(PART_BYTES + CIPHER_BLOCK_BYTES))  # update_into asks for a block more
        self._filled = 0

    def add(self, chunk: Chunk | None) -> Iterable[Chunk]:
        """Take the next bytes of the archive; makes nothing for anybody else."""
        padded = memoryview(self._padder.finalize() if chunk is None else self._padder.update(bytes(chunk)))
        while padded:
            room = PART_BYTES - self._filled
            self._filled += self._encryptor.update_into(padded[:room], self._buffer[self._filled :])
            padded = padded[room:]
            if self._filled == PART_BYTES:
                self._finish_part()
        if chunk is None and self._filled:
            self._finish_part()
        return ()

    def _finish_part(self) -> None:
        data = self._buffer[: self._filled]
        sha1, md5 = (hashlib.new(name, data, usedforsecurity=False).hexdigest() for name in ("sha1", "md5"))
        part = Part(len(self.parts), self._filled, sha1, md5)
        self._sink(part, data)
        self.parts.append(part)
        self._filled = 0


def read_archive(image: Path, layout: Layout) -> Iterator[Chunk]:
    """The archive's bytes; holes of the image are not read."""
    with image.open("rb", buffering=0) as stream:
        yield layout.head
        end = 0
        for start, length in layout.extents:
            yield from _make_zeros(0 if layout.is_sparse else start - end)
            end = start + length
            for position in range(start, end, CHUNK):
                size = min(CHUNK, end - position)
                data = os.pread(stream.fileno(), size, position)
                if len(data) != size:
                    raise BuildError("the file shrank while it was read", place=str(image))
                yield data
        yield from _make_zeros(0 if layout.is_sparse else layout.image_bytes - end)
        yield from _make_zeros(layout.tail_bytes)


def _make_zeros(count: int) -> Iterator[memoryview]:
    for left in range(count, 0, -CHUNK):
        yield ZEROS[: min(CHUNK, left)]
