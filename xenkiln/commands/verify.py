"""verify:NAME: build a second time under other conditions and compare every byte.

What the second build finds otherwise: folder, filesystem type, time of day, locale, time zone, umask, PATH,
host name, user name. The other time is what programs are told; the times that the kernel itself gives to
files are today's in both builds.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from xenkiln import pipeline
from xenkiln.artifacts.checksums import gnupg_home, read_checksums
from xenkiln.artifacts.comparison import compare_images
from xenkiln.commands.diff import describe
from xenkiln.errors import BuildError
from xenkiln.model.loader import LoadedImage
from xenkiln.model.lock import dump_lock
from xenkiln.stages import packages
from xenkiln.system.commands import Runner
from xenkiln.system.files import hash_file, remove_path
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
UMASK, HOST_NAME = "077", "elsewhere"
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
    ):
        tell("take the checksums of what is there")
        digests = hash_images(first.images)
        remove_path(place)
        # libfaketime leaves a semaphore for each process there; nobody else is to see them.
        private = mount_plain(Runner(), "tmpfs", Path("/dev/shm"), "mode=1777")  # noqa: S108  # the place itself
        with _other_filesystem(first, place) as (folder, filesystem), private:
            conditions = describe_conditions(filesystem)
            tell(f"build again: {conditions}")
            second = Paths(loaded.name, folder / "build", _copy_recipe(loaded, first, folder))
            _build_again(loaded, first, second, tell)
            tell("compare")
            compare_builds(first, digests, second, folder / "compare")
    print(f"{loaded.name}: {len(digests)} files are the same, byte for byte, built again on another {conditions}")


def describe_conditions(filesystem: str) -> str:
    """What is not as it was the first time, in words."""
    words = [f"filesystem ({filesystem})", *([f"clock ({CLOCK_OFFSET})"] if set_clock() else []),
             f"locale ({OTHER_WORLD['LANG']})", f"time zone ({OTHER_WORLD['TZ']})", f"umask ({UMASK})"]  # fmt: skip
    return ", ".join([*words, "PATH, host name and folder"])


@contextmanager
def _other_filesystem(first: Paths, place: Path) -> Iterator[tuple[Path, str]]:
    """An empty folder on a filesystem of another type than the build folder's; its name."""
    runner = Runner()
    image, folder = place.with_name(f"{place.name}.fs"), place / "elsewhere"
    remove_path(image)
    folder.mkdir(parents=True, exist_ok=True)
    own = runner.read(["stat", "-f", "-c", "%T", str(first.build)]).strip()
    kind = next((name for name, argv in FILESYSTEMS.items() if find_tool(argv[0]) and not own.startswith(name[:3])), "")
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
        # Only an empty folder is left; anything else would mean that something is still mounted.
        folder.rmdir()
        place.rmdir()


def _copy_recipe(loaded: LoadedImage, first: Paths, folder: Path) -> Path:
    """The recipes in another folder, this one locked to the very packages of the first build."""
    recipes = folder / "recipes"
    shutil.copytree(first.recipes, recipes)
    lock = recipes / f"{loaded.name}.lock.yaml"
    lock.write_text(dump_lock(packages.read_plan(first), loaded.name), encoding="utf-8")
    return recipes


def _build_again(loaded: LoadedImage, first: Paths, second: Paths, tell: object) -> None:
    empty = second.build / "programs"
    empty.mkdir(parents=True)
    environment = {
        **OTHER_WORLD,
        "XENKILN_BUILD": str(second.build),
        "XENKILN_RECIPES": str(second.recipes),
        "XENKILN_CACHE": str(first.cache),
        "PATH": f"{empty}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "HOME": str(Path.home()),  # where ~ in a recipe leads
        "GNUPGHOME": gnupg_home(),
        "PYTHONHASHSEED": "17",
    }
    for variable in ("PYTHONPATH", loaded.recipe.configure.root_password.environment):
        environment |= {variable: os.environ[variable]} if variable and variable in os.environ else {}
    words = [sys.executable, "-m", "doit", "-f", str(PROJECT / "dodo.py"), f"build:{loaded.name}"]
    runner = Runner(first.log("verify"), environment | set_clock())
    first.log("verify").write_text("")
    script = f'umask {UMASK}; hostname {HOST_NAME}; exec "$@"'
    runner.run(["unshare", "--uts", "sh", "-e", "-c", script, "sh", *words], on_line=tell)  # type: ignore[arg-type]


def set_clock() -> dict[str, str]:
    """The environment under which it is another day; empty where libfaketime is not installed.

    Not by the faketime program: it names a semaphore after its process, and two of them in PID
    namespaces of their own have the same number.
    """
    library = next(Path("/usr").glob(FAKETIME_LIBRARY), None)
    return FAKETIME | {"LD_PRELOAD": str(library), "FAKETIME": CLOCK_OFFSET} if library else {}


def hash_images(images: Path) -> dict[str, str]:
    """File name -> SHA-256 of its bytes, of all that SHA256SUMS lists; BuildError where it says otherwise."""
    promised = read_checksums(images / "SHA256SUMS")
    found = {name: hash_file(images / name) if (images / name).is_file() else "" for name in promised}
    if damaged := sorted(name for name in promised if found[name] != promised[name]):
        raise BuildError(f"not what SHA256SUMS says: {', '.join(damaged)}", place=str(images),
                         next_step=f"remove the damaged files and run doit build:{images.name}")  # fmt: skip
    return found


def compare_builds(first: Paths, ours: dict[str, str], second: Paths, scratch: Path) -> None:
    """Raise BuildError naming what differs between the files of two builds; `ours` are those of the first."""
    theirs = hash_images(second.images)
    different = sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))
    if not different:
        return
    lines = [f"differs: {name}" for name in different]
    if "root.img" in different:
        found = compare_images(first.images / "root.img", second.images / "root.img", scratch, Runner())
        lines += describe(found)
    raise BuildError(f"{first.name} is not the same the second time:\n  " + "\n  ".join(lines),
                     next_step="a file that differs comes from a script or a package that notes time, host or chance;"
                     " remove it in configure.scripts, or report it")  # fmt: skip
