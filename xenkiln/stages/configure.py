"""configure:NAME: files, users, network and scripts, on an overlay over the installed tree."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from xenkiln.artifacts.ext import MKE2FS_ENVIRONMENT
from xenkiln.configuration.layer import count_changes, digest_for_ramdisk
from xenkiln.configuration.passwords import resolve_password
from xenkiln.configuration.steps import (
    list_sources,
    make_account_steps,
    make_file_steps,
    make_script_steps,
)
from xenkiln.errors import HostError, XenkilnError
from xenkiln.families.contract import Guest, describe_guest, load_family
from xenkiln.kernels.install import list_kernel_files, make_module_steps
from xenkiln.model.encoding import UNKNOWN
from xenkiln.model.loader import LoadedImage
from xenkiln.ramdisks.contract import load_ramdisk_maker
from xenkiln.system.execution import Context
from xenkiln.system.files import partial_path
from xenkiln.system.layout import Paths
from xenkiln.system.steps import Do, Finish, Mount, Release, Run, Step

SUMMARY = "files, users, network and scripts, on an overlay over the installed tree"
NEEDS = ("bootstrap",)
LAYER_MIB = 4096
"""The overlay's sparse image; only what changes takes space."""
LAYER_FEATURES = "none,ext_attr,dir_index,filetype,extent,64bit,sparse_super,large_file,huge_file,extra_isize"
LAYER_ID = "5c3f9d0e-7a51-5d5f-8a0b-6f3b1d0c9a77"


@dataclass(frozen=True)
class Inputs:
    """The configure section and what it is seen against; UNKNOWN for a password that is not there.

    `unread` are the paths that the recipe's ramdisk maker does not read.
    """

    name: str
    guest: Guest
    password_hash: str
    unread: tuple[str, ...]


def slice_recipe(loaded: LoadedImage) -> Inputs:
    """The guest to be, from the recipe."""
    recipe = loaded.recipe
    guest = describe_guest(recipe)
    try:
        password_hash = resolve_password(recipe.configure.root_password, loaded.name)
    except XenkilnError:
        password_hash = UNKNOWN  # find_problems says so when it is needed
    return Inputs(loaded.name, guest, password_hash, load_ramdisk_maker(recipe.ramdisk.maker).UNREAD)


def list_outputs(inputs: Inputs, paths: Paths) -> list[Path]:
    """The overlay's upper layer, as an ext4 image: the same on any filesystem of the host."""
    return [paths.layer("configure")]


def list_references(inputs: Inputs, paths: Paths) -> list[Path]:
    """Every file that the recipe puts into the image."""
    return [*list_sources(inputs.guest.configure, paths.recipes),
            *list_kernel_files(inputs.guest.kernel, paths.recipes)]  # fmt: skip


def find_problems(inputs: Inputs, paths: Paths) -> list[XenkilnError]:
    """A password that is not where the recipe says, a file or template that cannot be used."""
    configure = inputs.guest.configure
    checks = (
        lambda: resolve_password(configure.root_password, inputs.name),
        lambda: make_account_steps(configure, paths.recipes, inputs.password_hash, paths.root),
        lambda: make_file_steps(configure, paths.recipes, paths.root),
        lambda: make_script_steps(configure, paths.recipes, paths.root),
    )
    problems: list[XenkilnError] = []
    for check in checks:
        try:
            check()
        except XenkilnError as error:
            problems.append(error)
        except OSError as error:
            problems.append(HostError(str(error), place=f"{inputs.name}: configure"))
    return problems


def make_steps(inputs: Inputs, paths: Paths) -> list[Step]:
    """An empty upper layer, the overlay, the changes, and the digest that ramdisk compares."""
    layer, root, guest = paths.layer("configure"), paths.root, inputs.guest
    upper = paths.work / "configure"

    def make_layer_file(context: Context) -> None:
        with partial_path(layer).open("wb") as stream:
            stream.truncate(LAYER_MIB << 20)

    def make_folders(context: Context) -> None:
        for folder in ("upper", "work"):
            (upper / folder).mkdir(mode=0o755)

    def take_digest(context: Context) -> None:
        context.values["identity_for_ramdisk"] = digest_for_ramdisk(upper / "upper", inputs.unread)
        context.summary = count_changes(upper / "upper")

    return [
        Do("make the layer", make_layer_file, writes=(partial_path(layer),)),
        # A fixed hash seed: a script that lists a folder gets the same order every time.
        Run("make the layer's filesystem", ("mke2fs", "-q", "-F", "-O", LAYER_FEATURES, "-I", "256", "-N", "65536",
            "-U", LAYER_ID, "-E", f"hash_seed={LAYER_ID},lazy_itable_init=1,nodiscard", partial_path(layer)),
            env=MKE2FS_ENVIRONMENT),
        Mount("image", paths.work / "bootstrap", paths.layer("bootstrap")),
        Mount("image", upper, partial_path(layer), read_only=False, options="discard,nobarrier"),
        Do("make the layer's folders", make_folders),
        Mount("overlay", root, upper, lower=(paths.work / "bootstrap",)),
        *make_module_steps(guest.kernel, paths.recipes, root),
        *load_family(guest.family).make_configure_steps(guest, root),
        *make_account_steps(guest.configure, paths.recipes, inputs.password_hash, root),
        *make_file_steps(guest.configure, paths.recipes, root),
        *make_script_steps(guest.configure, paths.recipes, root),
        Do("take the digest of what a ramdisk could read", take_digest),
        Release(),
        Finish(layer),
    ]  # fmt: skip
