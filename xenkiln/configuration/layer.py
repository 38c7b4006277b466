"""Reading an overlay's upper layer: what changed, and which of it a ramdisk could contain."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from xenkiln.system.files import hash_file

UNREAD = ("etc/apt", "etc/hosts", "etc/issue", "etc/motd", "etc/network", "etc/ssh",
    "etc/sysconfig/network", "etc/sysconfig/network-scripts", "etc/yum.repos.d", "home", "opt", "root", "srv",
    "usr/share/doc", "var/cache", "var/lib/dpkg", "var/log", "var/tmp")  # fmt: skip
"""What no ramdisk maker reads by itself; a maker names further paths. All else that is changed makes a new ramdisk."""

HOOKS = ("etc/cryptsetup-initramfs", "etc/crypttab", "etc/dracut.conf", "etc/dracut.conf.d", "etc/initramfs-tools",
    "etc/mkinitcpio.conf", "etc/mkinitrd", "etc/sysconfig/mkinitrd", "sbin/mkinitrd", "sbin/dracut", "usr/lib/dracut",
    "usr/sbin/mkinitramfs", "usr/share/dracut", "usr/share/initramfs-tools")  # fmt: skip
"""Where hooks and settings name further files to copy, from anywhere: with one of these changed, all counts."""

OPAQUE = "trusted.overlay.opaque"  # Documentation/filesystems/overlayfs of Linux


def walk_layer(upper: Path) -> Iterator[tuple[str, os.stat_result]]:
    """(path below `upper`, lstat) of everything in it, sorted."""
    for folder, folders, files in os.walk(upper):
        folders.sort()
        for name in sorted([*folders, *files]):
            path = Path(folder) / name
            yield str(path.relative_to(upper)), path.lstat()


def digest_for_ramdisk(upper: Path, unread: Sequence[str] = ()) -> str:
    """SHA-256 over names, modes, owners and contents of what a ramdisk maker could read, `unread` being its own."""
    digest = hashlib.sha256()
    found = list(walk_layer(upper))
    skipped = () if any(_lies_in(name, HOOKS) for name, _ in found) else (*UNREAD, *unread)
    for name, stat in found:
        if _lies_in(name, skipped):
            continue
        path = upper / name
        # Set where a folder was replaced: what lies below it is hidden then.
        opaque = OPAQUE in os.listxattr(path, follow_symlinks=False)
        digest.update(f"{name}\0{stat.st_mode:o} {stat.st_uid}:{stat.st_gid} {stat.st_rdev} {opaque}\0".encode())
        if path.is_symlink():
            digest.update(str(path.readlink()).encode(errors="surrogateescape"))
        elif path.is_file():
            digest.update(hash_file(path).encode())
    return digest.hexdigest()


def _lies_in(name: str, folders: Sequence[str]) -> bool:
    return any(name == folder or name.startswith(f"{folder}/") for folder in folders)


def count_changes(upper: Path) -> str:
    """How much the layer holds, in words."""
    files = sum(1 for name, stat in walk_layer(upper) if not (upper / name).is_dir())
    return f"{files} files changed"
