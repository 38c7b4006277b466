"""A request and its answer as the services see them, and a request's body as it comes off the wire."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.message import Message
from io import BufferedIOBase
from typing import BinaryIO
from urllib.parse import parse_qsl

from xenkiln.lab.cloud.faults import Fault, report_cut

CHUNK = 1 << 18
LONGEST_LINE = 1024
MOST_FIELDS = 1000


class Body:
    """The bytes after the headers; `length` is None for the chunked transfer of HTTP/1.1."""

    def __init__(self, stream: BufferedIOBase, length: int | None, announce: Callable[[], None]) -> None:
        self.length = length
        self.is_read = length == 0
        self._stream, self._announce = stream, announce
        self._buffer = memoryview(bytearray(CHUNK))

    def __iter__(self) -> Iterator[memoryview]:
        """The bytes in pieces; a piece is overwritten by the next one."""
        if self.is_read:
            return
        self._announce()
        if self.length is not None:
            yield from self._take(self.length)
        else:
            while size := self._read_size():
                yield from self._take(size)
                self._read_line()
            while self._read_line():
                pass
        self.is_read = True

    def _take(self, left: int) -> Iterator[memoryview]:
        while left:
            count = self._stream.readinto(self._buffer[: min(left, CHUNK)])
            if not count:
                raise report_cut()
            left -= count
            yield self._buffer[:count]

    def _read_line(self) -> bytes:
        line = self._stream.readline(LONGEST_LINE)
        if not line.endswith(b"\n"):
            raise report_cut()
        return line.strip()

    def _read_size(self) -> int:
        text = self._read_line().split(b";")[0]
        try:
            size = int(text, 16)
        except ValueError:
            size = -1
        if size < 0 or len(text) > 15:
            raise Fault("InvalidRequest", "A chunk of the body has no size.")
        return size

    def read(self, most: int) -> bytes:
        """All of it, where it is no longer than that."""
        if self.length is not None and self.length > most:
            raise Fault("MaxMessageLengthExceeded", "Your request was too big.")
        data = bytearray()
        for piece in self:
            data += piece
            if len(data) > most:
                raise Fault("MaxMessageLengthExceeded", "Your request was too big.")
        return bytes(data)


@dataclass(frozen=True)
class Request:
    """path and query are as they were sent; `number` is the request's id in answers and in the log."""

    method: str
    path: str
    query: str
    headers: Message
    body: Body
    number: str
    notes: dict[str, str] = field(default_factory=dict)
    """For the log."""

    def header(self, name: str) -> str:
        """A header that there is one of, or ""."""
        return str(self.headers.get(name, "")).strip()

    def count_head_bytes(self) -> int:
        """Of the first line and the headers."""
        first = len(f"{self.method} {self.path} HTTP/1.1\r\n\r\n") + len(self.query) + bool(self.query)
        return first + sum(len(name) + len(value) + len(": \r\n") for name, value in self.headers.items())

    def parameters(self) -> list[tuple[str, str]]:
        """The query's, in their order."""
        return split_parameters(self.query)


def split_parameters(text: str) -> list[tuple[str, str]]:
    """Of a query, or of a form."""
    try:
        return parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=MOST_FIELDS)
    except ValueError as error:  # UnicodeDecodeError is one
        raise Fault("MalformedQueryString", "The query string contains a syntax error.", 404) from error


@dataclass(frozen=True)
class Answer:
    """What goes back: a short body, or `length` bytes of an open file from `start` on; who sends it closes the file."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    file: BinaryIO | None = None
    start: int = 0
    length: int = 0
