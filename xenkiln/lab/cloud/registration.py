"""RegisterImage: everything of a bundle that a release looks at before it gives an id."""

from __future__ import annotations

import hashlib
import re
import time

from xenkiln.lab.cloud import openssl
from xenkiln.lab.cloud.account import CLOUD_KEY
from xenkiln.lab.cloud.calls import Call
from xenkiln.lab.cloud.faults import Fault, miss_parameter, reject_value
from xenkiln.lab.cloud.ids import make_id
from xenkiln.lab.cloud.index import Record
from xenkiln.lab.cloud.manifest import LARGEST_BYTES, Manifest, read_manifest, refuse
from xenkiln.lab.cloud.markup import Node
from xenkiln.lab.cloud.objects import Stored
from xenkiln.lab.cloud.profiles import GIB

IMAGES = "images"
PREFIXES = {"machine": "emi", "kernel": "eki", "ramdisk": "eri"}
WORDS = ("true", "yes")
ARCHITECTURES = ("i386", "x86_64")
NAME = re.compile(r"[A-Za-z0-9().\-/_ ]{3,128}")
LONGEST_DESCRIPTION = 255
READABLE = ("aws-exec-read", "public-read", "public-read-write", "authenticated-read")
"""What the system's own account can read, as which 4.2 and later fetch a bundle."""
ROOT_DEVICE = "xvda1"


def register(call: Call) -> Node:
    """The new image's id."""
    bucket, key = split_location(call, call.text("ImageLocation"))
    name = check_name(call)
    description = call.text("Description", "")
    if len(description) > LONGEST_DESCRIPTION:
        raise reject_value("Description", description)
    if (given := call.text("VirtualizationType", "paravirtual")) != "paravirtual":
        raise reject_value("VirtualizationType", given, "is not what this lab's Xen runs")
    data = read_object(call, bucket, key)
    manifest = read_manifest(data)
    check_manifest(call, manifest)
    kind = find_kind(call, manifest, key)
    record: Record = {
        "id": make_id(PREFIXES[kind]), "location": f"{bucket}/{key}", "bucket": bucket, "key": key, "kind": kind,
        "architecture": call.text("Architecture", manifest.architecture), "name": name, "description": description,
        "owner": call.cloud.account.number, "public": False, "size": manifest.size,
        "root_device": find_root_device(call, manifest), "registered": time.time(),
        "signature": manifest.signature, "manifest": hashlib.sha256(data).hexdigest(),
        **(find_kernels(call, manifest) if kind == "machine" else {"kernel": "", "ramdisk": ""}),
    }  # fmt: skip
    with call.cloud.index.changing():
        check_name(call)
        call.cloud.index.put(IMAGES, record["id"], record)
    return {"imageId": record["id"]}


def split_location(call: Call, location: str) -> tuple[str, str]:
    """Bucket and key; from 3.0 on a key may have slashes in it."""
    bucket, slash, key = location.partition("/")
    if not slash or not key or (call.cloud.profile.exact_location and "/" in key) or len(bucket) < 2:
        raise reject_value("ImageLocation", location, "is not BUCKET/MANIFEST")
    return bucket, key


def check_name(call: Call) -> str:
    """The image's own name, "" for none; raises Fault where it is not legal or has been given."""
    name = call.text("Name", "")
    if name and call.cloud.profile.checks_names:
        if not NAME.fullmatch(name):
            raise Fault("InvalidAMIName.Malformed", "AMI names have 3 to 128 letters, digits and ( ) . - / _")
        for each in call.cloud.index.list_all(IMAGES):
            if each["name"] == name:
                raise Fault("InvalidAMIName.Duplicate", f"The name {name} is already in use by {each['id']}")
    return name


def read_object(call: Call, bucket: str, key: str) -> bytes:
    """A manifest's bytes; raises Fault where the release could not read it."""
    try:
        found = call.cloud.shelf.find(bucket, key)
        check_readable(call.cloud.profile.reads_as_system, found)
        if found.size > LARGEST_BYTES:
            raise refuse(f"it has more than {LARGEST_BYTES} bytes")
        with call.cloud.shelf.open(found) as stream:
            return stream.read()
    except Fault as fault:
        if fault.code == "InvalidManifest":
            raise
        raise refuse(f"{bucket}/{key} cannot be read: {fault.message}") from None


