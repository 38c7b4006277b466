"""doctor: what this host has and lacks for building images."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from xenkiln.errors import HostError
from xenkiln.model.distributions import DEBIAN_RELEASES
from xenkiln.system.layout import build_folder
from xenkiln.system.tools import PACKAGES, find_tool

OPTIONAL = {"openssl": "passwords from a file or the environment", "faketime": "verify under another clock",
            "mkfs.xfs": "verify on another filesystem", "mkfs.btrfs": "verify on another filesystem",
            "qemu-img": "qcow2 and VHD", "gpg": "signatures", "mmdebstrap": "Debian and Ubuntu images",
            "dnf": "rpm images", "qemu-system-x86_64": "boot and lab", "ssh-keygen": "boot and lab"}  # fmt: skip
ENOUGH_GIB = 4


@dataclass(frozen=True)
class Finding:
    """One line of the table; `state` is good, warning or bad."""

    what: str
    state: str
    detail: str


def run() -> None:
    """Print the table; HostError when something that every build needs is missing."""
    findings = [*_find_tools(), _find_root(), *_find_kernel_features(), _find_space(), _find_vsyscall(),
                *_find_keyrings()]  # fmt: skip
    table = Table(title=f"{platform.node()}: {_name_system()}, "
                  f"kernel {platform.release()}, {os.cpu_count()} cores", title_justify="left")  # fmt: skip
    for heading in ("what", "", "detail"):
        table.add_column(heading)
    marks = {"good": "[green]has[/]", "warning": "[yellow]lacks[/]", "bad": "[red]lacks[/]"}
    for finding in findings:
        table.add_row(finding.what, marks[finding.state], finding.detail)
    Console().print(table)
    bad = [finding for finding in findings if finding.state == "bad"]
    if bad:
        raise HostError("this host cannot build images yet: it lacks " + ", ".join(item.what for item in bad),
                        next_step=bad[0].detail)  # fmt: skip


def _name_system() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    except OSError:
        return "Linux"  # os-release(5) is not everywhere


def _find_tools() -> Iterator[Finding]:
    for name in sorted(PACKAGES):
        path = find_tool(name)
        if path:
            yield Finding(name, "good", path)
        elif name in OPTIONAL:
            yield Finding(name, "warning", f"only for: {OPTIONAL[name]} (apt-get install {PACKAGES[name]})")
        else:
            yield Finding(name, "bad", f"apt-get install {PACKAGES[name]} (scripts/env does it by itself)")


def _find_root() -> Finding:
    if os.geteuid() == 0:
        return Finding("root", "good", "mounting and installing work")
    return Finding("root", "bad", "run `sudo scripts/env doit build`; plan, list and lock work without")


def _find_kernel_features() -> Iterator[Finding]:
    loops = len(list(Path("/sys/block").glob("loop*/loop")))
    control = Path("/dev/loop-control")
    if control.exists():
        yield Finding("loop devices", "good", f"{loops} in use, more are made as needed")
    else:
        yield Finding("loop devices", "bad", "modprobe loop; in a container give it /dev/loop-control")
    known = {line.split()[-1] for line in Path("/proc/filesystems").read_text().splitlines()}
    for name, use in (("ext4", "the images' own filesystem"), ("overlay", "configuring without copying the tree")):
        state = "good" if name in known or find_tool("modprobe") else "bad"
        yield Finding(f"{name} filesystem", state, use)


def _find_space() -> Finding:
    folder = build_folder()
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(there).free / 2**30
    state = "good" if free >= ENOUGH_GIB else "warning"
    return Finding("free space", state, f"{free:.1f} GiB at {folder}; an image takes 2.5 times its content")


def _find_vsyscall() -> Finding:
    """An executable [vsyscall] page: glibc before 2.15 jumps into it (CentOS 5 and 6, Ubuntu 10.04)."""
    lines = [line for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith("[vsyscall]")]
    if lines and "x" in lines[0].split()[1]:
        return Finding("\\[vsyscall]", "good", "programs of CentOS 5 and 6 run here")
    return Finding("\\[vsyscall]", "warning",
                   "only for CentOS 5 and 6, Ubuntu 10.04: boot this host with vsyscall=emulate")  # fmt: skip


def _find_keyrings() -> Iterator[Finding]:
    for keyring in sorted({release.keyring for release in DEBIAN_RELEASES.values()}):
        state = "good" if Path(keyring).is_file() else "warning"
        releases = [name for name, release in DEBIAN_RELEASES.items() if release.keyring == keyring]
        yield Finding(Path(keyring).name, state, f"signatures of {', '.join(releases)}")
