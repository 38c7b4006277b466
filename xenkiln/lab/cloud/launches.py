"""RunInstances: what is asked for, checked before anything is written down."""

from __future__ import annotations

import base64
import binascii
import time

from xenkiln.lab.cloud import key_pairs, security_groups
from xenkiln.lab.cloud.calls import Call
from xenkiln.lab.cloud.faults import Fault, miss_parameter, reject_value
from xenkiln.lab.cloud.ids import make_id
from xenkiln.lab.cloud.index import Record
from xenkiln.lab.cloud.instance_files import INSTANCES
from xenkiln.lab.cloud.profiles import InstanceType
from xenkiln.lab.cloud.registration import find_image
from xenkiln.lab.cloud.zones import ZONE, count_room

LARGEST_USER_DATA = 16 << 10
MOST_AT_ONCE = 20
FIELDS = ("ImageId MinCount MaxCount KernelId RamdiskId InstanceType KeyName UserData SecurityGroup.N AddressingType"
          " Placement.AvailabilityZone")  # fmt: skip
LATER_FIELDS = "ClientToken SecurityGroupId.N"


def launch(call: Call) -> list[Record]:
    """The new instances, or those that were launched with the same ClientToken before."""
    index = call.cloud.index
    token = call.text("ClientToken", "")
    with index.changing():
        earlier = [each for each in index.list_all(INSTANCES) if token and each["token"] == token]
        if earlier:
            return earlier
        wanted, count = read_wanted(call), count_possible(call)
        made = [{**wanted, "id": make_id("i"), "index": number, "token": token} for number in range(count)]
        for record in made:
            index.put(INSTANCES, record["id"], record)
    for record in made:
        call.cloud.keeper.launch(record["id"])
    return made


def read_wanted(call: Call) -> Record:
    """A record of what all the new instances have in common."""
    machine = find_image(call, call.text("ImageId"), "machine")
    kernel = call.text("KernelId", "") or machine["kernel"]
    ramdisk = call.text("RamdiskId", "") or machine["ramdisk"]
    if not kernel:
        raise miss_parameter("KernelId: neither the image nor this cloud has a kernel of its own")
    groups = [security_groups.find(call, each)["name"]
              for each in (*call.texts("SecurityGroup"), *call.texts("SecurityGroupId"))]  # fmt: skip
    key = call.text("KeyName", "")
    if key:
        key_pairs.find(call, key)
    for name, known in (("Placement.AvailabilityZone", (ZONE,)), ("AddressingType", ("public", "private"))):
        if (value := call.text(name, known[0])) not in known:
            raise reject_value(name, value)
    return {
        "reservation": make_id("r"), "type": find_type(call).name, "key": key, "user_data": read_user_data(call),
        "groups": groups or [security_groups.DEFAULT], "state": "pending", "reason": "", "launched": time.time(),
        "ended": 0, "addressing": call.text("AddressingType", "public"), "address": "", "ssh_port": None,
        "root_device": machine["root_device"],
        "images": {"machine": machine, "kernel": find_image(call, kernel, "kernel"),
                   "ramdisk": find_image(call, ramdisk, "ramdisk") if ramdisk else None},
    }  # fmt: skip


def find_type(call: Call) -> InstanceType:
    """m1.small where none is named."""
    name = call.text("InstanceType", "m1.small")
    found = next((each for each in call.cloud.profile.types if each.name == name), None)
    if found is None:
        raise reject_value("InstanceType", name)
    return found


def read_user_data(call: Call) -> str:
    """In Base64, as it came."""
    text = call.text("UserData", "")
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Fault("InvalidParameterValue", "Invalid BASE64 encoding of user data") from None
    if len(data) > LARGEST_USER_DATA:
        raise Fault("InvalidParameterValue", f"User data is limited to {LARGEST_USER_DATA} bytes")
    try:
        data.decode()
    except UnicodeDecodeError:
        raise Fault("InvalidParameterValue", "This lab's guests are told user data that is text in UTF-8") from None
    return text


def count_possible(call: Call) -> int:
    """As many as are wanted at most, where there is room for as many as are wanted at least."""
    least, most = call.number("MinCount", 1, MOST_AT_ONCE), call.number("MaxCount", 1, MOST_AT_ONCE)
    if least > most:
        raise reject_value("MinCount", str(least), "is more than MaxCount")
    room = count_room(find_type(call).memory_mib) - call.cloud.count_instances()
    if room < least:
        raise Fault("InsufficientInstanceCapacity", f"There is room for {max(room, 0)} more instances.")
    return min(most, room)
