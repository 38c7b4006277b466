"""sweep: what earlier, killed runs left behind below the build folder; removed only when asked."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from xenkiln.system.commands import Runner
from xenkiln.system.files import remove_path
from xenkiln.system.layout import build_folder


@dataclass(frozen=True)
class Leftover:
    """One thing left, and how it is removed."""

    kind: str
    place: str
    remove: Callable[[Runner], object]


def run(remove: bool = False) -> None:
    """List, or with `remove` remove, innermost mounts first; what a running build uses is passed over."""
    build = build_folder()
    busy = list(find_busy(build))
    left = [*find_mounts(build), *find_loops(build), *find_partials(build)]
    mine = [item for item in left if not any(item.place.startswith(f"{folder}/") for folder in busy)]
    runner = Runner()
    for item in mine:
        if remove:
            item.remove(runner)
        print(f"{'removed ' if remove else ''}{item.kind}: {item.place}")
    for folder in busy:
        print(f"passed over, a build is running there: {folder}")
    if not mine:
        print(f"nothing is left over below {build}")
    elif not remove:
        print("`doit sweep --remove` removes these")


def find_busy(build: Path) -> Iterator[Path]:
    """Work folders, and their images, whose lock is held by a running build."""
    for lock in (build / "work").glob("*/lock"):
        descriptor = os.open(lock, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            yield lock.parent
            yield build / "images" / lock.parent.name
        finally:
            os.close(descriptor)


def find_mounts(build: Path) -> Iterator[Leftover]:
    """Mounts below the build folder that this process can see, innermost first."""
    lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    places = [line.split()[4].encode().decode("unicode_escape") for line in lines]
    for place in sorted((place for place in places if place.startswith(f"{build}/")), key=len, reverse=True):
        yield Leftover("mount", place, lambda runner, place=place: runner.run(["umount", place]))  # type: ignore[misc]


def find_loops(build: Path) -> Iterator[Leftover]:
    """Loop devices whose backing file is, or was, below the build folder.

    One that is mounted somewhere else was mounted by a person, to look into an image, and is theirs.
    """
    lines = [line.split() for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()]
    theirs = {line[line.index("-") + 2] for line in lines if not line[4].startswith(f"{build}/")}
    for backing in sorted(Path("/sys/block").glob("loop*/loop/backing_file")):
        place = backing.read_text().rstrip("\n").removesuffix(" (deleted)")
        device = f"/dev/{backing.parts[3]}"
        if place.startswith(f"{build}/") and device not in theirs:
            yield Leftover(f"loop device {device}", place,
                           lambda runner, device=device: runner.run(["losetup", "-d", device]))  # type: ignore[misc]  # fmt: skip


def find_partials(build: Path) -> Iterator[Leftover]:
    """Unfinished files, and the scratch folders of shell and verify; symbolic links are not followed."""
    for folder, folders, files in os.walk(build):
        folders[:] = [name for name in folders if not os.path.ismount(Path(folder) / name)]
        for name in sorted(files):
            if name.endswith(".partial"):
                path = Path(folder) / name
                yield Leftover("partial file", str(path), lambda runner, path=path: remove_path(path))  # type: ignore[misc]
