"""doit as the user runs it, in the project's own folder."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping

from xenkiln.system.layout import PROJECT


def run_doit(*words: str, env: Mapping[str, str] | None = None) -> str:
    """What doit says, in the project's folder; it must succeed."""
    done = subprocess.run([sys.executable, "-m", "doit", *words], cwd=PROJECT, env=env, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout
