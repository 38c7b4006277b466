"""Amazon machine images over a snapshot: registered once, confirmed after that, and taken away with their snapshot."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from xenkiln.clouds.calls import PATIENCE, Patience, call_patiently
from xenkiln.clouds.ids import check_id
from xenkiln.clouds.refusals import make_plain
from xenkiln.clouds.snapshots import delete_snapshot, find_snapshot
from xenkiln.clouds.tags import is_ours, list_tags, read_tags
from xenkiln.errors import BuildError, CloudError
from xenkiln.system.progress import Tell

Architecture = Literal["x86_64", "i386"]
Virtualization = Literal["hvm", "paravirtual"]
BootMode = Literal["legacy-bios", "uefi", "uefi-preferred"]

NAME = re.compile(r"[A-Za-z0-9()\[\] ./'@_-]{3,128}")
LONGEST_DESCRIPTION = 255
VOLUME_TYPE = "gp3"
ALIVE = ("pending", "transient", "available")
GONE = ("InvalidAMIID.NotFound", "InvalidAMIID.Unavailable")
DUPLICATE = "InvalidAMIName.Duplicate"
WAIT_SECONDS, LONGEST_LOOK_SECONDS = 1800.0, 15.0


@dataclass(frozen=True)
class Ami:
    """An image to register; the limits are those of RegisterImage in the EC2 API reference.

    boot_mode: None leaves it to the instance type. kernel_id: pv-grub's, for paravirtual alone. has_ena: the guest has
    the driver for that network card, without which no Nitro type starts it.
    """

    name: str
    description: str
    arch: Architecture
    virtualization: Virtualization
    snapshot_id: str
    boot_mode: BootMode | None = None
    root_device: str = "/dev/xvda"
    kernel_id: str | None = None
    has_ena: bool = False
    tags: Mapping[str, str] = field(default_factory=dict)


def check_ami(ami: Ami) -> None:
    """Raise BuildError for what EC2 would refuse, or take and never boot."""
    list_tags(ami.tags)
    problems = {
        "a name has 3 to 128 letters, digits, blanks and ( ) [ ] . / - ' @ _": not NAME.fullmatch(ami.name),
        f"a description has at most {LONGEST_DESCRIPTION} characters": len(ami.description) > LONGEST_DESCRIPTION,
        "an HVM image boots by its own loader and takes no kernel": ami.virtualization == "hvm" and ami.kernel_id,
    }
    if ami.virtualization == "paravirtual":
        problems |= {
            "a paravirtual image needs a kernel: pv-grub's aki-... of the region": not ami.kernel_id,
            "a paravirtual image has no boot mode": ami.boot_mode is not None,
            "ENA is for HVM images, and makes a paravirtual one unreachable": ami.has_ena,
        }
    for fact, is_so in problems.items():
        if is_so:
            raise BuildError(fact, place=f"image {ami.name}", next_step="correct how it is published")


def find_ami(ec2: Any, name: str, tags: Mapping[str, str], patience: Patience = PATIENCE) -> str | None:
    """The id of a living image of ours with this name and at least these tags; raises CloudError."""
    found = _find_named(ec2, name, patience)
    return _read_id(found) if found and _has_tags(found, tags) else None


def register_ami(ec2: Any, ami: Ami, *, tell: Tell, patience: Patience = PATIENCE) -> str:
    """Register an image over a completed snapshot, wait until it is available, and return its id.

    One of the same name that has the same tags, or is made of the same snapshot, is confirmed instead. Raises
    BuildError, and CloudError: for another image of that name too.
    """
    check_ami(ami)
    found = _find_named(ec2, ami.name, patience)
    if found is None:
        tell(f"registering {ami.name}")
        ami_id = _register(ec2, ami, patience, tell)
    else:
        ami_id = _confirm(found, ami)
    available = _wait_until_available(ec2, ami_id, patience, tell)
    if not _has_tags(available, ami.tags):
        # Not every cloud takes tags with the registration.
        wanted = list_tags(ami.tags)
        call_patiently(lambda: ec2.create_tags(Resources=[ami_id], Tags=wanted), ami_id, patience, note=tell)
    return ami_id


def _find_named(ec2: Any, name: str, patience: Patience) -> dict[str, Any] | None:
    filters = [{"Name": "name", "Values": [name]}]
    answer = call_patiently(lambda: ec2.describe_images(Owners=["self"], Filters=filters), f"image {name}", patience)
    return next((each for each in answer["Images"] if each.get("Name") == name and _is_alive(each)), None)


def _has_tags(described: Mapping[str, Any], tags: Mapping[str, str]) -> bool:
    wanted = {tag["Key"]: tag["Value"] for tag in list_tags(tags)}
    return wanted.items() <= read_tags(described).items()


def _list_snapshots(described: Mapping[str, Any]) -> list[str]:
    mappings: Iterable[Mapping[str, Any]] = described.get("BlockDeviceMappings", ())
    return [check_id(each["Ebs"]["SnapshotId"], "snapshot", "images") for each in mappings
            if "SnapshotId" in each.get("Ebs", {})]  # fmt: skip


def _read_id(described: Mapping[str, Any]) -> str:
    return check_id(described.get("ImageId"), "image", "images")


def _is_alive(described: Mapping[str, Any]) -> bool:
    return described.get("State") in ALIVE


def _confirm(found: Mapping[str, Any], ami: Ami) -> str:
    """The id of the image that is there, where it is the one that is wanted."""
    ami_id = _read_id(found)
    wanted = {"Architecture": ami.arch, "VirtualizationType": ami.virtualization, "BootMode": ami.boot_mode}
    other = [make_plain(f"{key} {found[key]}") for key, value in wanted.items()
             if value and found.get(key, value) != value]  # fmt: skip
    if other or not (ami.snapshot_id in _list_snapshots(found) or _has_tags(found, ami.tags)):
        reason = f" ({', '.join(other)})" if other else ""
        raise CloudError(f"{ami_id} has this name already, and is another image{reason}", place=f"image {ami.name}",
                         next_step="choose another name, or deregister that one")  # fmt: skip
    return ami_id


def _register(ec2: Any, ami: Ami, patience: Patience, tell: Tell) -> str:
    request: dict[str, Any] = {
        "Name": ami.name,
        "Architecture": ami.arch,
        "VirtualizationType": ami.virtualization,
        "RootDeviceName": ami.root_device,
        "BlockDeviceMappings": [{
            "DeviceName": ami.root_device,
            "Ebs": {"SnapshotId": ami.snapshot_id, "VolumeType": VOLUME_TYPE, "DeleteOnTermination": True},
        }],
        "TagSpecifications": [{"ResourceType": "image", "Tags": list_tags(ami.tags)}],
    }  # fmt: skip
    chosen = {
        "Description": ami.description,
        "BootMode": ami.boot_mode,
        "KernelId": ami.kernel_id,
        "EnaSupport": ami.has_ena,
    }
    request |= {key: value for key, value in chosen.items() if value}
    place = f"image {ami.name}"
    try:
        return _read_id(call_patiently(lambda: ec2.register_image(**request), place, patience, note=tell))
    except CloudError as refusal:
        # An earlier try may have done it, and its answer been lost.
        found = _find_named(ec2, ami.name, patience) if refusal.code == DUPLICATE else None
        if found is None:
            raise
        return _confirm(found, ami)


def _wait_until_available(ec2: Any, ami_id: str, patience: Patience, tell: Tell) -> dict[str, Any]:
    deadline, looks = time.monotonic() + WAIT_SECONDS, 0
    while True:
        found = _describe(ec2, ami_id, patience)
        state = make_plain(str(found.get("State"))) if found else "not seen yet"
        if found and state == "available":
            return found
        looks += 1
        pause = min(LONGEST_LOOK_SECONDS, patience.pause_seconds(looks))
        is_hopeless = found is not None and state not in ALIVE
        if is_hopeless or time.monotonic() + pause > deadline:
            reason = make_plain((found or {}).get("StateReason", {}).get("Message", ""))
            raise CloudError(f"the image is {state}{': ' if reason else ''}{reason}", place=ami_id,
                             next_step="deregister it, and register it again")  # fmt: skip
        tell(f"waiting for {ami_id}, {state}")
        time.sleep(pause)


def _describe(ec2: Any, ami_id: str, patience: Patience) -> dict[str, Any] | None:
    try:
        answer = call_patiently(lambda: ec2.describe_images(ImageIds=[ami_id]), ami_id, patience)
    except CloudError as error:
        if error.code in GONE:
            return None
        raise
    return next(iter(answer["Images"]), None)


def deregister_ami(
    ec2: Any, ami_id: str, *, tell: Tell, snapshot_id: str | None = None, patience: Patience = PATIENCE
) -> list[str]:
    """Take an image away, and the snapshots it is made of that are ours and nobody else's; the ids of those.

    snapshot_id: where it is known from a record, so that a run that was ended in between leaves nothing. An image
    that is gone already is fine. Raises CloudError.
    """
    found = _describe(ec2, ami_id, patience)
    snapshots = dict.fromkeys([*_list_snapshots(found or {}), *([snapshot_id] if snapshot_id else [])])
    if found is not None:
        tell(f"deregistering {ami_id}")
        try:
            call_patiently(lambda: ec2.deregister_image(ImageId=ami_id), ami_id, patience, note=tell)
        except CloudError as error:
            if error.code not in GONE:
                raise
    return [each for each in snapshots if _delete_own(ec2, each, ami_id, patience, tell)]


def _delete_own(ec2: Any, snapshot_id: str, ami_id: str, patience: Patience, tell: Tell) -> bool:
    if not find_snapshot(ec2, snapshot_id, patience).is_ours:
        return False
    filters = [{"Name": "block-device-mapping.snapshot-id", "Values": [snapshot_id]}]
    answer = call_patiently(lambda: ec2.describe_images(Owners=["self"], Filters=filters), snapshot_id, patience)
    users = [_read_id(each) for each in answer["Images"] if each.get("ImageId") != ami_id and _is_alive(each)]
    if users:
        tell(f"{snapshot_id} stays: {', '.join(users)} is made of it")
        return False
    tell(f"deleting {snapshot_id}")
    return delete_snapshot(ec2, snapshot_id, patience)


@dataclass(frozen=True)
class Own:
    """An image that we have registered: its id, its tags and when it was made, as ISO 8601 text."""

    id: str
    tags: Mapping[str, str]
    created: str


def list_own(ec2: Any, patience: Patience = PATIENCE) -> list[Own]:
    """Every living image of the user's that xenkiln made; raises CloudError."""
    answer = call_patiently(lambda: ec2.describe_images(Owners=["self"]), "images", patience)
    return [Own(_read_id(each), read_tags(each), str(each.get("CreationDate", "")))
            for each in answer["Images"] if _is_alive(each) and is_ours(each)]  # fmt: skip
