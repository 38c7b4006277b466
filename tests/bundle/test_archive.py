"""The archive inside a bundle, as tar itself and Python's tarfile read it."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenkiln.bundle.archive import LARGEST_PLAIN_BYTES, RECORD, Layout, lay_out_plain, lay_out_sparse
from xenkiln.errors import BuildError

SIZES = [0, 1, 511, 512, 513, 10240 - 512 - 1024, 10240 - 512 - 1023, 10240, 1 << 20]


def write_archive(layout: Layout, image: bytes) -> bytes:
    pieces = [image[start : start + length] for start, length in layout.extents]
    return layout.head + (b"".join(pieces) if layout.is_sparse else image) + bytes(layout.tail_bytes)


def make_image(size: int, extents: list[tuple[int, int]]) -> bytes:
    image = bytearray(size)
    for start, length in extents:
        image[start : start + length] = os.urandom(length)
    return bytes(image)


def unpack(archive: bytes, folder: Path) -> bytes:
    """With tar as a server runs it: `tar xfO`."""
    (folder / "archive").write_bytes(archive)
    return subprocess.run(["tar", "xOf", folder / "archive"], check=True, capture_output=True).stdout


@pytest.mark.parametrize("size", SIZES)
def test_a_plain_archive_is_what_gnu_tar_writes(size: int, tmp_path: Path) -> None:
    image = os.urandom(size)
    (tmp_path / "root.img").write_bytes(image)
    words = ["tar", "--format=gnu", "--owner=0", "--group=0", "--numeric-owner", "--mode=0644", "--mtime=@0"]
    made = subprocess.run([*words, "-cf", "-", "root.img"], cwd=tmp_path, check=True, capture_output=True).stdout
    layout = lay_out_plain("root.img", size, [(0, size)])
    assert (layout.held_bytes, layout.image_bytes) == (size, size)
    ours = write_archive(layout, image)
    # The numbers of magic's version and of devices may be written in two ways; what is read is the same.
    assert ours[512:] == made[512:]
    assert unpack(ours, tmp_path) == image


def test_the_data_of_the_first_member_begins_after_one_block() -> None:
    layout = lay_out_plain("root.img", 7, [(0, 7)])
    assert len(layout.head) == 512
    assert layout.head[156:157] == tarfile.REGTYPE


@st.composite
def sparse_images(draw: st.DrawFn) -> tuple[int, list[tuple[int, int]]]:
    extents: list[tuple[int, int]] = []
    end = 0
    for gap, length in draw(st.lists(st.tuples(st.integers(1, 5000), st.integers(1, 3000)), max_size=60)):
        extents.append((end + gap - (not extents), length))
        end = sum(extents[-1])
    return end + draw(st.integers(0, 5000)), extents


@given(sparse_images())
def test_a_sparse_archive_unpacks_to_the_image(described: tuple[int, list[tuple[int, int]]]) -> None:
    size, extents = described
    image = make_image(size, extents)
    layout = lay_out_sparse("root.img", size, extents)
    archive = write_archive(layout, image)
    assert len(archive) % RECORD == 0
    assert layout.held_bytes == sum(length for _, length in extents)
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        (member,) = opened.getmembers()
        assert (member.size, member.issparse()) == (size, True)
        stream = opened.extractfile(member)
        assert stream
        assert stream.read() == image


@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 24, 25, 26, 46, 47])
@pytest.mark.parametrize("tail", [0, 700])
def test_tar_itself_reads_a_sparse_archive(count: int, tail: int, tmp_path: Path) -> None:
    extents = [(number * 8192 + 4096, 4096) for number in range(count)]
    size = count * 8192 + tail
    image = make_image(size, extents)
    assert unpack(write_archive(lay_out_sparse("root.img", size, extents), image), tmp_path) == image


def test_a_sparse_image_may_be_larger_than_octal_digits_say() -> None:
    size = 40 << 30
    layout = lay_out_sparse("root.img", size, [(size - 4096, 4096)])
    with tarfile.open(fileobj=io.BytesIO(layout.head + bytes(4096) + bytes(layout.tail_bytes))) as opened:
        assert opened.getmembers()[0].size == size


def test_what_no_server_could_read_is_refused() -> None:
    with pytest.raises(BuildError, match="8192 MiB does not fit"):
        lay_out_plain("root.img", LARGEST_PLAIN_BYTES, [])
    for name in ("", "x" * 101, "a/b", "größe"):
        with pytest.raises(BuildError, match="1 to 100 ASCII"):
            lay_out_plain(name, 1, [])
