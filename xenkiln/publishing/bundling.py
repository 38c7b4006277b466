"""A component as a bundle: into a folder of build/bundles, or straight to a cloud."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xenkiln.bundle.archive import LARGEST_PLAIN_BYTES, Layout, lay_out_plain, lay_out_sparse
from xenkiln.bundle.manifest import (
    Description,
    Keys,
    Kind,
    check_signature,
    name_part,
    open_secret,
    parse_manifest,
    render_manifest,
)
from xenkiln.bundle.manifest import (
    Mapping as DeviceMapping,
)
from xenkiln.bundle.parts import KEY_BYTES, Content, Part, Secret, Sink, make_parts, make_secret
from xenkiln.errors import BuildError
from xenkiln.publishing.subject import Component, Role, Subject
from xenkiln.publishing.target import Target
from xenkiln.system.files import hash_file, list_extents, partial_path, remove_path, write_finished
from xenkiln.system.layout import build_folder
from xenkiln.system.locks import hold_lock
from xenkiln.system.preflight import find_space_problem

RECORD = "bundle.json"
MD5 = re.compile("[0-9a-f]{32}")
KINDS: dict[Role, Kind] = {"kernel": "kernel", "ramdisk": "ramdisk", "root": "machine"}
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Bundle:
    """What is bundled for whom. ids: of the kernel and the ramdisk that a root filesystem names, where known."""

    subject: Subject
    component: Component
    target: Target
    ids: Mapping[str, str]

    @property
    def manifest_name(self) -> str:
        """The manifest's file, and its object's name."""
        return f"{self.component.name}.manifest.xml"

    @property
    def folder(self) -> Path:
        """Where it is kept when it goes through a folder."""
        return build_folder() / "bundles" / self.subject.name / self.component.role

    @property
    def key(self) -> str:
        """What it is made of and for whom, as one digest."""
        parts = [self.component.digest, self.component.name, self.target.credentials.public_text, dict(self.ids),
                 self.target.dialect.takes_sparse, self.subject.publish.reproducible]  # fmt: skip
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    @property
    def archive_key(self) -> str:
        """The same, and where the archive's data lie: two archives are never encrypted with one key and iv."""
        return self._combine_layout(self.key)

    def _combine_layout(self, text: str) -> str:
        return f"{text} {hashlib.sha256(self.lay_out().head).hexdigest()}"

    def choose_secret(self) -> Secret:
        """A key and an iv: new ones, or the same for the same archive where the recipe wants that."""
        if not self.subject.publish.reproducible:
            return make_secret()
        derived = self.target.credentials.derive_secret(self._combine_layout(self.component.digest), 2 * KEY_BYTES)
        return Secret(derived[:KEY_BYTES], derived[KEY_BYTES:])

    def make_parts(self, secret: Secret, sink: Sink, note: Callable[[int], None] = lambda _: None) -> Content:
        """The file as encrypted parts; `note` gets the bytes of data as they are read."""
        return make_parts(self.component.file, self.lay_out(), secret, sink, note=note)

    def lay_out(self) -> Layout:
        """A sparse archive where the cloud's release can read one and there are holes, else a plain one.

        Where it is to be reproducible, a plain one as long as it fits: the same file may have other holes tomorrow.
        """
        with self.component.file.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            extents = list(list_extents(stream.fileno(), size))
        is_wanted = sum(length for _, length in extents) < size and not self.subject.publish.reproducible
        sparse = self.target.dialect.takes_sparse and (is_wanted or size >= LARGEST_PLAIN_BYTES)
        return (lay_out_sparse if sparse else lay_out_plain)(self.component.name, size, extents)

    def make_manifest(self, content: Content, secret: Secret) -> bytes:
        """The manifest, read again as the cloud will read it: signature, keys and digests must be right."""
        credentials, component = self.target.credentials, self.component
        description = Description(
            component.name, credentials.account, KINDS[component.role], self.subject.arch,
            kernel_id=self.ids.get("kernel", ""), ramdisk_id=self.ids.get("ramdisk", ""), mappings=self.list_mappings(),
        )  # fmt: skip
        keys = Keys(credentials.cloud_key, credentials.private_key)
        data = render_manifest(description, content, secret, keys)
        found = parse_manifest(data, self.manifest_name)
        parts = tuple((name_part(component.name, part.number), part.sha1) for part in content.parts)
        opened = open_secret(found.user, credentials.private_key, self.manifest_name)
        if not check_signature(found, credentials.private_key.public_key()) or (opened, found.parts) != (secret, parts):
            raise BuildError("the manifest does not stand its own check", place=self.manifest_name)
        return data

    def list_mappings(self) -> tuple[DeviceMapping, ...]:
        """What the root filesystem is called inside, so that the cloud gives it that name."""
        if self.component.role != "root":
            return ()
        device = self.subject.root_device
        return (DeviceMapping("ami", device), DeviceMapping("root", f"/dev/{device}"))


