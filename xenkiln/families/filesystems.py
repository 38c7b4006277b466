"""ext2, ext3, ext4 as guests of a given age can read them."""

from __future__ import annotations

from typing import Literal

from xenkiln.families.contract import FilesystemProfile

Era = Literal["2.6.18", "2.6.32", "3.10", "3.18"]
"""The oldest kernel that must read it; its distribution's e2fsck and boot loader are as old."""

BASE = ("ext_attr", "resize_inode", "dir_index", "filetype", "sparse_super", "large_file")
EXT4 = ("extent", "flex_bg", "huge_file", "dir_nlink", "extra_isize")
ADDED = {"2.6.18": (), "2.6.32": ("uninit_bg",), "3.10": ("uninit_bg", "64bit"), "3.18": ("64bit", "metadata_csum")}
"""ext4(5) names the kernel of each feature: metadata_csum 3.18, 64bit 2.6.28 (mke2fs's default from 1.43)."""


def ext_profile(filesystem: str, era: Era) -> FilesystemProfile:
    """The whole list of features and the inode size in bytes.

    Inodes were 128 bytes by default until e2fsprogs 1.41 (2008), and pygrub of CentOS 5's Xen reads
    no others.
    """
    journal = () if filesystem == "ext2" else ("has_journal",)
    extra = (*EXT4, *ADDED[era]) if filesystem == "ext4" else ()
    return FilesystemProfile(tuple(sorted((*journal, *BASE, *extra))), 128 if era == "2.6.18" else 256)
