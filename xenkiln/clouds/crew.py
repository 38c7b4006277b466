"""Many small pieces of work done by some threads, with one that looks on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TypeVar

Item = TypeVar("Item")

LOOK_SECONDS = 1.0


def work_together(
    items: Iterable[Item], work: Callable[[Item, threading.Event], None], workers: int, look: Callable[[], None]
) -> None:
    """Give each item to `work` in one of `workers` threads; `look` is called here about once a second.

    No more items are held than there are workers. The first error ends all, and is raised here once every thread has
    come to an end; work that waits does so on the event it is given, which then is set.
    """
    waiting, lock, stop = iter(items), threading.Lock(), threading.Event()

    def take_turns() -> None:
        while not stop.is_set():
            with lock:
                try:
                    item = next(waiting)
                except StopIteration:
                    return
            work(item, stop)

    with ThreadPoolExecutor(workers) as pool:
        try:
            pending = {pool.submit(take_turns) for _ in range(workers)}
            while pending:
                done, pending = wait(pending, LOOK_SECONDS, FIRST_EXCEPTION)
                for future in done:
                    future.result()
                look()
        finally:
            stop.set()
