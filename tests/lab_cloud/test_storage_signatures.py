"""Who may speak to Walrus: each release's signatures, and what is wrong with the others."""

from __future__ import annotations

import hashlib
import http.client
import time
from collections.abc import Callable, Mapping
from email.utils import formatdate
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from lab_cloud.client import Client, Keys, derive_key, mac, send, sign_storage, sign_v4
from lab_cloud.conftest import Shared
from xenkiln.lab.cloud.profiles import PROFILES

EVERY = pytest.mark.parametrize("profile", PROFILES)


@pytest.fixture
def at(shared: Shared) -> Callable[[str], Client]:
    """Returns get(profile): a client of a shared cloud that has a bucket."""

    def get(profile: str) -> Client:
        client = shared(profile).client
        assert client.s3("PUT", "/b-1").code in ("", "BucketAlreadyOwnedByYou")
        return client

    return get


At = Callable[[str], Client]


def put(client: Client, headers: Mapping[str, str], *, keys: Keys | None = None, cut: str = "") -> str:
    """The code with which an object is refused, or ""."""
    target = f"{client.storage}/b-1/signed"
    signature = sign_storage(keys or client.keys, "PUT", target, headers, cut)
    return send(client.port, "PUT", target, {**headers, "Authorization": signature}).code


@EVERY
@pytest.mark.parametrize(
    ("date", "code"),
    [
        ({"Date": "now"}, ""),
        ({"x-amz-date": "now"}, ""),
        ({"x-amz-date": "now", "Date": "nonsense"}, ""),
        ({}, "AccessDenied"),
        ({"Date": "yesterday"}, "AccessDenied"),
    ],
)
def test_a_request_has_a_date(at: At, profile: str, date: dict[str, str], code: str) -> None:
    # Tests may be collected long before they run.
    now = formatdate(usegmt=True)
    assert put(at(profile), {name: now if text == "now" else text for name, text in date.items()}) == code


@EVERY
@pytest.mark.parametrize(
    ("shift_seconds", "code"),
    [(800, ""), (-800, ""), (1000, "RequestTimeTooSkewed"), (-1000, "RequestTimeTooSkewed")],
)
def test_clocks_agree_to_a_quarter_of_an_hour(
    at: At, profile: str, shift_seconds: int, code: str
) -> None:
    client = at(profile)
    assert put(client, {"Date": formatdate(time.time() + shift_seconds, usegmt=True)}) == code


@EVERY
@pytest.mark.parametrize(
    ("access", "secret", "code"),
    [("nobody", None, "InvalidAccessKeyId"), (None, "wrong", "SignatureDoesNotMatch"),
     (None, "", "SignatureDoesNotMatch")],
)  # fmt: skip
def test_keys_that_are_wrong(at: At, profile: str, access: str | None, secret: str | None, code: str) -> None:
    client = at(profile)
    keys = Keys(client.keys.access if access is None else access, client.keys.secret if secret is None else secret)
    assert put(client, {"Date": formatdate(usegmt=True)}, keys=keys) == code


@EVERY
def test_what_was_signed_is_what_is_sent(at: At, profile: str) -> None:
    client = at(profile)
    headers = {"Date": formatdate(usegmt=True), "Content-Type": "a/b", "x-amz-acl": "private"}
    target = f"{client.storage}/b-1/sent"
    signature = sign_storage(client.keys, "PUT", target, headers)
    assert send(client.port, "PUT", target, {**headers, "Authorization": signature}).code == ""
    for changed in ({"Content-Type": "a/c"}, {"x-amz-acl": "public-read"}, {"x-amz-other": "1"}):
        sent = {**headers, **changed, "Authorization": signature}
        assert send(client.port, "PUT", target, sent).code == "SignatureDoesNotMatch"
    sent = {**headers, "Authorization": signature}
    assert send(client.port, "PUT", f"{target}x", sent).code == "SignatureDoesNotMatch"
    assert send(client.port, "DELETE", target, sent).code == "SignatureDoesNotMatch"
    for word in ("Basic abc", "AWS", "AWS x", "AWS a:b:c", "\xff"):
        assert send(client.port, "PUT", target, {**headers, "Authorization": word}).code == "InvalidArgument"


@pytest.mark.parametrize(
    ("profile", "code"),
    [("1.4", "SignatureDoesNotMatch"), ("2.0", "SignatureDoesNotMatch"), ("3.4", ""), ("4.4", "")],
)
def test_a_path_that_is_signed_without_the_services_own(at: At, profile: str, code: str) -> None:
    client = at(profile)
    assert put(client, {"Date": formatdate(usegmt=True)}, cut=client.storage) == code


