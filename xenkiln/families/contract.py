"""What a family module offers. A new distribution family is one new file with these names in it."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

from xenkiln.model.configure import Configure
from xenkiln.model.domain import Domain
from xenkiln.model.image import Disks, ImageRecipe, Kernel
from xenkiln.system.steps import Step

FieldProblem = tuple[tuple[str | int, ...], str]
"""Where in the recipe (("packages", "groups", 0)) and what is wrong there."""


@dataclass(frozen=True)
class FilesystemProfile:
    """What mke2fs may use so that the guest's kernel, e2fsck and boot loader can read the result.

    features: the complete list for -O, nothing else is switched on. inode_size in bytes.
    """

    features: tuple[str, ...]
    inode_size: int


@dataclass(frozen=True)
class Guest:
    """What a recipe says of the guest itself: the slice that families read. root_device as /dev/xvda1."""

    family: str
    release: str
    arch: str
    disks: Disks
    kernel: Kernel
    configure: Configure
    console: str
    root_device: str


def describe_guest(recipe: ImageRecipe) -> Guest:
    """The guest of a recipe."""
    return Guest(recipe.family, recipe.release, recipe.arch, recipe.disks, recipe.kernel, recipe.configure,
                 recipe.configure.console, f"/dev/{recipe.disks.root.device}")  # fmt: skip


class Family(Protocol):
    """A module of xenkiln/families."""

    INSTALLER: str
    """The module of xenkiln/installers that installs its packages."""

    CLEANUP: tuple[str, ...]
    """Globs below the root, removed when the image is sealed: caches, logs, ids, seeds, host traces."""

    TRUNCATE: tuple[str, ...]
    """Globs below the root of files that must exist but be empty in an image."""

    def find_recipe_problems(self, recipe: ImageRecipe) -> list[FieldProblem]:
        """What this family cannot do of this recipe: an unknown release, an arch it never had."""

    def get_filesystem_profile(self, release: str, filesystem: str) -> FilesystemProfile:
        """What that release can read."""

    def make_configure_steps(self, guest: Guest, root: Path) -> Sequence[Step]:
        """Files and commands that make the installed tree at `root` the guest of the recipe.

        fstab, network, hostname, modules to load, console, package sources, device nodes: everything
        whose form differs between distributions. Users, passwords, keys, files and scripts of the
        recipe are common to all and not made here.
        """

    def get_kernel_arguments(self, guest: Guest, domain: Domain) -> str:
        """What the guest's kernel command line needs beside root= and the recipe's `extra`."""


def load_family(name: str) -> Family:
    """The family module of that name."""
    return cast(Family, importlib.import_module(f"xenkiln.families.{name}"))
