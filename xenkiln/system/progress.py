"""One line about what is going on: rewritten on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import multiprocessing
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

TERMINAL_SECONDS = 0.1
PLAIN_SECONDS = 15.0

Tell = Callable[[str], None]


@contextmanager
def show_progress(title: str) -> Iterator[Tell]:
    """Yield a function that takes what is being done; nothing of it is left on a terminal at the end.

    On a pipe, and in the worker processes of `doit -n`, whose lines would overwrite each other's,
    something is said only every 15 seconds.
    """
    stream = sys.__stderr__
    alone = multiprocessing.parent_process() is None
    terminal = stream is not None and stream.isatty() and alone
    pause = TERMINAL_SECONDS if terminal else PLAIN_SECONDS
    started = last = time.monotonic()

    def tell(text: str) -> None:
        nonlocal last
        now = time.monotonic()
        if stream is None or now - last < pause:
            return
        last = now
        line = f"{title}: {text} ({now - started:.0f} s)"
        if terminal:
            width = shutil.get_terminal_size().columns - 1
            stream.write(f"\r\033[K{line[:width]}")
        else:
            stream.write(line + "\n")
        stream.flush()

    try:
        yield tell
    finally:
        if terminal and stream is not None:
            stream.write("\r\033[K")
            stream.flush()
