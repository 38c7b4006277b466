"""Looking into a ramdisk: a guest that could not find its disk fails here and not at boot."""

from __future__ import annotations

import lzma
import re
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Protocol

from xenkiln.errors import BuildError, CommandError
from xenkiln.system.execution import Context
from xenkiln.system.files import resolve_in_root

MAGIC_NEWC = (b"070701", b"070702")
HEADER_BYTES = 110  # cpio(5), new ASCII format: 6 magic and 13 fields of 8 hex digits
FIELD_SIZE, FIELD_NAMESIZE = 6, 11
TRAILER = "TRAILER!!!"
MAX_PLAIN_BYTES = 512 << 20
MAX_PARTS = 100
"""Far more than any ramdisk; a few kilobytes can unpack to as much as the host has."""
STANDS_IN = {"ext2": "ext4", "ext3": "ext4"}
"""Since Linux 4.3 ext4's driver also reads ext2 and ext3, and theirs are gone."""


def inspect_ramdisk(path: Path, wanted: Sequence[str], root: Path, context: Context) -> str:
    """Check that every wanted module is in the ramdisk or built into the kernel; their names in words.

    Raises BuildError naming what is missing.
    """
    names = list(list_names(path, context))
    modules = {_plain(PurePosixPath(name).name) for name in names if ".ko" in name}
    builtin = read_builtin(root, context.values["kernel_version"])
    present = modules | builtin
    missing = [name for name in dict.fromkeys(wanted)
               if _plain(name) not in present and STANDS_IN.get(name) not in present]  # fmt: skip
    if missing:
        raise BuildError(
            f"the ramdisk lacks {', '.join(missing)}: the guest would not find its disk or its network",
            place=path.name.removesuffix(".partial"),
            next_step="add it to ramdisk.modules; if the kernel does not have it, take another kernel",
        )
    if not any(name.strip("./") in ("init", "linuxrc") for name in names):
        raise BuildError("the ramdisk has no /init", place=path.name.removesuffix(".partial"))
    return ", ".join(dict.fromkeys(wanted))


def read_builtin(root: Path, version: str) -> set[str]:
    """The names of modules that are part of the kernel itself, from its modules.builtin."""
    path = resolve_in_root(root, f"/lib/modules/{version}/modules.builtin")
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
    return {_plain(PurePosixPath(line).name) for line in lines}


def _plain(name: str) -> str:
    """Module names treat '-' and '_' alike; the file's ending says only how it is packed."""
    return name.split(".ko")[0].replace("-", "_")


def list_names(path: Path, context: Context) -> Iterator[str]:
    """Every name in a ramdisk, which is one or more cpio archives, each packed or not."""
    data, room, parts = path.read_bytes(), MAX_PLAIN_BYTES, 0
    while data := data.lstrip(b"\0"):
        if data[:6] in MAGIC_NEWC:
            names, used = _read_archive(data)
            yield from names
            data = data[used:]
        else:
            plain, rest = _unpack(data, room, path, context)
            room -= len(plain)
            data = plain + rest
        parts += 1
        if parts > MAX_PARTS:
            raise BuildError(f"the ramdisk is made of more than {MAX_PARTS} archives", place=path.name)


def _read_archive(data: bytes) -> tuple[list[str], int]:
    names: list[str] = []
    position = 0
    while data[position : position + 6] in MAGIC_NEWC:
        fields = _read_fields(data[position + 6 : position + HEADER_BYTES])
        if fields is None:
            break
        name_end = position + HEADER_BYTES + fields[FIELD_NAMESIZE]
        name = data[position + HEADER_BYTES : name_end - 1].decode(errors="replace")
        position = _align(_align(name_end) + fields[FIELD_SIZE])
        if name == TRAILER:
            return names, position
        names.append(name)
    raise BuildError("the ramdisk's cpio archive is cut short", place=names[-1] if names else "its start")


def _read_fields(header: bytes) -> list[int] | None:
    """The 13 numbers of a header; None when it is cut short or is none."""
    if not re.fullmatch(rb"[0-9A-Fa-f]{104}", header):
        return None
    return [int(header[start : start + 8], 16) for start in range(0, 104, 8)]


def _align(position: int) -> int:
    return (position + 3) & ~3


def _unpack(data: bytes, room: int, path: Path, context: Context) -> tuple[bytes, bytes]:
    """The first packed part in plain, `room` bytes at most, and what follows it."""
    try:
        if data[:2] == b"\x1f\x8b":
            return _finish(zlib.decompressobj(wbits=31), data, room, path)
        if data[:6] == b"\xfd7zXZ\0" or data[:3] == b"\x5d\0\0":
            return _finish(lzma.LZMADecompressor(memlimit=MAX_PLAIN_BYTES), data, room, path)
        if data[:4] == b"\x28\xb5\x2f\xfd":
            return _unpack_zstd(data, room, path, context), b""
    except (EOFError, MemoryError, lzma.LZMAError, zlib.error, CommandError) as error:
        raise BuildError(f"the ramdisk cannot be unpacked: {error}", place=path.name) from error
    raise BuildError(f"the ramdisk is packed in an unknown way (it starts with {data[:4].hex()})", place=path.name)


class Unpacker(Protocol):
    """What zlib's and lzma's decompressors have in common."""

    @property
    def eof(self) -> bool:
        """Whether the end of the packed part was seen."""

    @property
    def unused_data(self) -> bytes:
        """What follows it."""

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        """The data in plain, up to max_length bytes."""


def _finish(unpacker: Unpacker, data: bytes, room: int, path: Path) -> tuple[bytes, bytes]:
    plain = unpacker.decompress(data, room + 1)
    if len(plain) > room:
        raise BuildError(f"the ramdisk unpacks to more than {MAX_PLAIN_BYTES >> 20} MiB", place=path.name)
    if not unpacker.eof:
        raise BuildError("the ramdisk cannot be unpacked: it is cut short", place=path.name)
    return plain, unpacker.unused_data


def _unpack_zstd(data: bytes, room: int, path: Path, context: Context) -> bytes:
    packed, plain = path.with_suffix(".zst"), path.with_suffix(".cpio")
    try:
        packed.write_bytes(data)
        context.run(["prlimit", f"--fsize={room}", "zstd", "-q", "-d", "-f", packed, "-o", plain])
        return plain.read_bytes()
    finally:
        packed.unlink(missing_ok=True)
        plain.unlink(missing_ok=True)
