"""domain:NAME: the Xen domain's configuration, for xl and as the classic file of xm."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from xenkiln.domains.placement import HostFile, list_kinds, place_boot_files, place_disks
from xenkiln.errors import BuildError, RecipeError, XenkilnError
from xenkiln.families.contract import describe_guest, load_family
from xenkiln.model.domain import Domain, Vif
from xenkiln.model.domain_check import Kind, check_config
from xenkiln.model.domain_config import quote_text
from xenkiln.model.fields import find_repeated
from xenkiln.model.loader import LoadedImage
from xenkiln.system.execution import Context
from xenkiln.system.layout import Paths
from xenkiln.system.steps import Do, Step, Write
from xenkiln.system.templates import render_template

SUMMARY = "write the Xen domain's configuration, for xl and for xm"
NEEDS = ()
DEFAULT_WEIGHT = 256


@dataclass(frozen=True)
class Inputs:
    """All that the configuration says; `arguments` is what the family's kernel needs on its command line."""

    name: str
    domain: Domain
    root_device: str
    disks: tuple[HostFile, ...]
    arguments: str


def slice_recipe(loaded: LoadedImage) -> Inputs:
    """The domain section, and of the others just what ends up in the configuration."""
    recipe = loaded.recipe
    guest = describe_guest(recipe)
    arguments = load_family(recipe.family).get_kernel_arguments(guest, recipe.domain)
    group = recipe.deploy.volume_group if recipe.deploy else None
    return Inputs(loaded.name, recipe.domain, guest.root_device,
                  place_disks(loaded.name, recipe.disks, recipe.domain, group), arguments)  # fmt: skip


def list_outputs(inputs: Inputs, paths: Paths) -> list[Path]:
    """One file for each toolstack."""
    return [config_path(paths, kind) for kind in list_kinds(inputs.domain)]


def config_path(paths: Paths, kind: Kind) -> Path:
    """The configuration for one toolstack, beside the image."""
    return paths.images / f"{paths.name}.{kind}.cfg"


def list_references(inputs: Inputs, paths: Paths) -> list[Path]:
    """None."""
    return []


def find_problems(inputs: Inputs, paths: Paths) -> list[XenkilnError]:
    """Values that no toolstack could read back, and files that would share one place."""
    places = [file.path for file in (*inputs.disks, *place_boot_files(inputs.name, inputs.domain))]
    problems: list[XenkilnError] = [
        BuildError(
            f"two files of the image would be {place} on the Xen host",
            place=f"{inputs.name}: domain",
            next_step="give domain.root_file, kernel and ramdisk names of their own",
        )
        for place in find_repeated(places)
    ]
    try:
        for kind in list_kinds(inputs.domain):
            render_config(inputs, kind)
    except XenkilnError as error:
        problems.append(error)
    return problems


def make_steps(inputs: Inputs, paths: Paths) -> list[Step]:
    """Rendered and checked here, so that a plan shows the very text."""
    domain = inputs.domain

    def clear(context: Context) -> None:
        for kind in get_args(Kind):
            config_path(paths, kind).unlink(missing_ok=True)  # of a domain that was pv before it was pvh
        context.summary = f"{domain.type}, {domain.memory_mib} MiB, {domain.vcpus} vcpus"

    return [Do("remove earlier configurations", clear),
            *(Write(config_path(paths, kind), render_config(inputs, kind)) for kind in list_kinds(domain))]  # fmt: skip


def render_config(inputs: Inputs, kind: Kind) -> str:
    """The configuration as text.

    Raises BuildError for a value that cannot be written, RecipeError for one that Xen would not take.
    """
    values = _collect_values(inputs, kind)
    text = render_template(f"domain/{kind}.cfg.j2", values)
    if problems := check_config(text, kind, place=f"{inputs.name}.{kind}.cfg"):
        raise RecipeError(problems)
    return text


def _collect_values(inputs: Inputs, kind: Kind) -> dict[str, object]:
    """What the templates say, every text in its quotes."""
    domain = inputs.domain
    boot = [file.path for file in place_boot_files(inputs.name, inputs.domain)] or ["", ""]
    pygrub = domain.boot == "pygrub"
    # pygrub takes root= from the image's own menu, and adds what we give to that line.
    root = domain.root if pygrub else domain.root or f"{inputs.root_device} ro"
    extra = [domain.extra] if pygrub else [inputs.arguments, domain.extra]
    loader = "pygrub" if kind == "xl" else "/usr/bin/pygrub"
    describe = _describe_xl_disk if kind == "xl" else _describe_xm_disk
    return {
        "type": _quote(domain.type, '"'),
        "bootloader": _quote(loader, '"') if pygrub else "",
        "kernel": _quote(boot[0], '"'),
        "ramdisk": _quote(boot[1], '"'),
        "name": _quote(domain.name or inputs.name, '"'),
        "memory_mib": domain.memory_mib,
        "vcpus": domain.vcpus,
        "disks": [_quote(describe(disk)) for disk in inputs.disks],
        "root": _quote(root) if root else "",
        "extra": _quote(" ".join(filter(None, extra))) if any(extra) else "",
        "vifs": [_quote(_describe_vif(vif)) for vif in domain.vifs],
        "on_poweroff": _quote(domain.on_poweroff),
        "on_reboot": _quote(domain.on_reboot),
        "on_crash": _quote(domain.on_crash),
        "weight": domain.weight if domain.weight != DEFAULT_WEIGHT else 0,
        "cap": domain.cap,
    }


def _quote(text: str, mark: str = "'") -> str:
    try:
        return quote_text(text, mark)
    except ValueError as error:
        fact = f"{text!r} cannot be written: {error}"
        raise BuildError(fact, place="domain", next_step="take it out of the recipe") from error


def _describe_xl_disk(disk: HostFile) -> str:
    """As xl-disk-configuration(5) has it: the target last, for it takes all that follows."""
    return f"format=raw, vdev={disk.device}, access=rw, target={disk.path}"


def _describe_xm_disk(disk: HostFile) -> str:
    backend = "phy" if disk.path.startswith("/dev/") else "file"
    return f"{backend}:{disk.path},{disk.device},w"


def _describe_vif(vif: Vif) -> str:
    pairs = (("mac", vif.mac), ("bridge", vif.bridge))
    return ",".join(f"{key}={value}" for key, value in pairs if value)
