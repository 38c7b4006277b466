"""What the guest's kernel calls its disks."""

from __future__ import annotations

from collections.abc import Iterator

from xenkiln.families.contract import FieldProblem
from xenkiln.model.image import ImageRecipe

XEN_NAME = "xvd"


def find_foreign_names(recipe: ImageRecipe) -> Iterator[FieldProblem]:
    """Disks that Linux's own front-end, xen-blkfront, would give another name.

    It calls every disk xvd*, whatever the domain's configuration says: sda1 and hda1 both become xvda1, and a
    root=/dev/sda1 waits for ever. Only the kernels that Xen itself once brought, 2.6.18 among them, take the names.
    """
    disks = recipe.disks
    devices: dict[tuple[str | int, ...], str] = {("disks", "root"): disks.root.device}
    devices |= {("disks", "swap"): disks.swap.device} if disks.swap else {}
    devices |= {("disks", "extra", number): disk.device for number, disk in enumerate(disks.extra)}
    for place, device in devices.items():
        if not device.startswith(XEN_NAME):
            yield (*place, "device"), f"the guest's kernel calls every disk xvd*: such as {XEN_NAME}{device[2:]}"
