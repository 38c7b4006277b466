"""xenkiln's own code as something that an image is made of."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from xenkiln.system.layout import PROJECT

CODE = ("requirements.txt", "scripts/guest", "scripts/host/lab/init", "templates", "xenkiln")
"""What decides an image's content besides its recipe; a change here rebuilds."""
CODE_BESIDE = (
    "xenkiln/actions.py", "xenkiln/bundle", "xenkiln/cloud_tasks.py", "xenkiln/clouds", "xenkiln/commands",
    "xenkiln/lab", "xenkiln/metrics", "xenkiln/publishing", "xenkiln/reporter.py", "xenkiln/system/pipelines.py",
    "xenkiln/system/progress.py", "xenkiln/system/services.py", "xenkiln/system/ssh.py",
    "xenkiln/system/ssh_channels.py", "xenkiln/system/ssh_trust.py", "xenkiln/system/tables.py", "xenkiln/tasks.py",
)  # fmt: skip
"""What only talks to the user, or runs what has been built."""


def list_code() -> list[Path]:
    """The files of xenkiln itself that decide what goes into an image."""
    beside = [PROJECT / name for name in CODE_BESIDE]
    found = (path for name in CODE for path in (PROJECT / name, *(PROJECT / name).rglob("*")))
    return sorted(path for path in found if path.is_file() and path.suffix != ".pyc"
                  and not any(path.is_relative_to(place) for place in beside))  # fmt: skip


@cache
def code_digest() -> str:
    """SHA-256 over xenkiln's own code."""
    digest = hashlib.sha256()
    for path in list_code():
        digest.update(f"{path.relative_to(PROJECT)}\0".encode() + path.read_bytes())
    return digest.hexdigest()
