"""dracut: CentOS 6 and later, Rocky Linux."""

from __future__ import annotations

from pathlib import Path

from xenkiln.model.image import Ramdisk
from xenkiln.ramdisks.repacking import make_repack_step
from xenkiln.system.layout import PROJECT
from xenkiln.system.steps import Run, Step, Value

FRONT_ENDS = ("xen-blkfront", "xen-netfront")
UNREAD = ()  # hostonly, it copies /etc/hostname
SCRIPT = PROJECT / "scripts" / "guest" / "run-dracut"


def make_ramdisk_steps(ramdisk: Ramdisk, filesystem: str, root: Path, output: str) -> list[Step]:
    """One run, with the front-ends and the root's filesystem; the script picks the options its dracut knows."""
    drivers = dict.fromkeys([*FRONT_ENDS, *ramdisk.modules, filesystem])
    first = " ".join(dict.fromkeys(ramdisk.preload))
    return [
        Run("make the ramdisk with dracut", ("/bin/sh", "-s", "--", output, Value("kernel_version"), first, *drivers),
            root=root, input_text=SCRIPT.read_text(encoding="utf-8")),
        make_repack_step(root, output),
    ]  # fmt: skip
