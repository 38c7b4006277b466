"""Where the files of an image lie on its Xen host; never where they were built."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import get_args

from xenkiln.model.domain import Domain
from xenkiln.model.domain_check import Kind
from xenkiln.model.image import Disks

DEFAULT_DIRECTORY = "/var/lib/xen/images"


@dataclass(frozen=True)
class HostFile:
    """A file of the image and its place on the Xen host.

    source: its name beside the image, None for what the host has of its own; device: what the guest
    sees it as, "" for kernel and ramdisk.
    """

    source: str | None
    path: str
    device: str = ""


def place_disks(name: str, disks: Disks, domain: Domain, volume_group: str | None) -> tuple[HostFile, ...]:
    """Each disk's file and its place on the Xen host: in the image's folder, or a logical volume."""
    wanted = [("root", disks.root.device, domain.root_file)]
    wanted += [("swap", disks.swap.device, None)] if disks.swap else []
    wanted += [(disk.name, disk.device, None) for disk in disks.extra]
    placed = []
    for role, device, file in wanted:
        path = f"{get_directory(name, domain)}/{file or f'{role}.img'}"
        if volume_group:
            path = f"/dev/{volume_group}/{name}-{role}"
        placed.append(HostFile(f"{role}.img", path, device))
    return tuple(placed)


def get_directory(name: str, domain: Domain) -> str:
    """Where the image lies on the Xen host."""
    return domain.directory or f"{DEFAULT_DIRECTORY}/{name}"


def place_boot_files(name: str, domain: Domain) -> tuple[HostFile, ...]:
    """Kernel and ramdisk on the Xen host; none where pygrub finds them in the image."""
    if domain.boot == "pygrub":
        return ()
    folder = PurePosixPath(get_directory(name, domain))
    placed = []
    for source, path in (("vmlinuz", domain.kernel), ("initrd.img", domain.ramdisk)):
        place = PurePosixPath(path) if path else folder / source
        placed.append(HostFile(source if place.is_relative_to(folder) else None, str(place)))
    return tuple(placed)


def list_kinds(domain: Domain) -> tuple[Kind, ...]:
    """The toolstacks that this domain can be described to: xm is older than pvh."""
    return get_args(Kind) if domain.type == "pv" else ("xl",)
