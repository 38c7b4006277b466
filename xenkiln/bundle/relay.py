"""A stage of a chain in a thread of its own, which works ahead of whoever takes what it makes."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TypeVar

from xenkiln.system.interrupts import uninterrupted

Item = TypeVar("Item")


@dataclass(frozen=True)
class _End:
    """What is behind the last item."""

    error: BaseException | None = None


@contextmanager
def run_ahead(made: Generator[Item], depth: int) -> Iterator[Iterator[Item]]:
    """The same items, made in a thread; an error there is raised where they are taken.

    Up to `depth` items wait, one is in use and one is being made. When the body ends, however it does, the generator
    is closed at its next item, and its thread gone. So of two stages in a row, the one that takes must end first.
    """
    items: SimpleQueue[Item | _End] = SimpleQueue()
    room: SimpleQueue[None] = SimpleQueue()  # a semaphore, but a quicker one
    for _ in range(depth):
        room.put(None)
    over = threading.Event()

    def work() -> None:
        end = _End()
        try:
            with closing(made):
                for item in made:
                    room.get()
                    if over.is_set():
                        break
                    items.put(item)
        except BaseException as error:  # noqa: BLE001  # raised by take_items
            end = _End(error)
        items.put(end)

    def take_items() -> Iterator[Item]:
        while not isinstance(item := items.get(), _End):
            room.put(None)
            yield item
        if item.error is not None:
            raise item.error

    thread = threading.Thread(target=work, name="bundle")
    try:
        with uninterrupted():  # or it could run and nobody know of it
            thread.start()
        yield take_items()
    finally:
        with uninterrupted():
            over.set()
            room.put(None)
            if thread.ident is not None:
                thread.join()
