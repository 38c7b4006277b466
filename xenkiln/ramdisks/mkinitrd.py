"""mkinitrd of CentOS 5, called as the article "Creating a CentOS Xen virtual machine image" does."""

from __future__ import annotations

from pathlib import Path

from xenkiln.model.image import Ramdisk
from xenkiln.ramdisks.repacking import make_repack_step
from xenkiln.system.steps import Run, Step, Value

FRONT_ENDS = ("xennet", "xenblk")
UNREAD = ("etc/hostname",)
DISK_DRIVER = "xenblk"


def make_ramdisk_steps(ramdisk: Ramdisk, filesystem: str, root: Path, output: str) -> list[Step]:
    """The root's filesystem is not named: mkinitrd takes it from the guest's own /etc/fstab."""
    modules = dict.fromkeys([*ramdisk.modules, *FRONT_ENDS])
    preload = dict.fromkeys([*ramdisk.preload, DISK_DRIVER])
    options = ["--omit-scsi-modules", *(f"--with={name}" for name in modules),
               *(f"--preload={name}" for name in preload)]  # fmt: skip
    return [
        Run("make the ramdisk", ("mkinitrd", *options, output, Value("kernel_version")), root=root),
        make_repack_step(root, output),
    ]
