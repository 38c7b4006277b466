"""What an installation leaves in the guest's root, found without following the guest's links on this host."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path

from xenkiln.system.files import remove_path, resolve_in_root


def find_in_root(root: Path, pattern: str) -> list[Path]:
    """What lies at a guest's path, sorted; its last part may be a shell pattern, and is not followed as a link."""
    folder, _, name = pattern.rpartition("/")
    place = resolve_in_root(root, folder)
    return sorted(path for path in place.iterdir() if fnmatchcase(path.name, name)) if place.is_dir() else []


def remove_in_root(root: Path, patterns: Iterable[str]) -> None:
    """Remove files, links and folders of the guest."""
    for pattern in patterns:
        for path in find_in_root(root, pattern):
            remove_path(path)


def remove_empty_folders(root: Path, guest_path: Path) -> None:
    """Remove a folder of the guest when it is empty, then those above it."""
    for path in (guest_path, *guest_path.parents):
        folder = resolve_in_root(root, str(path))
        if folder == root or not folder.is_dir() or any(folder.iterdir()):
            return
        folder.rmdir()