def test_4_4_is_reached_by_its_old_paths_too(at: At) -> None:
    client = at("4.4")
    target = "/services/Walrus/b-1?location"
    headers = {"Date": formatdate(usegmt=True)}
    headers["Authorization"] = sign_storage(client.keys, "GET", target, headers)
    assert send(client.port, "GET", target, headers).code == ""
    assert send(at("3.4").port, "GET", "/services/objectstorage/b-1", headers).code == "404"


@pytest.mark.parametrize("profile", ["1.4", "2.0", "3.4"])
def test_version_4_is_unknown_before_4_4(at: At, profile: str) -> None:
    assert at(profile).s3_v4("PUT", "/b-1/four").code == "InvalidArgument"


def test_version_4(at: At) -> None:
    client = at("4.4")
    assert client.s3_v4("PUT", "/b-4").code == ""
    assert client.s3_v4("PUT", "/b-1/a%20b%2Bc", b"content").code == ""
    assert client.s3_v4("PUT", "/b-1/d", b"content", payload="UNSIGNED-PAYLOAD").code == ""
    assert client.s3("GET", "/b-1/a%20b%2Bc").body == b"content"
    assert client.s3_v4("GET", "/b-1?prefix=a%20&max-keys=5").texts("Contents/Key") == ["a b+c"]
    for payload in ("STREAMING-UNSIGNED-PAYLOAD-TRAILER", "none", "A" * 64):
        assert client.s3_v4("PUT", "/b-1/e", b"content", payload=payload).code == "InvalidArgument"
    wrong = hashlib.sha256(b"other").hexdigest()
    assert client.s3_v4("PUT", "/b-1/e", b"content", payload=wrong).code == "XAmzContentSHA256Mismatch"
    assert client.s3_v4("GET", "/b-1/e").code == "NoSuchKey"
    assert client.s3_v4("GET", "/b-1", shift_seconds=-1000).code == "RequestTimeTooSkewed"


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("/anywhere/s3/", "/anywhere/ec2/", "SignatureDoesNotMatch"),
        ("/anywhere/", "/elsewhere/", "SignatureDoesNotMatch"),
        ("SignedHeaders=host;", "SignedHeaders=", "SignatureDoesNotMatch"),
        (";x-amz-date", "", "SignatureDoesNotMatch"),
        ("Signature=", "Signature=0", "IncompleteSignature"),
        ("Credential=", "Credential=X", "InvalidAccessKeyId"),
    ],
)
def test_version_4_that_is_wrong(at: At, old: str, new: str, code: str) -> None:
    client = at("4.4")
    target, empty = f"{client.storage}/b-1/four", hashlib.sha256().hexdigest()
    headers = sign_v4(client.keys, "s3", "PUT", target, {"Host": client.host, "x-amz-content-sha256": empty}, empty)
    assert old in headers["Authorization"]
    headers["Authorization"] = headers["Authorization"].replace(old, new)
    assert send(client.port, "PUT", target, headers).code == code


def make_chunks(client: Client, headers: Mapping[str, str], pieces: list[bytes]) -> bytes:
    """A body in signed chunks, as the seed signature in the headers begins it."""
    before = headers["Authorization"].rpartition("=")[2]
    scope = headers["Authorization"].partition("Credential=")[2].partition(",")[0].partition("/")[2]
    key, empty, body = derive_key(client.keys, scope), hashlib.sha256().hexdigest(), b""
    for piece in [*pieces, b""]:
        text = "\n".join(("AWS4-HMAC-SHA256-PAYLOAD", headers["x-amz-date"], scope, before, empty,
                          hashlib.sha256(piece).hexdigest()))  # fmt: skip
        before = mac(key, text).hex()
        body += f"{len(piece):x};chunk-signature={before}\r\n".encode() + piece + b"\r\n"
    return body


def put_in_chunks(client: Client, pieces: list[bytes], said: int, change: tuple[bytes, bytes] = (b"", b""),
                  name: str = "key") -> str:  # fmt: skip
    target, payload = f"{client.storage}/b-1/{name}", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
    headers = sign_v4(client.keys, "s3", "PUT", target, {
        "Host": client.host, "x-amz-content-sha256": payload, "x-amz-decoded-content-length": str(said),
        "Content-Encoding": "aws-chunked"}, payload)  # fmt: skip
    return send(client.port, "PUT", target, headers, make_chunks(client, headers, pieces).replace(*change)).code


