"""Files that are finished or absent, sparse copies and their checksums, removal."""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xenkiln.system.files import (
    allocated_bytes,
    copy_sparse,
    finish_file,
    fixed_umask,
    hash_file,
    list_extents,
    partial_path,
    remove_path,
    write_finished,
)
from xenkiln.system.layout import PROJECT

BLOCK = 4096
FILESYSTEMS = [Path("/dev/shm"), PROJECT]
"""A tmpfs, and whatever the checkout lies on."""

extents = st.lists(st.tuples(st.integers(0, 600), st.integers(1, 9000)), max_size=6)
"""Where data begins, in blocks, and how many bytes of it there are."""

WRITER = """
import sys
from pathlib import Path
from xenkiln.system.files import write_finished
path, number = Path(sys.argv[1]), 0
print("ready", flush=True)
while True:
    number += 1
    write_finished(path, (str(number % 10) * 50000))
"""


def make_sparse(path: Path, parts: list[tuple[int, int]], size_bytes: int) -> None:
    with path.open("wb") as stream:
        stream.truncate(size_bytes)
        for block, length in parts:
            stream.seek(block * BLOCK)
            stream.write(random.Random(block).randbytes(length)[: max(0, size_bytes - block * BLOCK)])


@pytest.mark.parametrize("place", FILESYSTEMS, ids=["tmpfs", "disk"])
@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=extents, size_bytes=st.integers(0, 700 * BLOCK))
def test_a_copy_has_the_same_bytes_and_the_same_holes(
    place: Path, parts: list[tuple[int, int]], size_bytes: int
) -> None:
    with tempfile.TemporaryDirectory(dir=place) as folder:
        source, target = Path(folder) / "source", Path(folder) / "target"
        make_sparse(source, parts, size_bytes)
        target.write_bytes(b"what was there before" * 9999)
        copy_sparse(source, target)
        assert target.read_bytes() == source.read_bytes()
        assert allocated_bytes(target) <= allocated_bytes(source) + BLOCK
        expected = subprocess.run(["sha256sum", "--", source], capture_output=True, text=True, check=True).stdout
        assert hash_file(source) == hash_file(target) == expected.split()[0]
        with source.open("rb") as stream:
            pieces = list(list_extents(stream.fileno(), size_bytes))
        assert sum(length for _, length in pieces) <= size_bytes
        assert all(one[0] + one[1] <= other[0] for one, other in itertools.pairwise(pieces))


@pytest.mark.parametrize("other", FILESYSTEMS, ids=["tmpfs", "disk"])
def test_a_copy_to_another_filesystem_is_sparse_too(tmp_path: Path, other: Path) -> None:
    source = tmp_path / "source"
    make_sparse(source, [(0, 10), (100_000, 9000), (200_000, 1)], 1 << 30)
    with tempfile.TemporaryDirectory(dir=other) as folder:
        target = Path(folder) / "target"
        copy_sparse(source, target)
        assert target.stat().st_size == 1 << 30
        assert allocated_bytes(target) < 1 << 20
        assert hash_file(target) == hash_file(source)


def test_a_writer_killed_at_any_moment_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    seen = set()
    for attempt in range(12):
        with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], cwd=PROJECT, stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            time.sleep(0.002 * attempt)
            writer.send_signal(signal.SIGKILL)
        if path.exists():
            text = path.read_text()
            assert len(text) == 50000
            assert len(set(text)) == 1
            seen.add(text[0])
    assert seen, "it was always killed before the first file"
    write_finished(path, "after")
    assert [item.name for item in tmp_path.iterdir()] == ["file"]


def test_readers_never_see_a_half_written_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_finished(path, "0" * 50000)
    done = threading.Event()
    faults: list[str] = []

    def read_on() -> None:
        while not done.is_set():
            text = path.read_text()
            if len(text) != 50000 or len(set(text)) != 1:
                faults.append(text[:20])

    reader = threading.Thread(target=read_on)
    reader.start()
    for number in range(50):
        write_finished(path, str(number % 10) * 50000)
    done.set()
    reader.join()
    assert not faults


@pytest.mark.parametrize("mode", [0o644, 0o600, 0o755, 0o400])
def test_the_mode_does_not_depend_on_the_callers_umask(tmp_path: Path, mode: int) -> None:
    before = os.umask(0o077)
    try:
        write_finished(tmp_path / "file", b"x", mode)
        with fixed_umask():
            (tmp_path / "folder").mkdir()
        assert os.umask(0o077) == 0o077
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o7777 == mode
    assert (tmp_path / "folder").stat().st_mode & 0o7777 == 0o755


def test_a_secret_is_never_readable_by_others_while_it_is_written(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write_finished(tmp_path / "key", "secret", 0o600)
    finally:
        os.umask(before)
    assert (tmp_path / "key").stat().st_mode & 0o7777 == 0o600


def test_a_link_left_in_place_of_the_partial_file_is_not_followed(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("mine")
    partial_path(tmp_path / "file").symlink_to(precious)
    write_finished(tmp_path / "file", "new")
    assert precious.read_text() == "mine"
    assert (tmp_path / "file").read_text() == "new"


def test_a_file_that_was_not_begun_cannot_be_finished(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        finish_file(tmp_path / "file")


def test_removing_never_follows_links(tmp_path: Path) -> None:
    keep = tmp_path / "keep"
    (keep / "folder").mkdir(parents=True)
    (keep / "file").write_text("mine")
    tree = tmp_path / "tree"
    (tree / "a").mkdir(parents=True)
    (tree / "a" / "out").symlink_to(keep)
    (tree / "a" / "file").symlink_to(keep / "file")
    (tmp_path / "link").symlink_to(keep)
    for path in (tree, tmp_path / "link", tmp_path / "missing"):
        remove_path(path)
        remove_path(path)
    assert sorted(item.name for item in tmp_path.iterdir()) == ["keep"]
    assert sorted(item.name for item in keep.iterdir()) == ["file", "folder"]
