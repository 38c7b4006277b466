"""A cloud that runs in the background: started, found, and ended."""

from __future__ import annotations

import fcntl
import http.client
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xenkiln.errors import HostError
from xenkiln.lab.cloud.programs import end_module
from xenkiln.lab.places import hold_file
from xenkiln.lab.session import Lab
from xenkiln.system.services import Service, start_service

LOCK, STARTING_LOCK, STATE, PORT, OUTPUT = "cloud.lock", "starting.lock", "state.json", "port", "output"
"""cloud.lock is held by the cloud itself as long as it, or an instance of it, runs."""
MODULE = "xenkiln.lab.cloud"
START_SECONDS, STOP_SECONDS, ANSWER_SECONDS = 60, 240, 5
WAIT_SECONDS = 0.05
LAST_LINES = 8

Tell = Callable[[str], None]
_started: list[Service] = []
"""Nobody waits for them, and a Popen that is thrown away while its program runs complains."""


@dataclass(frozen=True)
class CloudState:
    """Where a cloud is, without a path, and the credentials for it."""

    profile: str
    url: str
    port: int
    eucarc: Path


def find_cloud(folder: Path, profile: str) -> CloudState | None:
    """The cloud of that profile which runs and is ready, None where there is none."""
    own = folder / profile
    try:
        state: dict[str, Any] = json.loads((own / STATE).read_text(encoding="ascii"))
        if not is_running(own):
            return None
        return CloudState(profile, str(state["url"]), int(state["port"]), own / "credentials" / "eucarc")
    except (OSError, ValueError, KeyError):
        return None


def is_running(own: Path) -> bool:
    """Whether a cloud has its state in this folder, ready or not."""
    with hold_file(own / LOCK, fcntl.LOCK_SH | fcntl.LOCK_NB) as free:
        return free is None


def start_cloud(folder: Path, profile: str, lab: Lab, tell: Tell) -> CloudState:
    """The cloud that runs, or one that is started and stays; its state lies in FOLDER/PROFILE, its guests in `lab`.

    Raises HostError with its last words where it does not come up.
    """
    own = folder.absolute() / profile
    own.mkdir(parents=True, exist_ok=True, mode=0o700)
    with hold_file(own / STARTING_LOCK, fcntl.LOCK_EX):
        if found := find_cloud(folder, profile):
            return found
        wait_for_end(own)
        tell(f"start a cloud as Eucalyptus {profile} was")
        words = [str(folder.absolute()), profile, str(lab.folder), str(lab.images), lab.modules]
        service = start_service([sys.executable, "-m", MODULE, *words], own, own / OUTPUT, stays=True)
        try:
            state = wait_until_ready(folder, profile, service)
        except BaseException:
            service.kill()
            service.wait()
            raise
        _started.append(service)
        return state


def wait_for_end(own: Path) -> None:
    """One that is just ending must have ended."""
    deadline = time.monotonic() + STOP_SECONDS
    while is_running(own):
        if time.monotonic() > deadline:
            raise HostError("a cloud is ending, and does not end", place=str(own), next_step="run `doit lab-stop`")
        time.sleep(WAIT_SECONDS)


def wait_until_ready(folder: Path, profile: str, service: Service) -> CloudState:
    """Until it answers."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        found = find_cloud(folder, profile)
        if found and answers(found):
            return found
        code = service.poll()
        if code is not None or time.monotonic() > deadline:
            said = (folder / profile / OUTPUT).read_text(encoding="utf-8", errors="replace").splitlines()[-LAST_LINES:]
            fact = f"it ended with code {code}" if code is not None else f"it was not ready within {START_SECONDS} s"
            raise HostError(f"the lab's cloud does not start: {fact}" + "".join(f"\n  | {line}" for line in said),
                            place=str(folder / profile), next_step="run it again")  # fmt: skip
        time.sleep(WAIT_SECONDS)


def answers(state: CloudState) -> bool:
    """Whether somebody speaks HTTP there."""
    connection = http.client.HTTPConnection("127.0.0.1", state.port, timeout=ANSWER_SECONDS)
    try:
        connection.request("GET", "/")
        connection.getresponse().read()
    except (OSError, http.client.HTTPException):
        return False
    else:
        return True
    finally:
        connection.close()


def stop_clouds(folder: Path) -> bool:
    """End every cloud that has its state in this folder, and its instances with it; whether there was any."""
    folders = [path for path in folder.absolute().glob("*") if path.is_dir()]
    try:
        return end_module(folders, MODULE, STOP_SECONDS)
    except TimeoutError:
        raise HostError("the lab's cloud does not end", place=str(folder),
                        next_step=f"look for a {MODULE} that runs in a folder of it, and end it") from None  # fmt: skip
