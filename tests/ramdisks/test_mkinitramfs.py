"""What mkinitramfs is told: the front-ends, the root's driver, and the image's own configuration left alone."""

from __future__ import annotations

from pathlib import Path

from xenkiln.model.image import Ramdisk
from xenkiln.ramdisks import mkinitramfs
from xenkiln.system.steps import Run, Step, Value, Write

ROOT = Path("/ROOT")


def make_steps(*modules: str, filesystem: str = "ext4") -> list[Step]:
    ramdisk = Ramdisk(maker="mkinitramfs", modules=modules)
    return mkinitramfs.make_ramdisk_steps(ramdisk, filesystem, ROOT, "/tmp/out.img")


def written(steps: list[Step], name: str) -> str:
    (content,) = [step.content for step in steps if isinstance(step, Write) and str(step.path).endswith(name)]
    return str(content)


def test_the_front_ends_and_the_filesystem_come_unasked_and_once() -> None:
    assert written(make_steps(), "/modules") == "xen-blkfront\nxen-netfront\next4\n"
    assert written(make_steps("xen-blkfront", "dm-mod", filesystem="ext3"), "/modules") == (
        "xen-blkfront\nxen-netfront\ndm-mod\next3\n"
    )


def test_what_is_to_be_loaded_first_is_listed_first() -> None:
    ramdisk = Ramdisk(maker="mkinitramfs", modules=("dm-mod",), preload=("loop", "xen-netfront"))
    steps = mkinitramfs.make_ramdisk_steps(ramdisk, "ext4", ROOT, "/tmp/out.img")
    assert written(steps, "/modules") == "loop\nxen-netfront\nxen-blkfront\ndm-mod\next4\n"


def test_our_settings_come_last() -> None:
    steps = make_steps(filesystem="ext3")
    assert any(str(step.path).endswith("/conf.d/zz-xenkiln") for step in steps if isinstance(step, Write))
    settings = dict(line.split("=", 1) for line in written(steps, "zz-xenkiln").splitlines())
    assert settings["MODULES"] == "list"
    assert settings["COMPRESS"] == "gzip"
    assert settings["FSTYPE"] == "ext3"


def test_it_works_on_a_copy_inside_the_root() -> None:
    steps = make_steps()
    assert all(step.root == ROOT for step in steps if isinstance(step, Run | Write))
    copy, run = [step for step in steps if isinstance(step, Run)]
    assert copy.argv == ("cp", "-a", "/etc/initramfs-tools", mkinitramfs.CONF_FOLDER)
    assert run.argv == ("/usr/sbin/mkinitramfs", "-d", mkinitramfs.CONF_FOLDER, "-o", "/tmp/out.img",
                        Value("kernel_version"))  # fmt: skip
    assert all(str(step.path).startswith(mkinitramfs.CONF_FOLDER) for step in steps if isinstance(step, Write))