def keep_bundle(bundle: Bundle, tell: Tell) -> bool:
    """Make the bundle in its folder, whole or not at all; False where it is there already."""
    folder = bundle.folder
    with hold_lock(folder.with_name(f"{folder.name}.lock"), f"the bundle of {bundle.subject.name}'s {folder.name}"):
        if is_current(bundle):
            return False
        require_space(bundle.component)
        unfinished = partial_path(folder)
        remove_path(unfinished)
        unfinished.mkdir(parents=True)
        try:
            _fill_folder(bundle, unfinished, tell)
            remove_path(folder)
            unfinished.rename(folder)
        finally:
            remove_path(unfinished)
    return True


def _fill_folder(bundle: Bundle, folder: Path, tell: Tell) -> None:
    secret = bundle.choose_secret()
    sizes: dict[str, tuple[int, str]] = {}

    def keep(part: Part, data: memoryview) -> None:
        name = name_part(bundle.component.name, part.number)
        with (folder / name).open("xb") as stream:
            stream.write(data)
            os.fsync(stream.fileno())
        sizes[name] = (part.size, part.md5)
        tell(f"{bundle.component.file.name}: part {part.number + 1}")

    tell(bundle.component.file.name)
    content = bundle.make_parts(secret, keep)
    manifest = bundle.make_manifest(content, secret)
    write_finished(folder / bundle.manifest_name, manifest)
    sizes[bundle.manifest_name] = (len(manifest), hashlib.md5(manifest, usedforsecurity=False).hexdigest())
    files = {path.name: hash_file(path) for path in sorted(folder.iterdir())}
    record = {"key": bundle.key, "files": files, "objects": sizes}
    write_finished(folder / RECORD, json.dumps(record, indent=1, sort_keys=True) + "\n")


def is_current(bundle: Bundle) -> bool:
    """Whether all files are there, whole, that were made of the same."""
    record = read_record(bundle)
    try:
        return bool(record.get("key") == bundle.key and {
            name: hash_file(bundle.folder / name) for name in record["files"]} == record["files"])  # fmt: skip
    except (OSError, TypeError, AttributeError):
        return False


def read_record(bundle: Bundle) -> dict[str, Any]:
    """The folder's own record: key, files with their SHA-256, objects with size and MD5; {} where there is none."""
    try:
        record: dict[str, Any] = json.loads((bundle.folder / RECORD).read_text(encoding="ascii"))
        sizes = {name: (bundle.folder / name).stat().st_size for name in record["files"]}
        objects = {name: size for name, (size, md5) in record["objects"].items() if MD5.fullmatch(md5)}
        return record if objects == sizes and bundle.manifest_name in objects and "key" in record else {}
    except (OSError, ValueError, AttributeError, KeyError, TypeError):
        return {}


def require_space(component: Component) -> None:
    """Raise HostError where the bundle might not fit: as large as the data, where that cannot be compressed."""
    needed = (component.file.stat().st_blocks * 512 >> 20) + 1
    if problem := find_space_problem(build_folder(), needed, f"the bundle of {component.file.name} may take {needed}"):
        raise problem


def find_broken_name(name: str, target: Target) -> str:
    """What the cloud's release cannot keep of an object's or a bucket's name, in words; "" for nothing."""
    regex = target.dialect.broken_names
    # It looks at the whole path.
    if not regex or not (found := re.search(regex, f"/{name}")):
        return ""
    return f"{target.recipe.dialect} takes {found[0]!r} in {name} for a file's ending"
