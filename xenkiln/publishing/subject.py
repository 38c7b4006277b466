"""What is published: the files of an image that was built here, or of one that was made elsewhere."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from xenkiln.errors import BuildError, HostError, XenkilnError
from xenkiln.model.image import ImageRecipe
from xenkiln.model.loader import LoadedImage, LoadedPrebuilt
from xenkiln.model.publish import Launch, Publish
from xenkiln.publishing.digests import hash_data
from xenkiln.system.layout import build_folder

Arch = Literal["x86_64", "i386"]
Role = Literal["kernel", "ramdisk", "root"]
ROLES: tuple[Role, ...] = ("kernel", "ramdisk", "root")
"""In the order in which a cloud must know them: a root filesystem names the other two."""
PREFIXES: dict[Role, str] = {"kernel": "vmlinuz", "ramdisk": "initrd", "root": "root"}
"""Eucalyptus before 4.1 takes what begins with vmlinuz for a kernel, with initrd for a ramdisk."""
SUMS, DISK = "SHA256SUMS", "disk.img"
DIGITS = 8


@dataclass(frozen=True)
class Component:
    """A file of an image, what it is to a cloud, and the digest of all that makes it what it is, in hex."""

    role: Role
    file: Path
    digest: str
    name: str


@dataclass(frozen=True)
class Subject:
    """An image that can be published. place: its recipe's file, in `folder`. expected: texts for its console.

    planned_mib: what the recipe makes the root filesystem, 0 for one that is not built here.
    carries_kernel: its own /boot has kernel and menu, as far as is known.
    """

    name: str
    place: str
    arch: Arch
    hostname: str
    root_device: str
    files: dict[Role, Path]
    publish: Publish
    launch: Launch
    folder: Path
    expected: tuple[str, ...] = ()
    boot_seconds: int = 180
    is_built: bool = True
    carries_kernel: bool = True
    planned_mib: int = 0

    @property
    def has_ena(self) -> bool:
        """Whether its kernel drives the network cards of Amazon's Nitro, which start no 32-bit guest."""
        publish = self.publish
        wanted = self.arch == "x86_64" if publish.ena is None else publish.ena
        return publish.virtualization == "hvm" and wanted

    def list_components(self) -> list[Component]:
        """The components there are, with their digests; raises BuildError where a file is missing."""
        sums = self._read_sums() if self.is_built else {}
        found: dict[Role, str] = {}
        components = []
        for role, file in self.files.items():
            found[role] = sums.get(file.name) or hash_data(file)
            digest = self._combine(role, found)
            components.append(Component(role, file, digest, f"{PREFIXES[role]}-{self.name}-{digest[:DIGITS]}"))
        return components

    def _combine(self, role: Role, found: dict[Role, str]) -> str:
        """Another kernel makes another machine of the same root filesystem."""
        parts: list[object] = [role, found[role], self.arch]
        if role == "root":
            settings = self.publish.model_dump(include={"virtualization", "boot_mode", "kernel_id", "ramdisk_id"})
            parts += [self.root_device, settings, dict(found), *(["ena"] if self.has_ena else [])]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def _read_sums(self) -> dict[str, str]:
        path = build_folder() / "images" / self.name / SUMS
        try:
            lines = path.read_text(encoding="ascii").splitlines()
        except FileNotFoundError as error:
            raise BuildError("the image has not been built", place=self.name,
                             next_step=f"doit build:{self.name}") from error  # fmt: skip
        return {name: digest for digest, name in (line.split(maxsplit=1) for line in lines)}

    def find_problems(self) -> Iterator[XenkilnError]:
        """What keeps it from being published anywhere, known before anything is built or sent."""
        for role, file in self.files.items():
            if not self.is_built and not file.is_file():
                yield HostError(f"there is no such {role}: {file}", place=self.place,
                                next_step="put the file there, or correct the recipe")  # fmt: skip


def make_subject(loaded: LoadedImage | LoadedPrebuilt) -> Subject:
    """An image recipe of either kind as what is published."""
    if isinstance(loaded.recipe, ImageRecipe):
        return _make_built(loaded.name, loaded.file, loaded.path.parent, loaded.recipe)
    recipe, folder = loaded.recipe, loaded.path.parent
    named: dict[Role, str | None] = {"kernel": recipe.kernel, "ramdisk": recipe.ramdisk, "root": recipe.root}
    files = {role: folder / Path(text).expanduser() for role, text in named.items() if text}
    return Subject(loaded.name, loaded.file, recipe.arch, loaded.name, recipe.root_device, files, recipe.publish,
                   recipe.launch, folder, is_built=False)  # fmt: skip


def _make_built(name: str, place: str, folder: Path, recipe: ImageRecipe) -> Subject:
    images = build_folder() / "images" / name
    files: dict[Role, Path] = {"root": images / DISK}
    root_device = re.sub("[0-9]+$", "", recipe.disks.root.device)
    if recipe.publish.virtualization == "paravirtual":
        files = {"kernel": images / "vmlinuz", "ramdisk": images / "initrd.img", "root": images / "root.img"}
        files = {role: file for role, file in files.items()
                 if role == "root" or not getattr(recipe.publish, f"{role}_id")}  # fmt: skip
        root_device = recipe.disks.root.device
    expected = (*recipe.boot.console, *(["login:"] if recipe.boot.login and not recipe.boot.console else []))
    return Subject(name, place, recipe.arch, recipe.configure.hostname or name, root_device, files, recipe.publish,
                   recipe.launch, folder, expected, recipe.boot.time_limit_seconds,
                   carries_kernel=recipe.kernel.in_image, planned_mib=recipe.disks.root.size_mib)  # fmt: skip
