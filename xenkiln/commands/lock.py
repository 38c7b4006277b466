"""lock:NAME: today's exact packages and the date, written beside the recipe."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from xenkiln import pipeline
from xenkiln.errors import BuildError, RecipeError
from xenkiln.installers.contract import load_installer
from xenkiln.model.loader import LoadedImage
from xenkiln.model.lock import dump_lock, parse_lock
from xenkiln.model.packages import PackagePlan
from xenkiln.stages import packages
from xenkiln.system.files import remove_path, write_finished
from xenkiln.system.locks import hold_lock
from xenkiln.system.progress import show_progress
from xenkiln.system.tools import find_missing, missing_tools_error


def run(loaded: LoadedImage) -> None:
    """Resolve afresh, whatever an earlier lock says, write the lock, and say what moved."""
    paths = pipeline.paths_for(loaded)
    selection = packages.slice_recipe(loaded)
    installer = load_installer(selection.installer)
    missing = find_missing(set(installer.RESOLVE_TOOLS))
    if missing:
        raise missing_tools_error(missing)
    if "repository" in pipeline.slices(loaded) and not pipeline.is_current("repository", loaded):
        with show_progress(f"repository:{loaded.name}") as tell:
            pipeline.run_stage("repository", loaded, tell)
    before = _read_earlier(paths.lock)
    with show_progress(f"lock:{loaded.name}") as tell, hold_lock(paths.cache / "lock", "the package cache", wait=True):
        try:
            plan = installer.resolve_packages(selection, pipeline.make_context("lock", paths, tell))
        finally:
            remove_path(paths.scratch("lock"))
    if not plan.packages:
        raise BuildError("the recipe resolves to no packages at all", place=loaded.file)
    write_finished(paths.lock, dump_lock(replace(plan, request=packages.digest_request(selection)), loaded.name))
    _report(before, plan)
    print(f"{paths.lock.name}: {len(plan.packages)} packages; commit it beside the recipe")


def _read_earlier(path: Path) -> PackagePlan:
    """The lock that is to be replaced; one that cannot be read, after a merge say, is as good as none."""
    try:
        return parse_lock(path) if path.exists() else PackagePlan(0, ())
    except RecipeError:
        return PackagePlan(0, ())


def _report(before: PackagePlan, after: PackagePlan) -> None:
    old = {package.name: package.version for package in before.packages}
    new = {package.name: package.version for package in after.packages}
    for name in sorted(old.keys() | new.keys()):
        if old and old.get(name) != new.get(name):
            print(f"  {name}: {old.get(name, 'new')} -> {new.get(name, 'gone')}")
