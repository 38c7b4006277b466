"""A queue between a run and its worker processes that notices when one of them was killed.

multiprocessing's own waits for ever for what a dead process will not send.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from multiprocessing.queues import Queue
from typing import Any, ClassVar

from xenkiln.errors import HostError

BEGINS = "execute_task"
"""The reporter's method that doit's worker calls first; what it sends then names the task."""


class WatchedQueue(Queue):  # type: ignore[type-arg]  # it is generic for the type checker only
    """Messages are dictionaries with the task's `name`; each also says which process put it."""

    failure: ClassVar[type[Exception]] = HostError
    """What is raised, in the main process, for a worker that was killed."""

    def __init__(self) -> None:
        super().__init__(ctx=multiprocessing.get_context())
        self.workers: dict[int, BaseProcess] = {}
        self.tasks: dict[int, str] = {}

    def put(self, obj: Any, block: bool = True, timeout: float | None = None) -> None:
        """As Queue.put."""
        super().put(obj | {"process": os.getpid()} if isinstance(obj, dict) else obj, block, timeout)

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """As Queue.get; in the main process raises `failure` when a worker is dead and all that it sent was read."""
        if multiprocessing.parent_process() is None:
            self._wait_for_message()
        message = super().get(block, timeout)
        if isinstance(message, dict):
            if message.get("reporter") == BEGINS:
                self.tasks[message["process"]] = message["name"]
            elif "task" in message:
                self.tasks.pop(message["process"], None)
        return message

    def _wait_for_message(self) -> None:
        reader: Any = self._reader  # type: ignore[attr-defined]  # the documented way has no waiting on two things
        while True:
            self.workers |= {worker.sentinel: worker for worker in multiprocessing.active_children()}
            ready = wait([reader, *self.workers], None if self.workers else 0)
            if reader in ready:
                return
            if not ready:
                raise self.failure(describe_end(None, ""))
            for sentinel in ready:
                worker = self.workers.pop(sentinel)  # type: ignore[arg-type]  # a worker's, not the reader
                worker.join()
                # A worker that ends by itself has told why.
                if worker.exitcode:
                    raise self.failure(describe_end(worker.exitcode, self.tasks.get(worker.pid or 0, "")))


def describe_end(code: int | None, task: str) -> str:
    """How a worker ended, by its exit code as multiprocessing gives it, and in which task where that is known."""
    ending = "is gone" if code is None else f"ended with {code}"
    if code is not None and code < 0:
        ending = f"was killed by {signal.Signals(-code).name}"
    if code == -signal.SIGKILL:
        ending += ", as the kernel does where memory runs out"
    return str(HostError(f"the process that {'did this' if task else 'was to work for this run'} {ending}", place=task,
                         next_step="run it again: it goes on from the last finished step"))  # fmt: skip
