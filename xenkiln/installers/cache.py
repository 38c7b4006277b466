"""The package cache: files named by their SHA-256, shared by all builds."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from xenkiln.errors import BuildError
from xenkiln.installers.index_fields import place_by_checksum
from xenkiln.model.packages import Package
from xenkiln.system.files import hash_file, partial_path


def cache_file(cache: Path, package: Package) -> Path:
    """Where a package lies in the cache."""
    return place_by_checksum(cache / "packages", package.sha256)


def keep_file(cache: Path, package: Package, fetched: Path) -> None:
    """Move a fetched file into the cache; raises BuildError when it is not what was promised."""
    found = hash_file(fetched)
    if found != package.sha256:
        fetched.unlink()
        raise BuildError(
            f"{package.full_name} has checksum {found}, {package.sha256} was expected",
            place=package.location,
            next_step="the mirror is broken or was tampered with: try another one, or lock again if this one is right",
        )
    target = cache_file(cache, package)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial_path(target).unlink(missing_ok=True)
    shutil.move(fetched, partial_path(target))
    # Not synced: what a power cut tears is seen by its checksum when it is used, and fetched again.
    partial_path(target).rename(target)


def link_files(files: Sequence[Path], folder: Path, names: Sequence[str]) -> None:
    """Hard links under readable names; copies where the cache lies on another filesystem."""
    for source, name in zip(files, names, strict=True):
        target = place_file(folder, name)
        try:
            os.link(source, target)
        except OSError:
            shutil.copyfile(source, target)


def place_file(folder: Path, name: str) -> Path:
    """Where a file of that name goes in a folder; raises BuildError when it would lie outside, or on another file."""
    target = folder / name
    if target.parent != folder or name in (".", ".."):
        raise BuildError(f"{name!r} is not a file's name", place=str(folder))
    if os.path.lexists(target):
        raise BuildError("two packages would have the same file", place=str(target))
    return target
