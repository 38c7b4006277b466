"""Plans and locks as text. A lock lies beside its recipe: recipes/images/NAME.lock.yaml."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import yaml

from xenkiln.errors import Problem, RecipeError
from xenkiln.model.packages import Package, PackagePlan

VERSION = 1


def dump_plan(plan: PackagePlan) -> str:
    """A plan as JSON text."""
    return json.dumps(_as_data(plan), indent=1, sort_keys=True) + "\n"


def parse_plan(text: str, *, place: str) -> PackagePlan:
    """A plan from JSON text."""
    return _from_data(json.loads(text), place)


def dump_lock(plan: PackagePlan, name: str) -> str:
    """A plan as a lock file: YAML, one package a line, so that a diff shows what moved."""
    date = datetime.fromtimestamp(plan.epoch, UTC).isoformat()
    lines = [f"# Exact packages of {name}; all timestamps are clamped to {date}. Made by: doit lock:{name}",
             f"version: {VERSION}", f"epoch: {plan.epoch}", "packages:"]  # fmt: skip
    lines += [f"  - {json.dumps(asdict(package), sort_keys=True)}" for package in plan.packages]
    return "\n".join(lines) + "\n"


def parse_lock(path: Path) -> PackagePlan:
    """A lock file's plan; raises RecipeError naming the file when it is not one."""
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError([Problem(str(path), 0, "", f"not YAML: {error}")]) from error
    return _from_data(data, str(path))


def _as_data(plan: PackagePlan) -> dict[str, object]:
    return {"version": VERSION, "epoch": plan.epoch, "packages": [asdict(package) for package in plan.packages]}


def _from_data(data: object, place: str) -> PackagePlan:
    try:
        if not isinstance(data, dict) or data["version"] != VERSION:
            raise ValueError(f"not a lock of version {VERSION}")
        packages = tuple(sorted(Package(**entry) for entry in data["packages"]))
        return PackagePlan(int(data["epoch"]), packages)
    except (KeyError, TypeError, ValueError) as error:
        raise RecipeError([Problem(place, 0, "", f"not a package lock: {error}")]) from error
