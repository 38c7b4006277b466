"""mkinitramfs of initramfs-tools: Debian and Ubuntu."""

from __future__ import annotations

from pathlib import Path

from xenkiln.model.image import Ramdisk
from xenkiln.system.steps import Run, Step, Value, Write

FRONT_ENDS = ("xen-blkfront", "xen-netfront")
UNREAD = ("etc/hostname",)
CONF_FOLDER = "/tmp/xenkiln-initramfs"  # noqa: S108  # in the guest's root, on a throw-away overlay

CONF = """\
MODULES=list
BUSYBOX=auto
KEYMAP=n
COMPRESS=gzip
COMPRESSLEVEL=3
DEVICE=
NFSROOT=auto
RUNSIZE=10%
FSTYPE={filesystem}
"""
"""initramfs.conf(5). MODULES=list: the default, `most`, makes a ramdisk five times the size and is the
longest part of a cold build. gzip: what every kernel from 10.04 on unpacks, and written with -n; level 3 is 5 % larger
than the default in half the time."""


def make_ramdisk_steps(ramdisk: Ramdisk, filesystem: str, root: Path, output: str) -> list[Step]:
    """One run with a copy of the image's configuration and our few settings over it; the image keeps its own."""
    # The ramdisk loads them in this order, before anything else.
    modules = dict.fromkeys([*ramdisk.preload, *FRONT_ENDS, *ramdisk.modules, filesystem])
    listed = "".join(f"{module}\n" for module in modules)
    return [
        Run("copy the image's own initramfs configuration",
            ("cp", "-a", "/etc/initramfs-tools", CONF_FOLDER), root=root),
        Write(f"{CONF_FOLDER}/conf.d/zz-xenkiln", CONF.format(filesystem=filesystem), root=root),
        Write(f"{CONF_FOLDER}/modules", listed, root=root),
        Run("make the ramdisk", ("/usr/sbin/mkinitramfs", "-d", CONF_FOLDER, "-o", output, Value("kernel_version")),
            root=root),
    ]  # fmt: skip
