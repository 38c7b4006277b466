"""diff:A:B: what differs between two built images, packages first, then files."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from xenkiln import pipeline
from xenkiln.artifacts.comparison import Comparison, compare_images, compare_packages
from xenkiln.errors import BuildError
from xenkiln.model.loader import LoadedImage
from xenkiln.system.commands import Runner, make_printable
from xenkiln.system.layout import build_folder

LONGEST = 48


def run(left: LoadedImage, right: LoadedImage) -> None:
    """Print two tables; equal images get one line."""
    folders = [pipeline.paths_for(loaded).images for loaded in (left, right)]
    for loaded, folder in zip((left, right), folders, strict=True):
        if not (folder / "packages.json").is_file() or not (folder / "root.img").is_file():
            raise BuildError(f"{loaded.name} has not been built", next_step=f"doit build:{loaded.name}")
    one, other = folders
    packages = compare_packages(one / "packages.json", other / "packages.json")
    files = compare_images(one / "root.img", other / "root.img", build_folder() / "work" / "diff", Runner())
    if packages.is_equal and files.is_equal:
        print(f"{left.name} and {right.name} are the same, byte for byte")
        return
    print_comparison("packages", packages, (left.name, right.name))
    print_comparison("files", files, (left.name, right.name))


def print_comparison(what: str, found: Comparison, names: tuple[str, str]) -> None:
    """One table: each path or package, what is different, and both sides."""
    # A file's name is text, whatever it looks like.
    console = Console(soft_wrap=False, markup=False, emoji=False, highlight=False)
    if found.layout:
        console.print(f"all files are alike; the images differ at {found.layout}")
    if not (found.added or found.removed or found.changed):
        return
    table = Table(title=f"{what} that differ", title_justify="left")
    for heading in (what, "what", *names):
        table.add_column(heading, overflow="fold")
    rows = [(name, "only here", "yes", "") for name in found.removed]
    rows += [(name, "only here", "", "yes") for name in found.added]
    rows += [(change.name, what, _shorten(mine), _shorten(yours)) for change in found.changed
             for what, mine, yours in change.fields]  # fmt: skip
    for row in sorted(rows):
        table.add_row(*map(make_printable, row))
    console.print(table)


def _shorten(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]}…{text[-8:]}"


def describe(found: Comparison, limit: int = 20) -> list[str]:
    """A comparison as lines, for an error."""
    lines = [f"only in the first: {name}" for name in found.removed]
    lines += [f"only in the second: {name}" for name in found.added]
    lines += [f"{change.name}: " + ", ".join(f"{what} {_shorten(one)} / {_shorten(two)}" for what, one, two in
              change.fields) for change in found.changed]  # fmt: skip
    lines += [found.layout] if found.layout else []
    return [*map(make_printable, lines[:limit]), *([f"and {len(lines) - limit} more"] if len(lines) > limit else [])]


