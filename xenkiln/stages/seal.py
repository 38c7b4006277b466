"""seal:NAME: the merged tree becomes the image, the same bytes every time, with all that goes beside it.

The tree's /boot keeps the kernel as its package left it; ramdisks made on the way are removed. With
`kernel.in_image` it gets this build's kernel and ramdisk and a boot loader's menu as well.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from xenkiln.artifacts.boot_files import MENU, place_boot_files, render_menu
from xenkiln.artifacts.checksums import (
    find_key_problem,
    format_checksums,
    hash_files,
    make_signing_step,
    read_checksums,
)
from xenkiln.artifacts.cleaning import REMOVED_FROM_ALL, remove_byte_code, remove_matches, truncate_matches
from xenkiln.artifacts.ext import Volume, find_size_mib, make_volume_steps
from xenkiln.artifacts.normalising import normalise_volume
from xenkiln.artifacts.shapes import SHAPE_FILES, make_boot_sector, make_shape_steps
from xenkiln.errors import BuildError, XenkilnError
from xenkiln.families.contract import load_family
from xenkiln.model.distributions import DEBIAN_RELEASES
from xenkiln.model.image import ImageRecipe
from xenkiln.model.loader import LoadedImage
from xenkiln.stages import domain, filesystem
from xenkiln.stages.packages import read_plan
from xenkiln.system.execution import Context
from xenkiln.system.files import allocated_bytes, partial_path
from xenkiln.system.layout import Paths
from xenkiln.system.steps import Do, Finish, Mount, Release, Run, Step

SUMMARY = "make the final image from the merged tree, with checksums and its bill of materials"
NEEDS = ("packages", "filesystem", "bootstrap", "configure", "ramdisk")
SUMS, SIGNATURE = "SHA256SUMS", "SHA256SUMS.asc"
BOOT_FILES = ("vmlinuz", "initrd.img")
PACKAGE_LIST, BILL = "packages.json", "sbom.spdx.json"


@dataclass(frozen=True)
class Inputs:
    """The final volume and what goes into and beside it; `menu_arguments` is None without a menu.

    `kept` are the guest paths that the recipe names: cleaning leaves them alone.
    """

    name: str
    family: str
    release: str
    root: Volume
    other_disks: tuple[str, ...]
    menu_arguments: str | None
    shapes: tuple[str, ...]
    signing_key: str | None
    kept: tuple[str, ...] = ()


def slice_recipe(loaded: LoadedImage) -> Inputs:
    """The disks, the shapes, the key, and the kernel's command line where the image carries it."""
    recipe = loaded.recipe
    disks = filesystem.slice_recipe(loaded)
    others = [*(["swap.img"] if disks.swap_mib else []), *(f"{volume.name}.img" for volume in disks.extra)]
    arguments = make_menu_arguments(loaded) if recipe.kernel.in_image else None
    return Inputs(loaded.name, recipe.family, recipe.release, disks.root, tuple(others), arguments,
                  tuple(sorted(recipe.shapes)), recipe.signing_key, list_kept(recipe))  # fmt: skip


def list_kept(recipe: ImageRecipe) -> tuple[str, ...]:
    """Files, homes and mount points of the recipe: what configuring put there is not litter."""
    configure = recipe.configure
    paths = {entry.path for entry in configure.files} | {disk.mount for disk in recipe.disks.extra}
    paths |= {user.home or f"/home/{user.name}" for user in configure.users}
    paths |= {mount.where for mount in configure.mounts if mount.where.startswith("/")}
    return tuple(sorted(paths))


def make_menu_arguments(loaded: LoadedImage) -> str:
    """The kernel's command line in the image's own menu; with pygrub the domain's `extra` is added by Xen."""
    described = domain.slice_recipe(loaded)
    root = described.domain.root or f"{described.root_device} ro"
    extra = "" if described.domain.boot == "pygrub" else described.domain.extra
    return " ".join(filter(None, [f"root={root}", described.arguments, extra]))


