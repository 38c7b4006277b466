"""/etc/fstab from the recipe's disks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from xenkiln.families.contract import Guest
from xenkiln.system.execution import Context
from xenkiln.system.files import resolve_in_root
from xenkiln.system.steps import Do, Step

Row = tuple[str, str, str, str, int, int]
"""fstab(5): what, where, type, options, dump, order of checking."""


def render_fstab(guest: Guest, *, pseudo: Sequence[Row], ephemeral_option: str = "nofail") -> str:
    """The root, the family's pseudo filesystems, swap, extra disks, and the recipe's own lines.

    ephemeral_option lets the guest boot without a disk that its cloud may not give it.
    """
    disks = guest.disks
    root = disks.root
    rows: list[Row] = [(guest.root_device, "/", root.filesystem, root.mount_options, 1, 1), *pseudo]
    if disks.swap:
        rows.append((f"/dev/{disks.swap.device}", "none", "swap", "sw", 0, 0))
    for disk in disks.extra:
        options = f"{disk.mount_options},{ephemeral_option}" if disk.ephemeral else disk.mount_options
        rows.append((f"/dev/{disk.device}", disk.mount, disk.filesystem, options, 0, 0 if disk.ephemeral else 2))
    rows += [(mount.what, mount.where, mount.type, mount.options, mount.dump, mount.check_pass)
             for mount in guest.configure.mounts]  # fmt: skip
    return "".join("{:<15} {:<15} {:<7} {:<16} {} {}\n".format(*row) for row in rows)


def make_mount_points(guest: Guest, root: Path) -> list[Step]:
    """The folders that fstab's extra disks and lines are mounted on: without them a guest stops at boot."""
    places = [disk.mount for disk in guest.disks.extra]
    places += [mount.where for mount in guest.configure.mounts if mount.where != "none"]

    def make_folders(context: Context) -> None:
        for place in places:
            resolve_in_root(root, place).mkdir(parents=True, exist_ok=True)

    if not places:
        return []
    return [Do(f"make the mount points {', '.join(places)}", make_folders,
               writes=tuple(root / place.lstrip("/") for place in places))]  # fmt: skip
