"""filesystem:NAME: the empty filesystem that packages are installed into, and the guest's other disks."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from xenkiln.artifacts.checksums import hash_files
from xenkiln.artifacts.ext import Volume, derive_uuid, find_size_mib, make_volume_steps
from xenkiln.artifacts.normalising import normalise_volume
from xenkiln.errors import BuildError, HostError, XenkilnError
from xenkiln.families.contract import load_family
from xenkiln.model.image import ImageRecipe
from xenkiln.model.loader import LoadedImage
from xenkiln.system.execution import Context
from xenkiln.system.files import allocated_bytes, partial_path
from xenkiln.system.layout import Paths
from xenkiln.system.preflight import MAKE_ROOM
from xenkiln.system.steps import Do, Finish, Run, Step

SUMMARY = "make the sparse root filesystem, swap and extra disks"
NEEDS = ("packages",)

SLACK = 1.1
"""A package's own size leaves out the ends of its files' last blocks, and what its scripts write."""
SPACE_FACTOR = 2.5
SPACE_MIB = 64
SWAP_LABEL = "swap"
PAGE_BYTES = "4096"  # x86, whatever this host has
ALLOCATED_SHARE = 16
"""An empty volume that takes more than this part of its size was written with zeros."""


@dataclass(frozen=True)
class Inputs:
    """The volumes to make; swap_mib is 0 without swap."""

    name: str
    root: Volume
    extra: tuple[Volume, ...]
    swap_mib: int


def make_volume(name: str, recipe: ImageRecipe, disk: str, size_mib: int, filesystem: str) -> Volume:
    """A disk of the recipe as its family's release can read it."""
    profile = load_family(recipe.family).get_filesystem_profile(recipe.release, filesystem)
    return Volume(name, disk, size_mib, profile.features, profile.inode_size)


def slice_recipe(loaded: LoadedImage) -> Inputs:
    """Sizes and features of every disk; where they are attached and mounted is not read here."""
    recipe, disks = loaded.recipe, loaded.recipe.disks
    return Inputs(
        loaded.name,
        make_volume(loaded.name, recipe, "root", disks.root.size_mib, disks.root.filesystem),
        tuple(make_volume(loaded.name, recipe, d.name, d.size_mib, d.filesystem) for d in disks.extra),
        disks.swap.size_mib if disks.swap else 0,
    )


def list_disks(inputs: Inputs, paths: Paths) -> list[Path]:
    """The finished disks beside the root filesystem."""
    swap = [paths.images / "swap.img"] if inputs.swap_mib else []
    return [*swap, *(paths.images / f"{volume.name}.img" for volume in inputs.extra)]


def list_outputs(inputs: Inputs, paths: Paths) -> list[Path]:
    """The empty root filesystem, and the disks."""
    return [paths.layer("filesystem"), *list_disks(inputs, paths)]


def list_references(inputs: Inputs, paths: Paths) -> list[Path]:
    """None."""
    return []


def find_problems(inputs: Inputs, paths: Paths) -> list[XenkilnError]:
    """An extra disk whose file would take the place of the ramdisk."""
    if any(volume.name == "initrd" for volume in inputs.extra):
        return [BuildError("initrd.img is the ramdisk's file", place=f"{inputs.name}: disks.extra",
                           next_step="give the disk called initrd another name")]  # fmt: skip
    return []


def make_steps(inputs: Inputs, paths: Paths) -> list[Step]:
    """Space first, then each volume; the root filesystem goes without the journal that the final one has."""
    root = inputs.root
    working = Volume(root.image, root.name, root.size_mib,
                     tuple(f for f in root.features if f != "has_journal"), root.inode_size)  # fmt: skip
    layer, disks = paths.layer("filesystem"), list_disks(inputs, paths)

    def check_space(context: Context) -> None:
        require_room(inputs, int(context.values["installed_mib"]), paths.build)

    def finish_volumes(context: Context) -> None:
        for path in [layer, *disks]:
            require_sparse(partial_path(path))
        digests = hash_files(map(partial_path, disks))
        context.values |= {f"sha256_{path.stem}": digest for path, digest in zip(disks, digests, strict=True)}
        parts = [working, layer.name, context.epoch, digests]
        context.identity = hashlib.sha256(json.dumps(parts, default=vars).encode()).hexdigest()
        others = f", {len(disks)} other disks" if disks else ""
        context.summary = f"{root.size_mib} MiB, sparse{others}"

    steps: list[Step] = [Do("check that everything will fit", check_space)]
    steps += make_volume_steps(working, partial_path(layer))
    if inputs.swap_mib:
        steps += make_swap_steps(inputs.name, inputs.swap_mib, partial_path(paths.images / "swap.img"))
    for volume in inputs.extra:
        image = partial_path(paths.images / f"{volume.name}.img")
        steps += make_volume_steps(volume, image)
        steps.append(Do(f"set all times in {volume.name}.img (debugfs -w)", partial(normalise_volume, image),
                        ("debugfs",)))  # fmt: skip
    steps.append(Do("take checksums", finish_volumes))
    return [*steps, *(Finish(path) for path in [layer, *disks])]


def make_swap_steps(name: str, size_mib: int, target: Path) -> list[Step]:
    """A sparse file with the header of a swap area, version 1, and always the same UUID."""
    argv = ("mkswap", "-q", "-p", PAGE_BYTES, "-U", str(derive_uuid(name, "swap")), "-L", SWAP_LABEL, target)
    return [
        Run(f"make a sparse file of {size_mib} MiB", ("truncate", "-s", f"{size_mib}M", target)),
        Run("make the swap area", argv),
    ]


def require_room(inputs: Inputs, installed_mib: int, folder: Path) -> None:
    """Raise BuildError or HostError when the packages cannot fit into the image, or the image onto the host."""
    wanted_mib = int(installed_mib * SLACK)
    if inputs.root.size_mib - inputs.root.overhead_mib < wanted_mib:
        raise BuildError(
            f"the packages take {installed_mib} MiB installed, more than a filesystem of {inputs.root.size_mib}"
            " MiB holds", place=f"{inputs.name}: disks.root.size_mib",
            next_step=f"make it {find_size_mib(inputs.root, wanted_mib)} at least, or install fewer packages",
        )  # fmt: skip
    needed_mib = int(installed_mib * SPACE_FACTOR) + SPACE_MIB
    free_mib = shutil.disk_usage(folder).free >> 20
    if free_mib < needed_mib:
        raise HostError(
            f"{free_mib} MiB are free and building {inputs.name} takes about {needed_mib}", place=str(folder),
            next_step=MAKE_ROOM,
        )  # fmt: skip


def require_sparse(path: Path) -> None:
    """Raise HostError when the host's filesystem does not keep the holes of an empty volume."""
    taken, size = allocated_bytes(path), path.stat().st_size
    if taken > max(size // ALLOCATED_SHARE, SPACE_MIB << 20):
        raise HostError(f"takes {taken >> 20} MiB of {size >> 20} while it is empty", place=str(path),
                        next_step="put the build on a filesystem that knows sparse files")  # fmt: skip
