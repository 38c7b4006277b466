"""One line about what is going on: live on a terminal, now and then elsewhere."""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PLAIN_SECONDS = 15.0

Tell = Callable[[str], None]


@contextmanager
def show_progress(title: str) -> Iterator[Tell]:
    """Yield a function that takes what is being done; nothing of it is left on a terminal at the end.

    On a pipe, and in the worker processes of `doit -n`, whose lines would overwrite each other's,
    something is said only every 15 seconds.
    """
    stream = sys.__stderr__
    if stream is not None and stream.isatty() and multiprocessing.parent_process() is None:
        with _show_live(title) as tell:
            yield tell
    else:
        yield _make_plain(title)


@contextmanager
def _show_live(title: str) -> Iterator[Tell]:
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.table import Column

    text = TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis"))
    columns = (SpinnerColumn(), text, TimeElapsedColumn())
    # No refreshing thread: commands are started by fork, and a fork beside a thread can lock up.
    with Progress(*columns, console=Console(file=sys.__stderr__), transient=True, auto_refresh=False) as progress:
        task = progress.add_task(title)

        def tell(text: str) -> None:
            progress.update(task, description=f"{title}: {text}", refresh=True)

        yield tell


def _make_plain(title: str) -> Tell:
    stream = sys.__stderr__
    started = last = time.monotonic()

    def tell(text: str) -> None:
        nonlocal last
        now = time.monotonic()
        if stream is not None and now - last >= PLAIN_SECONDS:
            last = now
            stream.write(f"{title}: {text} ({now - started:.0f} s)\n")
            stream.flush()

    return tell
