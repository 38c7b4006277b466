"""A built tiny, and Amazon: as a double that refuses what EC2 and EBS refuse, or as moto's server."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from xenkiln.commands import deregister, publish
from xenkiln.model.image import Kernel
from xenkiln.model.loader import LoadedCloud, load_image
from xenkiln.model.publish import Publish
from xenkiln.publishing.records import Records, records_for
from xenkiln.publishing.subject import Subject, make_subject
from xenkiln.publishing.target import Target, make_target
from xenkiln.system.layout import PROJECT

AKI = "aki-880531cd"
HVM = {"virtualization": "hvm"}
PV_GRUB = {"kernel_id": AKI}
OLD_KIND = {"kernel_id": AKI, "description": "no menu in it"}
BLOCK = 524288


@dataclass(frozen=True)
class Desk:
    """A built tiny, and Amazon."""

    subject: Subject
    cloud: LoadedCloud
    images: Path

    @property
    def records(self) -> Records:
        return records_for(self.cloud.name, "tiny")

    @property
    def target(self) -> Target:
        return make_target(self.cloud)

    def publish(self) -> str:
        """The id of the AMI."""
        publish.check(self.subject, self.cloud)
        publish.run(self.subject, self.cloud)
        return self.records.read("registered")["root.id"]

    def deregister(self) -> None:
        deregister.run(self.subject, self.cloud)

    def write(self, name: str, data: bytes) -> None:
        with (self.images / name).open("wb") as stream:
            stream.write(data)
            stream.truncate(3 << 20)
        files = self.images.glob("*[gz]")
        lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files]
        (self.images / "SHA256SUMS").write_text("".join(lines))


def make_tiny_for(section: dict[str, Any]) -> Subject:
    """As shipped, but for how it is published."""
    loaded = load_image(PROJECT / "recipes" / "images" / "tiny.yaml")
    kernel = Kernel(in_image=section is not OLD_KIND)
    recipe = loaded.recipe.model_copy(update={"publish": Publish(**section), "kernel": kernel})
    return replace(make_subject(replace(loaded, recipe=recipe)), expected=())


def as_filesystem(mark: bytes) -> bytes:
    """What an ext filesystem is known by."""
    return bytes(1080) + b"\x53\xef" + mark


def as_disk(mark: bytes, boot_code: bytes = b"\xeb\x63\x90GRUB") -> bytes:
    """A disk with one partition; without boot code no BIOS starts it."""
    table = struct.pack("<4B4BII", 0x80, 0, 0, 0, 0x83, 0, 0, 0, 2048, 2048) + bytes(48)
    return boot_code.ljust(446, b"\0") + table + b"\x55\xaa" + mark
