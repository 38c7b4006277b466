"""Parts on their way to a cloud: several at the same time, none that is there already, no more in memory than that."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from xenkiln.clouds.outgoing import SendingStoppedError
from xenkiln.clouds.store import Store, Stored
from xenkiln.system.interrupts import uninterrupted

Tell = Callable[[str], None]
T = TypeVar("T")


class Uploader:
    """Sends objects to a bucket; `there` is what the cloud listed of it before.

    objects: what is at the cloud so far, as it was confirmed. total_bytes: of all that will come, 0 where nobody knows;
    it may be an estimate that becomes better.
    """

    def __init__(
        self, store: Store, bucket: str, there: Mapping[str, Stored], tell: Tell, total_bytes: int = 0
    ) -> None:
        self.objects: dict[str, Stored] = {}
        self.sent_bytes = self.kept_bytes = 0
        self._store, self._bucket, self._there, self._tell = store, bucket, there, tell
        self.total_bytes = total_bytes
        self._started = time.monotonic()
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._room = threading.BoundedSemaphore(1)
        self._running: list[Future[None]] = []
        self._stop = threading.Event()

    @contextmanager
    def open(self, parallel: int) -> Iterator[Uploader]:
        """Send with so many threads; leaves when all is there, or with the first error once nothing runs any more.

        What is on its way when an error comes still arrives; a user who interrupts it need not wait for that.
        """
        self._room = threading.BoundedSemaphore(parallel)
        with ThreadPoolExecutor(parallel + 1, "upload") as pool:
            self._pool = pool
            try:
                yield self
                self._finish()
            except BaseException as error:
                with uninterrupted():
                    if not isinstance(error, Exception):
                        self._stop.set()
                    pool.shutdown(wait=True, cancel_futures=True)
                raise

    def _finish(self) -> None:
        for future in self._running:
            future.result()

    def feed(self, work: Callable[[], T]) -> T:
        """Do what adds the objects in a thread of its own: whatever that waits for, this one can be interrupted."""
        assert self._pool is not None  # noqa: S101  # feed is used inside open
        return self._pool.submit(work).result()

    def add(self, key: str, data: bytes | memoryview, md5: str) -> None:
        """Send an object, when there is room for it; raises what went wrong with an earlier one."""
        if (found := self._there.get(key)) is not None and (found.size, found.md5) == (len(data), md5):
            with self._lock:
                self.objects[key] = found
                self.kept_bytes += len(data)
            return
        self._room.acquire()
        done = [future for future in self._running if future.done()]
        try:
            for future in done:
                future.result()
            if self._stop.is_set():
                raise SendingStoppedError
            assert self._pool is not None  # noqa: S101  # add is used inside open
            future = self._pool.submit(self._send, key, bytes(data), md5)
        except BaseException:
            self._room.release()
            raise
        self._running = [*(future for future in self._running if future not in done), future]

    def _send(self, key: str, data: bytes, md5: str) -> None:
        try:
            stored = self._store.put(self._bucket, key, data, md5, self._stop)
        finally:
            self._room.release()
        with self._lock:
            self.objects[key] = stored
            self.sent_bytes += len(data)
            self._tell(self.describe())

    def describe(self) -> str:
        """How far it is, at which rate, and how long it will still take."""
        done = self.sent_bytes + self.kept_bytes
        rate = self.sent_bytes / max(time.monotonic() - self._started, 0.001)
        words = f"{done / 1e6:.0f} MB at the cloud, {rate / 1e6:.1f} MB/s"
        if self.total_bytes > done and rate:
            words = f"{done / 1e6:.0f} of {self.total_bytes / 1e6:.0f} MB at the cloud, {rate / 1e6:.1f} MB/s"
            words += f", {(self.total_bytes - done) / rate:.0f} s left"
        return words

