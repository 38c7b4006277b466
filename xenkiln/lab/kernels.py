"""Kernels as Xen and qemu load them fastest: unpacked here, once, rather than by an emulated processor each time."""

from __future__ import annotations

import gzip
import lzma
import struct
from collections.abc import Callable

MAGIC_OFFSET, SETUP_SECTORS = 0x202, 0x1F1
PAYLOAD_OFFSET, PAYLOAD_LENGTH = 0x248, 0x24C
"""Linux, Documentation/arch/x86/boot.rst: the header of a bzImage, protocol 2.08 and later."""

UNPACKERS: dict[bytes, Callable[[bytes], bytes]] = {
    b"\x1f\x8b": gzip.decompress,
    # A size of four bytes follows each stream.
    b"\xfd7zXZ\0": lambda data: lzma.LZMADecompressor().decompress(data),
    b"]\0\0": lambda data: lzma.LZMADecompressor().decompress(data),
}


def unpack_kernel(image: bytes) -> bytes:
    """The ELF file inside a bzImage; the image itself where it is packed in a way that Python does not read."""
    if image[MAGIC_OFFSET : MAGIC_OFFSET + 4] != b"HdrS":
        return image
    offset, length = struct.unpack_from("<II", image, PAYLOAD_OFFSET)
    start = (image[SETUP_SECTORS] + 1) * 512 + offset
    payload = image[start : start + length]
    for magic, unpack in UNPACKERS.items():
        if payload.startswith(magic):
            return unpack(payload)
    return image
