"""HTTP as hostile clients speak it: each gets an answer or is hung up on, and the next one is served."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lab_cloud.client import Client, send, sign_storage
from lab_cloud.conftest import Shared, Start
from xenkiln.lab.cloud import connection
from xenkiln.lab.cloud.cloud import LOG, Cloud


@contextmanager
def connect(client: Client) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", client.port), timeout=30) as opened:
        yield opened


def talk(client: Client, data: bytes, *, hang_up: bool = False) -> bytes:
    """Everything that comes back until the server hangs up."""
    with connect(client) as opened:
        opened.sendall(data)
        if hang_up:
            opened.shutdown(socket.SHUT_WR)
        said = b""
        while piece := opened.recv(65536):
            said += piece
        return said


def is_well(client: Client) -> bool:
    return client.ec2("DescribeAvailabilityZones").code == ""


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GARBAGE\r\n\r\n", b"400"),
        (b"GET /services/Walrus HTTP/9.9\r\n\r\n", b"505"),
        (b"GET /services/Walrus HTTP/1.x\r\n\r\n", b"400"),
        (b"BREW /services/Walrus HTTP/1.1\r\n\r\n", b"501"),
        (b"GET /" + b"a" * 70000 + b" HTTP/1.1\r\n\r\n", b"414"),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 70000 + b"\r\n\r\n", b"431"),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 200 + b"\r\n", b"431"),
        (b"PUT /services/Walrus/b HTTP/1.1\r\nContent-Length: -5\r\n\r\n", b"400"),
        (b"PUT /services/Walrus/b HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", b"400"),
        (b"PUT /services/Walrus/b HTTP/1.1\r\nContent-Length: 1e3\r\n\r\n", b"400"),
        (b"PUT /services/Walrus/b HTTP/1.1\r\nContent-Length: \xb2\r\n\r\n", b"400"),
        (b"PUT /services/Walrus/b HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", b"400"),
        (b"PUT /services/Walrus/b HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", b"400"),
        (b"GET /elsewhere HTTP/1.1\r\nConnection: close\r\n\r\n", b"404"),
        (b"GET /services/Walrusx HTTP/1.1\r\nConnection: close\r\n\r\n", b"404"),
        (b"GET /services/Eucalyptus/x HTTP/1.1\r\nConnection: close\r\n\r\n", b"404"),
        (b"GET /services/Walrus HTTP/1.1\r\nConnection: close\r\n\r\n", b"403"),
        (b"GET /services/Walrus\r\n", b"403"),
        (b"POST /services/Eucalyptus HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n", b"400"),
        (b"GET /services/Eucalyptus?%ff=%ff HTTP/1.1\r\nConnection: close\r\n\r\n", b"404"),
    ],
)
def test_what_is_no_request(shared: Shared, data: bytes, status: bytes) -> None:
    client = shared("2.0").client
    said = talk(client, data, hang_up=True)
    assert said.split(b" ")[1] == status
    assert b"Traceback" not in said
    assert is_well(client)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.lists(st.sampled_from([
    b"GET", b"PUT", b" ", b"/services/Walrus/b-1/key", b"?acl", b" HTTP/1.1", b"\r\n", b"\r\n\r\n", b"Host: x", b"\0",
    b":", b"Content-Length: ", b"5", b"Transfer-Encoding: chunked", b"Authorization: AWS a:b", b"\xff",
    b"x-amz-date: 1", b"Expect: 100-continue", b"5\r\nhello\r\n0\r\n\r\n"]), max_size=14))  # fmt: skip
def test_any_bytes_at_all(shared: Shared, data: list[bytes]) -> None:
    client = shared("4.4").client
    assert b"Traceback" not in talk(client, b"".join(data), hang_up=True)
    assert is_well(client)


def begin_upload(client: Client, body: bytes, *, name: str = "cut", length: int | None = 1000) -> bytes:
    target = f"{client.storage}/b-1/{name}"
    headers = {"Date": formatdate(usegmt=True)}
    headers["Authorization"] = sign_storage(client.keys, "PUT", target, headers)
    headers |= {"Transfer-Encoding": "chunked"} if length is None else {"Content-Length": str(length)}
    lines = "".join(f"{field}: {value}\r\n" for field, value in headers.items())
    return f"PUT {target} HTTP/1.1\r\n{lines}\r\n".encode() + body


@pytest.mark.parametrize(
    ("body", "length", "code"),
    [
        (b"x" * 999, 1000, b"IncompleteBody"),
        (b"", 1000, b"IncompleteBody"),
        (b"zz\r\n", None, b"InvalidRequest"),
        (b"-5\r\n", None, b"InvalidRequest"),
        (b"5\r\nhel", None, b"IncompleteBody"),
        (b"5\r\nhello\r\n", None, b"IncompleteBody"),
        (b"f" * 3000, None, b"IncompleteBody"),
    ],
)
def test_an_upload_that_is_cut(start: Start, body: bytes, length: int | None, code: bytes) -> None:
    running = start("2.0")
    client = running.client
    client.s3("PUT", "/b-1")
    assert code in talk(client, begin_upload(client, body, length=length), hang_up=True)
    assert list((running.cloud.folder / "objects").iterdir()) == []
    assert client.s3("GET", "/b-1/cut").code == "NoSuchKey"


def test_an_upload_that_stands_still(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection.Handler, "timeout", 0.2)
    running = start("2.0")
    client = running.client
    client.s3("PUT", "/b-1")
    assert b"RequestTimeout" in talk(client, begin_upload(client, b"x"))
    assert list((running.cloud.folder / "objects").iterdir()) == []
    assert talk(client, b"") == b""


def test_many_requests_on_one_connection(shared: Shared) -> None:
    client = shared("3.4").client
    client.s3("PUT", "/b-1")
    opened = http.client.HTTPConnection("127.0.0.1", client.port, timeout=30)
    for number in range(20):
        target = f"{client.storage}/b-1/{'there' if number % 2 else 'missing'}"
        method = "PUT" if number % 2 else "GET"
        headers = {"Date": formatdate(usegmt=True)}
        headers["Authorization"] = sign_storage(client.keys, method, target, headers)
        opened.request(method, target, b"x" * number if number % 2 else None, headers)
        response = opened.getresponse()
        response.read()
        assert response.status == (200 if number % 2 else 404)
    opened.close()


def test_a_body_that_is_waited_for_and_a_refusal_that_is_heard(shared: Shared) -> None:
    """curl's way, and the way of a client that sends at once all that nobody wants."""
    client = shared("2.0").client
    client.s3("PUT", "/b-1")
    request = begin_upload(client, b"", name="waited", length=5).replace(b"Date:", b"Expect: 100-continue\r\nDate:")
    with connect(client) as opened:
        opened.sendall(request)
        assert opened.recv(25, socket.MSG_WAITALL) == b"HTTP/1.1 100 Continue\r\n\r\n"
        opened.sendall(b"hello")
        assert opened.recv(1000).startswith(b"HTTP/1.1 200 OK")
    refused = send(client.port, "PUT", f"{client.storage}/b-1/key", {"Authorization": "AWS a:b"}, bytes(20 << 20))
    assert refused.code == "InvalidAccessKeyId"


