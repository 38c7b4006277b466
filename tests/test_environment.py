"""scripts/env on a small copy of the project: it repairs what is missing and says what it cannot."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import conftest
import pytest
from conftest import FakeTool, FakeToolMaker

ROOT = Path(__file__).resolve().parent.parent
ANSWER_AS_APT = """case " $* " in
*" install "*) printf '#!/bin/sh\\n' >"${0%/*}/wanted-tool" && chmod +x "${0%/*}/wanted-tool" ;;
esac"""


def start_env(project: Path, *command: str, stdin: int = subprocess.DEVNULL) -> subprocess.Popen[str]:
    """Start scripts/env with a pip that has no network."""
    return subprocess.Popen(
        [project / "scripts/env", *command],
        env={**os.environ, "PIP_NO_INDEX": "1"},
        cwd="/",
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run_env(project: Path, *command: str) -> tuple[int, str, str]:
    """Return exit code, standard output and standard error."""
    process = start_env(project, *command)
    output, errors = process.communicate(timeout=300)
    return process.returncode, output, errors


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Lay out a project that wants one system package and no Python package."""
    folder = tmp_path / "a checkout"
    (folder / "scripts").mkdir(parents=True)
    shutil.copy2(ROOT / "scripts/env", folder / "scripts/env")
    (folder / "scripts/packages.txt").write_text("# why\n\nwanted-package  wanted-tool  build  # why\n")
    (folder / "requirements.txt").touch()
    (folder / "requirements-test.txt").touch()
    return folder


def describe_venv(project: Path) -> str:
    """What scripts/env writes down of a virtual environment that is whole."""
    return f"{project}\n{(project / '.venv/bin/python').resolve()}\n"


@pytest.fixture
def equipped(project: Path) -> Path:
    """Give it what passes for a virtual environment: a real one takes seconds."""
    (project / ".venv/bin").mkdir(parents=True)
    (project / ".venv/bin/python").symlink_to(Path(sys.executable).resolve())
    (project / ".venv/made-from").write_text(describe_venv(project))
    return project


@pytest.fixture
def apt(fake_tool: FakeToolMaker) -> FakeTool:
    """Stand in for apt-get: run by root, its install brings the wanted tool."""
    fake_tool("id", "echo 0")
    fake_tool("dpkg")
    fake_tool("sleep")
    return fake_tool("apt-get", ANSWER_AS_APT)


def list_installs(apt: FakeTool) -> list[str]:
    return [call[-1] for call in apt.calls if "install" in call]


def test_the_first_run_installs_and_the_second_is_silent(
    project: Path, apt: FakeTool, tmp_path: Path
) -> None:
    code, _, errors = run_env(project, "true")
    assert (code, list_installs(apt)) == (0, ["wanted-package"])
    assert "installing system packages: wanted-package" in errors
    assert (project / ".venv/made-from").read_text() == describe_venv(project)

    link = tmp_path / "link"
    link.symlink_to(project / "scripts/env")
    calls_before = len(apt.calls)
    ask = 'pwd; command -v python; echo "$VIRTUAL_ENV"; case $PATH in *:/sbin*) exit 7 ;; esac'
    code, output, errors = run_env(project, "sh", "-c", ask)
    assert (code, errors) == (7, "")
    assert output.splitlines() == [str(project), f"{project}/.venv/bin/python", f"{project}/.venv"]
    assert subprocess.run([link, "true"], check=True, capture_output=True).stderr == b""
    assert len(apt.calls) == calls_before


def test_standard_input_reaches_the_command_even_closed(equipped: Path, apt: FakeTool) -> None:
    process = start_env(equipped, "cat", stdin=subprocess.PIPE)
    assert process.communicate("kept for the command", timeout=300)[0] == "kept for the command"
    closed = subprocess.run(["sh", "-c", 'exec "$1" true <&-', "sh", equipped / "scripts/env"], check=False)
    assert closed.returncode == 0


def test_a_tool_removed_later_is_brought_back(equipped: Path, apt: FakeTool) -> None:
    run_env(equipped, "true")
    (apt.path.parent / "wanted-tool").unlink()
    code, _, _ = run_env(equipped, "true")
    assert (code, list_installs(apt)) == (0, ["wanted-package"] * 2)


def test_test_packages_are_for_tests_only(equipped: Path, apt: FakeTool, fake_tool: FakeToolMaker) -> None:
    fake_tool("wanted-tool")
    (equipped / "scripts/packages.txt").write_text(
        "linter /nowhere/linter test\nother /nowhere/other optional\n"
    )
    assert run_env(equipped, "true")[0] == 0
    assert list_installs(apt) == []
    code, _, errors = run_env(equipped, "echo", "pytest")
    assert code == 1
    assert list_installs(apt)[0] == "linter"
    assert "installed, yet not to be found: linter" in errors


def test_without_root_it_says_what_to_install(project: Path, apt: FakeTool, fake_tool: FakeToolMaker) -> None:
    fake_tool("id", "echo 1000")
    fake_tool("sudo", "exit 1")
    code, _, errors = run_env(project, "true")
    assert (code, apt.calls) == (1, [])
    assert "as root: apt-get update && apt-get install --no-install-recommends wanted-package" in errors


