"""A guest of the lab: what of an image goes where in dom0. Its domain's configuration is used as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from xenkiln.lab.archive import Member, format_settings
from xenkiln.model.domain_config import parse_config

JOB = "run/lab/guests"
DEFAULT_BRIDGE = "xenbr0"


@dataclass(frozen=True)
class GuestFile:
    """A file of the image here, and the path by which the domain's configuration names it."""

    local: Path
    path: str


@dataclass(frozen=True)
class Guest:
    """One image to be booted.

    config: the rendered xl file, used as it is. boot_files: kernel and ramdisk, none where pygrub finds them.
    disks: the root first; each becomes a throw-away overlay. public_key: "" where nobody logs in.
    meta_data: path below latest/ -> body.
    """

    name: str
    config: Path
    boot_files: tuple[GuestFile, ...]
    disks: tuple[GuestFile, ...]
    public_key: str = ""
    meta_data: Mapping[str, str] | None = None

    @property
    def settings(self) -> dict[str, object]:
        """The domain's configuration, read back: key -> value."""
        return {setting.key: setting.value for setting in parse_config(self.config.read_text(encoding="ascii"))}

    @property
    def domain_name(self) -> str:
        """What Xen calls it."""
        return str(self.settings["name"])

    @property
    def memory_mib(self) -> int:
        """What it is given."""
        return int(str(self.settings["memory"]))

    @property
    def is_pvh(self) -> bool:
        """Whether it needs a processor with virtualisation of its own."""
        return self.settings.get("type") == "pvh"


def list_bridges(guest: Guest) -> list[str]:
    """The bridges that its interfaces are plugged into, other than the lab's own."""
    vifs = guest.settings.get("vif", ())
    named = [pair.partition("=")[2] for vif in (vifs if isinstance(vifs, tuple) else ())
             for pair in str(vif).split(",") if pair.startswith("bridge=")]  # fmt: skip
    return [name for name in dict.fromkeys(named) if name != DEFAULT_BRIDGE]


def make_job(guest: Guest, address: str, targets: Sequence[int]) -> list[Member]:
    """The members of the archive that makes dom0 able to create the guest; scripts/host/lab/guest reads it.

    `targets` are the numbers on dom0's SCSI bus of the guest's disks, in their order.
    """
    folder = f"{JOB}/{guest.name}"
    settings = {"DOMAIN": guest.domain_name, "CONFIG": f"/{folder}/xl.cfg", "ADDRESS": address}
    places = "".join(f"{number} {file.path}\n" for number, file in enumerate(guest.boot_files))
    disks = "".join(f"{target} {disk.path}\n" for target, disk in zip(targets, guest.disks, strict=True))
    members = [
        Member(f"{folder}/settings", format_settings(settings)),
        Member(f"{folder}/disks", disks.encode()),
        Member(f"{folder}/bridges", "".join(f"{name}\n" for name in list_bridges(guest)).encode()),
        Member(f"{folder}/authorized-keys", guest.public_key.encode(), 0o600),
        Member(f"{folder}/xl.cfg", guest.config),
        Member(f"{folder}/places", places.encode()),
        *(Member(f"{folder}/files/{number}", file.local) for number, file in enumerate(guest.boot_files)),
    ]
    bodies = list_bodies(guest.meta_data) if guest.meta_data else {}
    return [*members, *(Member(f"{folder}/meta-data/latest/{path}", body.encode()) for path, body in bodies.items())]


def list_bodies(values: Mapping[str, str]) -> dict[str, str]:
    """File -> body below latest/, with an `index` in each folder of meta-data, as EC2 answers for a folder itself."""
    bodies = dict(values)
    folders: dict[str, list[str]] = {}
    for path in values:
        parts = path.split("/")
        for depth in range(1, len(parts)):
            name = parts[depth] + ("/" if depth < len(parts) - 1 else "")
            folders.setdefault("/".join(parts[:depth]), []).append(name)
    for folder, names in folders.items():
        bodies.setdefault(f"{folder}/index", "\n".join(dict.fromkeys(names)))
    return bodies
