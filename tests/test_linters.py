"""The linters are tests: `pytest` is the only command to remember."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHELLS = {"sh", "dash", "bash"}


def list_project_files() -> list[Path]:
    """Return tracked files and new ones that git does not ignore."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


def read_shell(path: Path) -> str | None:
    """Return the shell that a file's first line names, or None for everything that is no shell script."""
    with path.open("rb") as file:
        first_line = file.readline(200)
    if not first_line.startswith(b"#!") or path.suffix == ".j2":
        return None
    interpreter = first_line[2:].decode().split()
    name = Path(interpreter[-1] if Path(interpreter[0]).name == "env" else interpreter[0]).name
    return name if name in SHELLS else None


def run_linter(*command: str | Path) -> None:
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if result.returncode != 0:
        pytest.fail(result.stdout + result.stderr, pytrace=False)


SHELL_SCRIPTS = [path for path in list_project_files() if read_shell(path)]


def test_ruff_finds_nothing() -> None:
    run_linter(sys.executable, "-m", "ruff", "check", "--no-fix", ".")


def test_mypy_finds_nothing() -> None:
    run_linter(sys.executable, "-m", "mypy")


@pytest.mark.parametrize("script", SHELL_SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_shellcheck_finds_nothing(script: Path) -> None:
    run_linter("shellcheck", "--external-sources", script)


@pytest.mark.parametrize("script", SHELL_SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_scripts_are_posix_shell(script: Path) -> None:
    assert read_shell(script) == "sh" or ".ci" in script.parts


def test_the_shell_scripts_are_found() -> None:
    assert ROOT / "scripts/env" in SHELL_SCRIPTS
