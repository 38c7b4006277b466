"""The instances' programs: started, watched and ended by one thread that lives as long as the cloud.

The kernel ends a program with the thread that has started it, so what runs here ends with the cloud, be it killed.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from xenkiln.errors import XenkilnError
from xenkiln.lab.cloud.addresses import free_addresses
from xenkiln.lab.cloud.faults import Fault
from xenkiln.lab.cloud.instance_files import INSTANCES, LIVE, clear_folder, end_leftover, read_status, write_spec
from xenkiln.lab.cloud.tags import TAGS, read_tags, write_tags
from xenkiln.system.files import remove_path
from xenkiln.system.services import Service

if TYPE_CHECKING:
    from xenkiln.lab.cloud.cloud import Cloud

POLL_SECONDS = 0.05
STOP_SECONDS = 200
"""For a guest to end: under emulation all takes its time."""
KEPT_SECONDS = 3600
"""How long a terminated instance is still listed, and its console kept."""
SSH_TAG = "ssh"
ASKED = "Client.UserInitiatedShutdown: the user asked for it"
STOPPED = "Server.ScheduledStop: the cloud was stopped"
KILLED = "Server.InternalError: the cloud was killed, and the instance with it"

Program = Callable[[Path], Service]
"""Starts the guest that is described in an instance's folder, which ends with us."""


@dataclass
class Guest:
    """A program that runs; deadline: when it is killed, None while nobody has asked it to end."""

    process: Service
    folder: Path
    deadline: float | None = None
    reason: str = ""


