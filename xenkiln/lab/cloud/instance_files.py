"""What lies in an instance's folder: the description that its program reads, and what the program writes."""

from __future__ import annotations

import base64
import json
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xenkiln.lab.cloud.index import Record
from xenkiln.lab.cloud.key_pairs import KEYS
from xenkiln.lab.cloud.programs import signal_holders
from xenkiln.lab.cloud.zones import ZONE
from xenkiln.lab.meta_data import make_meta_data
from xenkiln.lab.network import GATEWAY, META_DATA_PORT
from xenkiln.lab.places import AT_ONCE, hold_file
from xenkiln.system.files import remove_path, write_finished

if TYPE_CHECKING:
    from xenkiln.lab.cloud.cloud import Cloud

INSTANCES = "instances"
SPEC, STATUS, CONSOLE, LOCK = "spec.json", "status.json", "console.log", "instance.lock"
LIVE = ("pending", "running", "shutting-down")
"""An instance's states but for its last one."""
CONSOLE_BYTES = 64 << 10
"""Of its end, which is what EC2 tells."""
LEFTOVER_SECONDS = 10
WAIT_SECONDS = 0.05
OF_ITS_ADDRESS = ("local-ipv4", "public-ipv4", "hostname", "local-hostname", "public-hostname")
"""Meta-data that the program fills in, which alone knows the address."""


def write_spec(cloud: Cloud, folder: Path, record: Record, files: dict[str, Any]) -> None:
    """The whole description of a guest; memory_mib and vcpus are those of its type."""
    kind = next(each for each in cloud.profile.types if each.name == record["type"])
    pair = cloud.index.find(KEYS, record["key"]) if record["key"] else None
    public_key = pair["public"] if pair else ""
    spec = {
        "name": record["id"], "memory_mib": kind.memory_mib, "vcpus": kind.vcpus, "kernel": files["kernel"],
        "ramdisk": files["ramdisk"], "root": files["machine"], "root_device": record["root_device"],
        "arguments": f"root=/dev/{record['root_device']} ro console=hvc0", "public_key": public_key,
        "meta_data": list_meta_data(cloud, record, public_key),
    }  # fmt: skip
    folder.mkdir(mode=0o700)
    write_finished(folder / SPEC, json.dumps(spec), 0o600)


def list_meta_data(cloud: Cloud, record: Record, public_key: str) -> dict[str, str]:
    """Path below latest/ -> body, but for what depends on the address."""
    groups, images = record["groups"], record["images"]
    known = {
        "instance-id": record["id"], "reservation-id": record["reservation"], "ami-id": images["machine"]["id"],
        "kernel-id": images["kernel"]["id"], "ramdisk-id": images["ramdisk"]["id"] if images["ramdisk"] else "",
        "ami-launch-index": str(record["index"]), "instance-type": record["type"], "placement/availability-zone": ZONE,
        # 1.4 and 2.0 show how Java prints a list.
        "security-groups": "\n".join(groups) if cloud.profile.has_tags else f"[{', '.join(groups)}]",
        "ami-manifest-path": f"http://{GATEWAY}:{META_DATA_PORT}/services/Walrus/{images['machine']['location']}",
    }  # fmt: skip
    user_data = base64.b64decode(record["user_data"]).decode()
    whole = make_meta_data(record["id"], "", public_key, user_data, known=known, key_name=record["key"])
    absent = (*OF_ITS_ADDRESS, *(() if images["ramdisk"] else ("ramdisk-id",)))
    return {path: body for path, body in whole.items() if path.removeprefix("meta-data/") not in absent}


def read_status(folder: Path) -> dict[str, Any]:
    """What the program says of itself; empty before it has."""
    try:
        status = json.loads((folder / STATUS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return status if isinstance(status, dict) else {}


def read_console(folder: Path) -> tuple[bytes, float]:
    """The end of the console's output, and when it was last written."""
    try:
        with (folder / CONSOLE).open("rb") as stream:
            stat = os.fstat(stream.fileno())
            stream.seek(max(0, stat.st_size - CONSOLE_BYTES))
            return stream.read(CONSOLE_BYTES), stat.st_mtime
    except FileNotFoundError:
        return b"", time.time()


def list_images(records: list[Record]) -> set[str]:
    """Ids of the images that live instances run from."""
    return {image["id"] for record in records if record["state"] in LIVE
            for image in record["images"].values() if image}  # fmt: skip


def clear_folder(folder: Path) -> None:
    """Remove all but the console."""
    if folder.is_dir():
        for path in folder.iterdir():
            if path.name != CONSOLE:
                remove_path(path)


def end_leftover(folder: Path) -> None:
    """End a program that a killed cloud has left; most have ended by themselves, and let go of their lock."""
    if not (folder / LOCK).exists():
        return
    deadline = time.monotonic() + LEFTOVER_SECONDS
    while True:
        with hold_file(folder / LOCK, AT_ONCE) as held:
            if held is not None:
                return
        signal_holders(folder / LOCK, signal.SIGTERM if time.monotonic() < deadline else signal.SIGKILL)
        time.sleep(WAIT_SECONDS)
