"""A cloud in a thread, on a free port, and a client of it."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lab_cloud.client import Client, Keys, Reply
from xenkiln.lab.cloud.cloud import Cloud
from xenkiln.lab.cloud.connection import Server
from xenkiln.lab.cloud.profiles import PROFILES
from xenkiln.system.services import Service, start_service

STAND_IN = Path(__file__).with_name("stand_in.py")
WAIT_SECONDS = 60


@dataclass(frozen=True)
class Running:
    """A cloud that answers."""

    cloud: Cloud
    client: Client

    @property
    def credentials(self) -> Path:
        return self.cloud.folder / "credentials"


@contextmanager
def serve(folder: Path, profile: str, guest: str = "well", **changes: Any) -> Iterator[Running]:
    """guest: how the program behaves that stands in for the one that runs guests."""

    def begin(place: Path) -> Service:
        argv = [sys.executable, "-I", "-S", str(STAND_IN), str(place), guest]
        return start_service(argv, place, place / "output", stays=False)

    wanted = replace(PROFILES[profile], **changes)
    cloud = Cloud(folder, wanted, begin)
    server = Server(0, cloud)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        storage, compute = wanted.paths[0]
        keys = Keys(cloud.account.access, cloud.account.secret)
        signature = "1" if "1" in wanted.query_signatures else "2"
        yield Running(cloud, Client(server.port, keys, storage, compute, signature))
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        cloud.close()


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def wait_for(client: Client, instance: str, state: str) -> Reply:
    """The description of an instance that has come to a state."""
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        reply = client.ec2("DescribeInstances", {"InstanceId.1": instance})
        if reply.text("reservationSet/item/instancesSet/item/instanceState/name") == state:
            return reply
        assert time.monotonic() < deadline, reply.body
        time.sleep(0.01)
