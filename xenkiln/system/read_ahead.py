"""Asking the kernel for a tree's files before the program that reads them one by one gets to them.

A tree on loop-mounted images is read through two filesystems; a single reader waits for each file in turn.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

BUDGET_BYTES = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4
"""More could push out of memory what was read and not yet used."""


@contextmanager
def read_ahead(tree: Path) -> Iterator[None]:
    """While the block runs, have the regular files below `tree` read into memory; it holds none open afterwards."""
    over = threading.Event()
    thread = threading.Thread(target=_ask_for_files, args=(tree, over), name="read ahead")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _ask_for_files(folder: Path, over: threading.Event) -> None:
    left = BUDGET_BYTES
    for entry in _list_files(folder):
        if over.is_set() or left <= 0:
            return
        # What cannot be read ahead is for the program itself to speak of.
        with suppress(OSError):
            descriptor = os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_WILLNEED)
                left -= entry.stat(follow_symlinks=False).st_blocks * 512
            finally:
                os.close(descriptor)


def _list_files(top: Path) -> Iterator[os.DirEntry[str]]:
    """In the order in which a reader that goes down into each folder at once comes to them."""
    waiting = _list_folder(top)
    while waiting:
        entry = waiting.pop()
        if entry.is_dir(follow_symlinks=False):
            waiting += _list_folder(entry.path)
        elif entry.is_file(follow_symlinks=False):
            yield entry


def _list_folder(folder: Path | str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)[::-1]
    except OSError:
        return []
