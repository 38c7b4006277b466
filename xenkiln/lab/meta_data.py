"""What the lab's meta-data service tells a guest: every key that Eucalyptus 1.4 has, with the lab's values.

The keys are those of the article "Fetching meta-data and user-data in Eucalyptus", which EC2's first API shares.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from types import MappingProxyType

from xenkiln.lab.network import GATEWAY, META_DATA_PORT

KEY_NAME = "lab_key"
NOT_YET = "not yet supported."
"""What Eucalyptus 1.4 itself says."""


def make_meta_data(
    name: str,
    address: str,
    public_key: str,
    user_data: str = "",
    *,
    known: Mapping[str, str] = MappingProxyType({}),
    key_name: str = KEY_NAME,
) -> dict[str, str]:
    """Path below latest/ -> body, for the guest of that name and address.

    known: values of keys that somebody has given, instead of those that are made up from the name.
    """
    values = {
        "reservation-id": make_id("r", name),
        "instance-id": make_id("i", name),
        "ami-id": make_id("emi", name),
        "kernel-id": make_id("eki", name),
        "ramdisk-id": make_id("eri", name),
        "ami-launch-index": "0",
        "ami-manifest-path": f"http://{GATEWAY}:{META_DATA_PORT}/services/Walrus/{name}/{name}.img.manifest.xml",
        "ancestor-ami-ids": "none",
        "block-device-mapping": NOT_YET,
        "product-codes": NOT_YET,
        "instance-type": "m1.small",
        "security-groups": "[default]",
        "placement/availability-zone": "lab",
    }
    bodies = name_addresses(address) | {f"meta-data/{key}": value for key, value in (values | dict(known)).items()}
    bodies |= name_public_key(public_key, key_name) if public_key else {}
    return bodies | ({"user-data": user_data} if user_data else {})


def name_addresses(address: str) -> dict[str, str]:
    """The keys that tell a guest its own address: there is one network, and no names in it."""
    names = ("local-ipv4", "public-ipv4", "local-hostname", "public-hostname", "hostname")
    return {f"meta-data/{name}": address for name in names}


def name_public_key(public_key: str, key_name: str = KEY_NAME) -> dict[str, str]:
    """The keys that bring root's ssh key."""
    return {
        "meta-data/public-keys/index": f"0={key_name}",
        "meta-data/public-keys/0/openssh-key": f"{public_key.strip()}\n",
    }


def make_id(kind: str, name: str) -> str:
    """An identifier such as i-2ECA052C: eight hexadecimal digits, the same for the same name."""
    return f"{kind}-{hashlib.sha256(f'{kind} {name}'.encode()).hexdigest()[:8].upper()}"