def test_what_goes_wrong_inside_is_told_to_the_log_alone(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    running = start("2.0")
    monkeypatch.setattr(Cloud, "count_instances", lambda _: 1 // 0)
    reply = running.client.ec2("DescribeAvailabilityZones", {"ZoneName.1": "verbose"})
    assert (reply.status, reply.code) == (500, "InternalError")
    assert b"ZeroDivision" not in reply.body
    assert "ZeroDivisionError" in (running.cloud.folder / LOG).read_text()
    assert is_well(running.client)


def test_the_log_has_no_secret(start: Start) -> None:
    running = start("2.0")
    client = running.client
    client.s3("PUT", "/b-1")
    client.ec2("DescribeImages", {"ImageId.1": "emi-1"})
    client.ec2("RunInstances", UserData="c2VjcmV0", ImageId="emi-0", MinCount="1", MaxCount="1")
    client.s3("GET", "/b-1/a%0Ab%1B?Signature=s3cret")
    said = (running.cloud.folder / LOG).read_text()
    for word in (client.keys.secret, client.keys.access, "Signature", "c2VjcmV0", "s3cret", "\x1b"):
        assert word not in said
    assert "PUT /services/Walrus/b-1 200" in said
    assert "action=RunInstances code=InvalidAMIID.NotFound" in said
    assert len(said.splitlines()) == 4
