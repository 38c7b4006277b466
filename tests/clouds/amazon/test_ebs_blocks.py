"""An image's blocks are the same however they are found, and no hole is read."""

from __future__ import annotations

import base64
import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clouds.amazon.uploading import BLOCK, list_blocks, write_image
from xenkiln.clouds import blocks
from xenkiln.clouds.blocks import read_content
from xenkiln.errors import BuildError

PAGE = 4096
OFFSETS = st.integers(-2, 2)
EDGES = st.sampled_from([0, PAGE, BLOCK - PAGE, BLOCK, BLOCK + PAGE, 2 * BLOCK, 3 * BLOCK - PAGE, 3 * BLOCK])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edge=EDGES, offset=OFFSETS, pieces=st.lists(st.tuples(EDGES, st.integers(1, BLOCK + 1)), max_size=3),
       zeros=st.lists(EDGES, max_size=2))  # fmt: skip
def test_blocks_are_those_that_hold_anything(
    edge: int, offset: int, pieces: list[tuple[int, int]], zeros: list[int], tmp_path: Path
) -> None:
    """Sizes around each boundary, holes at either end and between, data that is only zeros."""
    size = max(1, edge + offset)
    image = write_image(tmp_path / "root.img", size, [])
    with image.open("rb+") as stream:
        for start in zeros:
            stream.seek(start)
            stream.write(bytes(max(0, min(PAGE, size - start))))
        for start, length in pieces:
            stream.seek(start)
            stream.write(b"\0" * (min(length, size - start) - 1) + b"x" if start < size else b"")
    content = read_content(image)
    wanted = list_blocks(image)
    digests = {index: hashlib.sha256(data).digest() for index, data in wanted.items()}
    assert (content.size, content.volume_gib) == (size, 1)
    assert list(content.blocks.items()) == list(digests.items())
    linear = hashlib.sha256(b"".join(digests.values())).digest()
    assert base64.b64decode(content.checksum) == linear


def test_holes_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = write_image(tmp_path / "root.img", 40 << 30, [(7 * BLOCK, BLOCK), (39 << 30, 1)])
    read = []
    pread = os.pread

    def watch(descriptor: int, length: int, offset: int) -> bytes:
        read.append(offset)
        return pread(descriptor, length, offset)

    monkeypatch.setattr(os, "pread", watch)
    content = read_content(image)
    assert read == [7 * BLOCK, 39 << 30]
    assert list(content.blocks) == [7, (39 << 30) // BLOCK]
    assert content.volume_gib == 40


def test_an_image_that_no_volume_holds_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "LARGEST_GIB", 1)
    image = write_image(tmp_path / "root.img", 1 << 30, [])
    assert read_content(image).volume_gib == 1
    with pytest.raises(BuildError, match="more than the largest volume"):
        read_content(write_image(image, (1 << 30) + 1, []))
