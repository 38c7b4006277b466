"""Walrus and S3: buckets and the objects in them, each write checked by the digest that the cloud gives back."""

from __future__ import annotations

import base64
import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from xenkiln.clouds.bandwidth import Bandwidth
from xenkiln.clouds.connection import Connection
from xenkiln.clouds.outgoing import NEVER, Outgoing
from xenkiln.clouds.refusals import explain_refusals, read_code
from xenkiln.errors import CloudError

PROBE = "xenkiln-probe"
TRIES = 3
"""Of an object whose digest is another one at the cloud; what fails otherwise is tried again below this."""
PAGE_KEYS, MOST_PAGES = 1000, 1000
OWN = ("BucketAlreadyOwnedByYou", "BucketAlreadyExists")
MISSING = ("NoSuchKey", "NoSuchEntity", "404")
NO_BUCKET = ("NoSuchBucket", "404")


@dataclass(frozen=True)
class Stored:
    """An object as the cloud lists it: size in bytes, MD5 in hex, and when it was written, as ISO 8601 text."""

    size: int
    md5: str
    written: str = ""


class Store:
    """The objects of one user at one cloud; safe to use from several threads."""

    def __init__(self, connection: Connection, bandwidth: Bandwidth | None = None) -> None:
        self._s3, self._dialect, self._name = connection.s3, connection.dialect, connection.name
        self._bandwidth = bandwidth

    def open_bucket(self, bucket: str) -> None:
        """Make the bucket where it is not there, and see that it can be written; CloudError where it cannot."""
        with explain_refusals(f"{self._name}, bucket {bucket}"):
            try:
                self._s3.create_bucket(Bucket=bucket, **self._make_placement())
            except ClientError as error:
                if read_code(error) not in OWN:
                    raise
        self._probe(bucket)

    def check_bucket(self, bucket: str) -> None:
        """CloudError where the bucket cannot be written, or is not there and cannot be made; nothing is left."""
        with explain_refusals(f"{self._name}, bucket {bucket}"):
            try:
                self._s3.list_objects(Bucket=bucket, MaxKeys=1)
            except ClientError as error:
                if read_code(error) not in NO_BUCKET:
                    raise
                self._check_count(bucket)
                return
        self._probe(bucket)

    def _check_count(self, bucket: str) -> None:
        limit = self._dialect.most_buckets
        names = sorted(each["Name"] for each in self._s3.list_buckets().get("Buckets") or []) if limit else []
        if limit and len(names) >= limit:
            raise CloudError(f"there is no such bucket, and you have {len(names)}, which is all that the cloud allows",
                             place=f"{self._name}, bucket {bucket}",
                             next_step=f"use one of {', '.join(names)}: is the name right?")  # fmt: skip

    def _probe(self, bucket: str) -> None:
        self.put(bucket, PROBE, b"")
        self.delete(bucket, PROBE)

    def _make_placement(self) -> dict[str, Any]:
        region = self._s3.meta.region_name
        if not self._dialect.is_amazon or region == "us-east-1":
            return {}
        return {"CreateBucketConfiguration": {"LocationConstraint": region}}

    def put(self, bucket: str, key: str, data: bytes, md5: str = "", stop: threading.Event = NEVER) -> Stored:
        """Write an object, whose MD5 may be known; CloudError where the cloud says that it got something else.

        Raises SendingStoppedError soon after `stop` is set.
        """
        wanted = md5 or hashlib.md5(data, usedforsecurity=False).hexdigest()
        settings = {"ContentMD5": base64.b64encode(bytes.fromhex(wanted)).decode()}
        settings |= {"ACL": self._dialect.acl} if self._dialect.acl else {}
        place = f"{self._name}, {bucket}/{key}"
        for _ in range(TRIES):
            body = Outgoing(data, self._bandwidth, stop)
            with explain_refusals(place):
                answer = self._s3.put_object(Bucket=bucket, Key=key, Body=body, ContentLength=len(data),
                                             **settings)  # fmt: skip
            got = clean_etag(answer.get("ETag"))
            if got == wanted:
                return Stored(len(data), wanted)
        raise CloudError(f"the cloud has got other bytes than were sent: MD5 {got}, not {wanted}", place=place,
                         next_step="something between here and the cloud changes what is sent")  # fmt: skip

    def get(self, bucket: str, key: str, limit: int) -> bytes:
        """Read an object of at most `limit` bytes, b"" where there is none."""
        with explain_refusals(f"{self._name}, {bucket}/{key}"):
            try:
                stream = self._s3.get_object(Bucket=bucket, Key=key)["Body"]
            except ClientError as error:
                if read_code(error) in MISSING:
                    return b""
                raise
            data = bytes(stream.read(limit + 1))
        if len(data) > limit:
            raise CloudError(f"is larger than {limit} bytes", place=f"{self._name}, {bucket}/{key}")
        return data

    def delete(self, bucket: str, key: str) -> None:
        """Remove an object; one that is not there is fine."""
        with explain_refusals(f"{self._name}, {bucket}/{key}"):
            try:
                self._s3.delete_object(Bucket=bucket, Key=key)
            except ClientError as error:
                if read_code(error) not in MISSING:
                    raise

    def list_objects(self, bucket: str, prefix: str) -> dict[str, Stored]:
        """Every object whose name begins so; nothing where there is no such bucket."""
        return dict(self._list_pages(bucket, prefix))

    def _list_pages(self, bucket: str, prefix: str) -> Iterator[tuple[str, Stored]]:
        marker = ""
        for _ in range(MOST_PAGES):
            with explain_refusals(f"{self._name}, bucket {bucket}"):
                try:
                    page = self._s3.list_objects(Bucket=bucket, Prefix=prefix, MaxKeys=PAGE_KEYS, Marker=marker)
                except ClientError as error:
                    if read_code(error) in NO_BUCKET:
                        return
                    raise
            found = [(each.get("Key", ""), each) for each in page.get("Contents") or []]
            for key, entry in found:
                # A server may not keep to the prefix.
                if key.startswith(prefix):
                    written = str(entry.get("LastModified", ""))
                    yield key, Stored(entry.get("Size", -1), clean_etag(entry.get("ETag")), written)
            last = found[-1][0] if found else marker
            if not page.get("IsTruncated") or last <= marker:
                return
            marker = last
        raise CloudError(f"the list of objects does not end after {MOST_PAGES} pages",
                         place=f"{self._name}, bucket {bucket}", next_step="use another bucket")  # fmt: skip


def clean_etag(etag: str | None) -> str:
    """An ETag without its quotes: the MD5 of an object that was written at once."""
    return (etag or "").strip('"').lower()
