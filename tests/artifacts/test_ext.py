"""What mke2fs is told, and that the host's own settings do not matter."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sealing import make_context, make_paths, make_volume

from xenkiln.artifacts.ext import Volume, derive_uuid, find_size_mib, make_volume_steps
from xenkiln.system.execution import run_steps
from xenkiln.system.steps import Run

pytestmark = pytest.mark.usefixtures("quick_starts")


def make(volume: Volume, tmp_path: Path, name: str = "volume") -> Path:
    paths = make_paths(tmp_path / name)
    target = paths.work / "volume.img"
    run_steps(make_volume_steps(volume, target), make_context(paths))
    return target


def read_header(image: Path) -> dict[str, str]:
    text = subprocess.run(["dumpe2fs", "-h", image], check=True, capture_output=True, text=True).stdout
    pairs = (line.partition(":") for line in text.splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, _, value in pairs}


@pytest.mark.parametrize("old", [False, True], ids=["ext4", "ext3 of 2007"])
def test_a_volume_has_the_features_it_was_given_and_no_others(tmp_path: Path, old: bool) -> None:
    volume = make_volume(old=old)
    header = read_header(make(volume, tmp_path))
    assert sorted(header["Filesystem features"].split()) == sorted(volume.features)
    assert header["Inode size"] == str(volume.inode_size)
    assert header["Filesystem UUID"] == str(derive_uuid("guest", "root"))
    assert header["Block size"] == "4096"


def test_mke2fs_reads_our_configuration_and_finds_nothing_to_warn_of(tmp_path: Path) -> None:
    (step,) = (step for step in make_volume_steps(make_volume(), tmp_path / "x") if "mke2fs" in step.argv)  # type: ignore[union-attr]
    assert isinstance(step, Run)
    config = Path(dict(step.env)["MKE2FS_CONFIG"])
    assert "defaults" not in config.read_text(), "it would say more than the command line does"
    paths = make_paths(tmp_path)
    context = make_context(paths)
    run_steps(make_volume_steps(make_volume(), paths.work / "x.img"), context)
    log = paths.log("test").read_text()
    assert "$ mke2fs" in log
    assert "mke2fs.conf" not in log


@pytest.mark.parametrize("old", [False, True], ids=["ext4", "ext3 of 2007"])
def test_an_empty_volume_takes_next_to_nothing(tmp_path: Path, old: bool) -> None:
    image = make(make_volume(2048, old=old), tmp_path)
    assert image.stat().st_size == 2048 << 20
    assert image.stat().st_blocks * 512 < 4 << 20


@pytest.mark.parametrize("size_mib", [8, 16, 127, 128, 1023, 1024, 2048])
def test_the_journal_is_as_large_as_it_says(tmp_path: Path, size_mib: int) -> None:
    volume = make_volume(size_mib)
    header = read_header(make(volume, tmp_path))
    kib = {"M": 1024, "k": 1}
    size = header.get("Total journal size", "0k")
    assert int(size[:-1]) * kib[size[-1]] == volume.journal_mib * 1024


@pytest.mark.parametrize(("size_mib", "old"), [(8, True), (64, False), (256, True), (1024, False)])
def test_the_overhead_is_not_underestimated(tmp_path: Path, size_mib: int, old: bool) -> None:
    volume = make_volume(size_mib, old=old)
    free_mib = int(read_header(make(volume, tmp_path))["Free blocks"]) * 4096 / (1 << 20)
    assert size_mib - volume.overhead_mib <= free_mib <= size_mib - volume.overhead_mib + 3 + size_mib / 128


@given(st.integers(1, 20_000), st.booleans())
def test_a_suggested_size_is_enough_and_not_much_too_large(content_mib: int, old: bool) -> None:
    volume = make_volume(old=old)
    size_mib = find_size_mib(volume, content_mib)
    assert size_mib - replace(volume, size_mib=size_mib).overhead_mib >= content_mib
    assert size_mib < content_mib * 1.1 + 200


def test_ids_differ_by_image_and_disk_and_never_by_time() -> None:
    assert str(derive_uuid("guest", "root")) == "127e8dae-83bb-5f43-8092-81c5ea076f51"
    assert len({derive_uuid(*words) for words in [("a", "root"), ("b", "root"), ("a", "swap"), ("a",)]}) == 4


def test_the_tree_is_copied_by_the_same_command_that_a_plan_shows(tmp_path: Path) -> None:
    steps = make_volume_steps(make_volume(), tmp_path / "x.img", tree=tmp_path / "tree")
    commands = [step.argv for step in steps if isinstance(step, Run)]
    assert [command[0] for command in commands] == ["truncate", "mke2fs", "fallocate"]
    assert commands[1][-3:] == ("-d", tmp_path / "tree", tmp_path / "x.img")
    assert sum(word == "-E" for word in commands[1]) == 1, "mke2fs keeps only the last one"
