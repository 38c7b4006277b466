"""What diff and verify say of files, without building any."""

from __future__ import annotations

from pathlib import Path

import pytest

from xenkiln.artifacts.checksums import format_checksums
from xenkiln.artifacts.comparison import Change, Comparison
from xenkiln.commands.diff import describe, print_comparison
from xenkiln.commands.verify import compare_builds, describe_conditions, hash_images
from xenkiln.errors import BuildError
from xenkiln.system.files import hash_file
from xenkiln.system.layout import Paths

STRANGE = ("/etc/[/bold]", "/etc/\x1b[31mred", "/etc/\udcff", "/:smile:")


@pytest.fixture
def sides(tmp_path: Path) -> tuple[Paths, Paths]:
    """The same image in two build folders."""
    one, other = (Paths("tiny", tmp_path / side, tmp_path) for side in ("one", "other"))
    for paths in (one, other):
        write_image(paths, kernel=b"kernel")
    return one, other


def write_image(paths: Paths, **files: bytes) -> None:
    paths.images.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (paths.images / name).write_bytes(data)
    digests = {name: hash_file(paths.images / name) for name in files}
    (paths.images / "SHA256SUMS").write_text(format_checksums(digests))


def test_equal_builds_are_equal(sides: tuple[Paths, Paths], tmp_path: Path) -> None:
    compare_builds(sides[0], hash_images(sides[0].images), sides[1], tmp_path / "scratch")


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("damage", [lambda path: path.write_bytes(b"kernem"), Path.unlink])
def test_a_file_that_is_not_what_its_checksum_says_is_named(
    sides: tuple[Paths, Paths], side: int, damage: object, tmp_path: Path
) -> None:
    damage(sides[side].images / "kernel")  # type: ignore[operator]
    with pytest.raises(BuildError, match="not what SHA256SUMS says: kernel") as caught:
        compare_builds(sides[0], hash_images(sides[0].images), sides[1], tmp_path / "scratch")
    assert caught.value.place == str(sides[side].images)


def test_each_file_that_differs_is_named(sides: tuple[Paths, Paths], tmp_path: Path) -> None:
    write_image(sides[1], kernel=b"other", more=b"more")
    with pytest.raises(BuildError, match="differs: kernel\n  differs: more"):
        compare_builds(sides[0], hash_images(sides[0].images), sides[1], tmp_path / "scratch")


def test_the_conditions_name_the_filesystem() -> None:
    assert describe_conditions("xfs").startswith("filesystem (xfs), ")


def test_names_of_files_are_shown_and_not_obeyed(capsys: pytest.CaptureFixture[str]) -> None:
    found = Comparison(STRANGE, (), (Change("/x[y]", (("target", "[red]", "\x1b[0m"),)),))
    print_comparison("files", found, ("a", "b"))
    said = capsys.readouterr().out
    assert "/etc/[/bold]" in said
    assert ":smile:" in said
    assert "\x1b" not in said
    assert all(line.isprintable() for line in describe(found))
