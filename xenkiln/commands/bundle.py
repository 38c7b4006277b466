"""bundle:NAME: kernel, ramdisk and root filesystem as bundles for an EC2-compatible cloud."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

from xenkiln import pipeline
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
from xenkiln.bundle.parts import Part, make_parts, make_secret
from xenkiln.clouds.credentials import Credentials, find_credentials
from xenkiln.errors import BuildError
from xenkiln.model.loader import LoadedImage
from xenkiln.system.files import hash_file, list_extents, partial_path, remove_path, write_finished
from xenkiln.system.layout import build_folder
from xenkiln.system.locks import hold_lock
from xenkiln.system.preflight import find_space_problem
from xenkiln.system.progress import Tell, show_progress

RECORD = "bundle.json"
BROKEN_NAMES = "crypt.gz|tgz|.tar"
"""1.4 replaces these, as regular expressions, in the names of its own files."""
SUMS = "SHA256SUMS"


@dataclass(frozen=True)
class Component:
    """A file of an image, and what it is to a cloud.

    Eucalyptus before 4.1 takes what begins with vmlinuz for a kernel, with initrd for a ramdisk: `name` begins so for
    these alone.
    """

    file: str
    kind: Kind
    name: str


def list_components(name: str) -> list[Component]:
    """In the order in which a cloud must know them: a root filesystem names the other two."""
    return [Component("vmlinuz", "kernel", f"vmlinuz-{name}"), Component("initrd.img", "ramdisk", f"initrd-{name}"),
            Component("root.img", "machine", f"root-{name}")]  # fmt: skip


def check(loaded: LoadedImage) -> None:
    """Refuse before anything is built."""
    find_credentials(os.environ)


def run(loaded: LoadedImage) -> None:
    """Bundle what has changed since the last time, whole or not at all."""
    credentials = find_credentials(os.environ)
    images = pipeline.paths_for(loaded).images
    folder = build_folder() / "bundles" / loaded.name
    started = time.monotonic()
    with hold_lock(folder.with_name(f"{folder.name}.lock"), f"the bundles of {loaded.name}"):
        key = make_key(images, credentials)
        if is_current(folder, key):
            print(f"bundle:{loaded.name}  up to date: {folder}")
            return
        require_space(images, list_components(loaded.name))
        unfinished = partial_path(folder)
        remove_path(unfinished)
        unfinished.mkdir(parents=True)
        try:
            with show_progress(f"bundle:{loaded.name}") as tell:
                for component in list_components(loaded.name):
                    bundle(component, images / component.file, unfinished, loaded.recipe.arch, credentials, tell)
            files = {path.name: hash_file(path) for path in sorted(unfinished.iterdir())}
            record = {"key": key, "files": files}
            write_finished(unfinished / RECORD, json.dumps(record, indent=1, sort_keys=True) + "\n")
            remove_path(folder)
            unfinished.rename(folder)
        finally:
            remove_path(unfinished)
    size = sum((folder / name).stat().st_size for name in files) / 1e6
    if re.search(BROKEN_NAMES, loaded.name):
        print(f"bundle:{loaded.name}  Eucalyptus 1.4 cannot keep this name: it takes a part of it for a file's ending")
    print(f"bundle:{loaded.name}  {time.monotonic() - started:.1f} s  {len(files)} files, {size:.1f} MB, in {folder}")


def make_key(images: Path, credentials: Credentials) -> str:
    """What the bundles are made of and for whom, as one digest."""
    text = json.dumps([(images / SUMS).read_text(encoding="ascii"), credentials.public_text])
    return hashlib.sha256(text.encode()).hexdigest()


def is_current(folder: Path, key: str) -> bool:
    """Whether all files are there, whole, that were made of the same."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="ascii"))
        if record["key"] != key:
            return False
        return bool({name: hash_file(folder / name) for name in record["files"]} == record["files"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def require_space(images: Path, components: list[Component]) -> None:
    """Raise HostError where the bundles might not fit: as large as the data, where that cannot be compressed."""
    data = sum((images / component.file).stat().st_blocks * 512 for component in components)
    if problem := find_space_problem(build_folder(), (data >> 20) + 1, f"the bundles may take {(data >> 20) + 1}"):
        raise problem


def bundle(component: Component, image: Path, folder: Path, arch: str, credentials: Credentials, tell: Tell) -> None:
    """One file as parts and a manifest, which is read again as the cloud will read it."""
    secret = make_secret()
    keys = Keys(credentials.cloud_key, credentials.private_key)

    def keep(part: Part, data: memoryview) -> None:
        with (folder / name_part(component.name, part.number)).open("xb") as stream:
            stream.write(data)
            os.fsync(stream.fileno())
        tell(f"{component.file}: part {part.number + 1}")

    tell(component.file)
    content = make_parts(image, lay_out(image, component.name), secret, keep)
    description = Description(component.name, credentials.account, component.kind, arch)
    data = render_manifest(description, content, secret, keys)
    path = folder / f"{component.name}.manifest.xml"
    found = parse_manifest(data, path.name)
    public_key = credentials.private_key.public_key()
    if not check_signature(found, public_key) or open_secret(found.user, credentials.private_key, path.name) != secret:
        raise BuildError("the manifest does not stand its own check", place=path.name)
    write_finished(path, data)


def lay_out(image: Path, name: str) -> Layout:
    """A plain archive, which every server reads, as long as the image fits into one."""
    with image.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        extents = list(list_extents(stream.fileno(), size))
    return (lay_out_plain if size < LARGEST_PLAIN_BYTES else lay_out_sparse)(name, size, extents)
