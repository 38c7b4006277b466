"""HTTP whose whole answer, head and framing included, comes at a pace and ends.

A socket's timeout starts again with each byte: a mirror that sends one now and then holds its reader for ever.
"""

from __future__ import annotations

import functools
import http.client
import io
import socket
import time
import urllib.request
from collections.abc import Callable
from typing import IO, Any

Check = Callable[[int, float], None]
"""Raises for so many bytes in so many seconds since the first one; called for each piece that comes."""


class _CheckedStream(io.RawIOBase):
    """What a socket receives, with each piece judged."""

    def __init__(self, stream: io.RawIOBase, check: Check) -> None:
        self.stream = stream
        self.check = check
        self.size = 0
        self.started = 0.0

    def readable(self) -> bool:
        """It is for reading."""
        return True

    def readinto(self, buffer: Any) -> int | None:
        """As the socket does."""
        count = self.stream.readinto(buffer)
        self.started = self.started or time.monotonic()
        self.size += count or 0
        self.check(self.size, time.monotonic() - self.started)
        return count

    def close(self) -> None:
        """Close the socket's own stream too."""
        self.stream.close()
        super().close()


class _CheckedResponse(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *words: Any, check: Check, **options: Any) -> None:
        super().__init__(sock, *words, **options)
        self.fp.close()
        self.fp = io.BufferedReader(_CheckedStream(sock.makefile("rb", buffering=0), check))


class _Handler(urllib.request.AbstractHTTPHandler):
    check: Check

    def do_open(self, http_class: Any, req: urllib.request.Request, **options: Any) -> http.client.HTTPResponse:
        def connect(*words: Any, **more: Any) -> http.client.HTTPConnection:
            connection: http.client.HTTPConnection = http_class(*words, **more)
            connection.response_class = functools.partial(_CheckedResponse, check=self.check)  # type: ignore[assignment]
            return connection

        return super().do_open(connect, req, **options)


class _HttpHandler(_Handler, urllib.request.HTTPHandler):
    pass


class _HttpsHandler(_Handler, urllib.request.HTTPSHandler):
    pass


class _Redirects(urllib.request.HTTPRedirectHandler):
    """An HTTP mirror leads to HTTP only: of another protocol's answers nothing is bounded."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        """The request that follows; raises ValueError where it would not be one."""
        if not newurl.lower().startswith(("http://", "https://")):
            raise ValueError(f"it leads to {newurl[:80]!r}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def open_url(url: str, timeout_seconds: float, check: Check) -> Any:
    """As urllib.request.urlopen; what `check` raises ends the answer, at any point of it."""
    handlers = (_HttpHandler(), _HttpsHandler())
    for handler in handlers:
        handler.check = check
    return urllib.request.build_opener(*handlers, _Redirects()).open(url, timeout=timeout_seconds)
