"""Inside a guest's root: what programs there see, and what they cannot reach of this host."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from xenkiln.errors import BuildError
from xenkiln.system import mounts
from xenkiln.system.commands import Runner
from xenkiln.system.processes import PROPAGATION
from xenkiln.system.tools import SEARCH_PATH

DEVICES = (("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0))
"""The character devices programs expect, from Linux's devices.txt."""
GUEST_ENVIRONMENT = {"PATH": SEARCH_PATH, "HOME": "/root", "TERM": "dumb", "TZ": "UTC", "LANG": "C",
                     "LC_ALL": "C"}  # fmt: skip
"""All of it: no proxy, no path and no locale of the calling user. C, because old guests know no other."""
GUEST_FOLDERS = ("proc", "sys", "dev", "run")
HOST_WIDE = ("bus", "irq", "sys", "sysrq-trigger")
"""Below /proc: settings of the one kernel that this host and the guest's programs share."""

ENTER = """
set -e
hostname localhost 2> /dev/null || echo localhost > /proc/sys/kernel/hostname
root=$1
shift
mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
for name in HOST_WIDE; do
    [ -e "$root/proc/$name" ] || continue
    mount --bind -o ro "$root/proc/$name" "$root/proc/$name"
done
exec env -i "$@"
""".replace("HOST_WIDE", " ".join(HOST_WIDE))
"""sh: a host name of its own, /proc of its own with the kernel's settings read-only, and a clean environment."""


def enter_root(root: Path, argv: Sequence[str], environment: Mapping[str, str] = GUEST_ENVIRONMENT) -> list[str]:
    """The command that runs `argv` inside a guest's root.

    In a PID namespace that dies with us (a daemon started by a script dies too), with its own /proc and
    host name, and without a network: an image is made of its recipe and its packages, not of what a
    script fetches or finds on this host. Root in there is still root: a script is as trusted as its recipe.
    """
    variables = [f"{name}={value}" for name, value in environment.items()]
    return ["unshare", "--mount", *PROPAGATION, "--uts", "--net", "--pid", "--fork", "--kill-child",
            "sh", "-c", ENTER, "sh", str(root), *variables, "chroot", str(root), *argv]  # fmt: skip


@contextmanager
def mount_guest(root: Path, runner: Runner) -> Iterator[None]:
    """What programs expect below a root: proc, a read-only sys, a minimal dev, an empty run."""
    with ExitStack() as stack:
        _mount_all(root, runner, stack)
        yield


def _mount_all(root: Path, runner: Runner, stack: ExitStack) -> None:
    for name in GUEST_FOLDERS:
        require_real_folder(root / name)
    stack.enter_context(mounts.mount_plain(runner, "proc", root / "proc", "nosuid,nodev,noexec"))
    for name in HOST_WIDE:
        if (root / "proc" / name).exists():
            stack.enter_context(mounts.make_read_only(runner, root / "proc" / name))
    stack.enter_context(mounts.mount_plain(runner, "sysfs", root / "sys", "ro,nosuid,nodev,noexec"))
    stack.enter_context(mounts.mount_plain(runner, "tmpfs", root / "dev", "mode=0755,nosuid"))
    stack.enter_context(mounts.mount_plain(runner, "tmpfs", root / "run", "mode=0755,nosuid,nodev"))
    for name, major, minor in DEVICES:
        device = root / "dev" / name
        os.mknod(device, 0o666 | 0o020000, os.makedev(major, minor))
        device.chmod(0o666)
    for link, target in (("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
        (root / "dev" / link).symlink_to(target)
    (root / "dev" / "shm").mkdir(mode=0o1777)
    (root / "dev" / "pts").mkdir()
    stack.enter_context(
        mounts.mount_plain(runner, "devpts", root / "dev" / "pts", "newinstance,ptmxmode=0666,mode=0620,gid=5")
    )
    (root / "dev" / "ptmx").symlink_to("pts/ptmx")


def require_real_folder(folder: Path) -> None:
    """Raise BuildError where a package left a link or a file in place of a top folder: a mount would follow it."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise BuildError("must be a folder of the image's own, and is a link or a file", place=f"/{folder.name}",
                         next_step="find the package that brings it and leave it out: packages.exclude")  # fmt: skip
    folder.mkdir(exist_ok=True)