class Keeper:
    """Changes the state of every instance; whoever else wants to asks it."""

    def __init__(self, cloud: Cloud, program: Program) -> None:
        self._cloud, self._program = cloud, program
        self._folder = cloud.folder / "instances"
        self._folder.mkdir(exist_ok=True, mode=0o700)
        self._guests: dict[str, Guest] = {}
        self._jobs: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._pool = ThreadPoolExecutor(2, thread_name_prefix="assembly")
        self._is_closing = False
        self._recover()
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)
        self._thread.start()

    def _recover(self) -> None:
        for record in self._cloud.index.list_all(INSTANCES):
            if record["state"] in LIVE:
                end_leftover(self._folder / record["id"])
                self._finish(record["id"], KILLED)
        for path in self._folder.iterdir():
            if self._cloud.index.find(INSTANCES, path.name) is None:
                remove_path(path)

    def folder_of(self, instance_id: str) -> Path:
        """Where everything of an instance lies."""
        return self._folder / instance_id

    def launch(self, instance_id: str) -> None:
        """Put its images together, then start its program; returns at once."""
        future = self._pool.submit(self._prepare, instance_id)
        future.add_done_callback(lambda done: self._jobs.put(lambda: self._start(instance_id, done)))

    def end(self, instance_id: str) -> None:
        """Have it end; its record says already that it does."""
        self._jobs.put(lambda: self._stop(instance_id, ASKED))

    def purge(self) -> None:
        """Forget what ended long ago."""
        for record in self._cloud.index.list_all(INSTANCES):
            if record["state"] == "terminated" and record["ended"] < time.time() - KEPT_SECONDS:
                for kind in (INSTANCES, TAGS):
                    self._cloud.index.remove(kind, record["id"])
                remove_path(self._folder / record["id"])

    def close(self) -> None:
        """End every instance, and wait for that."""
        self._jobs.put(self._begin_closing)
        self._thread.join()
        self._pool.shutdown(cancel_futures=True)

    def _begin_closing(self) -> None:
        self._is_closing = True
        for record in self._cloud.index.list_all(INSTANCES):
            if record["id"] in self._guests:
                self._stop(record["id"], STOPPED)
            elif record["state"] in LIVE:
                self._finish(record["id"], STOPPED)

    def _run(self) -> None:
        while not self._is_closing or self._guests:
            with suppress(Empty):
                self._attempt(self._jobs.get(timeout=POLL_SECONDS))
            for instance_id in list(self._guests):
                self._attempt(lambda instance_id=instance_id: self._look(instance_id))  # type: ignore[misc]

    def _attempt(self, job: Callable[[], None]) -> None:
        try:
            job()
        except Exception:  # noqa: BLE001  # the other instances must be looked after
            self._cloud.note(f"! an instance's job failed\n{traceback.format_exc()}")

    def _prepare(self, instance_id: str) -> dict[str, Any]:
        """The instance's files: what it boots from, as spec.json has it."""
        record = self._cloud.index.find(INSTANCES, instance_id)
        assert record is not None  # noqa: S101  # it is removed long after it has ended
        return {kind: str(self._cloud.images.obtain(record["images"][kind])) if record["images"][kind] else None
                for kind in ("kernel", "ramdisk", "machine")}  # fmt: skip

    def _start(self, instance_id: str, prepared: Future[dict[str, Any]]) -> None:
        record = self._cloud.index.find(INSTANCES, instance_id)
        if record is None or record["state"] != "pending" or self._is_closing:
            self._finish(instance_id, ASKED)
            return
        folder = self._folder / instance_id
        try:
            write_spec(self._cloud, folder, record, prepared.result())
            self._guests[instance_id] = Guest(self._program(folder), folder)
        except Fault as fault:
            self._finish(instance_id, f"Server.InvalidImage: {fault.message}")
        except (XenkilnError, OSError) as error:
            self._cloud.note(f"! {instance_id} does not start\n{traceback.format_exc()}")
            self._finish(instance_id, f"Server.InternalError: {' '.join(str(error).split())}")

    def _look(self, instance_id: str) -> None:
        guest = self._guests[instance_id]
        has_ended = guest.process.poll() is not None
        status = read_status(guest.folder)
        if has_ended:
            del self._guests[instance_id]
            self._finish(instance_id, guest.reason or explain_end(status, guest.process.returncode))
            return
        if guest.deadline is not None:
            if time.monotonic() > guest.deadline:
                guest.process.kill()
        elif status.get("state") == "running":
            self._show_running(instance_id, status)
        elif status.get("state") in ("ended", "failed"):
            guest.deadline = time.monotonic() + STOP_SECONDS

    def _show_running(self, instance_id: str, status: dict[str, Any]) -> None:
        index = self._cloud.index
        with index.changing():
            record = index.find(INSTANCES, instance_id)
            seen = {"state": "running", "address": str(status.get("address") or ""), "ssh_port": status.get("ssh_port")}
            if record is None or record["state"] not in ("pending", "running") or record | seen == record:
                return
            index.update(INSTANCES, instance_id, **seen)
            if seen["ssh_port"] and self._cloud.profile.has_tags:
                tags = read_tags(index, instance_id) | {SSH_TAG: f"127.0.0.1:{seen['ssh_port']}"}
                write_tags(index, instance_id, tags)

    def _stop(self, instance_id: str, reason: str) -> None:
        guest = self._guests.get(instance_id)
        if guest is not None and guest.deadline is None:
            guest.process.terminate()
            guest.deadline, guest.reason = time.monotonic() + STOP_SECONDS, reason

    def _finish(self, instance_id: str, reason: str) -> None:
        clear_folder(self._folder / instance_id)
        with self._cloud.index.changing():
            self._cloud.index.update(INSTANCES, instance_id, state="terminated", reason=reason, ended=time.time(),
                                     ssh_port=None)  # fmt: skip
            free_addresses(self._cloud.index, instance_id)
        self._cloud.note(f"{instance_id} terminated: {ascii(reason)[1:-1]}")
        self._cloud.images.drop_unused()


def explain_end(status: dict[str, Any], code: int) -> str:
    """Why an instance has ended that nobody has asked to, in one line."""
    told = " ".join(str(status.get("reason") or f"its program ended with {code}").split())
    kind = "Client.InstanceInitiatedShutdown" if status.get("state") == "ended" else "Server.InternalError"
    return f"{kind}: {told}"
