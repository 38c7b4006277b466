"""ext2, ext3 and ext4 volumes: what mke2fs is told, so that nothing is left to the host or to chance."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from uuid import UUID, uuid5

from xenkiln.system.steps import Run, Step
from xenkiln.system.templates import TEMPLATES

NAMESPACE = UUID("6f7ae0c5-3d0b-5a6e-9a62-0d5a7b1c9e24")
"""Every id in an image is a uuid5 below this one: the same recipe's name, the same ids."""

BLOCK_BYTES = 4096
BYTES_PER_INODE = 16384
RESERVED_PERCENT = 5  # mke2fs(8): keeps fragmentation low and daemons alive when users fill the disk
JOURNAL_MIB = ((128, 4), (1024, 16), (2048, 32))
"""Up to so many MiB a journal of so many; what ext2fs_default_journal_size of e2fsprogs 1.47 picks."""
LARGEST_JOURNAL_MIB = 64
SMALLEST_WITH_JOURNAL_MIB = 16
SIZE_STEP_MIB = 64
MKE2FS_ENVIRONMENT = (
    # The host's own configuration switches on what old guests cannot read.
    ("MKE2FS_CONFIG", str(TEMPLATES / "mke2fs.conf")),
    # Zeros that are written can be found and given back; a range that is only marked as zero cannot.
    ("UNIX_IO_NOZEROOUT", "1"),
)


@dataclass(frozen=True)
class Volume:
    """One filesystem: the image it belongs to, its own name there, its size and what the guest can read.

    features: the complete list for -O. inode_size in bytes.
    """

    image: str
    name: str
    size_mib: int
    features: tuple[str, ...]
    inode_size: int

    @property
    def journal_mib(self) -> int:
        """The journal's size, 0 for none; fixed here because mke2fs changed its mind between versions."""
        if "has_journal" not in self.features or self.size_mib < SMALLEST_WITH_JOURNAL_MIB:
            return 0
        return next((mib for limit, mib in JOURNAL_MIB if self.size_mib < limit), LARGEST_JOURNAL_MIB)

    @property
    def overhead_mib(self) -> int:
        """What mke2fs itself takes, in MiB, rounded up: journal, inode tables, bitmaps, room to grow."""
        tables = self.size_mib * self.inode_size / BYTES_PER_INODE
        return int(self.journal_mib + tables + self.size_mib / 256) + 2


def derive_uuid(*words: str) -> UUID:
    """The id that these words always have."""
    return uuid5(NAMESPACE, "/".join(words))


def find_size_mib(volume: Volume, content_mib: int) -> int:
    """The smallest size, in steps of 64 MiB, that takes the volume's metadata and `content_mib` of files."""
    size_mib = SIZE_STEP_MIB
    while True:
        grown = Volume(volume.image, volume.name, size_mib, volume.features, volume.inode_size)
        if size_mib - grown.overhead_mib >= content_mib:
            return size_mib
        size_mib += SIZE_STEP_MIB


def make_volume_steps(volume: Volume, target: Path, *, tree: Path | None = None) -> list[Step]:
    """A sparse file and the filesystem in it, holding a copy of `tree` where one is given."""
    features = [name for name in volume.features if name != "has_journal" or volume.journal_mib]
    # mke2fs keeps only the last -E, so it is one.
    extended = [f"hash_seed={derive_uuid(volume.image, volume.name, 'hash')}", "root_owner=0:0",
                "lazy_itable_init=0", "lazy_journal_init=1"]  # fmt: skip
    argv: list[str | Path] = [
        "mke2fs", "-q", "-F", "-b", str(BLOCK_BYTES), "-I", str(volume.inode_size), "-i", str(BYTES_PER_INODE),
        "-m", str(RESERVED_PERCENT), "-O", ",".join(["none", *features]),
        "-U", str(derive_uuid(volume.image, volume.name)), "-E", ",".join(extended),
    ]  # fmt: skip
    argv += ["-J", f"size={volume.journal_mib}"] if volume.journal_mib else []
    argv += ["-d", tree] if tree else []
    what = f"make the filesystem of {volume.name}" + (" from the merged tree" if tree else "")
    return [
        Run(f"make a sparse file of {volume.size_mib} MiB", ("truncate", "-s", f"{volume.size_mib}M", target)),
        Run(what, (*argv, target), env=MKE2FS_ENVIRONMENT, reads=tree),
        # A journal that is no extent is written as zeros.
        Run("give zeros back to the host", ("fallocate", "--dig-holes", target)),
    ]
