"""What a file holds, as one digest, in a time that goes with its data and not with its size."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from xenkiln.errors import BuildError
from xenkiln.system.files import list_extents

BLOCK = 1 << 16
ZEROS = bytes(BLOCK)


def hash_data(path: Path) -> str:
    """SHA-256 in hex of a file's size and of its blocks that are not zero, each with its offset, 8 bytes as the size.

    Holes and zeros that are written give the same. A file is read once as long as it stays what it is. Raises
    BuildError where there is none, or it cannot be read.
    """
    try:
        return _hash_state(path, _read_state(path.stat()))
    except FileNotFoundError as error:
        raise BuildError("there is no such file", place=str(path)) from error
    except OSError as error:
        raise BuildError(f"cannot be read: {error.strerror}", place=str(path)) from error


def _read_state(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


@cache
def _hash_state(path: Path, state: tuple[int, ...]) -> str:
    buffer = memoryview(bytearray(BLOCK))
    with path.open("rb", buffering=0) as stream:
        size = os.fstat(stream.fileno()).st_size
        digest = hashlib.sha256(size.to_bytes(8))
        for offset in _list_blocks(stream.fileno(), size):
            block = buffer[: min(BLOCK, size - offset)]
            if os.preadv(stream.fileno(), [block], offset) == len(block) and not ZEROS.startswith(block):
                digest.update(offset.to_bytes(8))
                digest.update(block)
        if _read_state(os.fstat(stream.fileno())) != state:
            raise BuildError("changed while it was read", place=str(path))
    return digest.hexdigest()


def _list_blocks(descriptor: int, size: int) -> Iterator[int]:
    """Offsets of the blocks that have data, each once: an extent may end and the next begin within one."""
    end = 0
    for start, length in list_extents(descriptor, size):
        begin = max(start - start % BLOCK, end)
        yield from range(begin, start + length, BLOCK)
        end = max(end, start + length + -(start + length) % BLOCK)
