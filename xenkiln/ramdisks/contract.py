"""What a ramdisk maker offers. A new one is one new file with these names in it."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Protocol, cast

from xenkiln.model.image import Ramdisk
from xenkiln.system.steps import Step


class RamdiskMaker(Protocol):
    """A module of xenkiln/ramdisks."""

    FRONT_ENDS: tuple[str, ...]
    """The modules that a Xen guest of its time cannot boot without (xen-blkfront, or xenblk)."""
    UNREAD: tuple[str, ...]
    """Paths below the root that it does not read, besides those that none does (configuration/layer.py)."""

    def make_ramdisk_steps(self, ramdisk: Ramdisk, filesystem: str, root: Path, output: str) -> list[Step]:
        """Steps that leave the ramdisk at `output`, a path inside the mounted guest's root.

        `Value("kernel_version")` stands for the kernel's version. The root is a throw-away overlay:
        nothing but `output` is taken from it. Programs run inside the root (Run(root=root)).
        """


def load_ramdisk_maker(name: str) -> RamdiskMaker:
    """The ramdisk maker of that name."""
    return cast(RamdiskMaker, importlib.import_module(f"xenkiln.ramdisks.{name}"))
