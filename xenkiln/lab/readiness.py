"""Which lab is a build folder's, and what would keep its Xen host from running here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from xenkiln.errors import HostError, XenkilnError
from xenkiln.lab.machine import QEMU
from xenkiln.lab.session import Lab, find_memory_problem
from xenkiln.system.preflight import find_space_problem
from xenkiln.system.tools import find_missing, missing_tools_error

DOM0 = "lab-dom0"
"""The recipe of the lab's own Xen host."""
SPACE_MIB = 256
"""dom0's unpacked kernels, its log and its overlay, and some room for guests."""
TOOLS = {QEMU, "qemu-img", "debugfs", "ssh-keygen"}


def make_lab(build: Path, modules: Sequence[str]) -> Lab:
    """The lab of a build folder; `modules` are those of its Xen host's kernel."""
    return Lab(build / "lab", build / "images" / DOM0, " ".join(modules))


def find_lab_problems(lab: Lab, guest_mib: int) -> list[XenkilnError]:
    """What a Xen host with such a guest lacks: tools, memory, space."""
    missing = find_missing(TOOLS)
    problems: list[XenkilnError] = [missing_tools_error(missing)] if missing else []
    space = find_space_problem(lab.folder, SPACE_MIB, f"a Xen host and what its guest writes take {SPACE_MIB}")
    return [*problems, *filter(None, (find_memory_problem(guest_mib), space))]


def require_dom0(lab: Lab) -> None:
    """Raise HostError where no Xen host has been built: another folder of recipes may not have its recipe."""
    if not (lab.images / "SHA256SUMS").is_file():
        raise HostError("the lab's Xen host has not been built", place=str(lab.images),
                        next_step=f"put {lab.images.name}.yaml of the project's recipes beside your own")  # fmt: skip
