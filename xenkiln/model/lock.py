"""Plans and locks as text. A lock lies beside its recipe: recipes/images/NAME.lock.yaml."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, fields
from datetime import UTC, datetime
from pathlib import Path

from xenkiln.errors import Problem, RecipeError
from xenkiln.model.document import read_document
from xenkiln.model.fields import PACKAGE_WORD, check_package, find_repeated
from xenkiln.model.packages import Package, PackagePlan

VERSION = 1
LAST_SECOND = 0xFFFFFFFF
"""Dates of packages have 32 bits: rpm's tags, and the fields of ar and gzip."""


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
             f"version: {VERSION}", f"epoch: {plan.epoch}", f'request: "{plan.request}"', "packages:"]  # fmt: skip
    lines += [f"  - {json.dumps(asdict(package), sort_keys=True, ensure_ascii=False)}" for package in plan.packages]
    return "\n".join(lines) + "\n"


def parse_lock(path: Path) -> PackagePlan:
    """A lock file's plan; raises RecipeError naming the file, and the line where one is known, when it is not one."""
    document = read_document(path, str(path))
    if document.problems:
        raise RecipeError(document.problems)
    return _from_data(document.value, str(path))


def _as_data(plan: PackagePlan) -> dict[str, object]:
    packages = [asdict(package) for package in plan.packages]
    return {"version": VERSION, "epoch": plan.epoch, "request": plan.request, "packages": packages}


def _from_data(data: object, place: str) -> PackagePlan:
    try:
        if not isinstance(data, dict) or data["version"] != VERSION:
            raise ValueError(f"it is not of version {VERSION}")
        packages = tuple(sorted(_read_package(entry) for entry in data["packages"] or ()))
        if repeated := find_repeated(package.full_name for package in packages):
            raise ValueError(f"two entries are the package {repeated[0]}")
        epoch = int(data["epoch"])
        if not 0 <= epoch <= LAST_SECOND:
            raise ValueError(f"epoch: {epoch} is not in 0..{LAST_SECOND}")
        return PackagePlan(epoch, packages, str(data.get("request", "")))
    except (KeyError, TypeError, ValueError) as error:
        raise RecipeError([Problem(place, 0, "", f"not a package lock: {error}")]) from error


def _read_package(entry: dict[str, object]) -> Package:
    """One entry, every field there and of its type: it decides what is fetched and where it is written."""
    types = {field.name: int if field.name in ("size", "installed_kib") else str for field in fields(Package)}
    wrong = [name for name, kind in types.items() if type(entry.get(name)) is not kind]
    if wrong or set(entry) != set(types):
        raise ValueError(f"package {entry.get('name')}: {', '.join(wrong) or 'unknown fields'}")
    if not re.fullmatch(r"[0-9a-f]{64}", str(entry["sha256"])):
        raise ValueError(f"package {entry['name']}: sha256 is not 64 hexadecimal digits")
    package = Package(**entry)  # type: ignore[arg-type]  # checked above
    check_package(package.name, package.version, package.arch, package.location)
    if not PACKAGE_WORD.fullmatch(package.origin):
        raise ValueError(f"package {package.name}: origin: {package.origin!r} is not a repository's name")
    if min(package.size, package.installed_kib) < 0:
        raise ValueError(f"package {package.name}: a size below 0")
    return package
