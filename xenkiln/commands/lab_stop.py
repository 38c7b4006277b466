"""lab_stop: end the lab's clouds with their instances, then the Xen host that `doit lab` left running."""

from __future__ import annotations

import time

from xenkiln.commands.boot import describe_lab
from xenkiln.errors import HostError
from xenkiln.lab.cloud.control import stop_clouds
from xenkiln.lab.session import stop_lab
from xenkiln.publishing.opening import cloud_folder

HOST_SECONDS, WAIT_SECONDS = 30.0, 0.5


def run() -> None:
    """End them; what is published at the clouds stays for the next time, of the host nothing does."""
    patience_seconds = 0.0
    if stop_clouds(cloud_folder()):
        print("the lab's cloud has ended; what was published there is kept")
        patience_seconds = HOST_SECONDS
    print("the lab's Xen host has ended" if stop_host(patience_seconds) else "no Xen host of the lab is running")


def stop_host(patience_seconds: float) -> bool:
    """End the host, whose last guests may have gone just now; whether there was any."""
    deadline = time.monotonic() + patience_seconds
    while True:
        try:
            return stop_lab(describe_lab())
        except HostError:
            if time.monotonic() > deadline:
                raise
            time.sleep(WAIT_SECONDS)
