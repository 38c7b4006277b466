"""A Xen host as its own programs describe it: domains, files, space, logical volumes. POSIX sh and coreutils."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from xenkiln.errors import CommandError, HostError
from xenkiln.model.domain import Deploy
from xenkiln.system.commands import Runner
from xenkiln.system.ssh import Remote, connect

REPORT = ("--noheadings", "--nosuffix", "--units", "b")
"""Sizes as plain bytes: options that the LVM of CentOS 5 has too."""


@dataclass(frozen=True)
class Volume:
    """A logical volume: its size in bytes, and whether somebody has it open."""

    size: int
    is_open: bool


@dataclass(frozen=True)
class Group:
    """A volume group: the size of an extent and what is free, both in bytes, and its volumes by name."""

    extent: int
    free: int
    volumes: dict[str, Volume]

    def round_up(self, size: int) -> int:
        """What a volume for `size` bytes takes."""
        return -(-size // self.extent) * self.extent


@dataclass(frozen=True)
class XenHost:
    """A connected Xen host and the toolstack that it is driven with: xl or xm."""

    remote: Remote
    toolstack: str

    def find_missing_programs(self, names: Sequence[str]) -> list[str]:
        """Those programs that are not on the PATH there."""
        script = 'for name; do command -v "$name" >/dev/null || echo "$name"; done'
        return self.remote.run(["sh", "-c", script, "sh", *names]).out.split()

    def list_domains(self) -> set[str]:
        """Names of all domains, xm's inactive ones too."""
        try:
            lines = self.remote.run([self.toolstack, "list"]).out.splitlines()
        except CommandError as error:
            raise HostError(
                f"`{self.toolstack} list` fails: {' '.join(error.last_lines)}",
                place=self.remote.name,
                next_step="boot that host into Xen, log in as root there, or correct deploy.toolstack",
            ) from error
        return {line.split()[0] for line in lines[1:] if line.strip()}

    def find_kind(self, path: str) -> Literal["folder", "file", "nothing"]:
        """What there is of that name; a device is a file too."""
        script = 'if [ -d "$1" ]; then echo folder; elif [ -e "$1" ]; then echo file; fi'
        found = self.remote.run(["sh", "-c", script, "sh", path]).out.strip()
        return "folder" if found == "folder" else "file" if found == "file" else "nothing"

    def find_existing_folder(self, path: str) -> tuple[str, bool]:
        """The path itself or the nearest folder above it that there is, and whether we may write to it."""
        script = """place=$1
while [ ! -d "$place" ]; do place=$(dirname "$place"); done
echo "$place"
if [ -w "$place" ]; then echo writable; fi"""
        lines = self.remote.run(["sh", "-c", script, "sh", path]).out.splitlines()
        return lines[0], len(lines) > 1

    def find_free_bytes(self, folder: str) -> int:
        """What df(1) calls available, in bytes."""
        return int(self.remote.run(["df", "-Pk", folder]).out.splitlines()[-1].split()[-3]) * 1024

    def find_allocated_bytes(self, paths: Sequence[str]) -> int:
        """What files take on disk together, in bytes; a missing one takes none."""
        lines = self.remote.run(["du", "-k", *paths], accept=(0, 1)).out.splitlines()
        return sum(int(line.split()[0]) for line in lines) * 1024

    def make_folders(self, *paths: str) -> None:
        """Make folders that are ours alone: images hold password hashes."""
        self.remote.run(["sh", "-c", 'umask 077 && mkdir -p "$@"', "sh", *paths])

    def write_text(self, path: str, text: str) -> None:
        """Write a small file whole or not at all."""
        script = 'cat >"$1.partial" && mv -f "$1.partial" "$1"'
        self.remote.run(["sh", "-c", script, "sh", path], input_text=text)

    def read_ledger(self, path: str) -> dict[str, str]:
        """What was delivered to that host, path -> SHA-256; in the format of sha256sum(1)."""
        lines = self.remote.run(["cat", path], accept=(0, 1)).out.splitlines()
        pairs = (line.partition("  ") for line in lines)
        return {place: digest for digest, _, place in pairs}

    def write_ledger(self, path: str, delivered: dict[str, str]) -> None:
        """Replace what read_ledger reads."""
        self.write_text(path, "".join(f"{digest}  {place}\n" for place, digest in sorted(delivered.items())))

    def read_group(self, name: str) -> Group | None:
        """A volume group and its volumes, None when there is none of that name."""
        found = self.remote.run(["vgs", *REPORT, "-o", "vg_extent_size,vg_free", name], accept=(0, 5))
        if found.code:
            return None
        extent, free = map(int, found.out.split())
        listed = self.remote.run(["lvs", *REPORT, "-o", "lv_name,lv_size,lv_attr", name]).out.splitlines()
        # The sixth letter of lv_attr is o for an open device, lvs(8).
        volumes = {word[0]: Volume(int(word[1]), word[2][5] == "o") for word in map(str.split, listed) if word}
        return Group(extent, free, volumes)

    def make_volume(self, group: str, name: str, extents: int) -> None:
        """Make a logical volume; it is not cleared, since all of it will be written."""
        self.remote.run(["lvcreate", "--zero", "n", "--name", name, "--extents", str(extents), group])

    def start_domain(self, config: str) -> None:
        """Create the domain of a configuration file."""
        self.remote.run([self.toolstack, "create", config])


@contextmanager
def open_host(deploy: Deploy, runner: Runner) -> Iterator[XenHost]:
    """Connect to the host of a deploy section; commands and answers go to the runner's log."""
    with connect(deploy, runner.note) as remote:
        yield XenHost(remote, deploy.toolstack)
