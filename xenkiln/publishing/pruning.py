"""Old images at a cloud: found by the names that publishing gives, so that any machine can tidy up."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass

from xenkiln.clouds.compute import ENDED, Image
from xenkiln.publishing.amazon import prune_amis
from xenkiln.publishing.bundling import Tell
from xenkiln.publishing.records import REGISTERED, records_for
from xenkiln.publishing.registering import remove_objects
from xenkiln.publishing.subject import DIGITS, PREFIXES, Role
from xenkiln.publishing.target import Target

LOCATION = re.compile(rf"/?(?P<bucket>[^/]+)/(?P<prefix>{'|'.join(PREFIXES.values())})-(?P<name>[a-z0-9._-]+)"
                      rf"-[0-9a-f]{{{DIGITS}}}\.manifest\.xml")  # fmt: skip
ROLES: dict[str, Role] = {prefix: role for role, prefix in PREFIXES.items()}


@dataclass(frozen=True)
class Published:
    """An image of ours at a cloud; `written` is when its manifest was, as text that sorts."""

    image: Image
    role: Role
    name: str
    written: str


def prune(target: Target, keep: int, tell: Tell) -> tuple[list[str], list[str]]:
    """Take back all but the newest `keep` root filesystems of each name; the ids that went, and those that stay.

    Kernels and ramdisks go when no root filesystem that stays names them; what an instance runs stays.
    """
    if target.dialect.is_amazon:
        return prune_amis(target, keep, tell)
    found = list_published(target)
    used = {each.image_id for each in target.compute.list_instances() if each.state not in ENDED}
    roots: dict[str, list[Published]] = defaultdict(list)
    for each in found:
        if each.role == "root":
            roots[each.name].append(each)
    # What was published last from here may have been so long before.
    own = {text for name in {each.name for each in found} for key, text in
           records_for(target.name, name).read(REGISTERED).items() if key.endswith(".id")}  # fmt: skip
    staying = {each.image.id for group in roots.values() for each in _newest(group, keep)} | used | own
    needed = {part for each in found if each.image.id in staying for part in (each.image.kernel_id,
                                                                               each.image.ramdisk_id)}  # fmt: skip
    staying |= needed | _list_newest_parts(found, keep)
    gone = []
    # Roots first: no image may name a kernel that is not there.
    for each in sorted(found, key=lambda each: each.role != "root"):
        if each.image.id not in staying:
            tell(f"take back {each.image.id}")
            target.compute.deregister(each.image.id)
            remove_objects(each.image.location.lstrip("/"), target)
            gone.append(each.image.id)
    return gone, [each.image.id for each in found if each.image.id not in gone]


def _newest(group: list[Published], keep: int) -> list[Published]:
    return sorted(group, key=lambda each: (each.written, each.image.id), reverse=True)[:keep]


def _list_newest_parts(found: list[Published], keep: int) -> set[str]:
    """Kernels and ramdisks that are as new: a release that does not tell what an image names may need them."""
    groups: dict[tuple[str, Role], list[Published]] = defaultdict(list)
    for each in found:
        if each.role != "root":
            groups[each.name, each.role].append(each)
    return {each.image.id for group in groups.values() for each in _newest(group, keep)}


def list_published(target: Target) -> list[Published]:
    """The user's images whose locations are such as publishing makes."""
    listed: dict[str, dict[str, str]] = {}
    found = []
    for image in target.compute.list_images():
        match = LOCATION.fullmatch(image.location)
        if match is None:
            continue
        bucket = match["bucket"]
        if bucket not in listed:
            listed[bucket] = {key: stored.written for key, stored in target.store.list_objects(bucket, "").items()}
        manifest = image.location.lstrip("/").partition("/")[2]
        written = listed[bucket].get(manifest, "")
        found.append(Published(image, ROLES[match["prefix"]], match["name"], written))
    return found
