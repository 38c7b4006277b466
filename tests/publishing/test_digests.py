"""The digest of a file: of what it holds, wherever it has holes, and read once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from publishing.conftest import Begin
from publishing.site import Site
from xenkiln.errors import BuildError
from xenkiln.publishing import digests
from xenkiln.publishing.digests import BLOCK, hash_data

GIB = 1 << 30
SIZES = (0, 1, BLOCK, BLOCK + 1, 3 * BLOCK - 1)
PIECES = st.lists(st.tuples(st.integers(0, 5 * BLOCK), st.sampled_from([b"x", b"\0", b"y" * 5000, b"\0" * BLOCK])))


def write_pieces(path: Path, size: int, pieces: list[tuple[int, bytes]]) -> bytes:
    """A sparse file, and all that it holds."""
    path.unlink(missing_ok=True)
    with path.open("wb") as stream:
        for offset, data in pieces:
            stream.seek(offset)
            stream.write(data)
        stream.truncate(size)
    return path.read_bytes()


@settings(max_examples=40, deadline=None)
@given(size=st.integers(0, 6 * BLOCK), other=st.integers(0, 6 * BLOCK), pieces=PIECES, others=PIECES)
def test_it_is_the_same_where_the_bytes_are_and_only_there(
    size: int, other: int, pieces: list[tuple[int, bytes]], others: list[tuple[int, bytes]],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:  # fmt: skip
    folder = tmp_path_factory.mktemp("digests")
    held = write_pieces(folder / "sparse", size, pieces)
    (folder / "full").write_bytes(held)
    assert hash_data(folder / "full") == hash_data(folder / "sparse")
    also = write_pieces(folder / "other", other, others)
    assert (hash_data(folder / "other") == hash_data(folder / "full")) == (also == held)


@pytest.mark.parametrize("size", SIZES)
def test_zeros_are_told_by_their_number(size: int, tmp_path: Path) -> None:
    for name, count in (("one", size), ("same", size), ("more", size + 1)):
        write_pieces(tmp_path / name, count, [])
    (tmp_path / "written").write_bytes(bytes(size))
    assert len({hash_data(tmp_path / name) for name in ("one", "same", "written")}) == 1
    assert hash_data(tmp_path / "more") != hash_data(tmp_path / "one")


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The lengths of all that is read of files for their digests."""
    lengths: list[int] = []
    read = os.preadv

    def note(descriptor: int, buffers: list[memoryview], offset: int) -> int:
        lengths.append(sum(map(len, buffers)))
        return read(descriptor, buffers, offset)

    digests._hash_state.cache_clear()
    monkeypatch.setattr(os, "preadv", note)
    yield lengths
    digests._hash_state.cache_clear()


def test_a_large_image_of_few_data_is_read_where_they_are_and_once(
    reads: list[int], begin: Begin, capsys: pytest.CaptureFixture[str]
) -> None:
    site = begin("3.4")
    with (site.images / "root.img").open("rb+") as stream:
        stream.truncate(29 * GIB)
    site = made_elsewhere(site)
    for _ in range(2):
        assert set(site.publish()) == {"kernel", "ramdisk", "root"}
        capsys.readouterr()
        reads.clear()
    site.publish()
    assert capsys.readouterr().out.count("up to date") == 3
    assert reads == []
    digests._hash_state.cache_clear()
    site.publish()
    # 3 files of 400 KB, each block in which one of their pieces begins or ends read whole.
    assert 0 < sum(reads) < 20 * BLOCK


def made_elsewhere(site: Site) -> Site:
    return replace(site, subject=replace(site.subject, is_built=False))


def test_a_file_of_the_same_size_that_took_its_place_is_read_again(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"one")
    status = (tmp_path / "file").stat()
    digest = hash_data(tmp_path / "file")
    (tmp_path / "new").write_bytes(b"two")
    os.utime(tmp_path / "new", ns=(status.st_atime_ns, status.st_mtime_ns))
    (tmp_path / "new").rename(tmp_path / "file")
    assert hash_data(tmp_path / "file") != digest


def test_what_changes_while_it_is_read_and_what_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"one")
    read = os.preadv

    def grow(descriptor: int, buffers: list[memoryview], offset: int) -> int:
        with file.open("ab") as stream:
            stream.write(b"more")
        return read(descriptor, buffers, offset)

    with monkeypatch.context() as patch:
        patch.setattr(os, "preadv", grow)
        with pytest.raises(BuildError, match="file: changed while it was read"):
            hash_data(file)
    file.unlink()
    with pytest.raises(BuildError, match="there is no such file"):
        hash_data(file)
