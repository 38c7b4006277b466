"""The lab's network as it is seen inside: qemu's user network, and a part of it that dom0 keeps for its guests."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

HOST_ADDRESS = "10.0.2.15/24"
"""dom0's own, in the network that qemu's user networking brings: 10.0.2.0/24."""
GUESTS = IPv4Network("10.0.2.48/28")
GATEWAY = GUESTS[1]
META_DATA_ADDRESS = IPv4Address("169.254.169.254")
META_DATA_PORT = 8773
"""Of Eucalyptus 1.4, on the gateway; on META_DATA_ADDRESS it is 80, as on EC2."""

PLACES = 8
_HOSTS = tuple(map(str, list(GUESTS.hosts())[1:]))
ADDRESSES = _HOSTS[:PLACES]
"""What guests that are booted get, one each, known before they ask."""
OTHER_ADDRESSES = _HOSTS[PLACES:]
"""What any other guest is given that asks for an address: one that was deployed, or created by hand."""


def list_settings() -> dict[str, str]:
    """The network as scripts/host/lab reads it."""
    return {
        "HOST_ADDRESS": HOST_ADDRESS,
        "GATEWAY": str(GATEWAY),
        "GUEST_LENGTH": str(GUESTS.prefixlen),
        "GUEST_MASK": str(GUESTS.netmask),
        "META_DATA_ADDRESS": str(META_DATA_ADDRESS),
        "OTHERS_START": OTHER_ADDRESSES[0],
        "OTHERS_END": OTHER_ADDRESSES[-1],
    }
