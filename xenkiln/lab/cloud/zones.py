"""Where instances run: one zone, and what it has room for."""

from __future__ import annotations

import os

from xenkiln.lab.cloud.calls import Action, Call
from xenkiln.lab.cloud.faults import reject_value
from xenkiln.lab.cloud.markup import Node, list_items
from xenkiln.lab.network import PLACES

ZONE, REGION = "lab", "eucalyptus"
KEPT_MIB = 1024
"""Of this host's memory, for its own work and for Xen."""
VERBOSE = "verbose"
"""A zone's name that asks for each type's room, as euca-describe-availability-zones does."""


def count_room(memory_mib: int) -> int:
    """How many instances with so much memory could run here, were there no others."""
    total_mib = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20
    return max(0, min(PLACES, (total_mib - KEPT_MIB) // memory_mib))


def describe_zones(call: Call) -> Node:
    """The zone; with the name `verbose` also free and most instances, processors, MiB and GiB of each type."""
    names = call.texts("ZoneName")
    for name in names:
        if name not in (ZONE, VERBOSE):
            raise reject_value("ZoneName", name)
    items: list[Node] = [{"zoneName": ZONE, "zoneState": "available", "regionName": REGION}]
    if VERBOSE in names:
        running = call.cloud.count_instances()
        items.append({"zoneName": "|- vm types", "zoneState": "free / max   cpu   ram  disk"})
        for kind in call.cloud.profile.types:
            most = count_room(kind.memory_mib)
            size = f"{kind.vcpus:2d}   {kind.memory_mib:4d}  {kind.disk_gib:4d}"
            room = f"{max(0, most - running):04d} / {most:04d}  {size}"
            items.append({"zoneName": f"|- {kind.name}", "zoneState": room})
    return {"availabilityZoneInfo": list_items(items)}


def describe_regions(call: Call) -> Node:
    """The one region, which is this cloud."""
    for name in call.texts("RegionName"):
        if name != REGION:
            raise reject_value("RegionName", name)
    url = call.cloud.url + call.cloud.profile.paths[0][1]
    return {"regionInfo": list_items([{"regionName": REGION, "regionEndpoint": url}])}


ACTIONS = {
    "DescribeAvailabilityZones": Action(describe_zones, "ZoneName.N"),
    "DescribeRegions": Action(describe_regions, "RegionName.N", since=(1, 5)),
}
