"""sweep: what earlier, killed runs left behind below the build folder; removed only when asked.

What a run uses is known by the locks that it holds; the kernel lets go of a killed one's. A mount or a loop
device of a run ends with it, wherever the kernel is asked for it as we do: what can be seen from outside is
somebody else's, unless it is just what a run mounts, just where a run does.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from xenkiln.errors import HostError, XenkilnError
from xenkiln.system.causes import explain_os_error
from xenkiln.system.commands import Runner
from xenkiln.system.files import partial_path, remove_path
from xenkiln.system.layout import Paths, build_folder
from xenkiln.system.locks import hold_lock, is_held
from xenkiln.system.mount_table import MountPoint, clears_itself, list_loop_devices, list_mounts
from xenkiln.system.mounts import find_holders

LOCKS = ("work/*/lock", "work/*/shell-*.lock", "cache/lock", "cache/*/*.lock", "verify/*.lock", "repositories/*.lock",
         "lab/host*.lock", "lab/boot-*.lock", "lab/dom0.lock", "bundles/*/*.lock",
         "clouds/*/*/lock", "lab/cloud/*/cloud.lock")
SCRATCH = {"work/*/shell-*": "a shell's folder", "work/*/tmp/*": "scratch folder", "cache/fetching": "scratch folder",
           "verify/*": "an unfinished verification", "lab/host*": "a Xen host's folder",
           "lab/boot-*": "a boot's folder", "lab/dom0/*.partial": "kernels unpacked in part",
           "bundles/*/*.partial": "unfinished bundles"}  # fmt: skip
"""What is made for the time of a run, besides partial files; below the build folder."""
RESOLVING = ("work/*/tmp/lock", "work/*/resolve", "work/*/apt")

_ELSEWHERE = r"(?:verify/[^/]+/elsewhere/build/)?"
_WORK = rf"{_ELSEWHERE}work/[^/]+/(?:shell-[0-9]+/)?"
OWN_MOUNTS = (
    ("image", rf"{_WORK}(?:bootstrap|configure|root|image)"),
    ("image", rf"(?:{_ELSEWHERE}work/diff|verify/[^/]+/elsewhere/compare)/(?:left|right)"),
    ("image", r"verify/[^/]+/elsewhere"),
    ("overlay", rf"{_WORK}root"),
    ("tmpfs", rf"{_WORK}top"),
    ("tmpfs", r"verify/[^/]+/elsewhere"),
)
"""What a run mounts where: stages, shells, verifications and comparisons."""
GUEST_MOUNTS = {"proc": "proc", "sys": "sysfs", "dev": "tmpfs", "dev/pts": "devpts", "run": "tmpfs"}
"""And below a guest's root, while programs run in it."""


@dataclass(frozen=True)
class Leftover:
    """One thing left, and how it is removed."""

    kind: str
    place: Path
    remove: Callable[[Runner], object]


def run(remove: bool = False) -> None:
    """List, or with `remove` remove, innermost mounts first; what a running build uses is passed over."""
    build = build_folder().resolve()
    with ExitStack() as stack:
        busy = list(find_busy(build, stack if remove else None))
        used = {place for lock in busy for place in list_used(build, lock)}
        left = [item for item in find_leftovers(build) if not used & {item.place, *item.place.parents}]
        failed = [item for item in left if remove and not _remove_one(item)]
    for item in left if not remove else []:
        print(f"{item.kind}: {item.place}")
    for lock in busy:
        print(f"passed over, it is in use: {list_used(build, lock)[0]}")
    for file, words in find_loops(build):
        if not used & {file, *file.parents}:
            print(f"left alone, a run's own go by themselves: {words}")
    if failed:
        raise HostError(f"{len(failed)} of {len(left)} could not be removed", place=str(build),
                        next_step="mend what is said above of each and run `doit sweep --remove` again")  # fmt: skip
    if not left:
        print(f"nothing is left over below {build}")
    elif not remove:
        print("`doit sweep --remove` removes these")


def _remove_one(item: Leftover) -> bool:
    """Remove one and say so; what fails is said, and the others go on."""
    try:
        item.remove(Runner())
    except (XenkilnError, OSError) as error:
        reason = explain_os_error(error) if isinstance(error, OSError) else error
        print(f"not removed: {item.kind}: {item.place}\n  {reason}")
        return False
    print(f"removed {item.kind}: {item.place}")
    return True


def find_busy(build: Path, stack: ExitStack | None) -> Iterator[Path]:
    """Locks that running work holds; the others are taken until `stack` ends, so that none begins meanwhile."""
    found = {path for pattern in LOCKS for path in _list_inside(build, pattern)}
    found.add(Paths("", build, build).cache / "lock")
    for lock in sorted(path for path in found if path.is_file() and not path.is_symlink()):
        try:
            if stack:
                stack.enter_context(hold_lock(lock, str(lock)))
            elif is_held(lock):
                yield lock
        except HostError:
            yield lock


