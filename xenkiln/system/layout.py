"""Where everything lies: one module for all paths."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).parents[2]


def build_folder() -> Path:
    """The output folder: build/ in the project, or XENKILN_BUILD (verify builds elsewhere with it)."""
    return Path(os.environ.get("XENKILN_BUILD") or PROJECT / "build").absolute()


def recipe_folder() -> Path:
    """The image recipes: recipes/images in the project, or XENKILN_RECIPES."""
    return Path(os.environ.get("XENKILN_RECIPES") or PROJECT / "recipes" / "images").absolute()


def kind_folder(kind: str) -> Path:
    """The recipes of another kind, clouds or prebuilt: beside those of images, else the project's own."""
    folder = recipe_folder().parent / kind
    return folder if folder.is_dir() else PROJECT / "recipes" / kind


@dataclass(frozen=True)
class Paths:
    """The paths of one image.

    `images` holds what the user takes away, `work` the layers and records in between, `cache` the
    packages that builds share.
    """

    name: str
    build: Path
    recipes: Path

    @property
    def images(self) -> Path:
        """What the user takes away."""
        return self.build / "images" / self.name

    @property
    def work(self) -> Path:
        """Layers, records, mount points."""
        return self.build / "work" / self.name

    @property
    def cache(self) -> Path:
        """Packages shared between builds; verify's second build shares it too."""
        return Path(os.environ.get("XENKILN_CACHE") or self.build / "cache").absolute()

    @property
    def home(self) -> Path:
        """HOME of the programs that a build runs."""
        return self.work / "home"

    def scratch(self, stage: str) -> Path:
        """Their TMPDIR: what a killed one leaves lies here and not in the host's /tmp."""
        return self.work / "tmp" / stage

    @property
    def lock_file(self) -> Path:
        """Held by the run that builds this image; `lock` is something else."""
        return self.work / "lock"

    @property
    def root(self) -> Path:
        """Where the guest's root is mounted while a stage works on it."""
        return self.work / "root"

    @property
    def lock(self) -> Path:
        """The recipe's lock of package versions, beside it."""
        return self.recipes / f"{self.name}.lock.yaml"

    def repository(self, name: str) -> Path:
        """A package repository that is made on this host."""
        return self.build / "repositories" / name

    def repository_lock(self, name: str) -> Path:
        """Held by the run that changes that repository's files."""
        return self.build / "repositories" / f"{name}.lock"

    def log(self, stage: str) -> Path:
        """A stage's full output."""
        return self.images / "logs" / f"{stage}.log"

    def record(self, stage: str) -> Path:
        """A stage's record."""
        return self.work / f"{stage}.json"

    def layer(self, stage: str) -> Path:
        """The filesystem image that a stage leaves."""
        return self.work / f"{stage}.img"
