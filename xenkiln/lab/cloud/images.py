"""Actions on images."""

from __future__ import annotations

from xenkiln.lab.cloud.calls import DONE, FILTER_FIELDS, Action, Call, passes
from xenkiln.lab.cloud.faults import Fault, reject_value
from xenkiln.lab.cloud.index import Record
from xenkiln.lab.cloud.markup import Node, list_items
from xenkiln.lab.cloud.registration import IMAGES, register
from xenkiln.lab.cloud.tags import TAGS, list_tags, read_tags
from xenkiln.lab.cloud.walrus import format_time

SELF, ALL = "self", "all"


def describe(call: Call) -> Node:
    """All images, or those that are named, of owners and filters that are asked for."""
    ids, owners, executable = call.texts("ImageId"), call.texts("Owner"), call.texts("ExecutableBy")
    records = call.cloud.index.list_all(IMAGES)
    missing = [image_id for image_id in ids if image_id not in {each["id"] for each in records}]
    if missing and call.cloud.profile.names_missing_ids:
        raise Fault("InvalidAMIID.NotFound", f"The image id '[{missing[0]}]' does not exist")
    mine, filters, items = {SELF, call.cloud.account.number}, call.filters(), []
    for each in records:
        may_run = mine | ({ALL} if each["public"] else set())
        if ((not ids or each["id"] in ids) and (not owners or mine.intersection(owners))
                and (not executable or may_run.intersection(executable))
                and passes(filters, list_fields(each), read_tags(call.cloud.index, each["id"]))):  # fmt: skip
            items.append(describe_image(call, each))
    return {"imagesSet": list_items(items)}


def list_fields(image: Record) -> dict[str, str]:
    """By their names in filters."""
    return {
        "image-id": image["id"], "image-type": image["kind"], "architecture": image["architecture"],
        "kernel-id": image["kernel"], "ramdisk-id": image["ramdisk"], "manifest-location": image["location"],
        "name": image["name"], "description": image["description"], "owner-id": image["owner"], "state": "available",
        "is-public": str(image["public"]).lower(), "root-device-type": "instance-store",
        "virtualization-type": "paravirtual",
    }  # fmt: skip


def describe_image(call: Call, image: Record) -> Node:
    """As DescribeImages has it."""
    fields: list[tuple[str, Node]] = [
        ("imageId", image["id"]), ("imageLocation", image["location"]), ("imageState", "available"),
        ("imageOwnerId", image["owner"]), ("isPublic", str(image["public"]).lower()), ("productCodes", ""),
        ("architecture", image["architecture"]), ("imageType", image["kind"]),
    ]  # fmt: skip
    fields += [(f"{kind}Id", image[kind]) for kind in ("kernel", "ramdisk") if image[kind]]
    if call.cloud.profile.has_tags:
        fields += [
            ("name", image["name"] or image["location"]), ("description", image["description"]),
            ("creationDate", format_time(image["registered"])), ("rootDeviceType", "instance-store"),
            ("rootDeviceName", f"/dev/{image['root_device']}"), ("virtualizationType", "paravirtual"),
            ("hypervisor", "xen"), ("tagSet", list_tags(call.cloud.index, image["id"])),
        ]  # fmt: skip
    return fields


def find(call: Call) -> Record:
    """The image that a call is about."""
    image_id = call.text("ImageId")
    found = call.cloud.index.find(IMAGES, image_id)
    if found is None:
        raise Fault("InvalidAMIID.NotFound", f"The image id '[{image_id}]' does not exist")
    return found


def deregister(call: Call) -> Node:
    """Forget an image; instances that run from it go on."""
    with call.cloud.index.changing():
        image_id = find(call)["id"]
        call.cloud.index.remove(IMAGES, image_id)
        call.cloud.index.remove(TAGS, image_id)
    call.cloud.images.drop_unused()
    return DONE


def modify(call: Call) -> Node:
    """Let everybody launch an image, or only its owner: in the first API's form, or in the later one."""
    changes = {each.get("Group", "") for word in ("Add", "Remove")
               for each in call.structures(f"LaunchPermission.{word}")}  # fmt: skip
    is_public = bool(call.structures("LaunchPermission.Add"))
    if not changes:
        if call.text("Attribute") != "launchPermission":
            raise reject_value("Attribute", call.text("Attribute"))
        if call.text("OperationType") not in ("add", "remove"):
            raise reject_value("OperationType", call.text("OperationType"))
        changes, is_public = set(call.texts("UserGroup")), call.text("OperationType") == "add"
    if changes != {ALL}:
        raise Fault("InvalidParameterValue", "Launch permission is given to the group 'all', there is no other here.")
    with call.cloud.index.changing():
        call.cloud.index.update(IMAGES, find(call)["id"], public=is_public)
    return DONE


ACTIONS = {
    "RegisterImage": Action(
        register, "ImageLocation",
        "Name Description Architecture KernelId RamdiskId RootDeviceName VirtualizationType"),
    "DescribeImages": Action(describe, "ImageId.N Owner.N ExecutableBy.N", FILTER_FIELDS),
    "DeregisterImage": Action(deregister, "ImageId"),
    "ModifyImageAttribute": Action(
        modify, "ImageId Attribute OperationType UserGroup.N",
        "LaunchPermission.Add.N.Group LaunchPermission.Remove.N.Group"),
}  # fmt: skip
