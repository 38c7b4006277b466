"""Facts of CentOS and Rocky Linux releases: how they start, what they can read, for which machines they are."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from xenkiln.errors import BuildError
from xenkiln.families.filesystems import Era


@dataclass(frozen=True)
class RedhatRelease:
    """A major release. last_minor: the newest update there is, None while more are to come."""

    major: int
    init: Literal["sysvinit", "upstart", "systemd"]
    era: Era
    last_minor: int | None
    architectures: tuple[str, ...]
    filesystems: tuple[str, ...]
    ramdisk_maker: str
    xen_console: str


_BOTH, _EXT, _EXT4 = ("i386", "x86_64"), ("ext2", "ext3"), ("ext2", "ext3", "ext4")

RELEASES = {
    5: RedhatRelease(5, "sysvinit", "2.6.18", 11, _BOTH, _EXT, "mkinitrd", "xvc0"),
    6: RedhatRelease(6, "upstart", "2.6.32", 10, _BOTH, _EXT4, "dracut", "hvc0"),
    7: RedhatRelease(7, "systemd", "3.10", 9, ("x86_64",), _EXT4, "dracut", "hvc0"),
    8: RedhatRelease(8, "systemd", "3.18", 10, ("x86_64",), _EXT4, "dracut", "hvc0"),
    9: RedhatRelease(9, "systemd", "3.18", None, ("x86_64",), _EXT4, "dracut", "hvc0"),
}
"""Kernels as Red Hat's release notes have them (8: 4.18, 9: 5.14); CentOS 5's ext4 was a preview."""

_OPEN_MINORS = 20
"""How far the updates of a living release are believed."""


def find_release(text: str) -> RedhatRelease | None:
    """The major release of "5.2", "7.9.2009" or "9"; None when there is no such release."""
    parts = re.fullmatch(r"(\d+)(?:\.(\d+)(?:\.\d+)*)?", text)
    release = RELEASES.get(int(parts[1])) if parts else None
    if parts is None or release is None:
        return None
    minors = _OPEN_MINORS if release.last_minor is None else release.last_minor
    return release if int(parts[2] or 0) <= minors else None


def get_release(text: str) -> RedhatRelease:
    """The major release of a recipe; BuildError when there is none."""
    release = find_release(text)
    if release is None:
        raise BuildError(describe_unknown(text), place="release")
    return release


def describe_unknown(text: str) -> str:
    """What to say about a release that there is not."""
    plain = ".".join(re.findall(r"\d+", text))
    if plain != text and find_release(plain):
        return f"unknown release {text!r}; did you mean '{plain}'?"
    ranges = [f"{release.major} (to {release.major}.{release.last_minor})" if release.last_minor else f"{release.major}"
              for release in RELEASES.values()]  # fmt: skip
    return f"unknown release {text!r}; known: {', '.join(ranges)}"
