"""Security groups: kept and shown as they were set; the lab's network lets nobody in from outside anyway."""

from __future__ import annotations

import ipaddress
import re

from xenkiln.lab.cloud.calls import DONE, Action, Call
from xenkiln.lab.cloud.faults import Fault, miss_parameter, reject_value
from xenkiln.lab.cloud.ids import make_id
from xenkiln.lab.cloud.index import Record
from xenkiln.lab.cloud.markup import Node, list_items

GROUPS = "groups"
DEFAULT = "default"
NAME = re.compile("[ -~]{1,255}")
PROTOCOLS = ("tcp", "udp", "icmp")


def make_group(name: str, description: str) -> Record:
    """An empty one."""
    return {"name": name, "id": make_id("sg"), "description": description, "rules": []}


def create(call: Call) -> Node:
    """A group without rules."""
    name, description = call.text("GroupName"), call.text("GroupDescription")
    if not NAME.fullmatch(name) or not NAME.fullmatch(description):
        raise reject_value("GroupName", name)
    with call.cloud.index.changing():
        if call.cloud.index.find(GROUPS, name):
            raise Fault("InvalidGroup.Duplicate", f"The security group '{name}' already exists")
        group = make_group(name, description)
        call.cloud.index.put(GROUPS, name, group)
    return [("return", "true"), *([("groupId", group["id"])] if call.cloud.profile.has_tags else [])]


def find(call: Call, name: str) -> Record:
    """One group by its name, or by its id."""
    groups = call.cloud.index.list_all(GROUPS)
    found = next((each for each in groups if name in (each["name"], each["id"])), None)
    if found is None:
        raise Fault("InvalidGroup.NotFound", f"The security group '{name}' does not exist")
    return found


def describe(call: Call) -> Node:
    """All groups, or those that are named."""
    names = [*call.texts("GroupName"), *call.texts("GroupId")]
    found = [find(call, name) for name in names] if names else call.cloud.index.list_all(GROUPS)
    return {"securityGroupInfo": list_items(describe_group(call, each) for each in found)}


def describe_group(call: Call, group: Record) -> Node:
    """As DescribeSecurityGroups has it."""
    rules = [
        {"ipProtocol": rule["protocol"], "fromPort": str(rule["from"]), "toPort": str(rule["to"]), "groups": "",
         "ipRanges": list_items([{"cidrIp": rule["cidr"]}])}
        for rule in group["rules"]
    ]  # fmt: skip
    node: dict[str, Node] = {"ownerId": call.cloud.account.number, "groupName": group["name"],
                             "groupDescription": group["description"], "ipPermissions": list_items(rules)}  # fmt: skip
    return {**node, "groupId": group["id"]} if call.cloud.profile.has_tags else node


def authorize(call: Call) -> Node:
    """Let addresses in: in the form of the first API, or in that of 2010 and later."""
    name = call.text("GroupId", "") or call.text("GroupName")
    permissions = call.structures("IpPermissions") or [dict(call.parameters)]
    rules = [rule for each in permissions for rule in read_rules(each)]
    with call.cloud.index.changing():
        group = find(call, name)
        for rule in rules:
            if rule in group["rules"]:
                raise Fault("InvalidPermission.Duplicate", "The permission has already been authorized on that group")
            group["rules"].append(rule)
        call.cloud.index.put(GROUPS, group["name"], group)
    return DONE


def read_rules(fields: dict[str, str]) -> list[Record]:
    """A rule for each range of addresses."""
    ports = {}
    for name in ("IpProtocol", "FromPort", "ToPort"):
        if name not in fields:
            raise miss_parameter(name)
    if fields["IpProtocol"] not in PROTOCOLS:
        raise reject_value("IpProtocol", fields["IpProtocol"])
    for name in ("FromPort", "ToPort"):
        if not re.fullmatch("-1|[0-9]{1,5}", fields[name]) or int(fields[name]) > 65535:
            raise reject_value(name, fields[name])
        ports[name] = int(fields[name])
    ranges = [value for name, value in fields.items() if re.fullmatch(r"(IpRanges\.[0-9]+\.)?CidrIp", name)]
    if not ranges:
        raise miss_parameter("CidrIp")
    for each in ranges:
        try:
            ipaddress.IPv4Network(each)
        except ValueError:
            raise reject_value("CidrIp", each) from None
    return [{"protocol": fields["IpProtocol"], "from": ports["FromPort"], "to": ports["ToPort"], "cidr": each}
            for each in ranges]  # fmt: skip


def remove(call: Call) -> Node:
    """Remove a group that no instance is in."""
    with call.cloud.index.changing():
        group = find(call, call.text("GroupId", "") or call.text("GroupName"))
        if group["name"] == DEFAULT or call.cloud.is_group_used(group["name"]):
            raise Fault("InvalidGroup.InUse", f"The security group '{group['name']}' is in use")
        call.cloud.index.remove(GROUPS, group["name"])
    return DONE


ACTIONS = {
    "CreateSecurityGroup": Action(create, "GroupName GroupDescription"),
    "DescribeSecurityGroups": Action(describe, "GroupName.N", "GroupId.N"),
    "AuthorizeSecurityGroupIngress": Action(
        authorize, "GroupName IpProtocol FromPort ToPort CidrIp",
        "GroupId IpPermissions.N.IpProtocol IpPermissions.N.FromPort IpPermissions.N.ToPort"
        " IpPermissions.N.IpRanges.N.CidrIp"),
    "DeleteSecurityGroup": Action(remove, "GroupName", "GroupId"),
}  # fmt: skip
