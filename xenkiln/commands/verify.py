"""verify:NAME: build a second time under other conditions and compare every byte."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from xenkiln import pipeline
from xenkiln.artifacts.comparison import compare_images
from xenkiln.commands.diff import describe
from xenkiln.errors import BuildError
from xenkiln.model.loader import LoadedImage
from xenkiln.model.lock import dump_lock
from xenkiln.stages import packages
from xenkiln.system.commands import Runner
from xenkiln.system.files import remove_path
from xenkiln.system.layout import PROJECT, Paths, build_folder
from xenkiln.system.locks import hold_lock
from xenkiln.system.mounts import mount_image, mount_plain
from xenkiln.system.progress import show_progress
from xenkiln.system.tools import find_tool

FILESYSTEMS = {"xfs": ("mkfs.xfs", "-q"), "btrfs": ("mkfs.btrfs", "-q"), "ext4": ("mke2fs", "-q", "-F", "-t", "ext4")}
"""Tried in this order for the second build, leaving out the first one's own; tmpfs when none can be made."""
SECOND_BYTES = 16 << 30
CLOCK_OFFSET = "+40d"
OTHER_WORLD = {"LANG": "tr_TR.UTF-8", "LC_ALL": "tr_TR.UTF-8", "TZ": "Pacific/Chatham", "USER": "somebody"}
FAKETIME = {"NO_FAKE_STAT": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1"}
"""faketime(1): files keep their dates and time limits their length; only the time of day is another."""
FAKETIME_LIBRARY = "lib/*/faketime/libfaketime.so.1"


def run(loaded: LoadedImage) -> None:
    """Compare the finished image with a cold second build; BuildError names what differs."""
    first = pipeline.paths_for(loaded)
    place = build_folder() / "verify" / loaded.name
    with (
        hold_lock(build_folder() / "verify" / f"{loaded.name}.lock", f"the verification of {loaded.name}"),
        show_progress(f"verify:{loaded.name}") as tell,
        _other_filesystem(first, place) as (folder, filesystem),
    ):
        recipes = _copy_recipe(loaded, first, folder)
        conditions = f"{filesystem}, clock {CLOCK_OFFSET if set_clock() else 'as it is'}, umask 077"
        tell(f"build again ({conditions})")
        second = Paths(loaded.name, folder / "build", recipes)
        _build_again(loaded.name, first, second, tell)
        tell("compare")
        count = _compare(first, second, folder / "compare")
    print(f"{loaded.name}: {count} files are the same, byte for byte, built again on {conditions}")


@contextmanager
def _other_filesystem(first: Paths, place: Path) -> Iterator[tuple[Path, str]]:
    """An empty folder on a filesystem of another type than the build folder's; its name."""
    runner = Runner()
    image, folder = place.with_suffix(".fs"), place / "elsewhere"
    remove_path(image)
    folder.mkdir(parents=True, exist_ok=True)
    own = runner.read(["stat", "-f", "-c", "%T", str(first.build)]).strip()
    kind = next((name for name, argv in FILESYSTEMS.items() if find_tool(argv[0]) and not own.startswith(name[:4])), "")
    try:
        if kind:
            with image.open("wb") as stream:
                stream.truncate(min(shutil.disk_usage(first.build).free, SECOND_BYTES))
            runner.run([*FILESYSTEMS[kind], str(image)])
            with mount_image(runner, image, folder, read_only=False, options="discard"):
                yield folder, kind
        else:
            with mount_plain(runner, "tmpfs", folder, "mode=0755"):
                yield folder, "tmpfs"
    finally:
        remove_path(image)


def _copy_recipe(loaded: LoadedImage, first: Paths, folder: Path) -> Path:
    """The recipes in another folder, this one locked to the very packages of the first build."""
    recipes = folder / "recipes"
    shutil.copytree(first.recipes, recipes)
    lock = recipes / f"{loaded.name}.lock.yaml"
    lock.write_text(dump_lock(packages.read_plan(first), loaded.name), encoding="utf-8")
    return recipes


def _build_again(name: str, first: Paths, second: Paths, tell: object) -> None:
    environment = {
        **OTHER_WORLD,
        "XENKILN_BUILD": str(second.build),
        "XENKILN_RECIPES": str(second.recipes),
        "XENKILN_CACHE": str(first.cache),
        "HOME": str(second.build / "home"),
        "PYTHONHASHSEED": "17",
    }
    for variable in ("PATH", "PYTHONPATH"):
        environment |= {variable: os.environ[variable]} if variable in os.environ else {}
    words = [sys.executable, "-m", "doit", "-f", str(PROJECT / "dodo.py"), f"build:{name}"]
    runner = Runner(first.log("verify"), environment | set_clock())
    first.log("verify").write_text("")
    runner.run(["sh", "-c", 'umask 077; exec "$@"', "sh", *words], on_line=tell)  # type: ignore[arg-type]


def set_clock() -> dict[str, str]:
    """The environment under which it is another day; empty where libfaketime is not installed.

    Not by the faketime program: it names a semaphore after its process, and two of them in PID
    namespaces of their own have the same number.
    """
    library = next(Path("/usr").glob(FAKETIME_LIBRARY), None)
    return FAKETIME | {"LD_PRELOAD": str(library), "FAKETIME": CLOCK_OFFSET} if library else {}


def _compare(first: Paths, second: Paths, scratch: Path) -> int:
    """How many files are the same; BuildError when one is not."""
    ours, theirs = (_read_sums(paths.images / "SHA256SUMS") for paths in (first, second))
    different = sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))
    if not different:
        return len(ours)
    lines = [f"differs: {name}" for name in different]
    if "root.img" in different:
        found = compare_images(first.images / "root.img", second.images / "root.img", scratch, Runner())
        lines += describe(found)
    raise BuildError(f"{first.name} is not the same the second time:\n  " + "\n  ".join(lines),
                     next_step="a file that differs comes from a script or a package that notes time, host or chance;"
                     " remove it in configure.scripts, or report it")  # fmt: skip


def _read_sums(path: Path) -> dict[str, str]:
    pairs = (line.split(maxsplit=1) for line in path.read_text(encoding="utf-8").splitlines())
    return {name.lstrip("*"): digest for digest, name in pairs}
