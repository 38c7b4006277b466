"""bootstrap:NAME: the packages, installed into a mounted root by the distribution's own tool."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from xenkiln.errors import BuildError, XenkilnError
from xenkiln.installers.contract import Selection, load_installer
from xenkiln.model.loader import LoadedImage
from xenkiln.stages import packages
from xenkiln.system.execution import Context
from xenkiln.system.files import copy_sparse, partial_path, remove_path
from xenkiln.system.layout import Paths
from xenkiln.system.locks import hold_lock
from xenkiln.system.steps import Do, Finish, Mount, Release, Step

SUMMARY = "install the packages through a loop mount"
NEEDS = ("packages", "filesystem")


@dataclass(frozen=True)
class Inputs:
    """What decides the installed tree: nothing but the packages."""

    selection: Selection


def slice_recipe(loaded: LoadedImage) -> Inputs:
    """The package selection; which packages that means comes from the packages stage."""
    return Inputs(packages.slice_recipe(loaded))


def list_outputs(inputs: Inputs, paths: Paths) -> list[Path]:
    """The base layer, read-only from here on."""
    return [paths.layer("bootstrap")]


def list_references(inputs: Inputs, paths: Paths) -> list[Path]:
    """None: keys were used when the packages were fetched, and their digests are in the plan."""
    return []


def find_problems(inputs: Inputs, paths: Paths) -> list[XenkilnError]:
    """None beyond tools and root."""
    return []


def make_steps(inputs: Inputs, paths: Paths) -> list[Step]:
    """Lay out the packages, copy the empty filesystem, mount it, install, compare with the plan."""
    installer = load_installer(inputs.selection.installer)
    image, root, repository = paths.layer("bootstrap"), paths.root, paths.work / "packages"

    def lay_out(context: Context) -> None:
        plan = packages.read_plan(paths)
        remove_path(repository)
        repository.mkdir(parents=True)
        with hold_lock(paths.cache / "lock", "the package cache", wait=True):
            files = installer.fetch_packages(inputs.selection, plan, context)
            installer.make_repository(inputs.selection, plan, files, repository, context)

    def copy_empty(context: Context) -> None:
        copy_sparse(paths.layer("filesystem"), partial_path(image))

    def compare_installed(context: Context) -> None:
        check_installed(
            [(package.name, package.version, package.arch) for package in packages.read_plan(paths).packages],
            installer.read_installed(inputs.selection, root, context),
        )
        context.summary = f"{len(packages.read_plan(paths).packages)} packages installed, as planned"

    return [
        Do("lay out the packages as a repository of just these", lay_out, installer.RESOLVE_TOOLS, (repository,)),
        Do("copy the empty filesystem", copy_empty, writes=(partial_path(image),)),
        # Discarding lets the space of deleted packages go back to the host while we work.
        Mount("image", root, partial_path(image), read_only=False, options="discard,nobarrier"),
        *installer.make_bootstrap_steps(inputs.selection, repository, root),
        Do("compare what is installed with the plan", compare_installed),
        Release(),
        Finish(image),
        Do("remove the repository", lambda context: remove_path(repository)),
    ]


def check_installed(planned: list[tuple[str, str, str]], installed: list[tuple[str, str, str]]) -> None:
    """Raise BuildError naming every package that is missing or should not be there."""
    missing = sorted(set(planned) - set(installed))
    extra = sorted(set(installed) - set(planned))
    if missing or extra:
        lines = [f"missing: {' '.join(package)}" for package in missing]
        lines += [f"not planned: {' '.join(package)}" for package in extra]
        raise BuildError(
            "the target's own list of packages differs from the plan:\n  " + "\n  ".join(lines[:20]),
            next_step="look for scripts that failed in the log; packages.exclude leaves one out",
        )
