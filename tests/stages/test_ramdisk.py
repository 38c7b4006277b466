"""What a finished ramdisk is looked into for."""

from __future__ import annotations

from xenkiln.model.image import Kernel, Ramdisk
from xenkiln.stages.ramdisk import Inputs, list_wanted


def test_every_module_that_the_recipe_names_is_looked_for() -> None:
    ramdisk = Ramdisk(maker="mkinitramfs", modules=("dm-mod",), preload=("loop",))
    assert list_wanted(Inputs(Kernel(), ramdisk, "ext3")) == ["xen-blkfront", "xen-netfront", "loop", "dm-mod", "ext3"]
