"""Buckets and objects: each object is a file with a name of ours, so no key can lead anywhere."""

from __future__ import annotations

import hashlib
import json
import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from xenkiln.lab.cloud.faults import Fault, refuse_access
from xenkiln.lab.cloud.index import Index, Record
from xenkiln.lab.cloud.profiles import Profile

BUCKETS = "buckets"
LEGAL_BUCKET = re.compile("[A-Za-z0-9][A-Za-z0-9._-]{2,254}")
ADDRESS = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+")
LONGEST_KEY = 1024
LARGEST_OBJECT = 5 << 30
"""S3's own, and the servers', for one PUT."""
CLOUDS_OWN = "eucalyptus"
"""A bucket that is somebody else's, as there are on every shared cloud; its owner has this name, too."""
PARTIAL = ".partial"


@dataclass(frozen=True)
class Stored:
    """An object: its file, size in bytes, MD5 in hex, and headers that come back with it."""

    bucket: str
    key: str
    path: Path
    size: int
    md5: str
    modified: float
    acl: str
    headers: dict[str, str]


class Incoming:
    """A file that grows; nobody sees it before it is stored."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self.md5 = hashlib.md5(usedforsecurity=False)
        self._file = path.open("xb", buffering=0)

    def write(self, data: bytes | memoryview) -> None:
        """Take the next bytes."""
        self.md5.update(data)
        left = memoryview(data)
        while left:
            left = left[self._file.write(left) :]
        self.size += len(data)

    def close(self) -> None:
        """No more comes."""
        self._file.close()


class Shelf:
    """All buckets; raises Fault with S3's codes."""

    def __init__(self, folder: Path, index: Index, profile: Profile, owner: str) -> None:
        self._folder, self._index, self._profile, self._owner = folder, index, profile, owner
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._index.put(BUCKETS, CLOUDS_OWN, {"owner": CLOUDS_OWN, "created": 0, "location": ""})
        self._sweep()

    def _sweep(self) -> None:
        """Remove what a killed server had not finished, or not yet removed."""
        with self._index.changing() as connection:
            known = {row[0] for row in connection.execute("SELECT file FROM objects")}
        for path in self._folder.iterdir():
            if path.name not in known:
                path.unlink()

    def create_bucket(self, name: str, location: str) -> None:
        """Make an empty one."""
        if not LEGAL_BUCKET.fullmatch(name) or ADDRESS.fullmatch(name):
            raise Fault("InvalidBucketName", "The specified bucket is not valid.")
        with self._index.changing():
            found = self._index.find(BUCKETS, name)
            if found and found["owner"] == self._owner:
                raise Fault("BucketAlreadyOwnedByYou", "You have made this bucket before, and own it.", 409)
            if found:
                raise Fault("BucketAlreadyExists", "The bucket belongs to somebody else: choose another name.", 409)
            limit = self._profile.bucket_limit
            if limit is not None and len(self.list_buckets()) >= limit:
                raise Fault("TooManyBuckets", f"You have {limit} buckets, and may not have more.")
            self._index.put(BUCKETS, name, {"owner": self._owner, "created": time.time(), "location": location})

    def list_buckets(self) -> list[tuple[str, Record]]:
        """The user's own, by name."""
        with self._index.changing() as connection:
            rows = connection.execute("SELECT name, body FROM records WHERE kind = ? ORDER BY name", (BUCKETS,))
            found = [(name, json.loads(body)) for name, body in rows]
        return [(name, record) for name, record in found if record["owner"] == self._owner]

    def find_bucket(self, name: str) -> Record:
        """One of the user's own."""
        found = self._index.find(BUCKETS, name)
        if found is None:
            raise Fault("NoSuchBucket", "The specified bucket does not exist.", 404)
        if found["owner"] != self._owner:
            raise refuse_access()
        return found

    def remove_bucket(self, name: str) -> None:
        """Remove an empty one."""
        with self._index.changing() as connection:
            self.find_bucket(name)
            if connection.execute("SELECT 1 FROM objects WHERE bucket = ? LIMIT 1", (name,)).fetchone():
                raise Fault("BucketNotEmpty", "The bucket you tried to delete is not empty.", 409)
            self._index.remove(BUCKETS, name)

    def check_room(self, bucket: str, key: str, size: int) -> None:
        """Whether an object of that size may come."""
        if not 0 < len(key.encode()) <= LONGEST_KEY:
            raise Fault("KeyTooLong", "Your key is too long.")
        used = self._count_bytes(bucket, key)
        limit = self._profile.bucket_bytes
        if size > LARGEST_OBJECT or (limit is not None and used + size > limit):
            raise Fault("EntityTooLarge", "Your proposed upload exceeds the maximum allowed size.")

    def _count_bytes(self, bucket: str, but_key: str) -> int:
        with self._index.changing() as connection:
            self.find_bucket(bucket)
            found = connection.execute("SELECT COALESCE(SUM(size), 0) FROM objects WHERE bucket = ? AND key <> ?",
                                       (bucket, but_key)).fetchone()  # fmt: skip
        return int(found[0])

    @contextmanager
    def receive(self) -> Iterator[Incoming]:
        """A place for an object that comes; what was not stored is gone afterwards."""
        incoming = Incoming(self._folder / f"{uuid.uuid4().hex}{PARTIAL}")
        try:
            yield incoming
        finally:
            incoming.close()
            incoming.path.unlink(missing_ok=True)

    def store(self, incoming: Incoming, bucket: str, key: str, acl: str, headers: dict[str, str]) -> Stored:
        """Make what has come the object, in place of an older one."""
        incoming.close()
        path = incoming.path.with_name(incoming.path.name.removesuffix(PARTIAL))
        body = {"md5": incoming.md5.hexdigest(), "modified": time.time(), "acl": acl, "headers": headers}
        with self._index.changing() as connection:
            self.check_room(bucket, key, incoming.size)
            older = self._look_up(bucket, key)
            # Not synced: a lab's objects need not outlive the host.
            incoming.path.rename(path)
            connection.execute("INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?, ?)",
                               (bucket, key, path.name, incoming.size, json.dumps(body)))  # fmt: skip
        if older:
            older.path.unlink(missing_ok=True)
        return Stored(bucket, key, path, incoming.size, **body)  # type: ignore[arg-type]  # just made with these types

    def _look_up(self, bucket: str, key: str) -> Stored | None:
        with self._index.changing() as connection:
            row = connection.execute("SELECT file, size, body FROM objects WHERE bucket = ? AND key = ?",
                                     (bucket, key)).fetchone()  # fmt: skip
        return self._read_row(bucket, key, *row) if row else None

    def _read_row(self, bucket: str, key: str, file: str, size: int, body: str) -> Stored:
        fields: dict[str, Any] = json.loads(body)
        return Stored(bucket, key, self._folder / file, size, **fields)

    def find(self, bucket: str, key: str) -> Stored:
        """One object of the user's own."""
        self.find_bucket(bucket)
        found = self._look_up(bucket, key)
        if found is None:
            raise Fault("NoSuchKey", "The specified key does not exist.", 404)
        return found

    def open(self, found: Stored) -> BinaryIO:
        """Its file, good even when the object goes meanwhile."""
        try:
            return found.path.open("rb")
        except FileNotFoundError as error:
            raise Fault("NoSuchKey", "The specified key does not exist.", 404) from error

    def set_acl(self, bucket: str, key: str, acl: str) -> None:
        """Change who may read an object."""
        with self._index.changing() as connection:
            self.find(bucket, key)
            connection.execute("UPDATE objects SET body = json_set(body, '$.acl', ?) WHERE bucket = ? AND key = ?",
                               (acl, bucket, key))  # fmt: skip

    def remove(self, bucket: str, key: str) -> None:
        """Remove an object; one that is not there is fine."""
        with self._index.changing() as connection:
            self.find_bucket(bucket)
            found = self._look_up(bucket, key)
            connection.execute("DELETE FROM objects WHERE bucket = ? AND key = ?", (bucket, key))
        if found:
            found.path.unlink(missing_ok=True)

    def list_objects(self, bucket: str, prefix: str, marker: str, count: int) -> list[Stored]:
        """The first `count` after `marker`, in the order of their keys as UTF-8."""
        with self._index.changing() as connection:
            self.find_bucket(bucket)
            # SQLite compares TEXT as bytes.
            rows = connection.execute(
                "SELECT key, file, size, body FROM objects WHERE bucket = ? AND key > ?"
                " AND substr(key, 1, ?) = ? ORDER BY key LIMIT ?",
                (bucket, marker, len(prefix), prefix, count)).fetchall()  # fmt: skip
        return [self._read_row(bucket, *row) for row in rows]
