"""A desk with an image that was built, and a cloud of the lab's kind that judges what comes."""

from __future__ import annotations

import hashlib
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from xenkiln.commands import console, deregister, keypair, launch, publish, terminate
from xenkiln.lab.cloud.account import write_eucarc
from xenkiln.lab.cloud.cloud import Cloud
from xenkiln.lab.cloud.connection import LOOPBACK, Server
from xenkiln.lab.cloud.profiles import PROFILES
from xenkiln.model.cloud import CloudRecipe
from xenkiln.model.loader import LoadedCloud, load_image, load_recipe
from xenkiln.publishing.records import Records, records_for
from xenkiln.publishing.subject import ROLES, Subject, make_subject
from xenkiln.publishing.target import Target, make_target
from xenkiln.system.layout import PROJECT
from xenkiln.system.services import Service, start_service

DIALECTS = {"1.4": "eucalyptus-1.4", "2.0": "eucalyptus-2", "3.4": "eucalyptus-3.3", "4.4": "eucalyptus-4.2"}
"""What each of the cloud's profiles is spoken to in."""
STAND_IN = Path(__file__).resolve().parents[1] / "lab_cloud" / "stand_in.py"
FILES = {"vmlinuz": 70_001, "initrd.img": 30_000, "root.img": 300_000}


@dataclass(frozen=True)
class Site:
    """An image, a cloud, and what the user does with them."""

    subject: Subject
    cloud: LoadedCloud
    server: Cloud
    images: Path

    @property
    def records(self) -> Records:
        return records_for(self.cloud.name, self.subject.name)

    @property
    def target(self) -> Target:
        return make_target(self.cloud)

    def publish(self) -> dict[str, str]:
        """Role -> id."""
        publish.run(self.subject, self.cloud)
        values = self.records.read("registered")
        return {role: values[f"{role}.id"] for role in ROLES if f"{role}.id" in values}

    def launch(self, **options: str) -> str:
        launch.run(self.subject, self.cloud, **options)
        return self.records.read("instance")["id"]

    def keypair(self) -> None:
        keypair.run(self.cloud)

    @property
    def key(self) -> Path:
        """Where the private key is kept."""
        return self.records.folder.parent / "keys" / "xenkiln.pem"

    def console(self) -> None:
        console.run(self.subject, self.cloud)

    def terminate(self) -> None:
        terminate.run(self.subject, self.cloud)

    def deregister(self) -> None:
        deregister.run(self.subject, self.cloud)

    def change(self, name: str, data: bytes) -> None:
        """Another image of the same recipe."""
        (self.images / name).write_bytes(data)
        write_sums(self.images)

    def list_requests(self, words: str) -> list[str]:
        """Lines of the cloud's log that have these words."""
        log = self.server.folder / "requests.log"
        return [line for line in log.read_text().splitlines() if words in line] if log.exists() else []

    def count_parts_sent(self) -> int:
        return sum(".part." in line for line in self.list_requests(" PUT "))


def make_image(images: Path) -> None:
    """Kernel, ramdisk and a sparse root filesystem, none of which boots."""
    images.mkdir(parents=True)
    for name, size in FILES.items():
        with (images / name).open("wb") as stream:
            stream.write(os.urandom(size))
            if name == "root.img":
                stream.seek(3 << 20)
                stream.write(os.urandom(4096))
                stream.truncate(5 << 20)
    write_sums(images)


def write_sums(images: Path) -> None:
    lines = [f"{hashlib.sha256((images / name).read_bytes()).hexdigest()}  {name}\n" for name in sorted(FILES)]
    (images / "SHA256SUMS").write_text("".join(lines))


def write_cloud(path: Path, profile: str, eucarc: Path, more: str = "") -> LoadedCloud:
    """A cloud's recipe."""
    path.write_text(f"summary: A cloud\ndialect: {DIALECTS[profile]}\ncredentials: {{eucarc: {eucarc}}}\n"
                    f"bucket: images\n{more}")  # fmt: skip
    return load_recipe(path, CloudRecipe)


def make_tiny() -> Subject:
    """As shipped; a program in its place shows none of what a guest shows."""
    return replace(make_subject(load_image(PROJECT / "recipes/images/tiny.yaml")), expected=())


def start_guest(how: str, folder: Path) -> Service:
    """A program in a guest's place."""
    argv = [sys.executable, "-I", "-S", str(STAND_IN), str(folder), how]
    return start_service(argv, folder, folder / "output", stays=False)


@contextmanager
def serve(folder: Path, profile: str, how: str = "well", server_type: type[Server] = Server) -> Iterator[Cloud]:
    """A cloud that answers, its state in `folder`, and its eucarc written."""
    cloud = Cloud(folder, PROFILES[profile], partial(start_guest, how))
    server = server_type(0, cloud)
    cloud.url = f"http://{LOOPBACK}:{server.port}"
    write_eucarc(folder, PROFILES[profile], cloud.account, cloud.url)
    settings: dict[str, Any] = {"poll_interval": 0.01}
    thread = threading.Thread(target=server.serve_forever, kwargs=settings)
    thread.start()
    try:
        yield cloud
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        cloud.close()
