"""Mounts in a namespace of our own: other programs never see them, and they end with us."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from xenkiln.errors import HostError
from xenkiln.system.commands import Runner
from xenkiln.system.interrupts import uninterrupted

CLONE_NEWNS = 0x00020000  # linux/sched.h
MS_REC, MS_SLAVE = 0x4000, 0x80000  # linux/mount.h
RELEASE_SECONDS = 10
LOOP_CONTROL = Path("/dev/loop-control")

_libc = ctypes.CDLL(None, use_errno=True)
_entered: list[int] = []


def enter_namespace() -> None:
    """Take this process, once, into a mount namespace of its own.

    Host mounts still arrive (slave), ours do not leave; a SIGKILL ends the namespace and with it
    every mount and, through autoclear, every loop device.
    """
    if os.getpid() in _entered:
        return
    if _libc.unshare(CLONE_NEWNS) or _make_slave():
        reason = os.strerror(ctypes.get_errno())
        way_out = "run it where root may mount: in a container, with CAP_SYS_ADMIN"
        raise HostError(f"cannot make a mount namespace: {reason}",
                        next_step=way_out if os.geteuid() == 0 else "run it again with sudo")  # fmt: skip
    _entered.append(os.getpid())


def _make_slave() -> int:
    """Make every mount of the new namespace a slave; 0, or -1 with errno set.

    In a chroot `/` is no mount point, and what holds it lies out of sight: so the namespace's true
    root is sought by '..', which only stops at a process's own root, and ours is given back after.
    """
    inside, place = (os.open(path, os.O_PATH | os.O_DIRECTORY) for path in ("/", "."))
    try:
        os.chroot("/proc")
        os.fchdir(inside)
        while not os.path.samestat(Path().stat(), Path("..").stat()):
            os.chdir("..")
        os.chroot(".")
        return int(_libc.mount(None, b"/", None, MS_REC | MS_SLAVE, None))
    finally:
        os.fchdir(inside)
        os.chroot(".")
        os.fchdir(place)
        os.close(inside)
        os.close(place)


@contextmanager
def mount_image(runner: Runner, image: Path, where: Path, *, read_only: bool, options: str = "") -> Iterator[None]:
    """Loop-mount a filesystem image; the loop device is gone again when this returns.

    Others may read the same image meanwhile; for writing it must be ours alone.
    """
    if not read_only:
        wait_for_release(runner, image)
    others = list_loops(image)
    words = ["loop", "ro" if read_only else "rw", "noatime", *([options] if options else [])]
    with _mounted(runner, ["mount", "-o", ",".join(words), str(image), str(where)], where):
        yield
        if not read_only:
            require_written(image, where)
    wait_for_release(runner, image, others)


def require_written(image: Path, where: Path) -> None:
    """Raise HostError when a write to a mounted image could not reach its file.

    A full disk shows only when the kernel writes back, long after the program that wrote has ended
    well; umount(2) does not tell, syncfs(2) does.
    """
    descriptor = os.open(where, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if _libc.syncfs(descriptor):
            raise HostError(
                f"what was written could not be stored: {os.strerror(ctypes.get_errno())}", place=str(image),
                next_step="the disk is full or failing: free some space and run this again",
            )  # fmt: skip
    finally:
        os.close(descriptor)


@contextmanager
def mount_overlay(runner: Runner, lower: list[Path], upper: Path | None, where: Path) -> Iterator[None]:
    """Merge `lower` (topmost first) under `upper`, a folder holding `upper/` and `work/`; read-only without."""
    require_plain_names([*lower, *([upper] if upper else [])])
    options = f"lowerdir={':'.join(map(str, lower))}"
    if upper:
        options += f",upperdir={upper / 'upper'},workdir={upper / 'work'}"
    # xino and index would write host facts into the layer; redirect_dir makes it unreadable elsewhere.
    options += ",index=off,redirect_dir=off,metacopy=off"
    with _mounted(runner, ["mount", "-t", "overlay", "-o", options, "overlay", str(where)], where):
        yield


def require_plain_names(folders: list[Path]) -> None:
    """Raise HostError for a folder that overlayfs's list of options cannot hold."""
    for folder in folders:
        if found := {",", ":", "\\", '"'} & set(str(folder)):
            raise HostError(
                f"the name holds {' '.join(sorted(found))}, which an overlay's options cannot", place=str(folder),
                next_step="put the build elsewhere with XENKILN_BUILD=/another/folder",
            )  # fmt: skip


