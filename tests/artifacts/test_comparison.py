"""What differs between two images, named so that one knows where to look."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from sealing import EPOCH, make_context, make_paths, make_volume

from xenkiln.artifacts.comparison import (
    compare_images,
    compare_packages,
    compare_trees,
    describe_difference,
    find_difference,
)
from xenkiln.artifacts.ext import make_volume_steps
from xenkiln.artifacts.normalising import normalise_volume
from xenkiln.system.commands import Runner
from xenkiln.system.execution import run_steps

pytestmark = pytest.mark.usefixtures("quick_starts")


@pytest.fixture
def trees(tmp_path: Path) -> tuple[Path, Path]:
    left, right = tmp_path / "left", tmp_path / "right"
    (left / "etc").mkdir(parents=True)
    (left / "etc/hostname").write_text("guest\n")
    (left / "etc/same").write_text("same\n")
    (left / "etc/link").symlink_to("hostname")
    os.mkfifo(left / "fifo")
    shutil.copytree(left / "etc", right / "etc", symlinks=True)
    os.mkfifo(right / "fifo")
    for side in (left, right):
        for path in [side, *side.rglob("*")]:
            os.utime(path, (EPOCH, EPOCH), follow_symlinks=False)
    return left, right


def replace_link(right: Path) -> None:
    (right / "etc/link").unlink()
    (right / "etc/link").symlink_to("same")


def replace_content(right: Path) -> None:
    (right / "etc/hostname").write_text("tseug\n")
    os.utime(right / "etc/hostname", (EPOCH, EPOCH))


CHANGES: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "content": (replace_content, "/etc/hostname", "content"),
    "size": (lambda right: (right / "etc/hostname").write_text("longer\n"), "/etc/hostname", "size"),
    "mode": (lambda right: (right / "etc/hostname").chmod(0o600), "/etc/hostname", "mode"),
    "mtime": (lambda right: os.utime(right / "etc/same", ns=(0, EPOCH * 10**9 + 1)), "/etc/same", "mtime"),
    "target": (replace_link, "/etc/link", "target"),
    "xattr": (lambda right: os.setxattr(right / "etc/same", "user.x", b"1"), "/etc/same", "xattr user.x"),
    "links": (lambda right: os.link(right / "etc/same", right / "etc/hard"), "/etc/same", "links"),
}


def test_equal_trees_are_equal(trees: tuple[Path, Path]) -> None:
    assert compare_trees(*trees).is_equal


@pytest.mark.parametrize("what", CHANGES)
def test_each_kind_of_change_is_named(trees: tuple[Path, Path], what: str) -> None:
    change, name, field = CHANGES[what]
    change(trees[1])
    found = compare_trees(*trees)
    changed = {entry.name: {item[0] for item in entry.fields} for entry in found.changed}
    assert field in changed[name]


def test_added_removed_and_another_type(trees: tuple[Path, Path]) -> None:
    left, right = trees
    (right / "new").write_text("x")
    (right / "etc/same").unlink()
    (right / "fifo").unlink()
    (right / "fifo").write_text("x")
    found = compare_trees(left, right)
    assert (found.added, found.removed) == (("/new",), ("/etc/same",))
    fields = {entry.name: {item[0]: item[1:] for item in entry.fields} for entry in found.changed}
    assert fields["/fifo"]["type"] == ("fifo", "file")


def test_packages_are_compared_by_name_and_architecture(tmp_path: Path) -> None:
    def write(name: str, *packages: tuple[str, str, str]) -> Path:
        entries = [{"name": n, "version": v, "arch": "amd64", "sha256": s} for n, v, s in packages]
        (tmp_path / name).write_text(json.dumps(entries))
        return tmp_path / name

    left = write("left", ("a", "1", "x"), ("b", "1", "x"), ("k", "1", "x"))
    right = write("right", ("a", "2", "y"), ("c", "1", "x"), ("k", "1", "x"), ("k", "2", "z"))
    found = compare_packages(left, right)
    assert (found.added, found.removed) == (("c.amd64",), ("b.amd64",))
    assert {entry.name: entry.fields for entry in found.changed} == {
        "a.amd64": (("sha256", "x", "y"), ("version", "1", "2")),
        "k.amd64": (("sha256", "x", "x z"), ("version", "1", "1 2")),
    }


def make_image(tmp_path: Path, name: str, tree: Path) -> Path:
    paths = make_paths(tmp_path / name)
    image = paths.work / "x.img"
    context = make_context(paths)
    run_steps(make_volume_steps(make_volume(), image, tree=tree), context)
    normalise_volume(image, context)
    return image


def test_the_first_difference_is_found_across_holes(tmp_path: Path) -> None:
    for name, offset in (("a", 9_000_000), ("b", 12_000_000)):
        with (tmp_path / name).open("wb") as stream:
            stream.truncate(20_000_000)
            stream.seek(5_000_000)
            stream.write(b"alike")
            stream.seek(offset)
            stream.write(b"differs")
    assert find_difference(tmp_path / "a", tmp_path / "b") == 9_000_000
    assert find_difference(tmp_path / "a", tmp_path / "a") is None
    os.truncate(tmp_path / "b", 9_000_000)
    assert find_difference(tmp_path / "a", tmp_path / "b") == 9_000_000


def test_zeros_and_holes_are_alike(tmp_path: Path) -> None:
    (tmp_path / "zeros").write_bytes(bytes(3_000_000))
    with (tmp_path / "hole").open("wb") as stream:
        stream.truncate(3_000_000)
    assert find_difference(tmp_path / "zeros", tmp_path / "hole") is None


def patch(image: Path, offset: int) -> None:
    with image.open("rb+") as stream:
        stream.seek(offset)
        byte = stream.read(1)[0]
        stream.seek(offset)
        stream.write(bytes([byte ^ 1]))


def test_a_difference_beside_the_files_is_placed(tmp_path: Path, trees: tuple[Path, Path]) -> None:
    left, right = (make_image(tmp_path, name, trees[0]) for name in ("one", "other"))
    assert left.read_bytes() == right.read_bytes()
    where = left.read_bytes().index(b"guest\n")
    patch(right, where)
    difference = find_difference(left, right)
    assert difference == where
    assert "/etc/hostname" in describe_difference(left, right, where, Runner())
    patch(right, where)
    patch(right, (64 << 20) - 5)
    assert "belongs to no file" in describe_difference(left, right, (64 << 20) - 5, Runner())


@pytest.mark.root
def test_images_are_compared_by_their_files(tmp_path: Path, trees: tuple[Path, Path]) -> None:
    left = make_image(tmp_path, "one", trees[0])
    replace_content(trees[1])
    right = make_image(tmp_path, "other", trees[1])
    found = compare_images(left, right, tmp_path / "mounts", Runner())
    assert [entry.name for entry in found.changed] == ["/etc/hostname"]
    assert [item[0] for item in found.changed[0].fields] == ["content"]
    assert not found.layout


@pytest.mark.root
def test_images_that_differ_only_in_layout_say_where(tmp_path: Path, trees: tuple[Path, Path]) -> None:
    left, right = (make_image(tmp_path, name, trees[0]) for name in ("one", "other"))
    patch(right, (64 << 20) - 5)
    found = compare_images(left, right, tmp_path / "mounts", Runner())
    assert not found.changed
    assert "belongs to no file" in found.layout
    assert compare_images(left, left, tmp_path / "mounts", Runner()).is_equal
