"""A strict double of a cloud's meta-data service, as EC2's first API and Eucalyptus 1.4 describe it."""

from __future__ import annotations

import base64
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal

ERROR_PAGE = b"<html><head><title>404 - Not Found</title></head><body>\n<h1>404 - Not Found</h1></body></html>\n"
KEY = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQC7vbqajDRN admin_key"

# The table of the article, as a guest of Eucalyptus 1.4 sees it.
VALUES = {
    "local-ipv4": "10.0.2.3",
    "reservation-id": "r-412F078F",
    "local-hostname": "10.0.2.3",
    "security-groups": "[default]",
    "product-codes": "not yet supported.",
    "ami-launch-index": "0",
    "public-hostname": "192.168.1.3",
    "hostname": "192.168.1.3",
    "public-ipv4": "192.168.1.3",
    "ramdisk-id": "emi-F4CB118E",
    "kernel-id": "eki-90591388",
    "ami-id": "emi-7C83135D",
    "placement/availability-zone": "cluster1",
    "ancestor-ami-ids": "none",
    "block-device-mapping": "not yet supported.",
    "ami-manifest-path": "http://cloud1.example.org:8773/services/Walrus/ubuntu804-bucket/ubuntu.8-04.img.manifest.xml",
    "instance-type": "m1.small",
    "instance-id": "i-2ECA052C",
}


@dataclass
class Cloud:
    """What is answered: path below /latest/ -> body; a number is that status with an error page for a body.

    The first request for one of `silent` gets no answer until the client has given up, one for one of `cut` half of
    it. `tokens` says what Amazon's session tokens (IMDSv2) are here: unknown, as in every Eucalyptus, possible, or
    required.
    """

    answers: dict[str, bytes | int] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    silent: set[str] = field(default_factory=set)
    cut: set[str] = field(default_factory=set)
    address: str = ""
    tokens: Literal["unknown", "possible", "required"] = "unknown"
    given: list[str] = field(default_factory=list)
    token: str = ""

    def say(self, path: str, body: str | bytes | int) -> None:
        self.answers[path] = body.encode() if isinstance(body, str) else body

    def answer(self, name: str) -> bytes | int:
        """What a path below /latest/ is; Amazon alone lists a folder that is named without its slash."""
        if name in self.answers:
            return self.answers[name]
        folder = name if name.endswith("/") or self.tokens == "unknown" else f"{name}/"
        below = {path.removeprefix(folder) for path in self.answers if path.startswith(folder)} - {""}
        names = {first + slash for first, slash, _ in (path.partition("/") for path in below)}
        return "\n".join(sorted(names)).encode() if names and folder.endswith("/") else 404

    def give_token(self, life_seconds: str | None) -> bytes | int:
        """The body for PUT /latest/api/token."""
        if self.tokens == "unknown":
            return 404
        if life_seconds is None or not life_seconds.isdigit() or not 1 <= int(life_seconds) <= 21600:
            return 400
        self.given.append(base64.urlsafe_b64encode(os.urandom(40)).decode())
        return (self.token or self.given[-1]).encode()

    def admits(self, token: str | None) -> bool:
        """Whether a GET with this token, or none, is answered; complains of one that every process could read."""
        if self.tokens == "unknown":
            return True
        if token is not None:
            self.complaints += [f"{token} is in a command line" for words in list_commands() if token.encode() in words]
        return token in self.given or (token is None and self.tokens == "possible")



def list_commands() -> Iterator[bytes]:
    """What every process of this machine was started with."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            yield path.read_bytes()
        except OSError:
            continue  # it has ended


def make_answers(values: Mapping[str, str] = VALUES, key: str = KEY) -> dict[str, bytes | int]:
    answers: dict[str, bytes | int] = {f"meta-data/{name}": value.encode() for name, value in values.items()}
    answers["meta-data/public-keys/"] = b"0=admin_key"
    answers["meta-data/public-keys/0/openssh-key"] = f"{key}\n".encode()
    return answers


@contextmanager
def run_cloud(port: int = 0, host: str = "127.0.0.1") -> Iterator[Cloud]:
    """A cloud that answers what it is told to and notes every request that the API does not allow."""
    cloud = Cloud(make_answers())

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # http.server's own name
            cloud.requests.append(self.path)
            if not self.path.startswith("/latest/") or "//" in self.path or ".." in self.path:
                cloud.complaints.append(f"GET {self.path}")
            name = self.path.removeprefix("/latest/")
            if name in cloud.silent:
                cloud.silent.remove(name)
                self.connection.recv(1)
                return
            admitted = cloud.admits(self.headers.get("X-aws-ec2-metadata-token"))
            self.send(cloud.answer(name) if admitted else 401)

        def do_PUT(self) -> None:
            cloud.requests.append(f"PUT {self.path}")
            if self.path != "/latest/api/token":
                cloud.complaints.append(f"PUT {self.path}")
            self.send(cloud.give_token(self.headers.get("X-aws-ec2-metadata-token-ttl-seconds")))

        def send(self, answer: bytes | int) -> None:
            body = ERROR_PAGE if isinstance(answer, int) else answer
            self.send_response(answer if isinstance(answer, int) else 200)
            self.send_header("Content-Type", "text/html" if isinstance(answer, int) else "text/plain")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            try:
                self.wfile.write(body[: len(body) // 2] if self.path.removeprefix("/latest/") in cloud.cut else body)
            except (BrokenPipeError, ConnectionResetError):
                return  # a client that has read enough

        def log_message(self, *_: object) -> None:
            return None

    server = ThreadingHTTPServer((host, port), Handler)
    cloud.address = f"http://{host}:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield cloud
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
