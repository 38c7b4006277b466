"""How large a bundle will be about, known before it is made."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from xenkiln.bundle.archive import Layout
from xenkiln.bundle.chunks import CHUNK
from xenkiln.bundle.compression import compress

SAMPLES = 256
"""Chunks of 256 KiB, spread evenly: half a second, and a few hundredths off for images of root filesystems."""


def estimate_bundle(image: Path, layout: Layout) -> int:
    """Bytes of the parts, by compressing samples of the image's data; what a plain archive has for holes is nothing."""
    data_bytes = sum(length for _, length in layout.extents)
    taken = packed = 0
    with image.open("rb", buffering=0) as stream:
        for offset, length in _choose_samples(layout, max(CHUNK, data_bytes // SAMPLES)):
            sample = memoryview(os.pread(stream.fileno(), length, offset))
            taken += len(sample)
            packed += sum(map(len, compress([sample])))
    return packed * data_bytes // max(taken, 1)


def _choose_samples(layout: Layout, step: int) -> Iterator[tuple[int, int]]:
    """(offset, length) of a piece of data wherever so many bytes of data have gone by."""
    skip = 0
    for start, length in layout.extents:
        while skip < length:
            yield start + skip, min(CHUNK, length - skip)
            skip += step
        skip -= length