@pytest.mark.parametrize("pieces", [[], [b"abc"], [b"\r\n" * 5000, b"x", b"0;chunk-signature="]])
def test_signed_chunks(at: At, pieces: list[bytes]) -> None:
    client = at("4.4")
    whole = b"".join(pieces)
    assert put_in_chunks(client, pieces, len(whole)) == ""
    got = client.s3("GET", "/b-1/key")
    assert (got.body, got.headers["Content-Encoding"]) == (whole, None)


@pytest.mark.parametrize(
    ("said", "change", "code"),
    [
        (6, (b"\r\ndef", b"\r\ndeg"), "SignatureDoesNotMatch"),
        (7, (b"", b""), "IncompleteBody"),
        (6, (b"3;chunk", b"4;chunk"), "InvalidRequest"),
        (6, (b"3;chunk", b"fffff;chunk"), "IncompleteBody"),
        (6, (b"chunk-signature=", b"signature="), "InvalidRequest"),
        (6, (b"0;chunk", b"\r\n0;chunk"), "InvalidRequest"),
    ],
)
def test_signed_chunks_that_are_wrong(at: At, said: int, change: tuple[bytes, bytes], code: str) -> None:
    client = at("4.4")
    assert put_in_chunks(client, [b"abc", b"def"], said, change, name="wrong") == code
    assert client.s3("GET", "/b-1/wrong").code == "NoSuchKey"


def make_boto(client: Client, signature: str) -> Any:
    return boto3.client(
        "s3", endpoint_url=f"http://{client.host}{client.storage}", region_name="eucalyptus",
        aws_access_key_id=client.keys.access, aws_secret_access_key=client.keys.secret,
        config=Config(signature_version=signature, s3={"addressing_style": "path", "payload_signing_enabled": True},
                      request_checksum_calculation="when_required", response_checksum_validation="when_required",
                      retries={"total_max_attempts": 1}),
    )  # fmt: skip


def test_boto3_with_version_4_is_understood(at: At) -> None:
    boto = make_boto(at("4.4"), "s3v4")
    boto.create_bucket(Bucket="b-boto", CreateBucketConfiguration={"LocationConstraint": "eucalyptus"})
    boto.head_bucket(Bucket="b-boto")
    made = boto.put_object(Bucket="b-boto", Key="a b", Body=b"content", ACL="aws-exec-read", Metadata={"one": "two"})
    assert made["ETag"] == f'"{hashlib.md5(b"content").hexdigest()}"'
    got = boto.get_object(Bucket="b-boto", Key="a b")
    assert (got["Body"].read(), got["Metadata"], got["ContentLength"]) == (b"content", {"one": "two"}, 7)
    assert [(each["Key"], each["Size"]) for each in boto.list_objects(Bucket="b-boto")["Contents"]] == [("a b", 7)]
    assert "b-boto" in [each["Name"] for each in boto.list_buckets()["Buckets"]]
    assert boto.get_bucket_location(Bucket="b-boto")["LocationConstraint"] == "eucalyptus"
    with pytest.raises(ClientError) as caught:
        boto.create_bucket(Bucket="b-boto", CreateBucketConfiguration={"LocationConstraint": "eucalyptus"})
    assert caught.value.response["Error"]["Code"] == "BucketAlreadyOwnedByYou"
    boto.delete_object(Bucket="b-boto", Key="a b")
    boto.delete_bucket(Bucket="b-boto")


def test_boto3s_own_first_signature_of_a_bucket_is_not_that_of_a_path(at: At) -> None:
    """It signs /bucket/ for /services/.../bucket: right for objects from 3.3 on, and for buckets never."""
    client = at("3.4")
    boto = make_boto(client, "s3")
    boto.put_object(Bucket="b-1", Key="key", Body=b"x")
    with pytest.raises(ClientError) as caught:
        boto.list_objects(Bucket="b-1")
    assert caught.value.response["Error"]["Code"] == "SignatureDoesNotMatch"


def test_a_refusal_comes_before_the_body_is_sent(at: At) -> None:
    client = at("1.4")
    connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=30)
    connection.putrequest("PUT", f"{client.storage}/b-1/key")
    for name, value in (("Content-Length", str(1 << 30)), ("Expect", "100-continue"), ("Authorization", "AWS a:b")):
        connection.putheader(name, value)
    connection.endheaders()
    response = connection.getresponse()
    assert (response.status, response.headers["Connection"]) == (403, "close")
    assert b"InvalidAccessKeyId" in response.read()
    connection.close()
