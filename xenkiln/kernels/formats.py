"""What a file is by its first bytes: a kernel that Xen can start, or something else."""

from __future__ import annotations

import zlib
from pathlib import Path

from xenkiln.errors import BuildError

BOOT_MARK, BOOT_MARK_AT = b"HdrS", 0x202
"""Linux's Documentation/arch/x86/boot.rst: the header of every bzImage."""
ELF = b"\x7fELF"
GZIP = b"\x1f\x8b"
HEAD_BYTES = 4096


def find_format_problem(vmlinuz: Path, place: str) -> BuildError | None:
    """What is wrong with a kernel; `place` is what the user knows it by.

    Xen's loader takes a bzImage, an ELF file, and an ELF file packed by gzip, as Xen's own old kernels are.
    """
    with vmlinuz.open("rb") as stream:
        head = stream.read(HEAD_BYTES)
    if head[BOOT_MARK_AT:].startswith(BOOT_MARK) or head.startswith(ELF) or _unpack_start(head).startswith(ELF):
        return None
    return BuildError("is no kernel: neither a bzImage nor an ELF file, plain or packed by gzip", place=place,
                      next_step="name the kernel itself, as it is in /boot (the recipe's kernel section)")  # fmt: skip


def _unpack_start(head: bytes) -> bytes:
    """The first bytes of what is packed, b"" where nothing is."""
    if not head.startswith(GZIP):
        return b""
    try:
        return zlib.decompressobj(wbits=31).decompress(head, len(ELF))
    except zlib.error:
        return b""
