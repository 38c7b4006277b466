"""An image as the blocks of an EBS snapshot: 512 KiB each, those without data left out, the last filled with zeros.

(Amazon EBS User Guide, "Concepts for EBS direct APIs".)
"""

from __future__ import annotations

import hashlib
import os
from base64 import b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from xenkiln.errors import BuildError
from xenkiln.system.files import list_extents

BLOCK_BYTES = 512 << 10
GIB = 1 << 30
LARGEST_GIB = 65536
ZEROS = bytes(BLOCK_BYTES)


@dataclass(frozen=True)
class Content:
    """What a snapshot of an image of `size` bytes holds: block index -> SHA-256 of its bytes, in order."""

    size: int
    blocks: Mapping[int, bytes]

    @property
    def volume_gib(self) -> int:
        """The smallest volume for it."""
        return -(-self.size // GIB)

    @property
    def checksum(self) -> str:
        """The service's "linear" one: base64 of SHA-256 over the blocks' raw digests in the order of their indexes."""
        return encode_digest(hashlib.sha256(b"".join(self.blocks.values())).digest())


def encode_digest(digest: bytes) -> str:
    """A digest as the API has it."""
    return b64encode(digest).decode()


def hash_block(data: bytes) -> bytes:
    """The digest by which a block is known, raw."""
    return hashlib.sha256(data).digest()


def read_content(image: Path) -> Content:
    """Read an image's data once, holes not at all; BuildError for one that no volume can hold."""
    with image.open("rb", buffering=0) as stream:
        size = os.fstat(stream.fileno()).st_size
        if not size:
            raise BuildError("the image has not a single byte", place=str(image), next_step="build it again")
        if size > LARGEST_GIB * GIB:
            raise BuildError(f"{size} bytes are more than the largest volume, {LARGEST_GIB} GiB", place=str(image),
                             next_step="make the image smaller")  # fmt: skip
        blocks = {}
        for index in _list_indexes(stream.fileno(), size):
            data = read_block(stream.fileno(), index, size, image)
            if data != ZEROS:
                blocks[index] = hash_block(data)
    return Content(size, blocks)


def _list_indexes(descriptor: int, size: int) -> Iterator[int]:
    """Blocks that lie in the data of a sparse file, wholly or in part."""
    following = 0
    for start, length in list_extents(descriptor, size):
        end = (start + length - 1) // BLOCK_BYTES + 1
        yield from range(max(following, start // BLOCK_BYTES), end)
        following = end


def read_block(descriptor: int, index: int, size: int, image: Path) -> bytes:
    """One block, filled up with zeros behind the image's end."""
    start = index * BLOCK_BYTES
    wanted = min(BLOCK_BYTES, size - start)
    data = os.pread(descriptor, wanted, start)
    if len(data) != wanted:
        raise BuildError("the image shrank while it was read", place=str(image),
                         next_step="let nothing write to it, and run it again")  # fmt: skip
    return data.ljust(BLOCK_BYTES, b"\0")
