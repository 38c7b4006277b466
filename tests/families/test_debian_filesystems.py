"""Filesystem profiles: the real mke2fs takes them, and makes nothing that the guest's kernel cannot read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from xenkiln.families import debian, filesystems
from xenkiln.families.contract import FilesystemProfile
from xenkiln.model.distributions import DEBIAN_RELEASES
from xenkiln.system.commands import Runner

SIZE = "64M"
NEWER_THAN_2_6_32 = {"metadata_csum", "64bit", "metadata_csum_seed", "orphan_file", "inline_data", "bigalloc"}
FROM_EXT4_ON = {"extent", "flex_bg", "huge_file", "dir_nlink", "extra_isize", "uninit_bg"}


def make_filesystem(profile: FilesystemProfile, image: Path) -> tuple[set[str], int]:
    """The features and the inode size that the filesystem really has."""
    runner = Runner()
    options = ["-O", f"none,{','.join(profile.features)}", "-I", str(profile.inode_size)]
    runner.run(["mke2fs", "-q", "-F", "-t", "ext4", *options, str(image), SIZE])
    runner.run(["e2fsck", "-fn", str(image)])
    shown = runner.read(["dumpe2fs", "-h", str(image)])
    features = re.search(r"^Filesystem features: +(.+)$", shown, re.MULTILINE)
    inode_size = re.search(r"^Inode size:\s+(\d+)$", shown, re.MULTILINE)
    assert features
    assert inode_size
    return set(features[1].split()), int(inode_size[1])


@pytest.mark.parametrize("era", filesystems.ADDED)
@pytest.mark.parametrize("filesystem", ["ext2", "ext3", "ext4"])
def test_mke2fs_makes_just_these_features(era: filesystems.Era, filesystem: str, tmp_path: Path) -> None:
    profile = filesystems.ext_profile(filesystem, era)
    features, inode_size = make_filesystem(profile, tmp_path / "image")
    assert features == set(profile.features)
    assert inode_size == profile.inode_size
    assert ("has_journal" in features) == (filesystem != "ext2")
    if filesystem != "ext4":
        assert not features & (FROM_EXT4_ON | NEWER_THAN_2_6_32)


def test_centos_5_gets_what_its_boot_loader_reads(tmp_path: Path) -> None:
    _, inode_size = make_filesystem(filesystems.ext_profile("ext3", "2.6.18"), tmp_path / "image")
    assert inode_size == 128


@pytest.mark.parametrize("release", DEBIAN_RELEASES)
def test_a_release_gets_what_its_kernel_reads(release: str) -> None:
    profile = debian.get_filesystem_profile(release, "ext4")
    assert bool(NEWER_THAN_2_6_32 & set(profile.features)) == (release != "lucid")