def list_outputs(inputs: Inputs, paths: Paths) -> list[Path]:
    """What the user takes away; kernel, ramdisk and the other disks are there already."""
    names = ["root.img", PACKAGE_LIST, BILL, *(SHAPE_FILES[shape] for shape in inputs.shapes), SUMS]
    return [paths.images / name for name in [*names, *([SIGNATURE] if inputs.signing_key else [])]]


def list_references(inputs: Inputs, paths: Paths) -> list[Path]:
    """None."""
    return []


def find_problems(inputs: Inputs, paths: Paths) -> list[XenkilnError]:
    """A key that cannot sign here, a disk too large for a partition table."""
    problem = find_key_problem(inputs.signing_key) if inputs.signing_key else None
    problems: list[XenkilnError] = [problem] if problem else []
    if inputs.shapes:
        try:
            make_boot_sector(inputs.name, inputs.root.size_mib)
        except XenkilnError as error:
            problems.append(error)
    return problems


def make_steps(inputs: Inputs, paths: Paths) -> list[Step]:
    """Merge, clean, copy into the image, normalise, check; then all that is made from the image."""
    root = partial_path(paths.images / "root.img")

    def normalise(context: Context) -> None:
        normalise_volume(root, context)

    return [
        *make_tree_steps(inputs, paths),
        *make_volume_steps(inputs.root, root, tree=paths.root),
        Release(),
        Do("set all times and counters in the image (debugfs -w)", normalise, ("debugfs",)),
        Run("check the filesystem", ("e2fsck", "-f", "-n", root)),
        *make_shape_steps(inputs.name, inputs.shapes, inputs.root.size_mib, root, paths.images, paths.work),
        *make_list_steps(inputs, paths),
        Do("remove what an earlier build left and this one does not make", lambda _: remove_stale(inputs, paths)),
        *map(Finish, list_outputs(inputs, paths)),
    ]


def remove_stale(inputs: Inputs, paths: Paths) -> None:
    """Remove the files of an earlier recipe: shapes, signature and disks, the latter known by the old SHA256SUMS."""
    try:
        listed = read_checksums(paths.images / SUMS)
    except (FileNotFoundError, BuildError):
        listed = {}  # the new one takes its place
    disks = {name for name in listed if name.endswith(".img") and "/" not in name}
    made = {*(path.name for path in list_outputs(inputs, paths)), *BOOT_FILES, *inputs.other_disks}
    for name in {"swap.img", SIGNATURE, *SHAPE_FILES.values(), *disks} - made:
        (paths.images / name).unlink(missing_ok=True)


def make_tree_steps(inputs: Inputs, paths: Paths) -> list[Step]:
    """The merged tree below a throw-away layer in memory, without what must not be in an image."""
    root, work = paths.root, paths.work
    top = work / "top"
    family = load_family(inputs.family)
    layers = (work / "configure" / "upper", work / "bootstrap")

    def make_folders(context: Context) -> None:
        for folder in ("upper", "work"):
            (top / folder).mkdir(mode=0o755)

    def check_room(context: Context) -> None:
        require_room(inputs.root, [work / "configure", work / "bootstrap"])

    def clean(context: Context) -> None:
        removed = remove_matches(root, (*REMOVED_FROM_ALL, *family.CLEANUP), inputs.kept)
        removed += remove_byte_code(root, context.epoch, inputs.kept)
        truncate_matches(root, family.TRUNCATE, context.epoch, inputs.kept)
        context.runner.note(f"# {removed} paths removed")

    steps: list[Step] = [
        Mount("image", work / "bootstrap", paths.layer("bootstrap")),
        Mount("image", work / "configure", paths.layer("configure")),
        Do("check that the tree will fit", check_room),
        Mount("tmpfs", top),
        Do("make the top layer's folders", make_folders),
        Mount("overlay", root, top, lower=layers),
        Do("remove caches, logs, ids and traces of the host", clean),
    ]
    return [*steps, *([make_boot_step(inputs, paths)] if inputs.menu_arguments is not None else [])]


