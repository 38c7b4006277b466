"""Taking things out of a tree that would like us to take them out of the host."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from xenkiln.artifacts.cleaning import find_matches, remove_byte_code, remove_matches, truncate_matches
from xenkiln.errors import BuildError

EPOCH = 1_700_000_000


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    for name in (
        "tmp/.hidden",
        "tmp/x/y",
        "var/log/apt/term.log",
        "var/log/dpkg.log",
        "usr/lib/a/b/c.pyc",
        "etc/passwd-",
    ):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("content")
    return root


def list_tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


@pytest.mark.parametrize(
    ("pattern", "gone"),
    [
        ("/tmp/*", {"tmp/.hidden", "tmp/x/y"}),
        ("tmp/*", {"tmp/.hidden", "tmp/x/y"}),
        ("/var/log/*.log", {"var/log/dpkg.log"}),
        ("/var/*/apt", {"var/log/apt/term.log"}),
        ("/usr/**/*.pyc", {"usr/lib/a/b/c.pyc"}),
        ("/etc/passwd-", {"etc/passwd-"}),
        ("/etc/pass", set()),
        ("/no/such/*", set()),
        ("/etc/passwd-/*", set()),
    ],
)
def test_a_pattern_removes_what_it_says(root: Path, pattern: str, gone: set[str]) -> None:
    before = list_tree(root)
    remove_matches(root, [pattern])
    assert before - list_tree(root) == gone


@pytest.mark.parametrize("pattern", ["", "/", "/../x", "/tmp/../../*"])
def test_a_pattern_that_leads_out_is_refused(root: Path, pattern: str) -> None:
    with pytest.raises(BuildError, match="not a pattern"):
        find_matches(root, pattern)


@pytest.mark.parametrize("target", ["{victim}", "../victim", "../../../../../../../../{victim}"])
@pytest.mark.parametrize("pattern", ["/cache/*", "/cache/**/*", "/cach?/*", "/**/*"])
def test_a_link_never_leads_out_of_the_tree(tmp_path: Path, root: Path, target: str, pattern: str) -> None:
    victim = tmp_path / "victim"
    (victim / "folder").mkdir(parents=True)
    (victim / "precious").write_text("precious")
    (victim / "folder" / "precious").write_text("precious")
    (root / "cache").symlink_to(target.format(victim=victim))
    (root / "usr" / "cache").symlink_to(target.format(victim=victim))
    remove_matches(root, [pattern])
    truncate_matches(root, [pattern], EPOCH)
    remove_byte_code(root, 0)
    assert (victim / "precious").read_text() == "precious"
    assert (victim / "folder" / "precious").read_text() == "precious"


def test_a_link_is_followed_as_the_guest_would(root: Path) -> None:
    (root / "old").symlink_to("/var/log")
    remove_matches(root, ["/old/*.log"])
    assert not (root / "var/log/dpkg.log").exists()


def test_a_matched_link_goes_and_its_target_stays(root: Path) -> None:
    (root / "tmp" / "link").symlink_to("../etc/passwd-")
    remove_matches(root, ["/tmp/link"])
    assert not (root / "tmp" / "link").is_symlink()
    assert (root / "etc/passwd-").read_text() == "content"


@pytest.mark.parametrize(
    ("kept", "stay"),
    [
        ("/var/log/apt/term.log", {"var/log/apt/term.log"}),
        ("/var/log/apt", {"var/log/apt/term.log"}),
        ("/var/log/other", set()),
        ("/var/log", set()),
        ("/var", set()),
        ("/", set()),
        ("/logs/dpkg.log", {"var/log/dpkg.log"}),
    ],
)
def test_what_is_kept_stays_with_what_leads_to_it(root: Path, kept: str, stay: set[str]) -> None:
    (root / "var/log/apt/history.log").write_text("litter beside it")
    if kept == "/var/log/apt":
        stay = stay | {"var/log/apt/history.log"}
    (root / "logs").symlink_to("var/log")
    remove_matches(root, ["/var/log/*"], [kept])
    assert {name for name in list_tree(root) if name.startswith("var/")} == stay


def test_an_empty_folder_that_is_kept_stays(root: Path) -> None:
    (root / "var/cache/data").mkdir(parents=True)
    (root / "var/cache/litter").mkdir()
    remove_matches(root, ["/var/cache/*"], ["/var/cache/data"])
    assert [path.name for path in (root / "var/cache").iterdir()] == ["data"]


def test_truncated_files_are_empty_dated_and_keep_their_mode(root: Path) -> None:
    path = root / "var/log/dpkg.log"
    path.chmod(0o640)
    truncate_matches(root, ["/var/log/*.log", "/etc/machine-id", "/var/log/apt"], EPOCH)
    assert path.read_text() == ""
    assert path.stat().st_mtime == EPOCH
    assert path.stat().st_mode & 0o777 == 0o640
    assert not (root / "etc/machine-id").exists()


def test_a_file_that_the_recipe_names_is_not_emptied(root: Path) -> None:
    (root / "etc/id").symlink_to("passwd-")
    truncate_matches(root, ["/var/log/*.log", "/etc/passwd-"], EPOCH, ["/var/log/dpkg.log", "/etc/id"])
    assert (root / "var/log/dpkg.log").read_text() == "content"
    assert (root / "etc/passwd-").read_text() == "content"


def test_byte_code_of_the_build_goes_and_that_of_packages_stays(root: Path) -> None:
    for name, moment in (
        ("a/__pycache__/old.pyc", EPOCH),
        ("a/__pycache__/new.pyc", EPOCH + 1),
        ("b/__pycache__/new.pyc", EPOCH + 1),
    ):
        path = root / "usr/lib/python3" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"code")
        os.utime(path, (moment, moment))
    kept = root / "opt/app/__pycache__/own.pyc"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"code")
    assert remove_byte_code(root, EPOCH, ["/opt/app/__pycache__/own.pyc"]) == 2
    assert kept.exists()
    assert list_tree(root / "usr/lib/python3") == {"a/__pycache__/old.pyc"}
    assert not (root / "usr/lib/python3/b/__pycache__").exists()
