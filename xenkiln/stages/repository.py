"""repository:NAME: the package repositories of the recipe that are made on this host."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from xenkiln.errors import BuildError, XenkilnError
from xenkiln.model.loader import LoadedImage
from xenkiln.repositories.contract import list_makers, load_repository_maker
from xenkiln.system.execution import Context
from xenkiln.system.files import hash_file, remove_path
from xenkiln.system.layout import Paths
from xenkiln.system.locks import hold_lock
from xenkiln.system.steps import Do, Step

SUMMARY = "make the package repositories that are made on this host, from its own package manager's packages"
NEEDS: tuple[str, ...] = ()
INDEX = "repodata/repomd.xml"


@dataclass(frozen=True)
class Inputs:
    """Which repositories, and for which architecture."""

    names: tuple[str, ...]
    arch: str


def slice_recipe(loaded: LoadedImage) -> Inputs | None:
    """The recipe's `made_here` repositories; None when it has none."""
    recipe = loaded.recipe
    names = tuple(repository.name for repository in recipe.packages.repositories if repository.made_here)
    return Inputs(names, recipe.arch) if names else None


def list_outputs(inputs: Inputs, paths: Paths) -> list[Path]:
    """The index of each repository: it holds the checksum of everything else."""
    return [paths.repository(name) / INDEX for name in inputs.names]


def list_references(inputs: Inputs, paths: Paths) -> list[Path]:
    """None: the packages come by the host's package manager."""
    return []


def find_problems(inputs: Inputs, paths: Paths) -> list[XenkilnError]:
    """A repository that nobody knows how to make, or not for this architecture."""
    problems: list[XenkilnError] = []
    for name in inputs.names:
        if name not in list_makers():
            problems.append(BuildError(f"no repository {name} can be made here, only {', '.join(list_makers())}",
                                       place=f"{paths.name}: packages.repositories",
                                       next_step="give it baseurls in place of made_here"))  # fmt: skip
        elif inputs.arch not in load_repository_maker(name).ARCHITECTURES:
            known = ", ".join(load_repository_maker(name).ARCHITECTURES)
            problems.append(BuildError(f"repository {name} can only be made for {known}",
                                       place=f"{paths.name}: arch", next_step=f"arch: {known}"))  # fmt: skip
    return problems


def make_steps(inputs: Inputs, paths: Paths) -> list[Step]:
    """Each repository is made in a folder of this build's own, and put in place when it is whole."""
    steps: list[Step] = []
    for name in inputs.names:
        if name in list_makers():
            steps += _make_one(name, paths)
    steps.append(Do("note what the repositories hold", lambda context: _note_identity(inputs, paths, context)))
    return steps


def _make_one(name: str, paths: Paths) -> list[Step]:
    work = paths.work / "repository" / name
    output = work / "output"

    def clear(context: Context) -> None:
        remove_path(work)
        output.mkdir(parents=True)

    def place(context: Context) -> None:
        with hold_lock(paths.repository_lock(name), f"the repository {name}", wait=True):
            place_repository(output, paths.repository(name))
        remove_path(work)

    return [
        Do("start with an empty folder", clear),
        *load_repository_maker(name).make_repository_steps(work, paths.cache / name, output),
        Do(f"put the repository {name} in place", place, writes=(paths.repository(name),)),
    ]


def place_repository(made: Path, target: Path) -> None:
    """Put a finished repository in its place; one that is there and the same stays untouched.

    So another recipe that was built from it does not count as changed.
    """
    index = target / INDEX
    if index.is_file() and hash_file(index) == hash_file(made / INDEX) and _is_whole(made, target):
        return
    remove_path(target)
    made.rename(target)


def _is_whole(made: Path, target: Path) -> bool:
    files = [path.relative_to(made) for path in made.rglob("*") if path.is_file()]
    return all((target / file).is_file() and hash_file(target / file) == hash_file(made / file) for file in files)


def _note_identity(inputs: Inputs, paths: Paths, context: Context) -> None:
    digests = [hash_file(path) for path in list_outputs(inputs, paths)]
    context.identity = hashlib.sha256(" ".join(digests).encode()).hexdigest()
