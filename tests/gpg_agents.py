"""A home of GnuPG whose programs end with the test: gpg starts them in the background and never ends them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def ended_agent(home: Path) -> Iterator[Path]:
    """A folder that gpg takes as its home."""
    home.mkdir(parents=True, exist_ok=True)
    home.chmod(0o700)
    try:
        yield home
    finally:
        subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=True)
