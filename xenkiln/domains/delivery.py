"""Taking an image to its Xen host: looked at before the first change, and again before each."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from xenkiln.domains.placement import HostFile
from xenkiln.errors import HostError
from xenkiln.model.domain import Deploy
from xenkiln.system.files import hash_file

if TYPE_CHECKING:
    # At run time paramiko is loaded by those alone who deploy.
    from xenkiln.system.transfer import Progress
    from xenkiln.system.xenhost import XenHost

CONFIG_FOLDER = "/etc/xen"

ABSENT, OLDER, SAME, LIVED_IN = "absent", "from an earlier deploy", "the same", "used by the guest"
FOREIGN, FOLDER = "not from a deploy", "a folder"
"""What is found at a file's place: the first two are sent; LIVED_IN is this build's disk with the guest's own
writes, FOREIGN what no deploy has put there."""


@dataclass(frozen=True)
class Delivery:
    """What goes where. name: the recipe's; files: also those that the host has of its own; images: the folder here."""

    name: str
    domain_name: str
    deploy: Deploy
    directory: str
    files: tuple[HostFile, ...]
    images: Path

    @property
    def config(self) -> str:
        """The domain's configuration there."""
        return f"{CONFIG_FOLDER}/{self.domain_name}"

    @property
    def local_config(self) -> Path:
        """The domain's configuration here, for the toolstack there."""
        return self.images / f"{self.name}.{self.deploy.toolstack}.cfg"

    @property
    def ledger(self) -> str:
        """Where that host keeps what was delivered to it."""
        return f"{self.directory}/{self.name}.deployed"

    @property
    def own_files(self) -> tuple[HostFile, ...]:
        """The files that come from here."""
        return tuple(file for file in self.files if file.source)

    def find_local(self, file: HostFile) -> Path:
        """The file here."""
        return self.images / (file.source or "")

    def is_volume(self, file: HostFile) -> bool:
        """Whether that disk is a logical volume there."""
        return bool(self.deploy.volume_group and file.device)

    @property
    def console(self) -> str:
        """How to get the guest's console, to be typed here."""
        port = f" -p {self.deploy.port}" if self.deploy.port != 22 else ""
        words = f"{self.deploy.user}@{self.deploy.host} {self.deploy.toolstack} console {self.domain_name}"
        return f"ssh -t{port} {words}"


def find_states(
    delivery: Delivery, digests: Mapping[str, str], host: XenHost, *, is_running: bool
) -> dict[str, str]:
    """What is at each path there, compared with our checksums: ABSENT, OLDER, SAME, LIVED_IN, FOREIGN or FOLDER."""
    ledger = host.read_ledger(delivery.ledger)
    files = (*delivery.own_files, HostFile(delivery.local_config.name, delivery.config))
    return {
        file.path: _find_state(delivery, file, digests[file.path], ledger.get(file.path), host, is_running=is_running)
        for file in files
    }


def hash_files(delivery: Delivery) -> dict[str, str]:
    """SHA-256 in hex of everything that is delivered, by its path there."""
    digests = {file.path: hash_file(delivery.find_local(file)) for file in delivery.own_files}
    return digests | {delivery.config: hash_file(delivery.local_config)}


def _find_state(
    delivery: Delivery, file: HostFile, digest: str, delivered: str | None, host: XenHost, *, is_running: bool
) -> str:
    from xenkiln.system.transfer import hash_remote

    kind = host.find_kind(file.path)
    if kind != "file":
        return FOLDER if kind == "folder" else ABSENT
    is_our_disk = delivered == digest and file.device != ""
    if is_our_disk and is_running:
        return LIVED_IN  # it changes while we would read it
    size = delivery.find_local(file).stat().st_size if delivery.is_volume(file) else None
    if hash_remote(host.remote, file.path, size) == digest:
        return SAME
    if is_our_disk:
        return LIVED_IN
    return OLDER if delivered or delivery.is_volume(file) else FOREIGN


def send_file(delivery: Delivery, file: HostFile, digest: str, host: XenHost, on_progress: Progress) -> None:
    """Put a file to its place there, and into the ledger once its checksum is right."""
    from xenkiln.system.transfer import Parcel, put_device, put_file

    local = delivery.find_local(file)
    if not delivery.is_volume(file):
        host.make_folders(delivery.directory, str(PurePosixPath(file.path).parent))
        put_file(host.remote, Parcel(local, digest, f"{file.path}.partial.state"), file.path, on_progress)
    else:
        host.make_folders(delivery.directory)
        # A volume is written in place: until it is whole, nothing says that it holds an image.
        note_delivery(delivery, host, file.path, None)
        make_volume(delivery, file, host)
        state = f"{delivery.directory}/{PurePosixPath(file.path).name}.state"
        put_device(host.remote, Parcel(local, digest, state), file.path, on_progress)
    note_delivery(delivery, host, file.path, digest)


def make_volume(delivery: Delivery, file: HostFile, host: XenHost) -> None:
    """Make the logical volume of a disk, where there is none."""
    name = PurePosixPath(file.path).name
    group = host.read_group(delivery.deploy.volume_group or "")
    if group is None:
        raise HostError(f"has no volume group {delivery.deploy.volume_group} any more", place=host.remote.name)
    if name not in group.volumes:
        extents = group.round_up(delivery.find_local(file).stat().st_size) // group.extent
        host.make_volume(delivery.deploy.volume_group or "", name, extents)


def note_delivery(delivery: Delivery, host: XenHost, path: str, digest: str | None) -> None:
    """Write into that host's ledger what is at a path there; None for nothing that is whole."""
    ledger = host.read_ledger(delivery.ledger)
    ledger.pop(path, None)
    host.write_ledger(delivery.ledger, ledger | ({path: digest} if digest else {}))


def send_config(delivery: Delivery, host: XenHost) -> None:
    """Write the domain's configuration there."""
    text = delivery.local_config.read_text(encoding="ascii")
    host.make_folders(delivery.directory)
    host.write_text(delivery.config, text)
    note_delivery(delivery, host, delivery.config, hashlib.sha256(text.encode()).hexdigest())


def start_domain(delivery: Delivery, host: XenHost) -> str:
    """Start the domain, if it does not run already; says which it was."""
    if delivery.domain_name in host.list_domains():
        return "already running"
    host.start_domain(delivery.config)
    if delivery.domain_name not in host.list_domains():
        raise HostError(
            f"{delivery.domain_name} was started and ended at once",
            place=host.remote.name,
            next_step=f"see why on its console: {delivery.deploy.toolstack} create -c {delivery.config}, typed there",
        )
    return "started"