def list_used(build: Path, lock: Path) -> list[Path]:
    """What the holder of a lock may work on, first of all what the lock is named for."""
    if lock in (build / "cache" / "lock", Paths("", build, build).cache / "lock"):
        # `doit lock` resolves packages with no other lock than this one.
        return [lock.parent, *(path for pattern in RESOLVING for path in _list_inside(build, pattern))]
    area, name = lock.relative_to(build).parts[:2]
    if area in ("cache", "clouds") or lock.name == "cloud.lock":
        return [lock.parent]
    if area == "work":
        own = [lock.parent] if lock.name == "lock" else [lock.with_name(lock.stem), lock]
        return [*own, build / "images" / name]
    image = [build / "images" / lock.stem] if area == "verify" else []
    named = lock.with_name(lock.stem)
    return [named, lock, partial_path(named), lock.with_name(f"{lock.stem}.fs"), *image]


def find_leftovers(build: Path) -> Iterator[Leftover]:
    """Everything, in the order in which it can be removed; what lies in a scratch folder goes with it."""
    yield from find_mounts(build)
    scratch = list(find_scratch(build))
    yield from scratch
    folders = {item.place for item in scratch}
    yield from (item for item in find_partials(build) if not folders & {*item.place.parents})


def find_mounts(build: Path) -> Iterator[Leftover]:
    """A run's mounts below the build folder that this process can see, innermost first."""
    for mount in sorted(list_own_mounts(build), key=lambda mount: mount.place, reverse=True):
        yield Leftover("mount", mount.place, lambda runner, place=mount.place: unmount(place, runner))  # type: ignore[misc]


def list_own_mounts(build: Path) -> list[MountPoint]:
    """Those that are by place, kind and source what a run mounts; a guest's root with what belongs in it."""
    inside = [mount for mount in list_mounts() if build in mount.place.parents]
    own = [mount for mount in inside if _is_own(mount, build)]
    roots = {mount.place for mount in own if mount.place.name == "root"}
    for mount in inside:
        for root in roots & {*mount.place.parents}:
            name = str(mount.place.relative_to(root))
            if mount.kind == (GUEST_MOUNTS.get(name) or ("proc" if name.startswith("proc/") else None)):
                own.append(mount)
    return own


def _is_own(mount: MountPoint, build: Path) -> bool:
    name = str(mount.place.relative_to(build))
    kind = "image" if mount.source.startswith("/dev/loop") else mount.kind
    if mount.part != "/" or not any(kind == known and re.fullmatch(form, name) for known, form in OWN_MOUNTS):
        return False
    if kind == "image":
        file = list_loop_devices().get(mount.source)
        return file is not None and build in file.parents and clears_itself(mount.source)
    lower = re.search(r"(?:^|,)lowerdir=([^,]*)", mount.options)
    return kind != "overlay" or (lower is not None and all(build in Path(one).parents for one in lower[1].split(":")))


def unmount(place: Path, runner: Runner) -> None:
    """Unmount; raises HostError naming who holds it. Never lazily: it would go on beside the next run."""
    if runner.run(["umount", str(place)], accept=(0, 1, 32)):
        holders = ", ".join(find_holders(place)) or "nobody seen"
        raise HostError(f"cannot be unmounted, it is held by {holders}", place=str(place), next_step="end that program")


def find_loops(build: Path) -> Iterator[tuple[Path, str]]:
    """(file, words about it) of loop devices over files of the build folder.

    None is detached here: a run's end with their mounts, so that somebody looks into an image with these.
    """
    places = {mount.source: mount.place for mount in list_mounts()}
    for device, file in list_loop_devices().items():
        if build in file.parents:
            why = f"mounted on {places[device]}" if device in places else f"losetup -d {device} detaches it"
            yield file, f"loop device {device}: {file} ({why})"


def find_scratch(build: Path) -> Iterator[Leftover]:
    """Folders and files that a run makes for itself, and no lock."""
    for pattern, kind in SCRATCH.items():
        for path in _list_inside(build, pattern):
            if not path.name.endswith(".lock"):
                yield Leftover(kind, path, lambda _, path=path: remove_scratch(path))  # type: ignore[misc]


def remove_scratch(path: Path) -> None:
    """Remove a tree; raises HostError where something is mounted in it, whose content is not ours."""
    if mounted := [mount.place for mount in list_mounts() if path in (mount.place, *mount.place.parents)]:
        raise HostError("something is mounted here", place=str(mounted[0]), next_step=f"umount {mounted[0]}")
    remove_path(path)
    if path.name.startswith("shell-"):
        remove_path(path.with_name(f"{path.name}.lock"))


def _list_inside(build: Path, pattern: str) -> list[Path]:
    """What matches and really lies there: no link leads out of the build folder."""
    return [path for path in sorted(build.glob(pattern)) if path.parent.resolve() == path.parent]


def find_partials(build: Path) -> Iterator[Leftover]:
    """Unfinished files; neither links nor mounts are entered."""
    mounts = {mount.place for mount in list_mounts()}
    for folder, folders, files in os.walk(build):
        folders[:] = [name for name in folders if Path(folder) / name not in mounts]
        for name in sorted(files):
            if name.endswith(".partial"):
                path = Path(folder) / name
                yield Leftover("partial file", path, lambda _, path=path: remove_path(path))  # type: ignore[misc]
