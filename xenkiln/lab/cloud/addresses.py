"""Elastic addresses: given out and shown as a cloud does; nothing is routed to them here."""

from __future__ import annotations

from ipaddress import IPv4Network

from xenkiln.lab.cloud.calls import DONE, Action, Call
from xenkiln.lab.cloud.faults import Fault
from xenkiln.lab.cloud.index import Index, Record
from xenkiln.lab.cloud.markup import Node, list_items

ADDRESSES = "addresses"
POOL = tuple(map(str, IPv4Network("203.0.113.0/28").hosts()))
"""Of RFC 5737: nobody's."""


def allocate(call: Call) -> Node:
    """One that nobody has."""
    with call.cloud.index.changing():
        free = next((each for each in POOL if call.cloud.index.find(ADDRESSES, each) is None), None)
        if free is None:
            raise Fault("AddressLimitExceeded", f"All {len(POOL)} addresses are allocated.")
        call.cloud.index.put(ADDRESSES, free, {"address": free, "instance": ""})
    return [("publicIp", free), *([("domain", "standard")] if call.cloud.profile.has_tags else [])]


def find(call: Call, address: str) -> Record:
    """One that is the user's."""
    found = call.cloud.index.find(ADDRESSES, address)
    if found is None:
        raise Fault("InvalidAddress.NotFound", f"Address '{address}' not found.")
    return found


def describe(call: Call) -> Node:
    """All that are the user's, or those that are named."""
    wanted = call.texts("PublicIp")
    found = [find(call, each) for each in wanted] if wanted else call.cloud.index.list_all(ADDRESSES)
    return {"addressesSet": list_items({"publicIp": each["address"], "instanceId": each["instance"]} for each in found)}


def associate(call: Call) -> Node:
    """Have it be an instance's."""
    with call.cloud.index.changing():
        address = find(call, call.text("PublicIp"))["address"]
        instance = call.cloud.find_instance(call.text("InstanceId"))["id"]
        free_addresses(call.cloud.index, instance)
        call.cloud.index.update(ADDRESSES, address, instance=instance)
    return DONE


def free_addresses(index: Index, instance: str) -> None:
    """Have an instance's addresses be nobody's."""
    for each in index.list_all(ADDRESSES):
        if each["instance"] == instance:
            index.update(ADDRESSES, each["address"], instance="")


def disassociate(call: Call) -> Node:
    """Have it be nobody's."""
    with call.cloud.index.changing():
        call.cloud.index.update(ADDRESSES, find(call, call.text("PublicIp"))["address"], instance="")
    return DONE


def release(call: Call) -> Node:
    """Give it back."""
    with call.cloud.index.changing():
        call.cloud.index.remove(ADDRESSES, find(call, call.text("PublicIp"))["address"])
    return DONE


ACTIONS = {
    "AllocateAddress": Action(allocate, "", "Domain"),
    "DescribeAddresses": Action(describe, "PublicIp.N"),
    "AssociateAddress": Action(associate, "PublicIp InstanceId"),
    "DisassociateAddress": Action(disassociate, "PublicIp"),
    "ReleaseAddress": Action(release, "PublicIp"),
}
