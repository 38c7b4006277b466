"""HTTP/1.1 as a server: whatever comes in gets an answer or is hung up on, and nothing ends the server."""

from __future__ import annotations

import socket
import socketserver
import time
import traceback
import uuid
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Protocol

from xenkiln.lab.cloud.faults import Fault
from xenkiln.lab.cloud.request import CHUNK, Answer, Body, Request

LOOPBACK = "127.0.0.1"
IDLE_SECONDS = 60
LINGER_SECONDS = 2
LINGER_BYTES = 64 << 20
"""A refused upload is read on for a while: closing at once would take the refusal away from the client."""


class Service(Protocol):
    """What answers requests."""

    def answer(self, request: Request) -> Answer:
        """The answer, faults included."""

    def write_fault(self, request: Request, fault: Fault) -> Answer:
        """A refusal in the form of the service that the request is for."""

    def note(self, line: str) -> None:
        """Write a line of the log."""


class Server(ThreadingHTTPServer):
    """Listens on loopback, and nowhere else; port 0 is any free one."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, service: Service) -> None:
        self.service = service
        super().__init__((LOOPBACK, port), Handler)

    def server_bind(self) -> None:
        """Without the library's looking up the host's name, which may take its time."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = LOOPBACK, self.port

    @property
    def port(self) -> int:
        """The one it has got."""
        return int(self.server_address[1])

    def handle_error(self, *_: object) -> None:
        """Somebody hung up, mostly; it is written down, and never told."""
        self.service.note(f"! a connection failed\n{traceback.format_exc()}")


class Handler(BaseHTTPRequestHandler):
    """One connection, with one request after the other."""

    server: Server
    protocol_version = default_request_version = "HTTP/1.1"
    server_version = "Walrus"
    sys_version = ""
    timeout = IDLE_SECONDS
    disable_nagle_algorithm = True
    wbufsize = -1
    _is_expected = False

    def handle(self) -> None:
        """Serve until either side has had enough."""
        with suppress(ConnectionError, TimeoutError):
            super().handle()

    def handle_expect_100(self) -> bool:
        """The body is asked for when it is wanted: a refusal spares the client sending it."""
        self._is_expected = True
        return True

    def _announce(self) -> None:
        if self._is_expected:
            self._is_expected = False
            self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.wfile.flush()

    def do_GET(self) -> None:  # the library's way to name methods
        """Any method."""
        started = time.monotonic()
        path, _, query = self.path.partition("?")
        request = Request(self.command, path, query, self.headers, Body(self.rfile, None, self._announce),
                          str(uuid.uuid4()))  # fmt: skip
        try:
            request = Request(self.command, path, query, self.headers, self._find_body(), request.number)
            answer = self._ask(request)
        except Fault as fault:
            answer = self.server.service.write_fault(request, fault)
        self._is_expected = False
        self.close_connection |= not request.body.is_read
        told = " ".join(f"{name}={ascii(value)[1:-1]}" for name, value in request.notes.items())
        seconds = round(time.monotonic() - started, 3)
        self.server.service.note(
            f"{request.number} {self.command} {ascii(path)[1:-1]} {answer.status} {seconds} s {told}")
        self._send(request, answer)
        if not request.body.is_read:
            self._linger()

    do_HEAD = do_PUT = do_POST = do_DELETE = do_GET  # noqa: N815

    def _ask(self, request: Request) -> Answer:
        try:
            return self.server.service.answer(request)
        except TimeoutError:
            return self.server.service.write_fault(request, Fault("RequestTimeout", "The body did not come in time."))
        except ConnectionError:
            raise
        except Exception:  # noqa: BLE001  # whatever it is, the next request must be served
            self.server.service.note(f"! {request.number} failed\n{traceback.format_exc()}")
            fault = Fault("InternalError", "An internal error has occurred.", 500)
            return self.server.service.write_fault(request, fault)

    def _find_body(self) -> Body:
        lengths = self.headers.get_all("Content-Length", [])
        coding = self.headers.get("Transfer-Encoding", "").strip().lower()
        if coding:
            if lengths or coding != "chunked":
                raise Fault("InvalidRequest", "A body is either chunked or has a length.")
            return Body(self.rfile, None, self._announce)
        text = lengths[0].strip() if lengths else "0"
        if len(lengths) > 1 or not (text.isascii() and text.isdigit()) or len(text) > 15:
            raise Fault("InvalidRequest", "The Content-Length is no number.")
        return Body(self.rfile, int(text), self._announce)

    def _send(self, request: Request, answer: Answer) -> None:
        length = len(answer.body) if answer.file is None else answer.length
        try:
            self.send_response_only(answer.status)
            headers = {"Server": self.server_version, "Date": self.date_time_string(),
                       "x-amz-request-id": request.number, **answer.headers}  # fmt: skip
            if answer.status != HTTPStatus.NO_CONTENT:
                headers.setdefault("Content-Length", str(length))
            if self.close_connection:
                headers["Connection"] = "close"
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.body)
            self.wfile.flush()
            if answer.file is not None and answer.length and self.command != "HEAD":
                sent = self.connection.sendfile(answer.file, answer.start, answer.length)
                self.close_connection |= sent != answer.length
        finally:
            if answer.file is not None:
                answer.file.close()

    def _linger(self) -> None:
        """Read on until the client has taken the answer and hung up."""
        deadline, left = time.monotonic() + LINGER_SECONDS, LINGER_BYTES
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            self.connection.settimeout(LINGER_SECONDS)
            while left > 0 and time.monotonic() < deadline:
                data = self.connection.recv(CHUNK)
                if not data:
                    return
                left -= len(data)

    def send_error(self, code: int, message: str | None = None, *_: object, **__: object) -> None:
        """What the library itself refuses: a broken first line, too many headers, an unknown method."""
        number = str(uuid.uuid4())
        body = f"{code} {HTTPStatus(code).phrase}\n".encode()
        self.close_connection = True
        with suppress(OSError):
            self.send_response_only(code)
            for name, value in (("Content-Type", "text/plain"), ("Content-Length", str(len(body))),
                                ("x-amz-request-id", number), ("Connection", "close")):  # fmt: skip
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)
            self.wfile.flush()
        self.server.service.note(f"{number} refused: {code} {ascii(message or '')[1:-1]}")
        self._linger()

    def log_message(self, *_: object) -> None:
        """The library's own log would hold queries, and in them signatures."""
