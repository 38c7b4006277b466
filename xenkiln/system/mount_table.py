"""What is mounted where, and what lies behind loop devices, as the kernel lists it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class MountPoint:
    """A line of mountinfo. part: what of its filesystem is seen, "/" for the whole; a bind mount may show less."""

    place: Path
    kind: str
    source: str
    part: str
    options: str


def list_mounts() -> list[MountPoint]:
    """Everything that this process can see mounted, oldest first; proc_pid_mountinfo(5)."""
    mounts = []
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        words = [os.fsdecode(re.sub(rb"\\([0-7]{3})", lambda code: bytes([int(code[1], 8)]), word))
                 for word in line.split(b" ")]  # fmt: skip
        kind, source, options = words[words.index("-", 6) + 1 :][:3]
        mounts.append(MountPoint(Path(words[4]), kind, source, words[3], options))
    return mounts


def list_loop_devices() -> dict[str, Path]:
    """Device -> the file behind it, also where that file has been removed."""
    found = {}
    for backing in sorted(Path("/sys/block").glob("loop*/loop/backing_file")):
        try:
            found[f"/dev/{backing.parts[3]}"] = Path(backing.read_text().rstrip("\n").removesuffix(" (deleted)"))
        except OSError:
            continue  # cleared while we looked
    return found


def clears_itself(device: str) -> bool:
    """Whether a loop device is given back with its last mount, as mount(8) makes them."""
    try:
        return Path(f"/sys/block/{Path(device).name}/loop/autoclear").read_text().strip() == "1"
    except OSError:
        return False
