"""Paths of a guest on the host: whatever links a tree holds, nothing is read or written outside it."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xenkiln.errors import BuildError
from xenkiln.system.execution import write_file
from xenkiln.system.files import MAX_LINKS, resolve_in_root
from xenkiln.system.guest_root import GUEST_FOLDERS, require_real_folder
from xenkiln.system.steps import Write

NAMES = ["a", "b", "c", "d"]
parts = st.lists(st.sampled_from([*NAMES, "..", ".", ""]), min_size=1, max_size=6)
targets = st.builds(lambda slash, words: (slash + "/".join(words)) or ".", st.sampled_from(["", "/", "//"]), parts)
nodes = st.lists(
    st.tuples(st.lists(st.sampled_from(NAMES), min_size=1, max_size=3), st.one_of(st.none(), st.just("file"), targets)),
    max_size=8,
)
"""Paths of a tree: None for a folder, "file" for a file, anything else is where a link points."""


@contextmanager
def hostile_tree(wanted: list[tuple[list[str], str | None]]) -> Iterator[Path]:
    """A root with these links in it, beside a folder that nobody may touch."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "root"
        root.mkdir()
        for words, kind in wanted:
            path = root.joinpath(*words)
            if any(parent.is_symlink() or parent.is_file() for parent in [path, *path.parents]) or path.exists():
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            if kind is None:
                path.mkdir()
            elif kind == "file":
                path.write_text("inside")
            else:
                path.symlink_to(kind)
        yield root


def is_plain_below(root: Path, path: Path) -> bool:
    """Whether a path lies below root, and no part of it is a link."""
    between = [path, *itertools.takewhile(lambda parent: parent != root, path.parents)] if path != root else []
    return path.is_relative_to(root) and ".." not in path.parts and not any(part.is_symlink() for part in between)


@settings(deadline=None, max_examples=150)
@given(wanted=nodes, words=parts)
def test_every_path_stays_in_the_root(wanted: list[tuple[list[str], str | None]], words: list[str]) -> None:
    with hostile_tree(wanted) as root:
        try:
            found = resolve_in_root(root, "/" + "/".join(words))
        except BuildError:
            return  # a loop
        assert is_plain_below(root, found)


@settings(deadline=None, max_examples=60)
@given(wanted=nodes, words=parts)
def test_writing_changes_nothing_outside_the_root(wanted: list[tuple[list[str], str | None]], words: list[str]) -> None:
    with hostile_tree(wanted) as root:
        target = "/" + "/".join(words)
        step = Write(target, "written", 0o640, os.getuid(), os.getgid(), root)
        try:
            write_file(step)
        except BuildError:
            assert [item.name for item in root.parent.iterdir()] == ["root"]
            return
        found = resolve_in_root(root, target)
        assert [item.name for item in root.parent.iterdir()] == ["root"]
        assert found.read_text() == "written"
        assert found.stat().st_mode & 0o7777 == 0o640


@pytest.mark.root
@settings(deadline=None, max_examples=60)
@given(wanted=nodes, words=parts)
def test_links_are_followed_as_the_guest_itself_does(
    wanted: list[tuple[list[str], str | None]], words: list[str]
) -> None:
    path = "/" + "/".join(words)
    with hostile_tree(wanted) as root:
        busybox = shutil.which("busybox")
        assert busybox, "apt-get install busybox-static"
        shutil.copy(busybox, root / "bb")
        answer = subprocess.run(
            ["chroot", root, "/bb", "readlink", "-f", path], capture_output=True, text=True, check=False
        )
        # Where the kernel itself says no such path (a file used as a folder), ours may say anything inside.
        if answer.returncode == 0 and answer.stdout:
            assert resolve_in_root(root, path) == root / answer.stdout.rstrip("\n").lstrip("/")


def test_a_loop_of_links_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("/a")
    with pytest.raises(BuildError, match="too many symbolic links"):
        resolve_in_root(tmp_path, "/a")


def test_as_many_links_as_the_kernel_follows_are_followed(tmp_path: Path) -> None:
    for number in range(MAX_LINKS):
        (tmp_path / f"l{number}").symlink_to(f"l{number + 1}")
    assert resolve_in_root(tmp_path, "/l0") == tmp_path / f"l{MAX_LINKS}"
    (tmp_path / "start").symlink_to("l0")
    with pytest.raises(BuildError):
        resolve_in_root(tmp_path, "/start")


def write(root: Path, path: str) -> None:
    write_file(Write(path, "new", 0o644, os.getuid(), os.getgid(), root))


def test_what_lies_in_a_files_place_is_replaced_and_not_written_through(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    outside = tmp_path / "outside"
    outside.write_text("mine")
    os.link(outside, root / "hard")
    os.mkfifo(root / "fifo")
    (root / "soft").symlink_to("/etc/real")
    for name in ("hard", "fifo", "soft"):
        write(root, f"/{name}")
        assert resolve_in_root(root, f"/{name}").read_text() == "new"
    assert outside.read_text() == "mine"
    assert (root / "fifo").is_file()
    # As the guest's own tools would write through /etc/resolv.conf.
    assert (root / "soft").is_symlink()
    assert (root / "etc" / "real").read_text() == "new"


def test_a_folder_or_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "etc").write_text("a file")
    (tmp_path / "folder").mkdir()
    with pytest.raises(BuildError, match="/folder: is a folder in the image"):
        write(tmp_path, "/folder")
    with pytest.raises(BuildError, match="/etc/fstab: a file of the image is where its folder should be"):
        write(tmp_path, "/etc/fstab")
    with pytest.raises(BuildError, match="/etc/network/interfaces: a file of the image"):
        write(tmp_path, "/etc/network/interfaces")


@pytest.mark.parametrize("name", GUEST_FOLDERS)
def test_a_top_folder_that_leads_elsewhere_is_refused_before_anything_is_mounted(tmp_path: Path, name: str) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    require_real_folder(root / name)
    assert (root / name).is_dir()
    (root / name).rmdir()
    for target in (str(outside), "/etc", "../outside", "nowhere"):
        (root / name).symlink_to(target)
        with pytest.raises(BuildError, match=f"/{name}: must be a folder of the image's own"):
            require_real_folder(root / name)
        (root / name).unlink()
    (root / name).write_text("")
    with pytest.raises(BuildError):
        require_real_folder(root / name)
    assert not outside.exists()
