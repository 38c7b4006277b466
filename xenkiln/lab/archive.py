"""Archives that dom0 unpacks from a disk: no crypto, no protocol, the fastest way into an emulated machine."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Member:
    """A file of an archive: its path inside, and its content or the file that has it."""

    path: str
    content: bytes | Path
    mode: int = 0o644


def write_archive(target: Path, members: Sequence[Member]) -> None:
    """Write a tar file that nobody else may read: there are keys in it. Its size is a whole number of sectors."""
    target.touch(mode=0o600)
    with tarfile.open(target, "w", format=tarfile.GNU_FORMAT) as archive:
        for member in members:
            entry = tarfile.TarInfo(member.path)
            entry.mode = member.mode
            if isinstance(member.content, Path):
                entry.size = member.content.stat().st_size
                with member.content.open("rb") as stream:
                    archive.addfile(entry, stream)
            else:
                entry.size = len(member.content)
                archive.addfile(entry, io.BytesIO(member.content))


def format_settings(settings: dict[str, str]) -> bytes:
    """Variables as a POSIX shell reads them. Raises ValueError for a value that would need quoting."""
    for name, value in settings.items():
        if any(letter in value for letter in "'\n\\"):
            raise ValueError(f"{name} is not plain: {value!r}")
    return "".join(f"{name}='{value}'\n" for name, value in settings.items()).encode()