def make_boot_step(inputs: Inputs, paths: Paths) -> Step:
    """This build's kernel, ramdisk and menu into the tree's /boot."""
    arguments, root = inputs.menu_arguments or "", paths.root

    def place(context: Context) -> None:
        version = context.values["kernel_version"]
        menu = render_menu(inputs.name, version, arguments, partitioned=bool(inputs.shapes))
        vmlinuz, initrd = (paths.images / name for name in BOOT_FILES)
        place_boot_files(root, version, vmlinuz, initrd, menu)

    places = (f"/boot/{name}-$kernel_version" for name in BOOT_FILES)
    writes = tuple(root / place.lstrip("/") for place in (*places, MENU))
    return Do("put kernel, ramdisk and a boot menu into the image", place, writes=writes)


def require_room(volume: Volume, mounts: list[Path]) -> None:
    """Raise BuildError when what the mounted layers hold is more than `volume` can take beside its journal."""
    used = 0
    for mount in mounts:
        state = os.statvfs(mount)
        used += (state.f_blocks - state.f_bfree) * state.f_frsize
    used_mib = (used >> 20) + 1
    if used_mib > volume.size_mib - volume.overhead_mib:
        raise BuildError(
            f"the tree takes {used_mib} MiB, more than a filesystem of {volume.size_mib} MiB holds",
            place=f"{volume.image}: disks.root.size_mib",
            next_step=f"make it {find_size_mib(volume, used_mib)} at least, or install fewer packages",
        )


def make_list_steps(inputs: Inputs, paths: Paths) -> list[Step]:
    """Packages, bill of materials, checksums and their signature."""

    def write_lists(context: Context) -> None:
        from xenkiln.artifacts.sbom import render_sbom  # the library takes a moment, and only we need it

        plan = read_plan(paths)
        packages = [{"name": p.name, "version": p.version, "arch": p.arch, "sha256": p.sha256} for p in plan.packages]
        kind = "deb" if load_family(inputs.family).INSTALLER == "mmdebstrap" else "rpm"
        bill = render_sbom(inputs.name, name_distribution(inputs), kind, plan)
        partial_path(paths.images / PACKAGE_LIST).write_text(json.dumps(packages, indent=1) + "\n", encoding="utf-8")
        partial_path(paths.images / BILL).write_text(bill, encoding="utf-8")

    def write_sums(context: Context) -> None:
        made = [path for path in list_outputs(inputs, paths) if not path.name.startswith(SUMS)]
        there = [paths.images / name for name in (*BOOT_FILES, *inputs.other_disks)]
        hashed = hash_files([*map(partial_path, made), *there])
        digests = dict(zip([path.name for path in (*made, *there)], hashed, strict=True))
        text = format_checksums(digests)
        partial_path(paths.images / SUMS).write_text(text, encoding="ascii")
        context.values["sha256_root"] = digests["root.img"]
        context.identity = hashlib.sha256(text.encode()).hexdigest()
        taken = allocated_bytes(partial_path(made[0])) / (1 << 20)
        context.summary = (f"root.img takes {taken:.0f} of {inputs.root.size_mib} MiB,"
                           f" sha256 {digests['root.img'][:16]}")  # fmt: skip

    lists = tuple(partial_path(paths.images / name) for name in (PACKAGE_LIST, BILL))
    sums, signature = (partial_path(paths.images / name) for name in (SUMS, SIGNATURE))
    steps: list[Step] = [
        Do("list the packages, write the bill of materials", write_lists, writes=lists),
        Do("take checksums", write_sums, writes=(sums,)),
    ]
    return [*steps, *([make_signing_step(inputs.signing_key, sums, signature)] if inputs.signing_key else [])]


def name_distribution(inputs: Inputs) -> str:
    """Whose packages they are, as package URLs name it; "" for the rpm families, whose releases share numbers."""
    release = DEBIAN_RELEASES.get(inputs.release)
    return release.distribution if release else ""
