"""What the lab's meta-data service tells a guest: every key that Eucalyptus 1.4 has, with the lab's values.

The keys are those of the article "Fetching meta-data and user-data in Eucalyptus", which EC2's first API shares.
"""

from __future__ import annotations

import hashlib

from xenkiln.lab.network import GATEWAY, META_DATA_PORT

KEY_NAME = "lab_key"
NOT_YET = "not yet supported."
"""What Eucalyptus 1.4 itself says."""


def make_meta_data(name: str, address: str, public_key: str, user_data: str = "") -> dict[str, str]:
    """Path below latest/ -> body, for the guest of that name and address."""
    host = address
    values = {
        "local-ipv4": address,
        "public-ipv4": address,
        "local-hostname": host,
        "public-hostname": host,
        "hostname": host,
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
    bodies = {f"meta-data/{key}": value for key, value in values.items()}
    if public_key:
        bodies["meta-data/public-keys/index"] = f"0={KEY_NAME}"
        bodies["meta-data/public-keys/0/openssh-key"] = f"{public_key.strip()}\n"
    return bodies | ({"user-data": user_data} if user_data else {})


def make_id(kind: str, name: str) -> str:
    """An identifier such as i-2ECA052C: eight hexadecimal digits, the same for the same name."""
    return f"{kind}-{hashlib.sha256(f'{kind} {name}'.encode()).hexdigest()[:8].upper()}"