def check_readable(reads_as_system: bool, found: Stored) -> None:
    """Raises Fault for what its owner alone may read."""
    if reads_as_system and found.acl not in READABLE:
        raise refuse(f"{found.bucket}/{found.key} cannot be read: it was not uploaded with x-amz-acl: aws-exec-read")


def check_manifest(call: Call, manifest: Manifest) -> None:
    """What a release makes sure of before it takes an image."""
    cloud = call.cloud
    profile = cloud.profile
    if manifest.architecture not in ARCHITECTURES and profile.checks_names:
        raise refuse(f"its architecture is none of {', '.join(ARCHITECTURES)}")
    if call.text("Architecture", ARCHITECTURES[0]) not in ARCHITECTURES:
        raise reject_value("Architecture", call.text("Architecture"))
    if manifest.size > profile.image_gib * GIB:
        raise refuse(f"an image has {profile.image_gib} GiB at most")
    if profile.checks_user and manifest.user != cloud.account.number:
        raise Fault("AuthFailure", "Manifest is not accessible: its user is another account", 403)
    if profile.looks_at_signature:
        # 1.4 to 2.x compare it only when they put the image together; what is no signature fails here.
        openssl.check_signature_form(manifest.signature)
    if profile.verifies == "registration" and not verify(call, manifest):
        raise refuse("its signature is not the user's")
    for what, sealed in (("ec2_encrypted_key", manifest.sealed_key), ("ec2_encrypted_iv", manifest.sealed_iv)):
        openssl.open_sealed(sealed, what, cloud.folder / "cloud" / CLOUD_KEY)


def verify(call: Call, manifest: Manifest) -> bool:
    """Whether the manifest is signed by the user."""
    return openssl.verify_signature(manifest.signed, manifest.signature, call.cloud.user_certificate)


def find_kind(call: Call, manifest: Manifest, key: str) -> str:
    """machine, kernel or ramdisk, by what the release looks at."""
    if manifest.kernel in WORDS:
        return "kernel"
    if manifest.ramdisk in WORDS:
        return "ramdisk"
    if call.cloud.profile.names_key_by_prefix:
        # A root image that is called initrd-something becomes a ramdisk.
        return "kernel" if key.startswith("vmlinuz") else "ramdisk" if key.startswith("initrd") else "machine"
    if call.cloud.profile.reads_type and manifest.kind in ("kernel", "ramdisk"):
        return manifest.kind
    return "machine"


def find_kernels(call: Call, manifest: Manifest) -> dict[str, str]:
    """The ids that a machine image boots with, of the request or of the manifest, "" for none."""
    found = {"kernel": call.text("KernelId", manifest.kernel), "ramdisk": call.text("RamdiskId", manifest.ramdisk)}
    for kind, image_id in found.items():
        if image_id:
            find_image(call, image_id, kind)
        elif call.cloud.profile.needs_kernel:
            raise miss_parameter("KernelId and RamdiskId: a paravirtual image must have both")
    return found


def find_image(call: Call, image_id: str, kind: str) -> Record:
    """A registered image of that kind."""
    found = call.cloud.index.find(IMAGES, image_id)
    if found is None or found["kind"] != kind:
        raise Fault("InvalidAMIID.NotFound", f"The {kind} image id '[{image_id}]' does not exist")
    return found


def find_root_device(call: Call, manifest: Manifest) -> str:
    """Without /dev/."""
    named = (call.text("RootDeviceName", ""), manifest.devices.get("ami"), manifest.devices.get("root"), ROOT_DEVICE)
    device = next(each for each in named if each).removeprefix("/dev/")
    if not re.fullmatch("(xvd|sd|hd)[a-z][0-9]{0,2}", device):
        raise refuse(f"its root device is {device[:40]!a}")
    return device
