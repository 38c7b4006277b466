"""From what a cloud asks for to a guest of the lab: its domain's configuration, its files, its meta-data."""

from __future__ import annotations

from pathlib import Path

from xenkiln.errors import HostError, RecipeError, XenkilnError
from xenkiln.lab.guest import DEFAULT_BRIDGE, Guest, GuestFile
from xenkiln.lab.meta_data import name_addresses, name_public_key
from xenkiln.model.domain_check import check_config
from xenkiln.model.domain_config import quote_text
from xenkiln.model.lab_instance import InstanceSpec
from xenkiln.system.templates import render_template

DIRECTORY = "/var/lib/xen/instances"
CONFIG = "xl.cfg"


def describe_instance(spec: InstanceSpec, folder: Path, work: Path, address: str) -> Guest:
    """The guest, its configuration written into `work`; relative paths of the spec are below `folder`."""
    config = work / CONFIG
    config.write_text(render_config(spec), encoding="ascii")
    directory = f"{DIRECTORY}/{spec.name}"
    boot_files = [GuestFile(folder / spec.kernel, f"{directory}/kernel")]
    boot_files += [GuestFile(folder / spec.ramdisk, f"{directory}/ramdisk")] if spec.ramdisk else []
    root = GuestFile(folder / spec.root, f"{directory}/root.img")
    return Guest(spec.name, config, tuple(boot_files), (root,), meta_data=complete_meta_data(spec, address))


def render_config(spec: InstanceSpec) -> str:
    """The domain's configuration for xl.

    Raises XenkilnError for arguments that cannot be written, RecipeError for what xl would not take.
    """
    directory = f"{DIRECTORY}/{spec.name}"
    disk = f"format=raw, vdev={spec.root_device}, target={directory}/root.img"
    text = render_template("domain/xl.cfg.j2", {
        "type": _quote("pv"),
        "bootloader": "",
        "kernel": _quote(f"{directory}/kernel"),
        "ramdisk": _quote(f"{directory}/ramdisk") if spec.ramdisk else "",
        "name": _quote(spec.name),
        "memory_mib": spec.memory_mib,
        "vcpus": spec.vcpus,
        "disks": [_quote(disk)],
        "root": "",
        "extra": _quote(spec.arguments) if spec.arguments else "",
        "vifs": [_quote(f"bridge={DEFAULT_BRIDGE}")],
        "on_poweroff": _quote("destroy"),
        "on_reboot": _quote("restart"),
        "on_crash": _quote("destroy"),
        "weight": 0,
        "cap": 0,
    })  # fmt: skip
    if problems := check_config(text, "xl", place=spec.name):
        raise RecipeError(problems)
    return text


def _quote(text: str) -> str:
    try:
        return quote_text(text, '"')
    except ValueError as error:
        raise XenkilnError(f"{text!r} cannot be written: {error}", place="arguments") from error


def complete_meta_data(spec: InstanceSpec, address: str) -> dict[str, str]:
    """What the guest is told: all of the spec, and what nobody knew before it had its place."""
    added = name_addresses(address)
    if spec.public_key and not any(path.startswith("meta-data/public-keys/") for path in spec.meta_data):
        added |= name_public_key(spec.public_key)
    return {**added, **spec.meta_data}


def require_files(spec: InstanceSpec, folder: Path) -> None:
    """Raise HostError for a file of the spec that is not there."""
    for name in filter(None, (spec.kernel, spec.ramdisk, spec.root)):
        if not (folder / name).is_file():
            raise HostError("there is no such file", place=str(folder / name), next_step="give the instance another")
