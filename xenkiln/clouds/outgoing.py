"""The body of a request on its way out: no faster than a limit allows, and no further when nobody wants it any more."""

from __future__ import annotations

import threading

from xenkiln.clouds.bandwidth import Bandwidth

SMALL_PIECE, PIECE, HASHED_BYTES = 32 << 10, 256 << 10, 1 << 20
"""botocore hashes a body in reads of 1 MiB; what is read in smaller ones is sent."""
NEVER = threading.Event()


class SendingStoppedError(BaseException):
    """Nobody wants the rest. Not an Exception: boto3 takes any of those for a failure, and tries again."""


class Outgoing:
    """A file of these bytes as boto3 reads one; a repeated request seeks back to its start."""

    def __init__(self, data: bytes, bandwidth: Bandwidth | None, stop: threading.Event = NEVER) -> None:
        self._data, self._bandwidth, self._stop = memoryview(data), bandwidth, stop
        self._position = 0

    def read(self, size: int = -1) -> memoryview:
        """The next bytes, when they may be sent; who sends gets as many at a time as suit, and not as it asks for."""
        if self._stop.is_set():
            raise SendingStoppedError
        is_sent = 0 <= size < HASHED_BYTES
        if is_sent:
            size = SMALL_PIECE if self._bandwidth else PIECE
        piece = self._data[self._position :][: size if size >= 0 else None]
        self._position += len(piece)
        if is_sent and self._bandwidth:
            self._bandwidth.wait_for(len(piece))
        return piece

    def seek(self, offset: int, whence: int = 0) -> int:
        """As of any file."""
        self._position = offset + (0, self._position, len(self._data))[whence]
        return self._position

    def tell(self) -> int:
        """As of any file."""
        return self._position
