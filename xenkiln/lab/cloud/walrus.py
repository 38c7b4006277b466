"""Walrus: S3 as REST, below the service's path."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import formatdate
from urllib.parse import unquote

from xenkiln.lab.cloud import markup
from xenkiln.lab.cloud.faults import Fault, refuse_access, refuse_operation
from xenkiln.lab.cloud.markup import Node
from xenkiln.lab.cloud.objects import Shelf, Stored
from xenkiln.lab.cloud.profiles import Profile
from xenkiln.lab.cloud.request import Answer, Request
from xenkiln.lab.cloud.storage_signatures import LATER_SUBRESOURCES, SUBRESOURCES, Claim, check_storage_signature
from xenkiln.lab.cloud.uploads import put_object, read_acl

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
XML = {"Content-Type": "application/xml"}
OF_A_LISTING = ("prefix", "marker", "max-keys", "delimiter")
MOST_KEYS = 1000
LARGEST_CONFIGURATION = 4096
PUBLIC_ACLS = ("public-read", "public-read-write")


@dataclass(frozen=True)
class Call:
    """A request that has been understood: what is asked for of which bucket and key."""

    request: Request
    bucket: str
    key: str
    claim: Claim | None

    @property
    def query(self) -> dict[str, str]:
        """Parameters of the URL."""
        return dict(self.request.parameters())


class Walrus:
    """Answers requests for one user's buckets."""

    def __init__(self, profile: Profile, shelf: Shelf, secrets: Mapping[str, str], owner: str) -> None:
        self._profile, self._shelf, self._secrets, self._owner = profile, shelf, secrets, owner
        self._operations: dict[tuple[str, str, str], Callable[[Call], Answer]] = {
            ("service", "GET", ""): self._list_buckets,
            ("bucket", "PUT", ""): self._create_bucket,
            ("bucket", "GET", ""): self._list_objects,
            ("bucket", "GET", "location"): self._get_location,
            ("bucket", "GET", "acl"): self._get_bucket_acl,
            ("bucket", "DELETE", ""): self._remove_bucket,
            ("object", "PUT", ""): self._put_object,
            ("object", "GET", ""): self._get_object,
            ("object", "HEAD", ""): self._get_object,
            ("object", "DELETE", ""): self._remove_object,
            ("object", "GET", "acl"): self._get_object_acl,
            ("object", "PUT", "acl"): self._set_object_acl,
        }
        if profile.head_bucket:
            self._operations["bucket", "HEAD", ""] = self._head_bucket

    def answer(self, request: Request, prefix: str) -> Answer:
        """Raises Fault."""
        claim = check_storage_signature(request, self._profile, prefix, self._secrets)
        bucket, key = self._split(request.path.removeprefix(prefix))
        level = "object" if key else "bucket" if bucket else "service"
        operation = self._operations.get((level, request.method, self._find_operation(request, level)))
        if operation is None:
            raise refuse_operation()
        request.notes["operation"] = operation.__name__.strip("_")
        if claim is None and operation != self._get_object:
            raise refuse_access()
        return operation(Call(request, bucket, key, claim))

    def _split(self, path: str) -> tuple[str, str]:
        try:
            bucket, _, key = unquote(path, errors="strict").removeprefix("/").partition("/")
        except UnicodeDecodeError:
            bucket, key = "", "\0"
        if markup.FORBIDDEN.search(bucket + key):
            raise Fault("InvalidURI", "The path cannot be understood.")
        if self._profile.flat_keys and "/" in key:
            # It would take the second element for the key and forget the rest: one object over another.
            raise Fault("InvalidURI", "A key of this release has no slash in it.")
        return bucket, key

    def _find_operation(self, request: Request, level: str) -> str:
        names = [name for name, _ in request.parameters()]
        if self._profile.first_query_rules:
            first = names[0] if names else ""
            return "" if first in OF_A_LISTING and (level, request.method) == ("bucket", "GET") else first
        known = {*SUBRESOURCES, *LATER_SUBRESOURCES, "list-type"}
        return next((name for name in names if name in known), "")

    def _list_buckets(self, _: Call) -> Answer:
        buckets: list[tuple[str, Node]] = [
            ("Bucket", {"Name": name, "CreationDate": format_time(record["created"])})
            for name, record in self._shelf.list_buckets()
        ]
        return self._reply("ListAllMyBucketsResult", {"Owner": self._describe_owner(), "Buckets": buckets})

    def _describe_owner(self) -> Node:
        return {"ID": self._owner, "DisplayName": self._owner}

    def _create_bucket(self, call: Call) -> Answer:
        read_acl(call.request)
        self._shelf.create_bucket(call.bucket, read_location(call.request.body.read(LARGEST_CONFIGURATION)))
        return Answer(headers={"Location": f"/{call.bucket}"})

    def _head_bucket(self, call: Call) -> Answer:
        self._shelf.find_bucket(call.bucket)
        return Answer()

    def _remove_bucket(self, call: Call) -> Answer:
        self._shelf.remove_bucket(call.bucket)
        return Answer(204)

    def _get_location(self, call: Call) -> Answer:
        return self._reply("LocationConstraint", str(self._shelf.find_bucket(call.bucket)["location"]))

    def _get_bucket_acl(self, call: Call) -> Answer:
        self._shelf.find_bucket(call.bucket)
        return self._write_acl("private")

    def _get_object_acl(self, call: Call) -> Answer:
        return self._write_acl(self._shelf.find(call.bucket, call.key).acl)

    def _set_object_acl(self, call: Call) -> Answer:
        if call.request.body.read(LARGEST_CONFIGURATION) or not call.request.header("x-amz-acl"):
            raise Fault("NotImplemented", "An ACL is set by its name, in x-amz-acl.", 501)
        self._shelf.set_acl(call.bucket, call.key, read_acl(call.request))
        return Answer()

    def _write_acl(self, acl: str) -> Answer:
        grants: list[tuple[str, Node]] = [("Grant", {"Grantee": self._describe_owner(), "Permission": "FULL_CONTROL"})]
        others = {"public-read": "AllUsers", "public-read-write": "AllUsers",
                  "authenticated-read": "AuthenticatedUsers", "aws-exec-read": "ec2-bundled-image"}  # fmt: skip
        if acl in others:
            grants.append(("Grant", {"Grantee": {"URI": f"http://acs.amazonaws.com/groups/global/{others[acl]}"},
                                     "Permission": "READ"}))  # fmt: skip
        return self._reply("AccessControlPolicy", {"Owner": self._describe_owner(), "AccessControlList": grants})

    def _list_objects(self, call: Call) -> Answer:
        query = call.query
        if query.get("delimiter"):
            raise refuse_operation()
        text = query.get("max-keys", str(MOST_KEYS))
        if not re.fullmatch("[0-9]{1,9}", text):
            raise Fault("InvalidArgument", "max-keys is no number.")
        count = min(int(text), MOST_KEYS)
        prefix, marker = query.get("prefix", ""), query.get("marker", "")
        found = self._shelf.list_objects(call.bucket, prefix, marker, count + 1)
        contents: list[tuple[str, Node]] = [("Contents", self._describe(each)) for each in found[:count]]
        head: list[tuple[str, Node]] = [
            ("Name", call.bucket), ("Prefix", prefix), ("Marker", marker), ("MaxKeys", text),
            ("IsTruncated", "true" if len(found) > count > 0 else "false"),
        ]  # fmt: skip
        return self._reply("ListBucketResult", [*head, *contents])

    def _describe(self, found: Stored) -> Node:
        return {"Key": found.key, "LastModified": format_time(found.modified), "ETag": f'"{found.md5}"',
                "Size": str(found.size), "Owner": self._describe_owner(), "StorageClass": "STANDARD"}  # fmt: skip

    def _put_object(self, call: Call) -> Answer:
        if call.request.header("x-amz-copy-source"):
            raise refuse_operation()
        stored = put_object(call.request, self._profile, self._shelf, call.claim or Claim(), call.bucket, call.key)
        call.request.notes["bytes"] = str(stored.size)
        return Answer(headers={"ETag": f'"{stored.md5}"', "Last-Modified": formatdate(stored.modified, usegmt=True)})

    def _get_object(self, call: Call) -> Answer:
        found = self._shelf.find(call.bucket, call.key)
        if call.claim is None and found.acl not in PUBLIC_ACLS:
            raise refuse_access()
        headers = {**found.headers, "ETag": f'"{found.md5}"', "Accept-Ranges": "bytes",
                   "Last-Modified": formatdate(found.modified, usegmt=True)}  # fmt: skip
        status, start, end = 200, 0, found.size
        match = re.fullmatch("bytes=([0-9]{1,15})-([0-9]{0,15})", call.request.header("Range"))
        if match:
            start, end = int(match[1]), min(int(match[2] or found.size) + 1, found.size)
            if start >= end:
                raise Fault("InvalidRange", "The requested range cannot be satisfied.", 416)
            status, headers["Content-Range"] = 206, f"bytes {start}-{end - 1}/{found.size}"
        if call.request.method == "HEAD":
            return Answer(status, headers={**headers, "Content-Length": str(end - start)})
        return Answer(status, headers=headers, file=self._shelf.open(found), start=start, length=end - start)

    def _remove_object(self, call: Call) -> Answer:
        self._shelf.remove(call.bucket, call.key)
        return Answer(204)

    def _reply(self, name: str, node: Node) -> Answer:
        return Answer(body=markup.render(name, node, NAMESPACE), headers=XML)

    def write_fault(self, request: Request, fault: Fault) -> Answer:
        """As S3 has it."""
        path = markup.FORBIDDEN.sub("?", unquote(request.path))
        node = {"Code": fault.code, "Message": fault.message, "Resource": path, "RequestId": request.number}
        return Answer(fault.status, markup.render("Error", node), XML)


def format_time(seconds: float) -> str:
    """2009-01-12T17:50:30.000Z."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def read_location(data: bytes) -> str:
    """The place that a CreateBucketConfiguration asks for, "" for none."""
    if not data:
        return ""
    try:
        root = ET.fromstring(data) if b"<!" not in data else None  # noqa: S314  # without a DOCTYPE, no entities
    except ET.ParseError:
        root = None
    found = root.find("{*}LocationConstraint") if root is not None else None
    if found is None:
        raise Fault("MalformedXML", "The XML you provided was not well-formed.")
    return found.text or ""
