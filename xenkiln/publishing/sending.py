"""A component's bundle on its way to a cloud: from its folder, or in one stream from the image."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from xenkiln.bundle.manifest import name_part
from xenkiln.bundle.parts import Part, Secret
from xenkiln.clouds.store import Stored
from xenkiln.clouds.uploading import Uploader
from xenkiln.errors import BuildError
from xenkiln.publishing.bundling import Bundle, Tell, is_current, read_record
from xenkiln.publishing.records import UPLOADED, Records, pack_objects, unpack_objects
from xenkiln.publishing.subject import Role
from xenkiln.system.files import allocated_bytes, write_finished


def is_uploaded(bundle: Bundle, records: Records) -> bool:
    """Whether the cloud has every object that was sent of it, just as it was sent."""
    values = records.read(UPLOADED)
    role = bundle.component.role
    objects = unpack_objects(values.get(f"{role}.objects", ""))
    if not objects or values.get(f"{role}.location") != locate(bundle):
        return False
    there = bundle.target.store.list_objects(bucket_of(bundle), bundle.component.name)
    return all(name in there and (there[name].size, there[name].md5) == objects[name] for name in objects)


def is_sent(bundle: Bundle, records: Records) -> bool:
    """Whether the cloud has it, and its manifest was made of the same: a root filesystem's names other images."""
    return records.read(UPLOADED).get(f"{bundle.component.role}.key") == bundle.key and is_uploaded(bundle, records)


def send_folder(bundle: Bundle, records: Records, tell: Tell) -> int:
    """Upload what `keep_bundle` made; the bytes that were sent. BuildError where that is not there any more."""
    if not is_current(bundle):
        raise BuildError("the bundle is not there, or is an older image's", place=str(bundle.folder),
                         next_step=f"doit bundle:{bundle.subject.name}")  # fmt: skip
    objects = read_record(bundle)["objects"]
    parts = {name: objects[name] for name in sorted(objects) if name != bundle.manifest_name}
    uploader = make_uploader(bundle, records, tell, sum(size for size, _ in parts.values()))
    with uploader.open(bundle.target.parallel):
        for name, (_, md5) in parts.items():
            uploader.add(name, (bundle.folder / name).read_bytes(), md5)
    finish(bundle, records, uploader, (bundle.folder / bundle.manifest_name).read_bytes())
    return uploader.sent_bytes


def send_stream(bundle: Bundle, records: Records, tell: Tell) -> int:
    """Bundle and upload at the same time; the bytes that were sent.

    Key and iv are kept beside the records until the image is registered: a run that was killed goes on with them,
    makes the same parts again, and sends those that the cloud does not have.
    """
    secret = take_secret(bundle, records)
    uploader = make_uploader(bundle, records, tell, 0)
    data_bytes, read_bytes, made_bytes = allocated_bytes(bundle.component.file), 0, 0

    def note(size: int) -> None:
        nonlocal read_bytes
        read_bytes += size

    def send(part: Part, data: memoryview) -> None:
        nonlocal made_bytes
        made_bytes += part.size
        # What is still to be read is taken to shrink as what was read did.
        uploader.total_bytes = made_bytes * max(data_bytes, read_bytes) // max(read_bytes, 1)
        uploader.add(name_part(bundle.component.name, part.number), data, part.md5)

    with uploader.open(bundle.target.parallel):
        content = uploader.feed(lambda: bundle.make_parts(secret, send, note))
    finish(bundle, records, uploader, bundle.make_manifest(content, secret))
    return uploader.sent_bytes


def make_uploader(bundle: Bundle, records: Records, tell: Tell, total_bytes: int) -> Uploader:
    """Into the component's bucket, which is there and can be written; knows what it has of this bundle."""
    bucket = bucket_of(bundle)
    bundle.target.store.open_bucket(bucket)
    there = bundle.target.store.list_objects(bucket, bundle.component.name)
    note_begun(bundle, records)
    tell(f"{bundle.component.file.name}: {allocated_bytes(bundle.component.file) / 1e6:.0f} MB")
    return Uploader(bundle.target.store, bucket, there, tell, total_bytes)


def note_begun(bundle: Bundle, records: Records) -> None:
    """Remember where objects go: if this is never registered, because the image changes, they are to be removed."""
    values = records.read(UPLOADED)
    begun = dict.fromkeys([*list_begun(values, bundle.component.role), locate(bundle)])
    records.write(UPLOADED, values | {f"{bundle.component.role}.begun": "\n".join(begun)}, "begun")


def list_begun(values: Mapping[str, str], role: str) -> list[str]:
    """Locations that something was sent to and that were not registered since; `values` of the record of uploads."""
    return values.get(f"{role}.begun", "").splitlines()


def finish(bundle: Bundle, records: Records, uploader: Uploader, manifest: bytes) -> None:
    """Upload the manifest, the last: without it there is no bundle. Then remember what the cloud has."""
    bucket = bucket_of(bundle)
    stored = bundle.target.store.put(bucket, bundle.manifest_name, manifest)
    if stored.md5 != hashlib.md5(manifest, usedforsecurity=False).hexdigest():
        raise BuildError("the manifest has changed on its way", place=f"{bucket}/{bundle.manifest_name}")
    objects: dict[str, Stored] = {**uploader.objects, bundle.manifest_name: stored}
    role = bundle.component.role
    values = records.read(UPLOADED) | {
        f"{role}.location": locate(bundle),
        f"{role}.digest": bundle.component.digest,
        f"{role}.key": bundle.key,
        f"{role}.objects": pack_objects({name: (each.size, each.md5) for name, each in objects.items()}),
    }
    records.write(UPLOADED, values, "uploaded")


def take_secret(bundle: Bundle, records: Records) -> Secret:
    """The key and iv of a stream that was begun, or new ones, which are kept until it is registered."""
    path = secret_path(records, bundle.component.role)
    with suppress(OSError, ValueError, KeyError, TypeError):
        found = json.loads(path.read_text(encoding="ascii"))
        if found["bundle"] == bundle.archive_key:
            return Secret(bytes.fromhex(found["key"]), bytes.fromhex(found["iv"]))
    secret = bundle.choose_secret()
    kept = {"bundle": bundle.archive_key, "key": secret.key.hex(), "iv": secret.iv.hex()}
    write_finished(path, json.dumps(kept) + "\n", 0o600)
    return secret


def drop_secret(records: Records, role: Role) -> None:
    """Forget key and iv: the manifest at the cloud has them, for the user and for the cloud alone."""
    secret_path(records, role).unlink(missing_ok=True)


def secret_path(records: Records, role: Role) -> Path:
    """Where they are kept."""
    return records.folder / f"{role}.secret"


def bucket_of(bundle: Bundle) -> str:
    """The component's bucket."""
    return bundle.target.find_bucket(bundle.subject, bundle.component.role)


def locate(bundle: Bundle) -> str:
    """Bucket and manifest."""
    return bundle.target.name_location(bundle.subject, bundle.component)
