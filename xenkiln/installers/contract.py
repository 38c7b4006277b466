"""What an installer module offers: resolve, fetch, install exactly that. One file per package manager."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

from xenkiln.errors import XenkilnError
from xenkiln.model.image import Packages
from xenkiln.model.packages import PackagePlan
from xenkiln.system.execution import Context
from xenkiln.system.layout import Paths
from xenkiln.system.steps import Step


@dataclass(frozen=True)
class Selection:
    """The slice of a recipe that choosing and installing packages reads."""

    family: str
    installer: str
    release: str
    arch: str
    packages: Packages


class Installer(Protocol):
    """A module of xenkiln/installers.

    The work is in three parts, so that a mirror is only asked in the first two and what is
    installed is exactly what was planned: resolve (or read the lock), fetch, and install from a
    local repository (`paths.work / "packages"`) that holds those packages and no others.
    """

    RESOLVE_TOOLS: tuple[str, ...]
    """The host's programs that the first two parts run."""

    def find_problems(self, selection: Selection, paths: Paths) -> list[XenkilnError]:
        """What would stop it and can be known before it asks a mirror: keys that are not there."""

    def resolve_packages(self, selection: Selection, context: Context) -> PackagePlan:
        """Ask the mirrors what the selection means today. Signatures of indexes are checked."""

    def fetch_packages(self, selection: Selection, plan: PackagePlan, context: Context) -> list[Path]:
        """Every package of the plan in the shared cache, checked against the plan's SHA-256, in plan order.

        Retries with backoff, then the next mirror. A package that no mirror has any more raises one
        BuildError that lists all such packages.
        """

    def make_repository(self, selection: Selection, plan: PackagePlan, files: list[Path], folder: Path,
                        context: Context) -> None:  # fmt: skip
        """A local repository of exactly these files in `folder` (hard links, no copies)."""

    def make_bootstrap_steps(self, selection: Selection, repository: Path, root: Path) -> list[Step]:
        """The steps that install all of `repository` into the mounted, empty root."""

    def read_installed(self, selection: Selection, root: Path, context: Context) -> list[tuple[str, str, str]]:
        """(name, version, arch) of each installed package, sorted, as the target's own tool says.

        Where the target has no such tool (tiny) the host's reads the target's database.
        """


def load_installer(name: str) -> Installer:
    """The installer module of that name."""
    return cast(Installer, importlib.import_module(f"xenkiln.installers.{name}"))
