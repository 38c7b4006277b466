"""A limit on what all uploads together send a second."""

from __future__ import annotations

import threading
import time


class Bandwidth:
    """Hands out time to senders, so that together they stay below a rate in bytes a second."""

    def __init__(self, bytes_a_second: int) -> None:
        self._rate = bytes_a_second
        self._lock = threading.Lock()
        self._free_at = 0.0

    def wait_for(self, count: int) -> None:
        """Return once so many bytes may be sent."""
        with self._lock:
            now = time.monotonic()
            self._free_at = max(self._free_at, now) + count / self._rate
            wait = self._free_at - now
        time.sleep(wait)
