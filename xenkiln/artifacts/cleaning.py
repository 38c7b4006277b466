"""Taking out of a tree what must not be in an image. No link in the tree leads out of it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from xenkiln.errors import BuildError
from xenkiln.system.files import remove_path, resolve_in_root

REMOVED_FROM_ALL = (
    "/tmp/*", "/var/tmp/*", "/run/*",  # noqa: S108  # inside the image
    "/var/cache/ldconfig/aux-cache",  # holds inode numbers and ctimes
    "/etc/passwd-", "/etc/group-", "/etc/shadow-", "/etc/gshadow-", "/etc/subuid-", "/etc/subgid-",
    "/boot/initrd.img*", "/boot/initrd-*", "/boot/initramfs-*",  # the image's ramdisk is made by its own stage
)  # fmt: skip
BYTE_CODE_FOLDERS = ("/usr", "/opt")


def find_matches(root: Path, pattern: str) -> list[Path]:
    """What a glob (`*`, `?`, `[...]`, and `**` for any folders) matches below `root`, sorted.

    Unlike in a shell, `*` matches hidden names too: it empties a folder.
    Links on the way are followed as the guest would; one that is matched itself stays a link.
    """
    parts = [part for part in pattern.split("/") if part]
    if not parts or ".." in parts:
        raise BuildError("not a pattern of paths below the root", place=pattern)
    found = {root}
    for part in parts[:-1]:
        found = set(_enter(root, found, part))
    return sorted({path for folder in found for path in _match(folder, parts[-1]) if os.path.lexists(path)})


def _enter(root: Path, folders: Iterable[Path], part: str) -> Iterator[Path]:
    for folder in folders:
        if part == "**":
            yield from (Path(top) for top, _, _ in os.walk(folder))
            continue
        for path in _match(folder, part):
            try:
                inside = resolve_in_root(root, f"/{path.relative_to(root)}")
            except BuildError:
                continue  # links in a circle lead nowhere: there is nothing to find
            if inside.is_dir():
                yield inside


def _match(folder: Path, part: str) -> list[Path]:
    if not any(mark in part for mark in "*?["):
        return [folder / part]
    return [path for path in folder.iterdir() if fnmatchcase(path.name, part)]


def remove_matches(root: Path, patterns: Iterable[str], kept: Iterable[str] = ()) -> int:
    """Remove what the patterns match; returns how much that was.

    The guest paths `kept` stay, with what leads to them and what they hold: a pattern for /var/log/* leaves
    /var/log/app/keep and nothing else of /var/log/app. Only a pattern written for a kept folder's own content
    (/var/log/* where /var/log is kept) is carried out there.
    """
    count = 0
    places = find_kept(root, kept)
    for pattern in patterns:
        for path in find_matches(root, pattern):
            if all(_is_written_for(pattern, root, place) for place in places.intersection(path.parents)):
                count += _remove_unless(path, places)
    return count


def find_kept(root: Path, kept: Iterable[str]) -> set[Path]:
    """Guest paths as they are named, and where their links lead."""
    return {place for path in kept for place in (root / path.lstrip("/"), resolve_in_root(root, path))} - {root}


def _is_written_for(pattern: str, root: Path, folder: Path) -> bool:
    """Whether a pattern names `folder` itself, before its last part."""
    return folder in [root / parent for parent in PurePosixPath(pattern.lstrip("/")).parents]


def _remove_unless(path: Path, places: set[Path]) -> int:
    if path in places:
        return 0
    if any(path in place.parents for place in places):
        inside = [] if path.is_symlink() or not path.is_dir() else sorted(path.iterdir())
        return sum(_remove_unless(entry, places) for entry in inside)
    remove_path(path)
    return 1


def truncate_matches(root: Path, patterns: Iterable[str], epoch: int, kept: Iterable[str] = ()) -> None:
    """Empty the files that the patterns match; links and folders stay as they are, and so do the guest paths `kept`."""
    places = find_kept(root, kept)
    for pattern in patterns:
        for path in find_matches(root, pattern):
            if path.is_file() and not path.is_symlink() and path not in places:
                os.truncate(path, 0)
                os.utime(path, (epoch, epoch))


def remove_byte_code(root: Path, epoch: int, kept: Iterable[str] = ()) -> int:
    """Remove Python byte code that was compiled during the build; returns how many files that were.

    It differs between two runs of the same compiler. What is older than `epoch` came in a package and stays,
    and so do the guest paths `kept`.
    """
    count = 0
    places = set(map(str, find_kept(root, kept)))
    for base in BYTE_CODE_FOLDERS:
        folders = [str(root / base.lstrip("/"))]
        while folders:
            folder = folders.pop()
            if os.path.basename(folder) == "__pycache__":  # noqa: PTH119  # a hot loop over every folder
                count += _clear_cache(folder, epoch, places)
            elif os.path.isdir(folder) and not os.path.islink(folder):  # noqa: PTH112, PTH114
                with os.scandir(folder) as entries:
                    folders += [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    return count


def _clear_cache(folder: str, epoch: int, places: set[str]) -> int:
    with os.scandir(folder) as entries:
        late = [entry.path for entry in entries if entry.name.endswith(".pyc") and entry.path not in places
                and entry.stat(follow_symlinks=False).st_mtime > epoch]  # fmt: skip
    for path in late:
        Path(path).unlink()
    if late and next(Path(folder).iterdir(), None) is None:
        Path(folder).rmdir()
    return len(late)
