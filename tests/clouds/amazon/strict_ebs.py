"""The EBS direct APIs as the reference has them (version 2019-11-02), strict, with faults on demand.

Written from the reference alone: it shares no code with the client. Snapshots and images as EC2 shows them are in
strict_ec2.py, over the same state.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from clouds.amazon import strict_ec2
from clouds.amazon.strict_ec2 import Image, Snapshot

BLOCK = 524288
BLOCKS_IN_GIB = 2048
PAGE = 100

Fault = str
"""refusals: throttled 500 503 slow-line conflicting unknown; connections: cut (while the body comes), lost (after the
request was applied)."""

SIGNED = """The signature does not match.

The Canonical String for this request should have been
'POST
/snapshots

x-amz-security-token:hush'
"""
REFUSALS = {
    "throttled": (400, "RequestThrottledException", "RESOURCE_LEVEL_THROTTLE", "too many requests"),
    "500": (500, "InternalServerException", "", "an internal error"),
    "503": (503, "ServiceUnavailable", "", "unavailable"),
    "slow-line": (400, "ValidationException", "INVALID_PARAMETER_VALUE", "Failed to read block data"),
    "conflicting": (400, "ValidationException", "CONFLICTING_BLOCK_UPDATE", "another request writes this block"),
    "unknown": (404, "ResourceNotFoundException", "SNAPSHOT_NOT_FOUND", "the snapshot does not exist"),
    "signature": (403, "InvalidSignatureException", "", SIGNED),
    "denied": (403, "AccessDeniedException", "UNAUTHORIZED_ACCOUNT", "not allowed"),
}  # fmt: skip


class RefusalError(Exception):
    def __init__(self, kind: str, reason: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.answer = (status, kind, reason, message)


def demand(is_so: object, message: str, reason: str = "INVALID_PARAMETER_VALUE") -> None:
    if not is_so:
        raise RefusalError("ValidationException", reason, message)


@dataclass
class StrictAmazon:
    """What the service knows; `choose_fault` is asked before every request with its operation and how many came."""

    snapshots: dict[str, Snapshot] = field(default_factory=dict)
    images: dict[str, Image] = field(default_factory=dict)
    instances: dict[str, tuple[str, str]] = field(default_factory=dict)
    requests: list[tuple[str, Any]] = field(default_factory=list)
    choose_fault: Callable[[str, int], Fault | None] = lambda _operation, _count: None
    looks_until_completed: int = 2
    takes_tags_with_image: bool = True
    endpoint: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, operation: str) -> int:
        return len(self.list_details(operation))

    def list_details(self, operation: str) -> list[Any]:
        return [detail for name, detail in self.requests if name == operation]


def start_snapshot(amazon: StrictAmazon, body: bytes) -> tuple[int, dict[str, Any]]:
    request = json.loads(body)
    known = {"VolumeSize", "Description", "ClientToken", "Tags", "Timeout"}
    demand(set(request) <= known, f"unknown fields: {set(request) - known}")
    demand(isinstance(request["VolumeSize"], int) and 1 <= request["VolumeSize"] <= 65536, "volume size",
           "INVALID_VOLUME_SIZE")  # fmt: skip
    demand(len(request.get("Description", "")) <= 255, "description")
    demand(10 <= request.get("Timeout", 60) <= 4320, "timeout")
    token = request["ClientToken"]
    demand(re.fullmatch(r"[!-~]{1,64}", token), "client token")
    tags = {tag["Key"]: tag["Value"] for tag in request.get("Tags", [])}
    demand(len(tags) == len(request.get("Tags", [])) <= 50, "tags", "INVALID_TAG")
    for snapshot in amazon.snapshots.values():
        if snapshot.request.get("ClientToken") == token:
            if snapshot.request != request:
                raise RefusalError("ConflictException", "", "the token was used with another request", 409)
            break
    else:
        snapshot = Snapshot(f"snap-{amazon.count('StartSnapshot'):017x}", request, tags)
        amazon.snapshots[snapshot.id] = snapshot
    return 201, {"SnapshotId": snapshot.id, "BlockSize": BLOCK, "Status": "pending",
                 "VolumeSize": request["VolumeSize"], "OwnerId": "000100000001"}  # fmt: skip


def find_snapshot(amazon: StrictAmazon, snapshot_id: str, state: str) -> Snapshot:
    snapshot = amazon.snapshots.get(snapshot_id)
    if snapshot is None:
        raise RefusalError("ResourceNotFoundException", "SNAPSHOT_NOT_FOUND", f"{snapshot_id} does not exist", 404)
    demand(snapshot.state == state, f"{snapshot_id} is {snapshot.state}, not {state}", "INVALID_SNAPSHOT_ID")
    return snapshot


def put_block(amazon: StrictAmazon, snapshot_id: str, index: int, headers: Any, body: bytes) -> tuple[int, Any]:
    snapshot = find_snapshot(amazon, snapshot_id, "pending")
    demand(index < snapshot.request["VolumeSize"] * BLOCKS_IN_GIB, f"no block {index} in the volume", "INVALID_BLOCK")
    demand(headers["x-amz-Data-Length"] == str(BLOCK), "x-amz-Data-Length")
    demand(len(body) == BLOCK, f"the block has {len(body)} bytes")
    demand(headers["x-amz-Checksum-Algorithm"] == "SHA256", "x-amz-Checksum-Algorithm")
    signed = headers["Authorization"].split("SignedHeaders=")[1].split(",")[0].split(";")
    demand("x-amz-checksum" in signed, "x-amz-Checksum is not signed")
    made = base64.b64encode(hashlib.sha256(body).digest()).decode()
    demand(headers["x-amz-Checksum"] == made, "the checksum is not that of the data")
    snapshot.blocks[index] = body
    return 201, {}


def complete_snapshot(amazon: StrictAmazon, snapshot_id: str, headers: Any) -> tuple[int, Any]:
    snapshot = find_snapshot(amazon, snapshot_id, "pending")
    demand(not snapshot.is_sealed, "the snapshot is being completed", "INVALID_SNAPSHOT_ID")
    demand(headers["x-amz-ChangedBlocksCount"] == str(len(snapshot.blocks)), "x-amz-ChangedBlocksCount")
    demand(headers["x-amz-Checksum-Algorithm"] == "SHA256", "x-amz-Checksum-Algorithm")
    demand(headers["x-amz-Checksum-Aggregation-Method"] == "LINEAR", "x-amz-Checksum-Aggregation-Method")
    linear = hashlib.sha256()
    for _, block in sorted(snapshot.blocks.items()):
        linear.update(hashlib.sha256(block).digest())
    demand(headers["x-amz-Checksum"] == base64.b64encode(linear.digest()).decode(), "the aggregated checksum")
    snapshot.is_sealed = True
    snapshot.looks_left = amazon.looks_until_completed
    return 202, {"Status": "pending"}


def list_blocks(amazon: StrictAmazon, snapshot_id: str, query: dict[str, str]) -> tuple[int, Any]:
    snapshot = find_snapshot(amazon, snapshot_id, "completed")
    start = int(base64.b64decode(query["pageToken"])) if "pageToken" in query else 0
    indexes = [index for index in sorted(snapshot.blocks) if index >= start]
    answer: dict[str, Any] = {"BlockSize": BLOCK, "VolumeSize": snapshot.request["VolumeSize"]}
    answer["Blocks"] = [{"BlockIndex": index, "BlockToken": make_token(snapshot_id, index)} for index in indexes[:PAGE]]
    if len(indexes) > PAGE:
        answer["NextToken"] = base64.b64encode(str(indexes[PAGE]).encode()).decode()
    return 200, answer


def make_token(snapshot_id: str, index: int) -> str:
    return base64.b64encode(f"{snapshot_id}/{index}".encode()).decode()


def get_block(amazon: StrictAmazon, snapshot_id: str, index: int, query: dict[str, str]) -> tuple[int, bytes]:
    snapshot = find_snapshot(amazon, snapshot_id, "completed")
    demand(query.get("blockToken") == make_token(snapshot_id, index), "block token", "INVALID_BLOCK_TOKEN")
    return 200, snapshot.blocks[index]


OPERATIONS = (
    ("StartSnapshot", "POST", r"/snapshots"),
    ("CompleteSnapshot", "POST", r"/snapshots/completion/(snap-[0-9a-f]+)"),
    ("PutSnapshotBlock", "PUT", r"/snapshots/(snap-[0-9a-f]+)/blocks/([0-9]+)"),
    ("GetSnapshotBlock", "GET", r"/snapshots/(snap-[0-9a-f]+)/blocks/([0-9]+)"),
    ("ListSnapshotBlocks", "GET", r"/snapshots/(snap-[0-9a-f]+)/blocks"),
)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    amazon: StrictAmazon

    def log_message(self, *_: object) -> None:
        pass

    def do_any(self) -> None:
        amazon, path = self.amazon, urlsplit(self.path).path
        self.query = {key: values[0] for key, values in parse_qs(urlsplit(self.path).query).items()}
        length = int(self.headers.get("Content-Length", 0))
        operation, arguments = self.find_operation(path)
        service = "ebs" if operation else "ec2"
        if not operation:
            self.body = self.rfile.read(length)
            form = {key: values[0] for key, values in parse_qs(self.body.decode()).items()}
            operation = form["Action"]
        with amazon.lock:
            fault = amazon.choose_fault(operation, amazon.count(operation))
            amazon.requests.append((operation, arguments if service == "ebs" else form))
        if service == "ebs":
            self.body = self.rfile.read(length // 2 if fault == "cut" else length)
        assert f"/{service}/aws4_request" in self.headers["Authorization"]
        if fault == "cut":
            self.hang_up()
        elif fault in REFUSALS:
            self.answer(service, *refuse(service, *REFUSALS[fault]))
        else:
            with amazon.lock:
                answer = self.apply(operation, arguments) if service == "ebs" else strict_ec2.apply(amazon, form)
            if fault == "lost":
                self.hang_up()
            else:
                self.answer(service, *answer)

    do_GET = do_POST = do_PUT = do_any  # noqa: N815  # http.server's names

    def find_operation(self, path: str) -> tuple[str, tuple[str, ...]]:
        for name, method, pattern in OPERATIONS:
            match = re.fullmatch(pattern, path)
            if match and method == self.command:
                return name, match.groups()
        return "", ()

    def apply(self, operation: str, arguments: tuple[str, ...]) -> tuple[int, dict[str, str], bytes]:
        amazon, query = self.amazon, self.query
        calls: dict[str, Callable[..., tuple[int, Any]]] = {
            "StartSnapshot": lambda: start_snapshot(amazon, self.body),
            "CompleteSnapshot": lambda snapshot: complete_snapshot(amazon, snapshot, self.headers),
            "PutSnapshotBlock": lambda snapshot, index: put_block(amazon, snapshot, int(index), self.headers,
                                                                  self.body),
            "GetSnapshotBlock": lambda snapshot, index: get_block(amazon, snapshot, int(index), query),
            "ListSnapshotBlocks": lambda snapshot: list_blocks(amazon, snapshot, query),
        }  # fmt: skip
        try:
            status, answer = calls[operation](*arguments)
        except RefusalError as refusal:
            return refuse("ebs", *refusal.answer)
        if isinstance(answer, bytes):
            checksum = base64.b64encode(hashlib.sha256(answer).digest()).decode()
            sums = {"x-amz-Checksum": checksum, "x-amz-Checksum-Algorithm": "SHA256"}
            return status, {"x-amz-Data-Length": str(BLOCK)} | sums, answer
        return status, {}, json.dumps(answer).encode()

    def answer(self, service: str, status: int, headers: dict[str, str], body: bytes) -> None:
        kind = {"ebs": "application/json", "ec2": "text/xml"}[service]
        self.send_response(status)
        for name, value in ({"Content-Type": kind, "Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def hang_up(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)


def refuse(service: str, status: int, kind: str, reason: str, message: str) -> tuple[int, dict[str, str], bytes]:
    if service == "ec2":
        return strict_ec2.refuse(status, kind, message)
    body = {"Message": message} | ({"Reason": reason} if reason else {})
    return status, {"x-amzn-ErrorType": kind}, json.dumps(body).encode()


@contextmanager
def serve() -> Iterator[Callable[[], StrictAmazon]]:
    """A server, and how to make it begin anew."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True

    def begin() -> StrictAmazon:
        Handler.amazon = StrictAmazon(endpoint=f"http://127.0.0.1:{server.server_port}")
        return Handler.amazon

    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield begin
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