@contextmanager
def mount_plain(runner: Runner, kind: str, where: Path, options: str) -> Iterator[None]:
    """Mount a kernel filesystem: tmpfs, proc, sysfs, devpts."""
    with _mounted(runner, ["mount", "-t", kind, "-o", options, kind, str(where)], where):
        yield


@contextmanager
def bind_folder(runner: Runner, source: Path, where: Path) -> Iterator[None]:
    """Show a host folder read-only at `where`."""
    with _mounted(runner, ["mount", "--bind", "-o", "ro", str(source), str(where)], where):
        yield


@contextmanager
def make_read_only(runner: Runner, path: Path) -> Iterator[None]:
    """Let nothing write to a file or folder of a mounted filesystem."""
    with _mounted(runner, ["mount", "--bind", "-o", "ro", str(path), str(path)], path):
        yield


@contextmanager
def _mounted(runner: Runner, argv: list[str], where: Path) -> Iterator[None]:
    enter_namespace()
    if not where.exists():
        where.mkdir(parents=True)
    mounted = False
    try:
        with uninterrupted():
            runner.run(argv)
            mounted = True
        yield
    finally:
        if mounted:
            with uninterrupted():
                _unmount(runner, where)


def _unmount(runner: Runner, where: Path) -> None:
    """Unmount, giving a closing program a moment; never lazily, which would hide a half-written image."""
    deadline = time.monotonic() + RELEASE_SECONDS
    while runner.run(["umount", str(where)], accept=(0, 1, 32)):
        if time.monotonic() > deadline:
            raise HostError(
                f"{where} cannot be unmounted, it is held by {', '.join(find_holders(where)) or 'nobody seen'}",
                next_step="end that program and run this again",
            )
        time.sleep(0.1)


def find_holders(where: Path) -> list[str]:
    """Programs whose root, working folder or open files lie below `where`, as 'name (pid)'."""
    holders = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            links = [process / "root", process / "cwd", *(process / "fd").iterdir()]
            if any(where in (path, *path.parents) for path in map(Path.readlink, links)):
                holders.append(f"{(process / 'comm').read_text().strip()} ({process.name})")
        except OSError:
            continue  # it ended while we looked, or is not ours to look into
    return holders


def find_loop_problem() -> HostError | None:
    """What keeps this host from mounting an image file, or None."""
    if LOOP_CONTROL.exists():
        return None
    return HostError("this host has no loop devices", place=str(LOOP_CONTROL),
                     next_step="modprobe loop; a container must be given the device")  # fmt: skip


def wait_for_release(runner: Runner, image: Path, others: Sequence[str] = ()) -> None:
    """Wait until no loop device but `others` holds `image`: autoclear works a moment after the unmount."""
    deadline = time.monotonic() + RELEASE_SECONDS
    while devices := sorted({*list_loops(image)} - {*others}):
        if time.monotonic() > deadline:
            raise HostError(
                f"{', '.join(devices)} still holds {image}", next_step="`doit sweep` shows what is left over"
            )
        time.sleep(0.02)
    runner.note(f"# free of loop devices: {image}")


def list_loops(image: Path) -> list[str]:
    """The loop devices that have `image` behind them, by the kernel's own list."""
    found = []
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            if backing.read_text().rstrip("\n") == str(image.resolve()):
                found.append(f"/dev/{backing.parts[3]}")
        except OSError:
            continue  # cleared while we looked
    return sorted(found)
