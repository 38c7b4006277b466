"""lab_stop: end the Xen host that `doit lab` left running."""

from __future__ import annotations

from xenkiln.commands.boot import describe_lab
from xenkiln.lab.session import stop_lab


def run() -> None:
    """End it; nothing of it stays."""
    print("the lab's Xen host has ended" if stop_lab(describe_lab()) else "no Xen host of the lab is running")
