"""Walrus in each release: buckets, objects, and what it does not take."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab_cloud.client import send
from lab_cloud.conftest import Shared, Start
from lab_cloud.running import Running, serve
from xenkiln.lab.cloud.objects import CLOUDS_OWN
from xenkiln.lab.cloud.profiles import PROFILES

EVERY = pytest.mark.parametrize("profile", PROFILES)
DATA = bytes(range(256)) * 5000


def list_files(running: Running) -> list[Path]:
    return list((running.cloud.folder / "objects").iterdir())


@EVERY
def test_an_object_comes_back_as_it_went(start: Start, profile: str) -> None:
    client = start(profile).client
    assert client.s3("PUT", "/images").status == 200
    md5 = hashlib.md5(DATA)
    put = client.s3("PUT", "/images/root.part.00", DATA, Content_MD5=base64.b64encode(md5.digest()).decode(),
                    Content_Type="text/x", x_amz_meta_made="by hand")  # fmt: skip
    assert (put.status, put.headers["ETag"]) == (200, f'"{md5.hexdigest()}"')
    got = client.s3("GET", "/images/root.part.00")
    assert (got.status, got.body, got.headers["ETag"]) == (200, DATA, f'"{md5.hexdigest()}"')
    assert (got.headers["Content-Type"], got.headers["x-amz-meta-made"]) == ("text/x", "by hand")
    head = client.s3("HEAD", "/images/root.part.00")
    assert (head.status, head.body, head.headers["Content-Length"]) == (200, b"", str(len(DATA)))
    part = client.s3("GET", "/images/root.part.00", Range="bytes=255-300")
    assert (part.status, part.body) == (206, DATA[255:301])
    assert client.s3("GET", "/images/root.part.00", Range=f"bytes={len(DATA)}-").code == "InvalidRange"
    assert client.s3("DELETE", "/images/root.part.00").status == 204
    assert client.s3("GET", "/images/root.part.00").code == "NoSuchKey"
    assert client.s3("HEAD", "/images/root.part.00").status == 404
    assert client.s3("DELETE", "/images").status == 204
    assert client.s3("GET", "/images").code == "NoSuchBucket"


@EVERY
def test_what_is_listed(start: Start, profile: str) -> None:
    client = start(profile).client
    client.s3("PUT", "/b-1")
    assert client.s3("GET", "").texts("Buckets/Bucket/Name") == ["b-1"]
    names = [f"root.part.{number:02d}" for number in range(5)] + ["vmlinuz", "ärger & <co>"]
    for name in reversed(names):
        assert client.s3("PUT", f"/b-1/{''.join(f'%{byte:02X}' for byte in name.encode())}", b"x").status == 200
    assert client.s3("GET", "/b-1").texts("Contents/Key") == names
    assert client.s3("GET", "/b-1?prefix=root.part.0").texts("Contents/Key") == names[:5]
    page = client.s3("GET", "/b-1?marker=root.part.01&max-keys=2")
    assert page.texts("Contents/Key") == names[2:4]
    assert page.text("IsTruncated") == "true"
    assert client.s3("GET", "/b-1?max-keys=0").text("IsTruncated") == "false"
    assert client.s3("GET", "/b-1?location").tree.tag == "LocationConstraint"
    assert client.s3("GET", "/b-1?max-keys=many").code == "InvalidArgument"


@EVERY
@pytest.mark.parametrize(
    ("method", "target", "headers", "code"),
    [
        ("PUT", "/b-1", {}, "BucketAlreadyOwnedByYou"),
        ("PUT", f"/{CLOUDS_OWN}", {}, "BucketAlreadyExists"),
        ("GET", f"/{CLOUDS_OWN}", {}, "AccessDenied"),
        ("PUT", f"/{CLOUDS_OWN}/key", {}, "AccessDenied"),
        ("PUT", "/no", {}, "InvalidBucketName"),
        ("PUT", "/a%20b", {}, "InvalidBucketName"),
        ("PUT", "/-abc", {}, "InvalidBucketName"),
        ("PUT", "/10.0.0.1", {}, "InvalidBucketName"),
        ("PUT", f"/{'a' * 256}", {}, "InvalidBucketName"),
        ("PUT", "/none/key", {}, "NoSuchBucket"),
        ("PUT", f"/b-1/{'k' * 1025}", {}, "KeyTooLong"),
        ("PUT", "/b-1/%00", {}, "InvalidURI"),
        ("PUT", "/b-1/%ff", {}, "InvalidURI"),
        ("PUT", "/b-1/key", {"Content_MD5": base64.b64encode(b"0" * 16).decode()}, "BadDigest"),
        ("PUT", "/b-1/key", {"Content_MD5": "short"}, "InvalidDigest"),
        ("PUT", "/b-1/key", {"x_amz_acl": "everybody"}, "InvalidArgument"),
        ("PUT", "/b-1/key", {"Content_Encoding": "aws-chunked"}, "NotImplemented"),
        ("PUT", "/b-1/key", {"x_amz_copy_source": "/b-1/other"}, "NotImplemented"),
        ("GET", "/b-1?list-type=2", {}, "NotImplemented"),
        ("GET", "/b-1?delimiter=x", {}, "NotImplemented"),
        ("DELETE", "/b-1", {}, "BucketNotEmpty"),
        ("POST", "/b-1", {}, "NotImplemented"),
    ],
)  # fmt: skip
def test_what_is_refused(
    shared: Shared, profile: str, method: str, target: str, headers: dict[str, str], code: str
) -> None:
    running = shared(profile)
    client = running.client
    client.s3("PUT", "/b-1")
    client.s3("PUT", "/b-1/there", b"old")
    before = sorted(list_files(running))
    body = b"" if method in ("GET", "DELETE") or target.count("/") < 2 else b"content"
    assert client.s3(method, target, body, **headers).code == code
    assert client.s3("GET", "/b-1/there").body == b"old"
    assert sorted(list_files(running)) == before


@pytest.mark.parametrize(
    ("profile", "code"),
    [("1.4", "SignatureDoesNotMatch"), ("2.0", "SignatureDoesNotMatch"), ("3.4", "NotImplemented"),
     ("4.4", "NotImplemented")],
)  # fmt: skip
def test_no_release_takes_an_object_in_parts(shared: Shared, profile: str, code: str) -> None:
    client = shared(profile).client
    client.s3("PUT", "/b-1")
    assert client.s3("POST", "/b-1/key?uploads").code == code  # of old it was no part of what is signed


@pytest.mark.parametrize(
    ("profile", "status"), [("1.4", 501), ("2.0", 200), ("3.4", 200), ("4.4", 200)]
)
def test_asking_for_a_buckets_head(shared: Shared, profile: str, status: int) -> None:
    client = shared(profile).client
    client.s3("PUT", "/b-1")
    assert client.s3("HEAD", "/b-1").status == status


@pytest.mark.parametrize(
    ("profile", "code"), [("1.4", "NotImplemented"), ("2.0", "NotImplemented"), ("3.4", ""), ("4.4", "")]
)
def test_the_first_parameter_is_the_operation_of_old(shared: Shared, profile: str, code: str) -> None:
    client = shared(profile).client
    client.s3("PUT", "/b-1")
    assert client.s3("GET", "/b-1?encoding-type=url").code == code
    assert client.s3("GET", "/b-1?prefix=x&encoding-type=url").code == ""


@pytest.mark.parametrize(("profile", "code"), [("1.4", "InvalidURI"), ("2.0", "InvalidURI"), ("3.4", ""), ("4.4", "")])
def test_a_slash_in_a_key(shared: Shared, profile: str, code: str) -> None:
    client = shared(profile).client
    client.s3("PUT", "/b-1")
    assert client.s3("PUT", "/b-1/root/root.part.00", b"x").code == code


@pytest.mark.parametrize(
    ("profile", "code"), [("1.4", "MissingContentLength"), ("2.0", ""), ("3.4", ""), ("4.4", "")]
)
def test_a_body_without_a_length(shared: Shared, profile: str, code: str) -> None:
    client = shared(profile).client
    client.s3("PUT", "/b-1")

    def pieces() -> Iterator[bytes]:
        yield DATA[:1000]
        yield DATA[1000:]

    assert client.s3("PUT", "/b-1/key", pieces(), Transfer_Encoding="chunked").code == code
    if not code:
        assert client.s3("GET", "/b-1/key").body == DATA


def test_1_4_has_room_for_five_buckets_and_a_sum_of_bytes(start: Start) -> None:
    running = start("1.4", bucket_bytes=1000)
    client = running.client
    assert [client.s3("PUT", f"/b-{number}").code for number in range(6)] == [*[""] * 5, "TooManyBuckets"]
    assert client.s3("PUT", "/b-0/a", bytes(600)).code == ""
    assert client.s3("PUT", "/b-0/b", bytes(401)).code == "EntityTooLarge"
    assert client.s3("PUT", "/b-0/a", bytes(1000)).code == ""
    assert client.s3("PUT", "/b-1/b", bytes(401)).code == ""
    assert PROFILES["1.4"].bucket_bytes == 5 << 30


@pytest.mark.parametrize("acl", ["private", "aws-exec-read", "public-read"])
def test_who_may_read(shared: Shared, acl: str) -> None:
    client = shared("4.4").client
    client.s3("PUT", "/b-1")
    assert client.s3("PUT", "/b-1/key", b"x", x_amz_acl=acl).code == ""
    anonymous = send(client.port, "GET", f"{client.storage}/b-1/key", {})
    assert anonymous.code == ("" if acl == "public-read" else "AccessDenied")
    said = client.s3("GET", "/b-1/key?acl").body
    assert (b"ec2-bundled-image" in said, b"AllUsers" in said) == (acl == "aws-exec-read", acl == "public-read")
    assert client.s3("PUT", "/b-1/key?acl", x_amz_acl="private").code == ""
    assert send(client.port, "GET", f"{client.storage}/b-1/key", {}).code == "AccessDenied"
    assert send(client.port, "PUT", f"{client.storage}/b-1/key", {}, b"mine").code == "AccessDenied"
    assert client.s3("GET", "/b-1/key").body == b"x"


def test_a_buckets_place_is_remembered(start: Start) -> None:
    client = start("4.4").client
    form = "<CreateBucketConfiguration><LocationConstraint>{}</LocationConstraint></CreateBucketConfiguration>"
    assert client.s3("PUT", "/b-1", form.format("here").encode()).code == ""
    assert client.s3("GET", "/b-1?location").tree.text == "here"
    for broken in (b"<a", b"<a/>", b"<!DOCTYPE a>" + form.encode()):
        assert client.s3("PUT", "/b-2", broken).code == "MalformedXML"


@EVERY
def test_another_start_finds_everything_and_no_rest(accounts: dict[str, Path], tmp_path: Path, profile: str) -> None:
    folder = shutil.copytree(accounts[profile], tmp_path / profile)
    with serve(folder, profile) as running:
        running.client.s3("PUT", "/b-1")
        for name in ("a", "b", "a"):
            running.client.s3("PUT", f"/b-1/{name}", os.urandom(10) + name.encode())
    (folder / "objects/left.partial").write_bytes(b"half")
    (folder / "objects/0123").write_bytes(b"whole, and in no list")
    for path in (folder / "scratch-x", folder / "images/emi-0", folder / "instances/i-0"):
        path.mkdir()
        (path / "left").touch()
    with (folder / "requests.log").open("ab") as log:
        log.truncate(9 << 20)
    with serve(folder, profile) as again:
        assert len(list_files(again)) == 2
        assert again.client.s3("GET", "/b-1").texts("Contents/Key") == ["a", "b"]
        assert again.client.s3("GET", "/b-1/a").body.endswith(b"a")
        assert again.client.keys == running.client.keys
        assert list(folder.rglob("left")) == []
        assert (folder / "requests.log").stat().st_size < 1 << 20
