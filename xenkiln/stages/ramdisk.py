"""ramdisk:NAME: the kernel from where the recipe says, and a ramdisk that is known to find its disk."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from xenkiln.errors import XenkilnError
from xenkiln.kernels import inspection, install
from xenkiln.model.image import Kernel, Ramdisk
from xenkiln.model.loader import LoadedImage
from xenkiln.ramdisks.contract import load_ramdisk_maker
from xenkiln.system.execution import Context
from xenkiln.system.files import hash_file, partial_path, resolve_in_root
from xenkiln.system.layout import Paths
from xenkiln.system.steps import Do, Finish, Mount, Release, Step

SUMMARY = "take the kernel and make a ramdisk with the Xen front-ends"
NEEDS = ("bootstrap", "configure")
OUTPUT = "/tmp/xenkiln-initrd.img"  # noqa: S108  # in the guest's root, on a throw-away overlay


@dataclass(frozen=True)
class Inputs:
    """Where the kernel comes from, how the ramdisk is made, and which filesystem it must read."""

    kernel: Kernel
    ramdisk: Ramdisk
    filesystem: str


def slice_recipe(loaded: LoadedImage) -> Inputs:
    """Kernel, ramdisk and the root filesystem's type."""
    recipe = loaded.recipe
    return Inputs(recipe.kernel, recipe.ramdisk, recipe.disks.root.filesystem)


def list_outputs(inputs: Inputs, paths: Paths) -> list[Path]:
    """Kernel and ramdisk, beside the image."""
    return [paths.images / "vmlinuz", paths.images / "initrd.img"]


def list_references(inputs: Inputs, paths: Paths) -> list[Path]:
    """The kernel, where it does not come from a package."""
    return install.list_kernel_files(inputs.kernel, paths.recipes)


def find_problems(inputs: Inputs, paths: Paths) -> list[XenkilnError]:
    """A kernel that is not where the recipe says."""
    return install.find_kernel_problems(inputs.kernel, paths.recipes)


def list_wanted(inputs: Inputs) -> list[str]:
    """Modules without which the ramdisk is not the one that was asked for."""
    ramdisk = inputs.ramdisk
    front_ends = load_ramdisk_maker(ramdisk.maker).FRONT_ENDS
    return [*front_ends, *ramdisk.preload, *ramdisk.modules, inputs.filesystem]


def make_steps(inputs: Inputs, paths: Paths) -> list[Step]:
    """On a throw-away overlay over the configured tree: kernel in, ramdisk out, ramdisk looked into."""
    root, work = paths.root, paths.work
    vmlinuz, initrd = list_outputs(inputs, paths)
    maker = load_ramdisk_maker(inputs.ramdisk.maker)
    top = work / "top"

    def make_folders(context: Context) -> None:
        for folder in ("upper", "work"):
            (top / folder).mkdir()

    def take_ramdisk(context: Context) -> None:
        partial_path(initrd).write_bytes(resolve_in_root(root, OUTPUT).read_bytes())

    def inspect(context: Context) -> None:
        found = inspection.inspect_ramdisk(partial_path(initrd), list_wanted(inputs), root, context)
        digests = [hash_file(partial_path(path)) for path in (vmlinuz, initrd)]
        context.values |= dict(zip(("sha256_vmlinuz", "sha256_initrd"), digests, strict=True))
        context.identity = hashlib.sha256("".join(digests).encode()).hexdigest()
        size = partial_path(initrd).stat().st_size / 1e6
        context.summary = f"kernel {context.values['kernel_version']}, ramdisk {size:.1f} MB with {found}"

    return [
        Mount("image", work / "bootstrap", paths.layer("bootstrap")),
        Mount("image", work / "configure", paths.layer("configure")),
        Mount("tmpfs", top),
        Do("make the top layer's folders", make_folders),
        Mount("overlay", root, top, lower=(work / "configure" / "upper", work / "bootstrap")),
        install.make_kernel_step(inputs.kernel, paths.recipes, root, vmlinuz),
        Mount("guest", root),
        *maker.make_ramdisk_steps(inputs.ramdisk, inputs.filesystem, root, OUTPUT),
        Do("take the ramdisk", take_ramdisk, writes=(partial_path(initrd),)),
        Do("look into the ramdisk", inspect, ("zstd",)),
        Release(),
        Finish(vmlinuz),
        Finish(initrd),
    ]
