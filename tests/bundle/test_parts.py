"""Parts: the archive's bytes and the secret decide all of theirs; what goes wrong ends everything."""

from __future__ import annotations

import hashlib
import io
import math
import os
import random
import signal
import tarfile
import zlib
from collections import deque
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bundle.by_hand import run
from bundle.made import LAYOUTS, SECRET, collect, lay_out, write_image
from xenkiln.bundle import chunks, parts
from xenkiln.bundle.archive import Extent, Layout, lay_out_plain, lay_out_sparse
from xenkiln.bundle.chunks import CHUNK, is_zeros, read_archive
from xenkiln.bundle.compression import compress
from xenkiln.bundle.parts import Part, PartCutter, make_parts, make_secret
from xenkiln.errors import BuildError

BLOCK = 4096
QUICK: Any = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture]}


@pytest.fixture
def tiny_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a small image has many, and chunks of one block."""
    monkeypatch.setattr(parts, "PART_BYTES", BLOCK)
    monkeypatch.setattr(chunks, "CHUNK", BLOCK)


def write_blocks(path: Path, blocks: list[str], tail: int, *, with_holes: bool) -> bytes:
    """An image of blocks of data and of zeros; "hole" is a hole where those are wanted."""
    # The same data again and again: what is behind zeros could refer to what is before them, and must not.
    data = random.Random(0).randbytes(BLOCK)
    content = b"".join(data if block == "data" else bytes(BLOCK) for block in blocks) + data[:tail]
    path.unlink(missing_ok=True)
    with path.open("wb") as stream:
        for number, block in enumerate(blocks):
            if block != "hole" or not with_holes:
                os.pwrite(stream.fileno(), content[number * BLOCK :][:BLOCK], number * BLOCK)
        os.pwrite(stream.fileno(), content[len(blocks) * BLOCK :], len(blocks) * BLOCK)
        stream.truncate(len(content))
    return content


def open_parts(made: list[bytes]) -> bytes:
    """The archive, by openssl and by zlib's own reader of one gzip member."""
    packed = run(["openssl", "enc", "-d", "-aes-128-cbc", "-K", SECRET.key.hex(), "-iv", SECRET.iv.hex()],
                 b"".join(made))  # fmt: skip
    stream = zlib.decompressobj(31)
    archive = stream.decompress(packed)
    assert (stream.eof, stream.unused_data) == (True, b"")
    return archive


def cut(size: int, places: list[int]) -> list[Extent]:
    """All of an image in pieces that end at these places."""
    ends = sorted({place % size for place in places} | {0, size}) if size else []
    return [(start, end - start) for start, end in pairwise(ends)]


@settings(max_examples=40, **QUICK)
@given(
    blocks=st.lists(st.sampled_from(["hole", "zeros", "data"]), max_size=30),
    tail=st.integers(0, BLOCK - 1),
    places=st.lists(st.integers(0, 1 << 20), max_size=6),
    chunk=st.sampled_from([512, BLOCK, 3 * BLOCK, CHUNK]),
)
def test_where_a_file_has_holes_changes_no_byte(
    blocks: list[str], tail: int, places: list[int], chunk: int, tmp_path: Path
) -> None:
    holed, full = tmp_path / "holed", tmp_path / "full"
    write_blocks(holed, blocks, tail, with_holes=True)
    content = write_blocks(full, blocks, tail, with_holes=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "PART_BYTES", 10240)
        patch.setattr(chunks, "CHUNK", chunk)
        holes = lay_out(holed)
        layouts = [(holed, Layout(holes.head, holes.image_bytes, holes.extents, is_sparse=False))]
        layouts += [(full, Layout(holes.head, len(content), tuple(extents), is_sparse=False))
                    for extents in (cut(len(content), []), cut(len(content), places))]  # fmt: skip
        found = [collect(image, layout) for image, layout in layouts]
    assert found[0] == found[1] == found[2]
    with tarfile.open(fileobj=io.BytesIO(open_parts(found[0][1]))) as archive:
        (member,) = archive.getmembers()
        stream = archive.extractfile(member)
        assert stream
        assert stream.read() == content


@pytest.mark.parametrize("kind", LAYOUTS)
def test_the_same_image_and_secret_give_the_same_parts(kind: str, tmp_path: Path) -> None:
    mebibyte = (1 << 20) // BLOCK
    blocks = ["zeros"] * 3 + ["data"] * mebibyte + ["hole"] * mebibyte + ["data"] * 5 + ["zeros"] * mebibyte
    write_blocks(tmp_path / "root.img", blocks, 77, with_holes=True)
    layout = lay_out(tmp_path / "root.img", kind)
    first, second = (collect(tmp_path / "root.img", layout) for _ in range(2))
    assert first == second
    archive = open_parts(first[1])
    assert first[0].sha1 == hashlib.sha1(archive).hexdigest()
    assert [(part.sha1, part.md5) for part in first[0].parts] == [
        (hashlib.sha1(made).hexdigest(), hashlib.md5(made).hexdigest()) for made in first[1]]  # fmt: skip
    without = make_parts(tmp_path / "root.img", layout, SECRET, lambda part, data: None, with_md5=False)
    assert [(part.sha1, part.md5) for part in without.parts] == [(part.sha1, "") for part in first[0].parts]
    assert make_secret() != make_secret()


@st.composite
def extents_of_images(draw: st.DrawFn) -> tuple[int, list[Extent]]:
    extents: list[Extent] = []
    end = 0
    for gap, length in draw(st.lists(st.tuples(st.integers(0, 900), st.integers(1, 900)), max_size=12)):
        extents.append((end + gap, length))
        end = sum(extents[-1])
    return end + draw(st.integers(0, 900)), extents


