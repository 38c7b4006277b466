"""From an image to the parts of a bundle in one pass: tar, SHA-1 of it, gzip, AES-128-CBC, parts of 10 MiB.

Three threads over libraries that release Python's lock: one reads and hashes the archive, one compresses, and the
caller's encrypts and hands out parts. The queues between them are short, so the memory taken does not depend on the
image. All that is made depends on the archive's bytes and the secret alone.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from xenkiln.bundle.archive import Layout
from xenkiln.bundle.chunks import is_zeros, read_archive
from xenkiln.bundle.compression import compress
from xenkiln.bundle.relay import run_ahead

PART_BYTES = 10 << 20
KEY_BYTES = 16
CIPHER_BLOCK_BYTES = 16
PLAIN_AHEAD, PACKED_AHEAD = 16, 32
"""Chunks that wait for the compressor and for the cipher: as much as is made while a part is written to a disk."""


@dataclass(frozen=True)
class Secret:
    """The key and the iv of one bundle, 16 bytes each."""

    key: bytes
    iv: bytes


@dataclass(frozen=True)
class Part:
    """A finished part: its number, counted from 0, size in bytes and digests in hex; `md5` may have been left out."""

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
    """Where finished parts go; called in order, in the thread that called make_parts."""

    def __call__(self, part: Part, data: memoryview, /) -> None:
        """Take a part; the memory of `data` is used again after the call."""


def make_secret() -> Secret:
    """A key and an iv that nobody can guess."""
    return Secret(secrets.token_bytes(KEY_BYTES), secrets.token_bytes(KEY_BYTES))


def make_parts(
    image: Path,
    layout: Layout,
    secret: Secret,
    sink: Sink,
    *,
    with_md5: bool = True,
    note: Callable[[int], None] = lambda _: None,
) -> Content:
    """Bundle an image and give each part to `sink`; an error anywhere ends all, and no part is cut short.

    with_md5: servers check an upload by it; it is in no manifest, and a tenth of all the work. note: is given the bytes
    of each piece of data as it is read, in a thread of its own; zeros do not count.
    """
    digest = hashlib.sha1(usedforsecurity=False)
    cutter = PartCutter(secret, sink, ("sha1", "md5") if with_md5 else ("sha1",))
    with (
        run_ahead(_hash(read_archive(image, layout, PLAIN_AHEAD), digest, note), PLAIN_AHEAD) as chunks,
        run_ahead(compress(chunks), PACKED_AHEAD) as packed,
    ):
        for data in packed:
            cutter.add(data)
        cutter.finish()
    return Content(layout.image_bytes, digest.hexdigest(), tuple(cutter.parts))


def _hash(
    chunks: Iterable[memoryview], digest: hashlib._Hash, note: Callable[[int], None]
) -> Generator[memoryview]:
    for chunk in chunks:
        yield chunk
        digest.update(chunk)
        if not is_zeros(chunk):
            note(len(chunk))


class PartCutter:
    """Encrypts what it is given into parts, and takes these digests of them, SHA-1 first."""

    def __init__(self, secret: Secret, sink: Sink, digests: Sequence[str]) -> None:
        self.parts: list[Part] = []
        self._sink = sink
        self._encryptor = Cipher(algorithms.AES(secret.key), modes.CBC(secret.iv)).encryptor()
        self._buffer = memoryview(bytearray(PART_BYTES + CIPHER_BLOCK_BYTES))  # update_into asks for a block more
        self._new_digests = [partial(hashlib.new, name, usedforsecurity=False) for name in digests]
        self._digests = [new() for new in self._new_digests]
        self._taken = self._filled = 0

    def add(self, data: bytes) -> None:
        """Take the next bytes; the cipher itself keeps what is no whole block yet."""
        left = memoryview(data)
        while left:
            piece = left[: PART_BYTES - self._taken]
            end = self._filled + self._encryptor.update_into(piece, self._buffer[self._filled :])
            for digest in self._digests:
                digest.update(self._buffer[self._filled : end])
            self._filled = end
            self._taken += len(piece)
            left = left[len(piece) :]
            if self._taken == PART_BYTES:
                self._finish_part()

    def finish(self) -> None:
        """Pad as PKCS#7 does, and end the last part, which is not an empty one."""
        count = CIPHER_BLOCK_BYTES - self._taken % CIPHER_BLOCK_BYTES
        self.add(bytes([count]) * count)
        if self._taken:
            self._finish_part()

    def _finish_part(self) -> None:
        sha1, md5 = [*(digest.hexdigest() for digest in self._digests), ""][:2]
        part = Part(len(self.parts), self._filled, sha1, md5)
        self._sink(part, self._buffer[: self._filled])
        self.parts.append(part)
        self._digests = [new() for new in self._new_digests]
        self._taken = self._filled = 0
