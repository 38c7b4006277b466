"""A recipe of an image that was made elsewhere: recipes/prebuilt/NAME.yaml. It names files, which are published."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import model_validator

from xenkiln.model.fields import Device, Line, Section, fault_at, match_shape
from xenkiln.model.publish import Launch, Publish

FilePath = Annotated[
    str, match_shape(r"^(~/|[^~\n])[^\n]*$",
                     "a file's path: absolute, with ~/ in front, or as seen from the recipe's folder")
]


class PrebuiltRecipe(Section):
    """Files that make an image: a root filesystem or a disk, and kernel and ramdisk where it needs them."""

    summary: Line
    arch: Literal["x86_64", "i386"] = "x86_64"
    root: FilePath
    kernel: FilePath | None = None
    ramdisk: FilePath | None = None
    root_device: Device = "sda1"
    publish: Publish = Publish()
    launch: Launch = Launch()

    @model_validator(mode="after")
    def check_files(self) -> PrebuiltRecipe:
        """A kernel is given once, and hvm has none."""
        for name in ("kernel", "ramdisk"):
            if getattr(self, name) and getattr(self.publish, f"{name}_id"):
                raise fault_at((name,), f"is given as a file and as publish.{name}_id: give one of them")
            if getattr(self, name) and self.publish.virtualization == "hvm":
                raise fault_at((name,), "hvm boots what is on its disk: leave it out")
        return self
