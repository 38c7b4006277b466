"""The pass after mke2fs: nothing of the moment and the host is left."""

from __future__ import annotations

import os
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sealing import EPOCH, make_context, make_paths, make_volume

from xenkiln.artifacts.ext import Volume, make_volume_steps
from xenkiln.artifacts.layout import list_inodes, list_superblocks, read_geometry
from xenkiln.artifacts.normalising import (
    InodeTimes,
    compute_crc32c,
    list_corrections,
    normalise_volume,
    read_times,
)
from xenkiln.errors import BuildError
from xenkiln.system.execution import run_steps

pytestmark = pytest.mark.usefixtures("quick_starts")
VOLUMES = [make_volume(), make_volume(old=True), make_volume(300)]
VOLUME_NAMES = ["ext4", "ext3 of 2007", "several groups"]
DAY = 86400


def make_tree(root: Path, order: int) -> Path:
    """The same files whichever way round they are made; old ones, one of the build, one from the future."""
    root.mkdir()
    names = [f"file{number}" for number in range(300)][::order]
    (root / "folder").mkdir()
    for name in names:
        path = root / "folder" / name
        path.write_text(name * 100)
        os.utime(path, (EPOCH - DAY, EPOCH - DAY))
    (root / "before 1970").write_text("x")
    os.utime(root / "before 1970", (-5 * DAY, -5 * DAY))
    (root / "after 2038").write_text("x")
    os.utime(root / "after 2038", (2**31 + 5, 2**31 + 5))
    (root / "new").symlink_to("folder")
    return root


def make_normalised(volume: Volume, tmp_path: Path, name: str, order: int, moment: int) -> Path:
    paths = make_paths(tmp_path / name)
    context = make_context(paths)
    context.runner.env |= {"E2FSPROGS_FAKE_TIME": str(moment), "SOURCE_DATE_EPOCH": str(moment)}
    image = paths.work / "x.img"
    run_steps(make_volume_steps(volume, image, tree=make_tree(tmp_path / f"{name}-tree", order)), context)
    context.runner.env |= {"E2FSPROGS_FAKE_TIME": str(EPOCH), "SOURCE_DATE_EPOCH": str(EPOCH)}
    normalise_volume(image, context)
    return image


@pytest.mark.parametrize("volume", VOLUMES, ids=VOLUME_NAMES)
def test_two_copies_of_a_tree_give_the_same_bytes(tmp_path: Path, volume: Volume) -> None:
    one = make_normalised(volume, tmp_path, "one", 1, EPOCH)
    other = make_normalised(volume, tmp_path, "other", -1, EPOCH)
    assert one.read_bytes() == other.read_bytes()
    subprocess.run(["e2fsck", "-fn", one], check=True, capture_output=True)


@pytest.mark.parametrize("volume", VOLUMES, ids=VOLUME_NAMES)
def test_every_time_is_the_epoch_or_older(tmp_path: Path, volume: Volume) -> None:
    image = make_normalised(volume, tmp_path, "one", 1, EPOCH + DAY)
    with image.open("rb") as stream:
        geometry = read_geometry(stream)
        found = [(number, read_times(data)) for number, data in list_inodes(stream, geometry)]
    files = {number: times for number, times in found if times.mode}
    assert len(files) > 300
    for times in files.values():
        assert times.atime == times.ctime == EPOCH
        assert times.crtime in (EPOCH, None)
        assert times.mtime in (EPOCH, EPOCH - DAY)
    assert {times.mtime for times in files.values()} == {EPOCH, EPOCH - DAY}


@pytest.mark.parametrize("volume", VOLUMES, ids=VOLUME_NAMES)
def test_debugfs_reads_the_inodes_as_we_do(tmp_path: Path, volume: Volume) -> None:
    image = make_normalised(volume, tmp_path, "one", 1, EPOCH)
    with image.open("rb") as stream:
        numbers = [number for number, data in list_inodes(stream, read_geometry(stream)) if read_times(data).mode]
    header = subprocess.run(["dumpe2fs", "-h", image], check=True, capture_output=True, text=True).stdout
    counts = {line.partition(":")[0]: int(line.split()[-1]) for line in header.splitlines()
              if line.startswith(("Inode count", "Free inodes"))}  # fmt: skip
    assert numbers[-1] == counts["Inode count"] - counts["Free inodes"]
    shown = subprocess.run(
        ["debugfs", "-R", f"stat <{numbers[-1]}>", image], check=True, capture_output=True, text=True
    )
    assert f"atime: 0x{EPOCH:x}" in shown.stdout


def test_the_counter_of_writes_is_gone_from_every_superblock(tmp_path: Path) -> None:
    image = make_normalised(VOLUMES[2], tmp_path, "one", 1, EPOCH)
    with image.open("rb") as stream:
        offsets = list(list_superblocks(read_geometry(stream)))
        assert offsets == [1024, 32768 * 4096]
        for offset in offsets:
            stream.seek(offset + 0x178)
            assert struct.unpack("<Q", stream.read(8)) == (0,)
    # dumpe2fs checks the checksum of the superblock it is told to use.
    command = ["dumpe2fs", "-h", "-o", "superblock=32768", "-o", "blocksize=4096", str(image)]
    subprocess.run(command, check=True, capture_output=True)
    with image.open("rb+") as stream:
        stream.seek(32768 * 4096 + 0x178)
        stream.write(b"x")
    assert subprocess.run(command, capture_output=True).returncode != 0


def test_the_checksum_is_crc32c() -> None:
    assert compute_crc32c(b"123456789") ^ 0xFFFFFFFF == 0xE3069283  # the check value of every CRC catalogue


def test_what_debugfs_did_not_do_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = make_paths(tmp_path / "build")
    context = make_context(paths)
    image = paths.work / "x.img"
    run_steps(make_volume_steps(make_volume(), image, tree=make_tree(tmp_path / "tree", 1)), context)
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "debugfs").write_text("#!/bin/sh\ncat >/dev/null\necho cannot >&2\n")
    (folder / "debugfs").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    with pytest.raises(BuildError, match="debugfs did not set"):
        normalise_volume(image, context)


def test_what_is_no_filesystem_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(bytes(8192))
    with pytest.raises(BuildError, match="not an ext2"):
        normalise_volume(tmp_path / "x", make_context(make_paths(tmp_path)))


SECONDS = st.integers(-(2**31), 2**31 - 1)


EXTRA = st.integers(0, 2**32 - 1)
MODES = st.sampled_from([0o100644, 0o40755, 0o120777])
FEW = st.integers(0, 9)


@given(st.builds(InodeTimes, MODES, SECONDS, SECONDS, SECONDS, FEW, EXTRA, EXTRA, EXTRA, st.none() | SECONDS, FEW))
def test_a_corrected_inode_needs_no_correction(times: InodeTimes) -> None:
    values = dict(vars(times))
    for name, text in list_corrections(times, EPOCH):
        values[name] = int(text.removeprefix("@"))
    corrected = InodeTimes(**values)
    assert list(list_corrections(corrected, EPOCH)) == []
    assert 0 <= corrected.mtime <= EPOCH
    assert corrected.mtime in (times.mtime, EPOCH)
