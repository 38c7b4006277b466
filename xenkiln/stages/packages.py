"""packages:NAME: which packages exactly, fetched and checked."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from xenkiln.errors import BuildError, XenkilnError
from xenkiln.families.contract import load_family
from xenkiln.installers.contract import Selection, load_installer
from xenkiln.model.loader import LoadedImage
from xenkiln.model.lock import dump_plan, parse_lock, parse_plan
from xenkiln.model.packages import PackagePlan
from xenkiln.system.execution import Context
from xenkiln.system.files import partial_path
from xenkiln.system.layout import Paths
from xenkiln.system.locks import hold_lock
from xenkiln.system.steps import Do, Finish, Step

SUMMARY = "resolve and fetch the packages, exactly those of the lock where there is one"
NEEDS = ("repository",)


def slice_recipe(loaded: LoadedImage) -> Selection:
    """What decides which packages there are."""
    recipe = loaded.recipe
    installer = load_family(recipe.family).INSTALLER
    return Selection(recipe.family, installer, recipe.release, recipe.arch, recipe.packages)


def list_outputs(inputs: Selection, paths: Paths) -> list[Path]:
    """The plan."""
    return [plan_path(paths)]


def list_references(inputs: Selection, paths: Paths) -> list[Path]:
    """The lock, and the keys that signatures are checked with."""
    keys = [key for repository in inputs.packages.repositories for key in repository.gpgkeys]
    keys += [inputs.packages.keyring] if inputs.packages.keyring else []
    return [paths.lock, *(paths.recipes / key for key in keys)]


def find_problems(inputs: Selection, paths: Paths) -> list[XenkilnError]:
    """A lock that cannot be read, a key that is not there."""
    problems = load_installer(inputs.installer).find_problems(inputs, paths)
    if paths.lock.exists():
        try:
            problems += find_lock_problems(parse_lock(paths.lock), inputs, paths)
        except XenkilnError as error:
            problems.append(error)
    return problems


def find_lock_problems(lock: PackagePlan, inputs: Selection, paths: Paths) -> list[XenkilnError]:
    """A recipe that asks for something else than when it was locked; a lock made by hand may not say."""
    if lock.request in ("", digest_request(inputs)):
        return []
    return [BuildError("the recipe asks for other packages than when it was locked", place=str(paths.lock),
                       next_step=f"doit lock:{paths.name}; or put the packages section back as it was")]  # fmt: skip


def digest_request(selection: Selection) -> str:
    """SHA-256 over what decides which packages are meant; from which mirror they come does not."""
    packages = selection.packages
    asked = [selection.family, selection.release, selection.arch, packages.suites, packages.components,
             packages.variant, packages.groups, packages.install, packages.exclude, packages.weak_dependencies,
             [repository.name for repository in packages.repositories if repository.enabled]]  # fmt: skip
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()


def check_date(plan: PackagePlan) -> None:
    """Every time in an image is clamped to the plan's date; one that has not come would clamp nothing."""
    if plan.epoch > time.time():
        date = datetime.fromtimestamp(plan.epoch, UTC).isoformat()
        raise BuildError(f"the packages are from {date}, which this host's clock has not reached",
                         next_step="set the clock, or correct the lock's epoch")  # fmt: skip


def plan_path(paths: Paths) -> Path:
    """The resolved plan of the image."""
    return paths.work / "packages.plan.json"


def read_plan(paths: Paths) -> PackagePlan:
    """The plan that this stage left."""
    return parse_plan(plan_path(paths).read_text(encoding="utf-8"), place=str(plan_path(paths)))


def make_steps(inputs: Selection, paths: Paths) -> list[Step]:
    """Decide, fetch, write down."""
    installer = load_installer(inputs.installer)

    def prepare(context: Context) -> None:
        locked = parse_lock(paths.lock) if paths.lock.exists() else None
        with hold_lock(paths.cache / "lock", "the package cache", wait=True):
            plan = locked or replace(installer.resolve_packages(inputs, context), request=digest_request(inputs))
            if not plan.packages:
                raise BuildError("the recipe resolves to no packages at all", place=paths.name)
            check_date(plan)
            installer.fetch_packages(inputs, plan, context)
        partial_path(plan_path(paths)).write_text(dump_plan(plan), encoding="utf-8")
        context.values["epoch"] = str(plan.epoch)
        context.values["installed_mib"] = str(plan.installed_mib)
        context.identity = plan.identity
        megabytes = sum(package.size for package in plan.packages) / 1e6
        context.summary = f"{len(plan.packages)} packages, {megabytes:.1f} MB" + (", as locked" if locked else "")

    what = f"take the packages of {paths.lock.name}" if paths.lock.exists() else "resolve the packages"
    return [
        Do(f"{what}, fetch and check them", prepare, installer.RESOLVE_TOOLS,
           (paths.cache / "packages",)),
        Finish(plan_path(paths)),
    ]  # fmt: skip
