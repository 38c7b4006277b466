"""A root image with its kernel and ramdisk, of which tests make others."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from lab_cloud.bundles import Bundle
from lab_cloud.client import Reply
from lab_cloud.running import Running
from xenkiln.lab.cloud.faults import Fault

IMAGE = os.urandom(12000)


def make_root(running: Running, folder: Path) -> Bundle:
    """A root, built; its kernel and ramdisk are registered."""
    kernel = Bundle(running, "vmlinuz", b"kernel", "kernel", kernel="true").publish(folder / "kernel")
    ramdisk = Bundle(running, "initrd", b"ramdisk", "ramdisk", ramdisk="true").publish(folder / "ramdisk")
    return Bundle(running, "root", IMAGE, kernel=kernel, ramdisk=ramdisk).build(folder / "root")


def register(root: Bundle, manifest: bytes) -> Reply:
    root.put({"root.manifest.xml": manifest})
    return root.running.client.ec2("RegisterImage", ImageLocation="images/root.manifest.xml")


def obtain(running: Running, image: str) -> Path:
    """Have an image put together."""
    record = running.cloud.index.find("images", image)
    assert record
    return running.cloud.images.obtain(record)


def check_fails(running: Running, image: str, told: str) -> None:
    with pytest.raises(Fault) as caught:
        obtain(running, image)
    assert told in caught.value.message
    assert not list((running.cloud.folder / "images" / image).glob("*"))


def say(name: str, value: str) -> Callable[[str], str]:
    """Another text in an element of <image>."""

    def change(text: str) -> str:
        changed, count = re.subn(rf"(<{name}(?: [^>]*)?>)[^<]*<", rf"\g<1>{value}<", text, count=1)
        assert count == 1
        return changed

    return change
