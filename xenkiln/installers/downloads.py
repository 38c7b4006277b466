"""Files from mirrors: the next mirror when one fails, backoff, and nothing kept that is not what was promised."""

from __future__ import annotations

import hashlib
import http.client
import queue
import threading
import time
import urllib.error
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from xenkiln.installers.bounded_http import open_url
from xenkiln.system.causes import explain_os_error
from xenkiln.system.files import finish_file, open_partial, partial_path

BACKOFF_SECONDS = (1.0, 4.0)
"""Waits between the rounds over all mirrors."""
TIMEOUT_SECONDS = 30.0
SLOWEST_RATE = 1000
"""Bytes a second, after TIMEOUT_SECONDS: what dnf.conf(5) calls minrate."""
FRAMING_BYTES = 1 << 20
"""Heads and the like: with these, an answer is at most twice as long as its content."""
WORKERS = 4
CHUNK = 1 << 18
GONE = (404, 410)


@dataclass(frozen=True)
class Wanted:
    """A file to fetch: its addresses in the order to try, its size in bytes and its checksum."""

    urls: tuple[str, ...]
    target: Path
    algorithm: str
    checksum: str
    size: int


@dataclass(frozen=True)
class Failure:
    """Why a file could not be had. gone: every mirror answered, and none has it any more."""

    wanted: Wanted
    gone: bool
    reasons: tuple[str, ...]


class UnusableAnswerError(Exception):
    """What a mirror sent is not the file. final: asking this mirror again makes no sense."""

    def __init__(self, fact: str, *, gone: bool = False, final: bool = True) -> None:
        super().__init__(fact)
        self.gone = gone
        self.final = final


def join_url(base: str, location: str) -> str:
    """The address of a file that an index names relative to its own place."""
    return f"{base.rstrip('/')}/{quote(location, safe='/+~^:@=')}"


def fetch_all(wanted: Sequence[Wanted], tell: Callable[[int], None]) -> list[Failure]:
    """Fetch all, a few at a time; `tell` gets the number done. Returns what could not be had, in order.

    Raises HostError when this host cannot keep what comes, and whatever else a thread ran into.
    """
    todo: queue.SimpleQueue[Wanted] = queue.SimpleQueue()
    done: queue.SimpleQueue[Failure | Exception | None] = queue.SimpleQueue()
    for item in wanted:
        todo.put(item)
    # Daemons: an interrupted build ends at once, not when the slowest mirror has answered.
    for _ in range(min(WORKERS, len(wanted))):
        threading.Thread(target=_work_off, args=(todo, done), daemon=True).start()
    failures = []
    for count in range(1, len(wanted) + 1):
        result = done.get()
        if isinstance(result, OSError):
            raise explain_os_error(result)
        if isinstance(result, Exception):
            raise result
        if result is not None:
            failures.append(result)
        tell(count)
    return sorted(failures, key=lambda failure: str(failure.wanted.target))


def _work_off(todo: queue.SimpleQueue[Wanted], done: queue.SimpleQueue[Failure | Exception | None]) -> None:
    """A thread's work: for each file exactly one answer."""
    while True:
        try:
            item = todo.get_nowait()
        except queue.Empty:
            return
        try:
            done.put(fetch_file(item))
        except OSError as error:
            done.put(OSError(error.errno, error.strerror or str(error), error.filename or str(item.target)))
        except Exception as error:  # noqa: BLE001  # without an answer the main thread would wait for ever
            done.put(error)


def fetch_file(wanted: Wanted) -> Failure | None:
    """Fetch one file to its target, whole and checked; None when it is there."""
    urls = list(wanted.urls)
    reasons: dict[str, str] = {}
    gone: set[str] = set()
    for wait in (0.0, *BACKOFF_SECONDS):
        time.sleep(wait)
        for url in list(urls):
            try:
                _fetch_once(url, wanted)
                return None
            except UnusableAnswerError as error:
                reasons[url] = str(error)
                if error.final:
                    urls.remove(url)
                if error.gone:
                    gone.add(url)
        if not urls:
            break
    partial_path(wanted.target).unlink(missing_ok=True)
    told = tuple(f"{url}: {reason}" for url, reason in reasons.items())
    return Failure(wanted, gone == set(wanted.urls), told)


def _fetch_once(url: str, wanted: Wanted) -> None:
    digest = hashlib.new(wanted.algorithm, usedforsecurity=False)
    size = 0
    with open_partial(wanted.target) as stream:
        for data in _receive(url, wanted.size):
            stream.write(data)
            digest.update(data)
            size += len(data)
    if size != wanted.size:
        raise UnusableAnswerError(f"{size} bytes came, {wanted.size} were promised", final=size > wanted.size)
    if digest.hexdigest() != wanted.checksum:
        raise UnusableAnswerError("the checksum differs from the one its index promises")
    finish_file(wanted.target)


def _receive(url: str, promised: int) -> Iterator[bytes]:
    """What a mirror sends. Any error in here is the mirror's or the network's, none is of this host's disk."""
    size = 0

    def check(received: int, seconds: float) -> None:
        _check_pace(received, 2 * promised + FRAMING_BYTES, seconds)

    try:
        with open_url(url, TIMEOUT_SECONDS, check) as answer:
            started = time.monotonic()
            while data := answer.read1(CHUNK):
                size += len(data)
                _check_pace(size, promised, time.monotonic() - started)
                yield data
    except urllib.error.HTTPError as error:
        error.close()
        gone = error.code in GONE
        raise UnusableAnswerError(f"{error.code} {error.reason}", gone=gone, final=gone) from error
    except urllib.error.URLError as error:
        missing = isinstance(error.reason, FileNotFoundError) or "No such file" in str(error.reason)
        raise UnusableAnswerError(str(error.reason), gone=missing, final=missing) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        # A ValueError is an address that is none, to which a mirror leads.
        raise UnusableAnswerError(str(error) or type(error).__name__, final=False) from error


def _check_pace(size: int, promised: int, seconds: float) -> None:
    if size > promised:
        raise UnusableAnswerError(f"more than the promised {promised} bytes came")
    if seconds > TIMEOUT_SECONDS and size < seconds * SLOWEST_RATE:
        raise UnusableAnswerError(f"only {size} bytes came in {seconds:.0f} s", final=False)
