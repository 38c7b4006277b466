"""doit as a user runs it, on recipes and a build folder of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from xenkiln.system.layout import PROJECT

TINY = (PROJECT / "recipes" / "images" / "tiny.yaml").read_text()
DOIT = (sys.executable, "-m", "doit")
FORKSERVER = (sys.executable, str(PROJECT / "tests" / "forkserver_doit.py"))


@dataclass(frozen=True)
class Desk:
    """Recipes and a build folder of its own, and doit run on them."""

    recipes: Path
    build: Path

    def write(self, name: str, text: str = TINY, **changes: str) -> Path:
        for old, new in changes.items():
            text, count = re.subn(rf"^(\s*){old}: .*$", rf"\g<1>{old}: {new}", text, flags=re.MULTILINE)
            assert count, old
        path = self.recipes / f"{name}.yaml"
        path.write_text(text)
        return path

    def run(self, *words: str, doit: tuple[str, ...] = DOIT, before: tuple[str, ...] = ()) -> tuple[int, str]:
        environment = {**os.environ, "XENKILN_RECIPES": str(self.recipes), "XENKILN_BUILD": str(self.build),
                       "PYTHONPATH": str(PROJECT), "COLUMNS": "100"}  # fmt: skip
        result = subprocess.run([*before, *doit, *words], cwd=PROJECT, env=environment, check=False, text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT)  # fmt: skip
        assert "Traceback" not in result.stdout, result.stdout
        return result.returncode, result.stdout

    def succeed(self, *words: str, doit: tuple[str, ...] = DOIT, before: tuple[str, ...] = ()) -> str:
        code, output = self.run(*words, doit=doit, before=before)
        assert code == 0, output
        return output

    def fail(self, *words: str, code: int = 1, before: tuple[str, ...] = ()) -> str:
        found, output = self.run(*words, before=before)
        assert found == code, output
        return output
