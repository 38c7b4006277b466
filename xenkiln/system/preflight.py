"""What this host lacks for the steps of a build, found before the first of them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from xenkiln.errors import HostError, XenkilnError
from xenkiln.system.mounts import find_loop_problem
from xenkiln.system.steps import Step, list_tools, needs_loop, needs_root
from xenkiln.system.tools import find_missing, missing_tools_error

MAKE_ROOM = "free some space, or put the build elsewhere with XENKILN_BUILD=/another/folder"
LEAST_MIB = 48
"""Below that apt cannot even write its lists, and it has been seen to wait for ever."""


PACKAGES_ALONE = "fetching packages alone takes more"


def find_space_problem(folder: Path, least_mib: int = LEAST_MIB, what: str = PACKAGES_ALONE) -> HostError | None:
    """A disk on which nothing can be begun; how much a build needs in all is known when its packages are."""
    place = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free_mib = shutil.disk_usage(place).free >> 20
    if free_mib >= least_mib:
        return None
    return HostError(f"{free_mib} MiB are free, and {what}", place=str(place), next_step=MAKE_ROOM)


def find_host_problems(steps: list[Step]) -> list[XenkilnError]:
    """What this host lacks for these steps: tools, root, loop devices."""
    problems: list[XenkilnError] = []
    missing = find_missing(list_tools(steps))
    if missing:
        problems.append(missing_tools_error(missing))
    if needs_root(steps) and os.geteuid() != 0:
        problems.append(HostError("building an image needs root: it mounts a filesystem and installs into it",
                                  next_step="run it again with sudo; `doit plan` needs no root"))  # fmt: skip
    elif needs_loop(steps) and (problem := find_loop_problem()):
        problems.append(problem)
    return problems
