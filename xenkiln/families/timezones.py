"""The guest's time zone: it must be one that the image knows."""

from __future__ import annotations

from pathlib import Path

from xenkiln.errors import BuildError
from xenkiln.system.execution import Context
from xenkiln.system.files import resolve_in_root
from xenkiln.system.steps import Do


def make_zone_check(timezone: str, root: Path) -> Do:
    """Raise BuildError for a zone without a file in the image's zoneinfo."""

    def check_zone(context: Context) -> None:
        if not resolve_in_root(root, f"/usr/share/zoneinfo/{timezone}").is_file():
            raise BuildError(f"the image knows no time zone {timezone}", place="configure.timezone",
                             next_step="install tzdata, or correct the name")  # fmt: skip

    return Do(f"look for the time zone {timezone}", check_zone)
