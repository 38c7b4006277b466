"""Files that are finished or absent, sparse copies, checksums, and paths inside a guest's root."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from xenkiln.errors import BuildError

CHUNK = 1 << 20
MAX_LINKS = 40  # the kernel's own limit


def partial_path(path: Path) -> Path:
    """Where a file grows until it is finished."""
    return path.with_name(path.name + ".partial")


def finish_file(path: Path) -> None:
    """Give a partial file its name, durably: synced, renamed, the folder synced."""
    with partial_path(path).open("rb") as stream:
        os.fsync(stream.fileno())
    partial_path(path).rename(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_finished(path: Path, content: str | bytes, mode: int = 0o644) -> None:
    """Write a small file whole or not at all."""
    data = content.encode() if isinstance(content, str) else content
    path.parent.mkdir(parents=True, exist_ok=True)
    with open_partial(path, mode) as stream:
        stream.write(data)
    partial_path(path).chmod(mode)
    finish_file(path)


def open_partial(path: Path, mode: int = 0o644) -> BinaryIO:
    """Begin a file's partial one anew; what lies there, a link perhaps, is removed and never written through."""
    partial = partial_path(path)
    partial.unlink(missing_ok=True)
    return os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "wb")


def list_extents(descriptor: int, size: int) -> Iterator[tuple[int, int]]:
    """The data of a sparse file as (offset, length) pairs; a filesystem that keeps no holes gives one."""
    offset = 0
    while offset < size:
        try:
            start = os.lseek(descriptor, offset, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            raise
        end = min(os.lseek(descriptor, start, os.SEEK_HOLE), size)
        yield start, end - start
        offset = end


def copy_sparse(source: Path, target: Path) -> None:
    """Copy data and leave the holes; within one filesystem the kernel copies or shares the blocks itself."""
    with source.open("rb") as reader, target.open("wb") as writer:
        size = os.fstat(reader.fileno()).st_size
        writer.truncate(size)
        for start, length in list_extents(reader.fileno(), size):
            _copy_range(reader.fileno(), writer.fileno(), start, length)


def _copy_range(reader: int, writer: int, start: int, length: int) -> None:
    end = start + length
    while start < end:
        try:
            copied = os.copy_file_range(reader, writer, end - start, start, start)
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
                raise
            copied = os.pwrite(writer, os.pread(reader, min(CHUNK, end - start), start), start)
        if not copied:
            raise BuildError("the file shrank while it was copied", place=f"descriptor {reader}")
        start += copied


def hash_file(path: Path) -> str:
    """SHA-256 in hex; holes are hashed as the zeros they stand for, without being read."""
    digest = hashlib.sha256()
    zeros = bytes(CHUNK)
    position = 0
    with path.open("rb", buffering=0) as stream:
        size = os.fstat(stream.fileno()).st_size
        for start, length in [*list_extents(stream.fileno(), size), (size, 0)]:
            while position < start:
                step = min(CHUNK, start - position)
                digest.update(memoryview(zeros)[:step])
                position += step
            while position < start + length:
                data = os.pread(stream.fileno(), min(CHUNK, start + length - position), position)
                if not data:
                    raise BuildError("the file shrank while it was read", place=str(path))
                digest.update(data)
                position += len(data)
    return digest.hexdigest()


def allocated_bytes(path: Path) -> int:
    """What a file really takes on disk, in bytes."""
    return path.stat().st_blocks * 512  # st_blocks counts 512-byte units whatever the filesystem


def resolve_in_root(root: Path, guest_path: str) -> Path:
    """Where a guest's path lies on the host, its symlinks followed as the guest itself would.

    An absolute link starts again at `root` and '..' stops there, so no link in the tree can lead out
    of it. The last component may be missing. Raises BuildError on a loop of links.
    """
    todo = [part for part in reversed(guest_path.split("/")) if part not in ("", ".")]
    current, links = root, 0
    while todo:
        part = todo.pop()
        if part == "..":
            current = current if current == root else current.parent
            continue
        candidate = current / part
        if candidate.is_symlink():
            links += 1
            if links > MAX_LINKS:
                raise BuildError("too many symbolic links", place=guest_path)
            target = str(candidate.readlink())
            current = root if target.startswith("/") else current
            todo.extend(part for part in reversed(target.split("/")) if part not in ("", "."))
        else:
            current = candidate
    return current


def remove_path(path: Path) -> None:
    """Remove a file, link or tree; a missing one is fine."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def fixed_umask() -> Iterator[None]:
    """The same modes whoever calls."""
    before = os.umask(0o022)
    try:
        yield
    finally:
        os.umask(before)