@settings(max_examples=60, **QUICK)
@given(described=extents_of_images(), kind=st.sampled_from(list(LAYOUTS)), depth=st.integers(0, 3))
def test_chunks_are_the_archive_and_stay_while_they_may_be_used(
    described: tuple[int, list[Extent]], kind: str, depth: int, tmp_path: Path
) -> None:
    size, extents = described
    image = write_image(tmp_path / "root.img", size, extents)
    content = image.read_bytes()
    layout = LAYOUTS[kind]("root.img", size, extents)
    held = b"".join(content[start : start + length] for start, length in extents) if layout.is_sparse else content
    copies = []
    recent: deque[tuple[memoryview, bytes]] = deque(maxlen=depth + 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "CHUNK", 256)
        for chunk in read_archive(image, layout, depth):
            copies.append(bytes(chunk))
            recent.append((chunk, copies[-1]))
            assert all(seen == copy for seen, copy in recent)
            assert is_zeros(chunk) == (not any(chunk))
    assert b"".join(copies) == layout.head + held + bytes(layout.tail_bytes)
    # Of one size each, but for what is before and behind the data.
    assert [len(copy) for copy in copies[1 : 1 + len(held) // 256]] == [256] * (len(held) // 256)


@settings(max_examples=50, **QUICK)
@given(
    length=st.sampled_from([0, 1, 15, 16, 17, 47, 48, 49, 63, 64, 65, 111, 112, 113, 128]) | st.integers(0, 300),
    places=st.lists(st.integers(0, 300), max_size=8),
)
def test_parts_are_what_openssl_makes_cut_in_equal_pieces(length: int, places: list[int]) -> None:
    data = random.Random(length).randbytes(length)
    made: list[bytes] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "PART_BYTES", 64)
        cutter = PartCutter(SECRET, lambda _, part: made.append(bytes(part)), ("sha1", "md5"))
        for start, size in cut(length, places):
            cutter.add(data[start : start + size])
        cutter.finish()
    words = ["openssl", "enc", "-aes-128-cbc", "-K", SECRET.key.hex(), "-iv", SECRET.iv.hex()]
    assert b"".join(made) == run(words, data)
    assert [len(part) for part in made[:-1]] == [64] * (math.ceil((length // 16 + 1) * 16 / 64) - 1)
    assert [(part.number, part.size) for part in cutter.parts] == [(n, len(part)) for n, part in enumerate(made)]


def test_the_size_behind_a_gzip_stream_counts_to_four_gibibytes() -> None:
    count = (1 << 32) // CHUNK + 3
    *_, last = compress(memoryview(chunks.ZEROS)[:CHUNK] for _ in range(count))
    assert int.from_bytes(last[4:], "little") == 3 * CHUNK


def test_an_error_where_parts_go_ends_the_whole(tiny_parts: None, tmp_path: Path) -> None:
    image = write_image(tmp_path / "root.img", 1 << 20, [(0, 1 << 20)])
    seen = []

    def refuse(part: Part, data: memoryview) -> None:
        seen.append(part.number)
        raise OSError(28, "no space left")

    with pytest.raises(OSError, match="no space left"):
        make_parts(image, lay_out(image), SECRET, refuse)
    assert seen == [0]


@pytest.mark.parametrize("how", ["shorter", "longer", "rewritten"])
def test_an_image_that_changes_while_it_is_read_is_no_image(how: str, tiny_parts: None, tmp_path: Path) -> None:
    image = write_image(tmp_path / "root.img", 2 << 20, [(0, 1 << 20)])
    layout = lay_out(image)
    seen: list[int] = []

    def change(part: Part, data: memoryview) -> None:
        seen.append(part.size)
        if len(seen) == 1:  # the reader is no more than all chunks that may wait ahead
            size = {"shorter": 600_000, "longer": (2 << 20) + 1, "rewritten": 2 << 20}[how]
            os.truncate(image, size)
            os.utime(image, ns=(0, 0))

    with pytest.raises(BuildError, match=r"root\.img: changed while it was read"):
        make_parts(image, layout, SECRET, change)
    assert seen
    assert set(seen) == {BLOCK}


def test_an_image_that_has_changed_since_it_was_laid_out_is_refused(tmp_path: Path) -> None:
    image = write_image(tmp_path / "root.img", 1 << 20, [(0, 1 << 20)])
    seen: list[Part] = []
    with pytest.raises(BuildError, match=r"root\.img: has 1048576 bytes, and had 2097152 before"):
        make_parts(image, lay_out_plain("root.img", 2 << 20, [(0, 2 << 20)]), SECRET, lambda part, _: seen.append(part))
    assert seen == []


def test_an_image_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = write_image(tmp_path / "root.img", 1 << 20, [(0, 1 << 20)])

    def fail(*_: object) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "preadv", fail)
    with pytest.raises(BuildError, match=r"root\.img: cannot be read: Input/output error"):
        collect(image, lay_out(image))


@pytest.mark.parametrize("number", [0, 7])
def test_an_interrupt_in_a_part_ends_the_whole(number: int, tiny_parts: None, tmp_path: Path) -> None:
    image = write_image(tmp_path / "root.img", 1 << 20, [(0, 1 << 20)])
    seen = []

    def interrupt(part: Part, data: memoryview) -> None:
        seen.append(part.number)
        if part.number == number:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        make_parts(image, lay_out(image), SECRET, interrupt)
    assert seen == list(range(number + 1))


def test_a_map_too_large_to_be_read_again_is_not_written() -> None:
    extents = [(8192 * number, 4096) for number in range(750_000)]
    with pytest.raises(BuildError, match=r"root\.img: has 750001 pieces of data(?s:.*)cp --sparse=never"):
        lay_out_sparse("root.img", 750_000 * 8192, extents)