def test_sudo_is_used_where_it_works(equipped: Path, apt: FakeTool, fake_tool: FakeToolMaker) -> None:
    fake_tool("id", "echo 1000")
    sudo = fake_tool("sudo", 'while [ "$1" != -- ] && [ $# -gt 1 ]; do shift; done; shift; exec "$@"')
    assert run_env(equipped, "true")[0] == 0
    assert any("apt-get" in call for call in sudo.calls)


@pytest.mark.parametrize(
    ("complaint", "cause"),
    [
        ("E: Could not resolve 'mirror.example'", "no network"),
        ("E: Unable to locate package wanted-package", "do not offer a package"),
        ("dpkg: error: No space left on device", "the disk is full"),
    ],
)
def test_a_failing_apt_is_explained(
    project: Path, apt: FakeTool, fake_tool: FakeToolMaker, complaint: str, cause: str
) -> None:
    fake_tool("apt-get", f'echo "{complaint}" >&2; exit 100')
    code, _, errors = run_env(project, "true")
    assert code == 1
    assert complaint in errors
    assert f"likely cause: {cause}" in errors.replace("this machine's package sources ", "")
    assert "next: " in errors


def test_a_failing_pip_leaves_nothing_that_counts_as_ready(project: Path, apt: FakeTool) -> None:
    (project / "requirements.txt").write_text("no-such-package==1\n")
    code, _, errors = run_env(project, "true")
    assert code == 1
    assert "no-such-package" in errors
    (project / "requirements.txt").write_text("")
    code, _, errors = run_env(project, "true")
    assert code == 0
    assert "making .venv" in errors


def test_a_set_up_killed_in_apt_is_done_again(equipped: Path, apt: FakeTool, fake_tool: FakeToolMaker) -> None:
    # The tool is unpacked, its package is not configured: evidence alone would call that installed.
    fake_tool("apt-get", f"{ANSWER_AS_APT}\ncase $* in *install*) kill -9 $PPID ;; esac")
    assert run_env(equipped, "true")[0] == -9
    assert (apt.path.parent / "wanted-tool").exists()
    fake_tool("apt-get", ANSWER_AS_APT)
    code, _, errors = run_env(equipped, "true")
    assert code == 0
    assert "installing system packages: wanted-package" in errors
    assert "installing" not in run_env(equipped, "true")[2]


def test_a_moved_checkout_gets_a_new_environment(equipped: Path, apt: FakeTool, tmp_path: Path) -> None:
    assert "making .venv" not in run_env(equipped, "true")[2]
    moved = equipped.rename(tmp_path / "moved")
    code, output, _ = run_env(moved, "python", "-c", "import sys; print(sys.prefix, sys.path[-1])")
    assert (code, output) == (0, f"{moved}/.venv {moved}\n")


def test_two_at_once_set_up_once(project: Path, apt: FakeTool) -> None:
    both = [start_env(project, "true") for _ in range(2)]
    outputs = [process.communicate(timeout=300)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert list_installs(apt) == ["wanted-package"]
    assert sum("making .venv" in errors for errors in outputs) == 1


def test_a_machine_without_apt_is_told_the_tools(project: Path, tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("sh", "readlink", "cat", "mkdir", "date", "flock", "sort", "rm"):
        (tools / name).symlink_to(shutil.which(name) or "")
    result = subprocess.run(
        [project / "scripts/env", "true"],
        env={"PATH": str(tools)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert "no apt-get" in result.stderr
    assert "wanted-package" in result.stderr


def test_every_wanted_package_says_its_use() -> None:
    lines = (ROOT / "scripts/packages.txt").read_text().splitlines()
    entries = [line.split() for line in lines if line and not line.startswith("#")]
    assert [
        entry for entry in entries if entry[2] not in {"build", "boot", "test", "optional"} or entry[3] != "#"
    ] == []


def test_a_fake_tool_remembers_arguments_exactly(fake_tool: FakeToolMaker) -> None:
    tool = fake_tool("mkthing", 'echo "made $1"; exit 3')
    result = subprocess.run(["mkthing", "", "two\nlines", "a 'quote'"], capture_output=True, check=False)
    subprocess.run(["mkthing"], check=False, capture_output=True)
    assert (result.returncode, result.stdout) == (3, b"made \n")
    assert tool.calls == [["", "two\nlines", "a 'quote'"], []]


def test_a_test_that_needs_root_fails_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class RootTest:
        def get_closest_marker(self, name: str) -> bool:
            return name == "root"

    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(pytest.fail.Exception, match="needs root"):
        conftest.pytest_runtest_setup(RootTest())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("marks", "word", "source", "is_spread"),
    [
        ("not root and not network and not lab", "", "TESTPATHS", True),
        ("root or lab or network", "", "TESTPATHS", False),
        ("", "", "TESTPATHS", False),
        ("not root and not network and not lab", "clouds", "TESTPATHS", False),
        ("not root and not network and not lab", "", "ARGS", False),
    ],
)
def test_the_whole_plain_suite_alone_is_spread_over_workers(
    pytestconfig: pytest.Config, marks: str, word: str, source: str, is_spread: bool
) -> None:
    config = SimpleNamespace(
        option=SimpleNamespace(markexpr=marks, keyword=word),
        args_source=pytest.Config.ArgsSource[source],
        getini=pytestconfig.getini,
    )
    workers = conftest.pytest_xdist_auto_num_workers(config)  # type: ignore[arg-type]
    assert (workers >= 2) is is_spread
    assert workers == 0 or is_spread
