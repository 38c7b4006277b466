"""What the maker of a repository offers. A new one is one new folder beside this file with these names in it."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Protocol, cast

from xenkiln.system.steps import Step


class RepositoryMaker(Protocol):
    """A package below xenkiln/repositories, named as the recipes name the repository."""

    ARCHITECTURES: tuple[str, ...]
    """What it can be made for, as recipes write it."""

    def make_repository_steps(self, work: Path, cache: Path, output: Path) -> list[Step]:
        """Steps that leave a yum repository (packages and repodata/) in the folder `output`, which is new.

        The same source packages give the same bytes. `work` is an empty folder for whatever lies in
        between, `cache` is shared with other builds, at the same time too. `context.summary` is set.
        """


def list_makers() -> list[str]:
    """The names of all repositories that can be made here."""
    return sorted(path.parent.name for path in Path(__file__).parent.glob("*/__init__.py"))


def load_repository_maker(name: str) -> RepositoryMaker:
    """The maker of the repository of that name; `list_makers` tells which there are."""
    return cast(RepositoryMaker, importlib.import_module(f"xenkiln.repositories.{name}"))
