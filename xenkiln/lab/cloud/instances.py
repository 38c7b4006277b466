"""Actions on instances, and how they are shown."""

from __future__ import annotations

import base64

from xenkiln.lab.cloud.addresses import ADDRESSES
from xenkiln.lab.cloud.calls import FILTER_FIELDS, Action, Call, passes
from xenkiln.lab.cloud.faults import Fault
from xenkiln.lab.cloud.index import Record
from xenkiln.lab.cloud.instance_files import INSTANCES, read_console
from xenkiln.lab.cloud.launches import FIELDS, LATER_FIELDS, launch
from xenkiln.lab.cloud.markup import Node, list_items
from xenkiln.lab.cloud.tags import list_tags, read_tags
from xenkiln.lab.cloud.walrus import format_time
from xenkiln.lab.cloud.zones import ZONE

CODES = {"pending": 0, "running": 16, "shutting-down": 32, "terminated": 48}
NO_ADDRESS = "0.0.0.0"  # noqa: S104  # what Eucalyptus shows before there is one


def run(call: Call) -> Node:
    """A reservation of new instances."""
    return describe_reservation(call, launch(call))


def describe(call: Call) -> Node:
    """All instances, or those that are named, of filters that are asked for."""
    call.cloud.keeper.purge()
    ids, filters = call.texts("InstanceId"), call.filters()
    records = find_all(call, ids) if ids else call.cloud.index.list_all(INSTANCES)
    reservations: dict[str, list[Record]] = {}
    for each in sorted(records, key=lambda each: (each["launched"], each["index"])):
        if passes(filters, list_fields(each), read_tags(call.cloud.index, each["id"])):
            reservations.setdefault(each["reservation"], []).append(each)
    return {"reservationSet": list_items(describe_reservation(call, each) for each in reservations.values())}


def find_all(call: Call, ids: list[str]) -> list[Record]:
    """Those of some ids; an unknown one is passed over where the release does."""
    found = {instance_id: call.cloud.index.find(INSTANCES, instance_id) for instance_id in ids}
    missing = [instance_id for instance_id, record in found.items() if record is None]
    if missing and call.cloud.profile.names_missing_ids:
        raise Fault("InvalidInstanceID.NotFound", f"The instance ID '{missing[0]}' does not exist")
    return [record for record in found.values() if record is not None]


def list_fields(record: Record) -> dict[str, str]:
    """By their names in filters."""
    return {
        "instance-id": record["id"], "reservation-id": record["reservation"], "instance-type": record["type"],
        "image-id": record["images"]["machine"]["id"], "key-name": record["key"], "availability-zone": ZONE,
        "instance-state-name": record["state"], "instance-state-code": str(CODES[record["state"]]),
        "ip-address": record["address"], "client-token": record["token"],
    }  # fmt: skip


def describe_reservation(call: Call, records: list[Record]) -> Node:
    """As RunInstances and DescribeInstances have it."""
    groups: list[Node] = [{"groupId": name, "groupName": name} if call.cloud.profile.has_tags else {"groupId": name}
                          for name in records[0]["groups"]]  # fmt: skip
    return {"reservationId": records[0]["reservation"], "ownerId": call.cloud.account.number,
            "groupSet": list_items(groups),
            "instancesSet": list_items(describe_instance(call, each) for each in records)}  # fmt: skip


def describe_instance(call: Call, record: Record) -> Node:
    """As EC2 has it; an elastic address is shown in place of its own."""
    elastic = next((each["address"] for each in call.cloud.index.list_all(ADDRESSES)
                    if each["instance"] == record["id"]), "")  # fmt: skip
    private = record["address"] or NO_ADDRESS
    public = elastic or (private if record["addressing"] == "public" else NO_ADDRESS)
    images = record["images"]
    fields: list[tuple[str, Node]] = [
        ("instanceId", record["id"]), ("imageId", images["machine"]["id"]),
        ("instanceState", describe_state(record["state"])), ("privateDnsName", private), ("dnsName", public),
        ("reason", record["reason"]), ("keyName", record["key"]), ("amiLaunchIndex", str(record["index"])),
        ("productCodes", ""), ("instanceType", record["type"]), ("launchTime", format_time(record["launched"])),
        ("placement", {"availabilityZone": ZONE}), ("kernelId", images["kernel"]["id"]),
    ]  # fmt: skip
    if images["ramdisk"]:
        fields.append(("ramdiskId", images["ramdisk"]["id"]))
    if call.cloud.profile.release >= (2, 0):
        fields += [("privateIpAddress", private), ("ipAddress", public)]
    if call.cloud.profile.has_tags:
        code, _, message = record["reason"].partition(": ")
        fields += [
            ("stateReason", {"code": code, "message": message}), ("architecture", images["machine"]["architecture"]),
            ("rootDeviceType", "instance-store"), ("rootDeviceName", f"/dev/{record['root_device']}"),
            ("virtualizationType", "paravirtual"), ("clientToken", record["token"]), ("hypervisor", "xen"),
            ("monitoring", {"state": "disabled"}), ("tagSet", list_tags(call.cloud.index, record["id"])),
        ]  # fmt: skip
    return fields


def describe_state(name: str) -> Node:
    """Code and name."""
    return {"code": str(CODES[name]), "name": name}


def terminate(call: Call) -> Node:
    """Have instances end; one that has ended is fine."""
    items: list[Node] = []
    ids = call.texts("InstanceId") or [call.text("InstanceId.1")]
    with call.cloud.index.changing():
        for record in [find(call, instance_id) for instance_id in ids]:
            state = record["state"]
            if state in ("pending", "running"):
                call.cloud.index.update(INSTANCES, record["id"], state="shutting-down")
            now = describe_state("terminated" if state == "terminated" else "shutting-down")
            # Until 2009 the new state was called so.
            items.append([("instanceId", record["id"]), ("currentState", now), ("shutdownState", now),
                          ("previousState", describe_state(state))])  # fmt: skip
    for instance_id in ids:
        call.cloud.keeper.end(instance_id)
    return {"instancesSet": list_items(items)}


def find(call: Call, instance_id: str) -> Record:
    """One instance."""
    found = call.cloud.index.find(INSTANCES, instance_id)
    if found is None:
        raise Fault("InvalidInstanceID.NotFound", f"The instance ID '{instance_id}' does not exist")
    return found


def get_console(call: Call) -> Node:
    """The end of what the guest's console has said, in Base64."""
    record = find(call, call.text("InstanceId"))
    said, seconds = read_console(call.cloud.keeper.folder_of(record["id"]))
    return {"instanceId": record["id"], "timestamp": format_time(seconds), "output": base64.b64encode(said).decode()}


ACTIONS = {
    "RunInstances": Action(run, FIELDS, LATER_FIELDS),
    "DescribeInstances": Action(describe, "InstanceId.N", FILTER_FIELDS),
    "TerminateInstances": Action(terminate, "InstanceId.N"),
    "GetConsoleOutput": Action(get_console, "InstanceId", "Latest"),
}
