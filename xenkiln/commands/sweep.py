"""sweep: what earlier, killed runs left behind below the build folder; removed only when asked.

What a run uses is known by the locks that it holds; the kernel lets go of a killed one's.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from xenkiln.errors import HostError
from xenkiln.system.commands import Runner
from xenkiln.system.files import remove_path
from xenkiln.system.layout import build_folder
from xenkiln.system.locks import hold_lock, is_held

LOCKS = ("work/*/lock", "work/*/shell-*.lock", "cache/lock", "cache/*/*.lock", "verify/*.lock", "repositories/*.lock")
SCRATCH = {"work/*/shell-*": "a shell's folder", "work/*/tmp/*": "scratch folder", "cache/fetching": "scratch folder",
           "verify/*": "an unfinished verification"}  # fmt: skip
"""What is made for the time of a run, besides partial files; below the build folder."""


@dataclass(frozen=True)
class Leftover:
    """One thing left, and how it is removed."""

    kind: str
    place: Path
    remove: Callable[[Runner], object]


def run(remove: bool = False) -> None:
    """List, or with `remove` remove, innermost mounts first; what a running build uses is passed over."""
    build = build_folder().resolve()
    runner = Runner()
    with ExitStack() as stack:
        busy = list(find_busy(build, stack if remove else None))
        used = {place for lock in busy for place in list_used(build, lock)}
        left = [item for item in find_leftovers(build) if not used & {item.place, *item.place.parents}]
        for item in left:
            if remove:
                item.remove(runner)
            print(f"{'removed ' if remove else ''}{item.kind}: {item.place}")
    for lock in busy:
        print(f"passed over, it is in use: {list_used(build, lock)[0]}")
    if not left:
        print(f"nothing is left over below {build}")
    elif not remove:
        print("`doit sweep --remove` removes these")


def find_busy(build: Path, stack: ExitStack | None) -> Iterator[Path]:
    """Locks that running work holds; the others are taken until `stack` ends, so that none begins meanwhile."""
    for lock in sorted(path for pattern in LOCKS for path in _list_inside(build, pattern)
                       if path.is_file() and not path.is_symlink()):  # fmt: skip
        try:
            if stack:
                stack.enter_context(hold_lock(lock, str(lock)))
            elif is_held(lock):
                yield lock
        except HostError:
            yield lock


def list_used(build: Path, lock: Path) -> list[Path]:
    """What the holder of a lock may work on, first of all what the lock is named for."""
    area, name = lock.relative_to(build).parts[:2]
    if area == "cache":
        return [lock.parent]
    if area == "work":
        own = [lock.parent] if lock.name == "lock" else [lock.with_name(lock.stem), lock]
        return [*own, build / "images" / name]
    image = [build / "images" / lock.stem] if area == "verify" else []
    return [lock.with_name(lock.stem), lock, lock.with_name(f"{lock.stem}.fs"), *image]


def find_leftovers(build: Path) -> Iterator[Leftover]:
    """Everything, in the order in which it can be removed; what lies in a scratch folder goes with it."""
    yield from find_mounts(build)
    yield from find_loops(build)
    scratch = list(find_scratch(build))
    yield from scratch
    folders = {item.place for item in scratch}
    yield from (item for item in find_partials(build) if not folders & {*item.place.parents})


def list_mounts(process: str = "self") -> dict[Path, str]:
    """Mount point -> source, of everything that a process can see mounted; proc_pid_mountinfo(5)."""
    mounts = {}
    for line in Path(f"/proc/{process}/mountinfo").read_bytes().splitlines():
        words = [re.sub(rb"\\([0-7]{3})", lambda code: bytes([int(code[1], 8)]), word) for word in line.split(b" ")]
        mounts[Path(os.fsdecode(words[4]))] = os.fsdecode(words[words.index(b"-") + 2])
    return mounts


def find_mounts(build: Path) -> Iterator[Leftover]:
    """Mounts below the build folder that this process can see, innermost first."""
    for place in sorted((place for place in list_mounts() if build in place.parents), reverse=True):
        yield Leftover("mount", place, lambda runner, place=place: runner.run(["umount", str(place)]))  # type: ignore[misc]


def find_loops(build: Path) -> Iterator[Leftover]:
    """Loop devices whose backing file is, or was, below the build folder.

    One that is mounted elsewhere, or where another process sees it, is in use: by a run, or by a person
    who looks into an image.
    """
    used = list_used_devices(build)
    for backing in sorted(Path("/sys/block").glob("loop*/loop/backing_file")):
        place = Path(backing.read_text().rstrip("\n").removesuffix(" (deleted)"))
        device = f"/dev/{backing.parts[3]}"
        if build in place.parents and device not in used:
            yield Leftover(f"loop device {device}", place,
                           lambda runner, device=device: runner.run(["losetup", "-d", device]))  # type: ignore[misc]  # fmt: skip


def list_used_devices(build: Path) -> set[str]:
    """Sources of mounts outside the build folder, and of all mounts in other processes' namespaces."""
    own = Path("/proc/self/ns/mnt").readlink()
    used = {source for place, source in list_mounts().items() if build not in place.parents}
    namespaces = {own}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            namespace = (process / "ns/mnt").readlink()
            if namespace not in namespaces:
                used |= set(list_mounts(process.name).values())
                namespaces.add(namespace)
        except OSError:
            continue  # it ended while we looked, or is not ours to look into
    return used


def find_scratch(build: Path) -> Iterator[Leftover]:
    """Folders and files that a run makes for itself, and no lock."""
    for pattern, kind in SCRATCH.items():
        for path in _list_inside(build, pattern):
            if not path.name.endswith(".lock"):
                yield Leftover(kind, path, lambda _, path=path: remove_scratch(path))  # type: ignore[misc]


def remove_scratch(path: Path) -> None:
    """Remove a tree; raises HostError where something is mounted in it, whose content is not ours."""
    if mounted := [place for place in list_mounts() if path in (place, *place.parents)]:
        raise HostError("something is mounted here", place=str(mounted[0]), next_step=f"umount {mounted[0]}")
    remove_path(path)
    if path.name.startswith("shell-"):
        remove_path(path.with_name(f"{path.name}.lock"))


def _list_inside(build: Path, pattern: str) -> list[Path]:
    """What matches and really lies there: no link leads out of the build folder."""
    return [path for path in sorted(build.glob(pattern)) if path.parent.resolve() == path.parent]


def find_partials(build: Path) -> Iterator[Leftover]:
    """Unfinished files; neither links nor mounts are entered."""
    mounts = list_mounts()
    for folder, folders, files in os.walk(build):
        folders[:] = [name for name in folders if Path(folder) / name not in mounts]
        for name in sorted(files):
            if name.endswith(".partial"):
                path = Path(folder) / name
                yield Leftover("partial file", path, lambda _, path=path: remove_path(path))  # type: ignore[misc]
