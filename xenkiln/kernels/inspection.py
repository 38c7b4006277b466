"""Looking into a ramdisk: a guest that could not find its disk fails here and not at boot."""

from __future__ import annotations

import gzip
import lzma
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from xenkiln.errors import BuildError
from xenkiln.system.execution import Context
from xenkiln.system.files import resolve_in_root

MAGIC_NEWC = (b"070701", b"070702")
HEADER_BYTES = 110  # cpio(5), new ASCII format: 6 magic and 13 fields of 8 hex digits
FIELD_SIZE, FIELD_NAMESIZE = 6, 11
TRAILER = "TRAILER!!!"
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
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return {_plain(PurePosixPath(line).name) for line in lines}


def _plain(name: str) -> str:
    """Module names treat '-' and '_' alike; the file's ending says only how it is packed."""
    return name.split(".ko")[0].replace("-", "_")


def list_names(path: Path, context: Context) -> Iterator[str]:
    """Every name in a ramdisk, which is one or more cpio archives, each packed or not."""
    data = path.read_bytes()
    while data := data.lstrip(b"\0"):
        if data[:6] in MAGIC_NEWC:
            names, used = _read_archive(data)
            yield from names
            data = data[used:]
        else:
            data = _unpack(data, path, context)


def _read_archive(data: bytes) -> tuple[list[str], int]:
    names: list[str] = []
    position = 0
    while data[position : position + 6] in MAGIC_NEWC:
        fields = [int(data[position + 6 + 8 * i : position + 14 + 8 * i], 16) for i in range(13)]
        name_end = position + HEADER_BYTES + fields[FIELD_NAMESIZE]
        name = data[position + HEADER_BYTES : name_end - 1].decode(errors="replace")
        position = _align(_align(name_end) + fields[FIELD_SIZE])
        if name == TRAILER:
            return names, position
        names.append(name)
    raise BuildError("the ramdisk's cpio archive is cut short", place=names[-1] if names else "its start")


def _align(position: int) -> int:
    return (position + 3) & ~3


def _unpack(data: bytes, path: Path, context: Context) -> bytes:
    try:
        if data[:2] == b"\x1f\x8b":
            return gzip.decompress(data)
        if data[:6] == b"\xfd7zXZ\0" or data[:3] == b"\x5d\0\0":
            return lzma.decompress(data)
        if data[:4] == b"\x28\xb5\x2f\xfd":
            return _unpack_zstd(data, path, context)
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise BuildError(f"the ramdisk cannot be unpacked: {error}", place=path.name) from error
    raise BuildError(f"the ramdisk is packed in an unknown way (it starts with {data[:4].hex()})", place=path.name)


def _unpack_zstd(data: bytes, path: Path, context: Context) -> bytes:
    packed, plain = path.with_suffix(".zst"), path.with_suffix(".cpio")
    try:
        packed.write_bytes(data)
        context.run(["zstd", "-q", "-d", "-f", packed, "-o", plain])
        return plain.read_bytes()
    finally:
        packed.unlink(missing_ok=True)
        plain.unlink(missing_ok=True)
