"""A guest's tree is a stranger's: no link in it leads this host's root out of it."""

from __future__ import annotations

import ast
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from debian_archive import select

import xenkiln
from xenkiln.installers import dnf, mmdebstrap
from xenkiln.installers.rpm_database import tidy_database
from xenkiln.installers.traces import find_in_root, remove_empty_folders, remove_in_root
from xenkiln.system.execution import Context
from xenkiln.system.steps import Do

PACKAGE = Path(xenkiln.__file__).parent
MODULES = sorted([*(PACKAGE / "installers").glob("*.py"), *(PACKAGE / "kernels").glob("*.py")])
ROOTS = ("root", "paths.root", "context.paths.root")
LOOKS = {"glob", "rglob", "joinpath", "iterdir", "walk"}


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A folder of this host that nothing may touch."""
    folder = tmp_path / "victim"
    for name in ("history/kept", "apt.conf.d/99mmdebstrap", "dpkg.cfg.d/99mmdebstrap", "99mmdebstrap", "dnf/x", "kept"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    (folder / "empty/packages").mkdir(parents=True)
    return folder


def look(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_uid) for path in [folder, *folder.rglob("*")]}


def link(root: Path, place: str, target: Path) -> None:
    (root / place).parent.mkdir(parents=True, exist_ok=True)
    (root / place).symlink_to(target)


@pytest.mark.parametrize("place", ["var/lib/yum", "var/lib/yum/history", "var/cache/yum", "var/lib/dnf", "var/log",
                                   "var", "var/cache"])  # fmt: skip
def test_what_dnf_left_is_sought_in_the_guest_alone(
    place: str, victim: Path, tmp_path: Path, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "root"
    link(root, place, victim)
    before = look(victim)
    monkeypatch.setattr(context, "read", lambda argv: "", raising=False)
    dnf._remove_traces(root, context)
    assert look(victim) == before


@pytest.mark.parametrize("place", ["etc", "etc/apt", "etc/apt/apt.conf.d", "etc/dpkg", "srv", "srv/empty", "var",
                                   "var/cache/apt/archives/partial", "lost+found"])  # fmt: skip
def test_what_mmdebstrap_left_is_sought_in_the_guest_alone(place: str, victim: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    link(root, place, victim)
    before = look(victim)
    steps = mmdebstrap.make_bootstrap_steps(select("http://m.example"), Path("/srv/empty/packages"), root)
    for step in steps:
        if isinstance(step, Do):
            step.function(None)  # type: ignore[arg-type]  # it asks for nothing
    assert look(victim) == before


def test_a_link_is_removed_and_not_what_it_names(victim: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    link(root, "var/log/dnf.log", victim / "kept")
    link(root, "var/log/dnf.d", victim)
    assert [path.name for path in find_in_root(root, "/var/log/dnf*")] == ["dnf.d", "dnf.log"]
    before = look(victim)
    remove_in_root(root, ["/var/log/dnf*", "/no/such/*"])
    assert not list((root / "var/log").iterdir())
    assert look(victim) == before


def test_links_are_followed_as_the_guest_would(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "real/history").mkdir(parents=True)
    (root / "real/history/1").touch()
    link(root, "var/lib/yum", Path("/real"))
    remove_in_root(root, ["/var/lib/yum/history/*"])
    assert not list((root / "real/history").iterdir())


def test_folders_are_removed_as_far_as_they_are_empty(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "srv/build/work").mkdir(parents=True)
    (root / "srv/kept").touch()
    remove_empty_folders(root, Path("/srv/build/work"))
    assert [path.name for path in (root / "srv").iterdir()] == ["kept"]


@pytest.mark.parametrize("name", ["x.sqlite", "rpmdb.sqlite", "rpmdb.sqlite-wal", "rpmdb.sqlite-journal"])
def test_no_database_of_this_host_is_written_to(name: str, tmp_path: Path) -> None:
    host, folder = tmp_path / "host.sqlite", tmp_path / "root/var/lib/rpm"
    folder.mkdir(parents=True)
    for path in (host, folder / "rpmdb.sqlite"):
        with sqlite3.connect(path) as database:
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("CREATE TABLE kept (x)")
        database.close()
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(host)
    before = host.read_bytes()
    tidy_database(folder)
    assert host.read_bytes() == before
    assert not (folder / name).is_symlink()


@pytest.mark.root
def test_the_empty_host_keys_are_made_inside_the_guest(victim: Path, tmp_path: Path) -> None:
    root = build_root(tmp_path / "root")
    link(root, "etc/ssh", victim)
    (root / victim.relative_to("/")).mkdir(parents=True)
    before = look(victim)
    subprocess.run(["sh", "-c", mmdebstrap.EMPTY_HOST_KEYS, "exec", root], check=True)
    assert look(victim) == before
    made = sorted(path.name for path in (root / victim.relative_to("/")).iterdir())
    assert made == ["ssh_host_ecdsa_key", "ssh_host_ed25519_key", "ssh_host_rsa_key"]


def build_root(root: Path) -> Path:
    """A guest with busybox for all of its programs."""
    (root / "bin").mkdir(parents=True)
    busybox = shutil.which("busybox")
    assert busybox, "apt-get install busybox-static"
    shutil.copy2(busybox, root / "bin/busybox")
    for name in ("sh", "mkdir", "touch"):
        (root / "bin" / name).symlink_to("busybox")
    return root


def list_joins(tree: ast.AST) -> Iterator[str]:
    """Every expression that goes down from a guest's root by this host's own reading of links."""
    shown = {id(part) for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg == "writes"
             for part in ast.walk(node.value)}  # fmt: skip
    for node in ast.walk(tree):
        left = (node.left if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div)
                else node.value if isinstance(node, ast.Attribute) and node.attr in LOOKS else None)  # fmt: skip
        if left is not None and id(node) not in shown and ast.unparse(left) in ROOTS:
            yield ast.unparse(node)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_path_of_a_guest_is_resolved_in_its_root(path: Path) -> None:
    assert list(list_joins(ast.parse(path.read_text(encoding="utf-8")))) == []


def test_such_a_path_would_be_seen() -> None:
    text = "a(root / 'etc')\nfor x in root.glob('var/*'): y = context.paths.root / x\nDo(writes=(root / 'lib',))"
    assert list(list_joins(ast.parse(text))) == ["root / 'etc'", "root.glob", "context.paths.root / x"]
