"""Snapshots, images and tags of EC2's query API (version 2016-11-15), strict about what RegisterImage is given."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from xml.sax.saxutils import escape


@dataclass
class Snapshot:
    id: str
    request: dict[str, Any]
    tags: dict[str, str]
    blocks: dict[int, bytes] = field(default_factory=dict)
    state: str = "pending"
    is_sealed: bool = False
    looks_left: int = 0


@dataclass
class Image:
    id: str
    form: dict[str, str]
    tags: dict[str, str]
    state: str = "pending"
    created: str = ""


class RefusalError(Exception):
    pass


def demand(is_so: object, code: str, message: str) -> None:
    if not is_so:
        raise RefusalError(code, message)


def refuse(status: int, code: str, message: str) -> tuple[int, dict[str, str], bytes]:
    text = (f"<Response><Errors><Error><Code>{code}</Code><Message>{escape(message)}</Message></Error></Errors>"
            "<RequestID>r-1</RequestID></Response>")  # fmt: skip
    return status, {}, text.encode()


def list_values(form: dict[str, str], prefix: str) -> list[str]:
    return [value for key, value in form.items() if re.fullmatch(rf"{re.escape(prefix)}\.[0-9]+", key)]


def read_tags(form: dict[str, str], prefix: str) -> dict[str, str]:
    keys = {key.rsplit(".", 1)[0]: value for key, value in form.items()
            if re.fullmatch(rf"{re.escape(prefix)}\.[0-9]+\.Key", key)}  # fmt: skip
    return {value: form.get(f"{start}.Value", "") for start, value in keys.items()}


def write_tags(tags: dict[str, str]) -> str:
    items = (f"<item><key>{escape(key)}</key><value>{escape(value)}</value></item>" for key, value in tags.items())
    return f"<tagSet>{''.join(items)}</tagSet>"


def describe_snapshots(amazon: Any, form: dict[str, str]) -> str:
    items = []
    for wanted in list_values(form, "SnapshotId"):
        demand(wanted in amazon.snapshots, "InvalidSnapshot.NotFound", f"The snapshot '{wanted}' does not exist.")
        snapshot = amazon.snapshots[wanted]
        if snapshot.is_sealed and snapshot.state == "pending":
            snapshot.looks_left -= 1
            if snapshot.looks_left < 0:
                snapshot.state = "completed"
        items.append(f"<item><snapshotId>{wanted}</snapshotId><status>{snapshot.state}</status>"
                     f"<progress>42%</progress>{write_tags(snapshot.tags)}</item>")  # fmt: skip
    return f"<snapshotSet>{''.join(items)}</snapshotSet>"


def delete_snapshot(amazon: Any, form: dict[str, str]) -> str:
    wanted = form["SnapshotId"]
    demand(wanted in amazon.snapshots, "InvalidSnapshot.NotFound", f"The snapshot '{wanted}' does not exist.")
    users = [image.id for image in amazon.images.values() if get_root_snapshot(image) == wanted]
    demand(not users, "InvalidSnapshot.InUse", f"The snapshot {wanted} is currently in use by {users}")
    del amazon.snapshots[wanted]
    return "<return>true</return>"


def create_tags(amazon: Any, form: dict[str, str]) -> str:
    for wanted in list_values(form, "ResourceId"):
        found = amazon.snapshots.get(wanted) or amazon.images.get(wanted)
        demand(found, "InvalidID", f"{wanted} does not exist")
        found.tags.update(read_tags(form, "Tag"))
    return "<return>true</return>"


def get_root_snapshot(image: Image) -> str:
    return image.form["BlockDeviceMapping.1.Ebs.SnapshotId"]


def register_image(amazon: Any, form: dict[str, str]) -> str:
    name, root = form["Name"], form["RootDeviceName"]
    demand(re.fullmatch(r"[\w()\[\] ./'@-]{3,128}", name, re.ASCII), "InvalidAMIName.Malformed", "3 to 128 of ...")
    taken = any(image.form["Name"] == name for image in amazon.images.values())
    demand(not taken, "InvalidAMIName.Duplicate", f"AMI name {name} is already in use")
    demand(form["BlockDeviceMapping.1.DeviceName"] == root, "InvalidBlockDeviceMapping", "no root device")
    snapshot = amazon.snapshots.get(form["BlockDeviceMapping.1.Ebs.SnapshotId"])
    demand(snapshot, "InvalidSnapshot.NotFound", "no such snapshot")
    demand(snapshot.state == "completed", "InvalidParameterValue", "the snapshot is not completed")
    demand(form["Architecture"] in ("i386", "x86_64"), "InvalidParameterValue", "architecture")
    check_virtualization(form)
    demand(form.get("TagSpecification.1.ResourceType") == "image", "InvalidParameterValue", "only images are tagged")
    demand("TagSpecification.2.ResourceType" not in form, "InvalidParameterValue", "one kind of resource")
    tags = read_tags(form, "TagSpecification.1.Tag") if amazon.takes_tags_with_image else {}
    number = amazon.count("RegisterImage")
    image = Image(f"ami-{number:017x}", form, tags, created=f"2024-01-31T00:{number:02}:00.000Z")
    amazon.images[image.id] = image
    return f"<imageId>{image.id}</imageId>"


def check_virtualization(form: dict[str, str]) -> None:
    if form["VirtualizationType"] == "hvm":
        demand("KernelId" not in form, "InvalidParameterCombination", "kernel and ramdisk are not for HVM")
        demand(form.get("BootMode", "uefi") in ("legacy-bios", "uefi", "uefi-preferred"), "InvalidParameterValue",
               "boot mode")  # fmt: skip
        return
    demand(form["VirtualizationType"] == "paravirtual", "InvalidParameterValue", "virtualization type")
    demand(re.fullmatch("aki-[0-9a-f]+", form.get("KernelId", "")), "InvalidAKIID.Malformed", "kernel")
    for name in ("BootMode", "EnaSupport", "SriovNetSupport"):
        demand(name not in form, "InvalidParameterCombination", f"{name} is for HVM")


def describe_images(amazon: Any, form: dict[str, str]) -> str:
    images = list(amazon.images.values())
    wanted = list_values(form, "ImageId")
    for each in wanted:
        demand(each in amazon.images, "InvalidAMIID.NotFound", f"The image id '[{each}]' does not exist")
    if form.get("Filter.1.Name") == "name":
        images = [image for image in images if image.form["Name"] == form["Filter.1.Value.1"]]
    elif form.get("Filter.1.Name") == "block-device-mapping.snapshot-id":
        images = [image for image in images if get_root_snapshot(image) == form["Filter.1.Value.1"]]
    else:
        demand("Filter.1.Name" not in form, "InvalidParameterValue", "this filter is not known here")
    text = "".join(write_image(image) for image in images if not wanted or image.id in wanted)
    for image in images:
        image.state = "available" if image.state == "pending" else image.state
    return f"<imagesSet>{text}</imagesSet>"


def write_image(image: Image) -> str:
    form = image.form
    boot_mode = f"<bootMode>{form['BootMode']}</bootMode>" if "BootMode" in form else ""
    return (f"<item><imageId>{image.id}</imageId><imageState>{image.state}</imageState>"
            f"<name>{escape(form['Name'])}</name><creationDate>{image.created}</creationDate>"
            f"<architecture>{form['Architecture']}</architecture>"
            f"<virtualizationType>{form['VirtualizationType']}</virtualizationType>{boot_mode}"
            f"<blockDeviceMapping><item><deviceName>{form['RootDeviceName']}</deviceName><ebs><snapshotId>"
            f"{get_root_snapshot(image)}</snapshotId></ebs></item></blockDeviceMapping>"
            f"{write_tags(image.tags)}</item>")  # fmt: skip


def describe_instances(amazon: Any, _form: dict[str, str]) -> str:
    items = (f"<item><instancesSet><item><instanceId>{each}</instanceId><imageId>{image}</imageId><instanceState>"
             f"<name>{state}</name></instanceState></item></instancesSet></item>"
             for each, (image, state) in amazon.instances.items())  # fmt: skip
    return f"<reservationSet>{''.join(items)}</reservationSet>"


def deregister_image(amazon: Any, form: dict[str, str]) -> str:
    demand(form["ImageId"] in amazon.images, "InvalidAMIID.Unavailable", "The image is no longer available.")
    del amazon.images[form["ImageId"]]
    return "<return>true</return>"


ACTIONS: dict[str, Callable[[Any, dict[str, str]], str]] = {
    "CreateTags": create_tags,
    "DeleteSnapshot": delete_snapshot,
    "DeregisterImage": deregister_image,
    "DescribeImages": describe_images,
    "DescribeInstances": describe_instances,
    "DescribeSnapshots": describe_snapshots,
    "RegisterImage": register_image,
}


def apply(amazon: Any, form: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
    action = form["Action"]
    try:
        text = ACTIONS[action](amazon, form)
    except RefusalError as refusal:
        return refuse(400, *refusal.args)
    return 200, {}, f"<{action}Response><requestId>r-1</requestId>{text}</{action}Response>".encode()
