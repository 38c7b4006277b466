"""A Xen host as its own programs describe it: domains, files, space, logical volumes. POSIX sh and coreutils."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath

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

    def has_program(self, name: str) -> bool:
        """Whether a program is on the PATH there."""
        return self.remote.succeeds(["sh", "-c", 'command -v "$1" >/dev/null', "sh", name])

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

    def exists(self, path: str) -> bool:
        """Whether there is anything of that name."""
        return self.remote.succeeds(["test", "-e", path])

    def is_folder(self, path: str) -> bool:
        """Whether that is a folder."""
        return self.remote.succeeds(["test", "-d", path])

    def find_existing_folder(self, path: str) -> str:
        """The path itself, or the nearest folder above it that there is."""
        places = [path, *map(str, PurePosixPath(path).parents)]
        return next((place for place in places if self.is_folder(place)), "/")

    def can_write(self, folder: str) -> bool:
        """Whether we may make files in that folder."""
        return self.remote.succeeds(["test", "-w", folder])

    def find_free_bytes(self, folder: str) -> int:
        """What df(1) calls available, in bytes."""
        return int(self.remote.run(["df", "-Pk", folder]).out.splitlines()[-1].split()[-3]) * 1024

    def find_allocated_bytes(self, path: str) -> int:
        """What a file takes on disk, 0 for none."""
        out = self.remote.run(["du", "-k", path], accept=(0, 1)).out.split()
        return int(out[0]) * 1024 if out else 0

    def make_folder(self, path: str) -> None:
        """Make a folder that is root's alone: images hold password hashes."""
        self.remote.run(["sh", "-c", 'umask 077 && mkdir -p "$1"', "sh", path])

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
