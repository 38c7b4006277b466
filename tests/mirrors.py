"""A package mirror on loopback that can be made to misbehave, and says what it was asked for."""

from __future__ import annotations

import fnmatch
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

How = Literal["missing", "unavailable", "refusing", "truncating", "lying", "stalling", "slow"]
SLOW_PIECES = 20
SLOW_PAUSE_SECONDS = 0.01


@dataclass
class Fault:
    """What goes wrong with the paths that match, `times` times (-1: always)."""

    pattern: str
    how: How
    times: int = -1


class Mirror(ThreadingHTTPServer):
    """Serves a folder; `requests` are the paths asked for, `credentials` what was shown with them, in order."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder = folder
        self.requests: list[str] = []
        self.credentials: list[str] = []
        self.faults: list[Fault] = []
        self.closing = threading.Event()

    @property
    def url(self) -> str:
        """Its address, without a slash at the end."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def misbehave(self, pattern: str, how: How, times: int = -1) -> None:
        """Let requests for paths matching a shell pattern ("*.deb") go wrong."""
        self.faults.append(Fault(pattern, how, times))

    def count_requests(self, pattern: str) -> int:
        """How often a path matching the pattern was asked for."""
        return len(fnmatch.filter(self.requests, pattern))

    def take_fault(self, path: str) -> How | None:
        """What to do wrong with this request."""
        for fault in self.faults:
            if fault.times and fnmatch.fnmatch(path, fault.pattern):
                fault.times -= 1
                return fault.how
        return None

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is no news."""


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server: Mirror

    def do_GET(self) -> None:
        path = unquote(self.path)
        self.server.requests.append(path)
        if "Authorization" in self.headers:
            self.server.credentials.append(self.headers["Authorization"])
        fault = self.server.take_fault(path)
        # Of a proxy the whole address is asked for.
        file = self.server.folder / urlsplit(path).path.lstrip("/")
        if fault == "refusing":
            self.close_connection = True
        elif fault == "unavailable":
            self._answer(503, b"busy")
        elif fault == "missing" or not file.is_file():
            self._answer(404, b"not here")
        else:
            self._send(file.read_bytes(), fault)

    def _send(self, data: bytes, fault: How | None) -> None:
        if fault == "lying":
            data = bytes([data[0] ^ 1]) + data[1:]
        if fault in ("truncating", "stalling"):
            self._answer(200, data[: len(data) // 2], length=len(data))
            self.close_connection = True
            if fault == "stalling":
                self.server.closing.wait()
        elif fault == "slow":
            self._answer(200, b"", length=len(data))
            step = max(1, len(data) // SLOW_PIECES)
            for start in range(0, len(data), step):
                self.wfile.write(data[start : start + step])
                self.server.closing.wait(SLOW_PAUSE_SECONDS)
        else:
            self._answer(200, data)

    def _answer(self, code: int, body: bytes, length: int | None = None) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name
        """Say nothing."""


@contextmanager
def serve_mirror(folder: Path) -> Iterator[Mirror]:
    """A mirror of `folder` on a free port until the end of the block."""
    with Mirror(folder) as mirror:
        thread = threading.Thread(target=mirror.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield mirror
        finally:
            mirror.closing.set()
            mirror.shutdown()
            thread.join()


@contextmanager
def hold_dead_port() -> Iterator[str]:
    """A URL that nobody answers: the port is ours, and nothing listens there."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}"
