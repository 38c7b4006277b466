"""Images that have been put together, one file each, kept until their image is deregistered and nobody runs it."""

from __future__ import annotations

import re
import threading
from collections import defaultdict
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING

from xenkiln.lab.cloud import openssl
from xenkiln.lab.cloud.account import CLOUD_KEY
from xenkiln.lab.cloud.assembly import assemble
from xenkiln.lab.cloud.calls import Call
from xenkiln.lab.cloud.faults import Fault
from xenkiln.lab.cloud.index import Record
from xenkiln.lab.cloud.instance_files import INSTANCES, list_images
from xenkiln.lab.cloud.manifest import Manifest, read_manifest, refuse
from xenkiln.lab.cloud.registration import IMAGES, check_readable, read_object, verify
from xenkiln.system.files import remove_path

if TYPE_CHECKING:
    from xenkiln.lab.cloud.cloud import Cloud

TAKEN_FOR_ENDINGS = re.compile("tgz|.tar")
"""1.4 makes the names of its files by replacing these in whole paths."""
IMAGE = "image"


class ImageCache:
    """Of one cloud; any thread may ask it."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._folder = cloud.folder / "images"
        self._folder.mkdir(exist_ok=True, mode=0o700)
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    def obtain(self, image: Record) -> Path:
        """The image's file, put together now if it has not been; raises Fault. It must not be written."""
        path = self._folder / str(image["id"]) / IMAGE
        with self._locks[image["id"]]:
            if path.exists() and not self._cloud.profile.rereads_manifest:
                return path
            manifest = self._read(image)
            if not path.exists():
                path.parent.mkdir(exist_ok=True)
                key = self._cloud.folder / "cloud" / CLOUD_KEY
                secret = (openssl.open_sealed(manifest.sealed_key, "ec2_encrypted_key", key),
                          openssl.open_sealed(manifest.sealed_iv, "ec2_encrypted_iv", key))  # fmt: skip
                assemble(manifest, lambda file: self._open_part(image, file), secret, path,
                         as_java=self._cloud.profile.java_tar)  # fmt: skip
        return path

    def _read(self, image: Record) -> Manifest:
        profile, call = self._cloud.profile, Call(self._cloud, {})
        if profile.java_tar and TAKEN_FOR_ENDINGS.search(f"/{image['location']}"):
            raise refuse('with "tgz" in a name, or "tar" in its midst, this release cannot keep the image')
        manifest = read_manifest(read_object(call, image["bucket"], image["key"]))
        if profile.rereads_manifest and manifest.signature != image["signature"]:
            raise refuse("Manifest signature has changed since registration")
        if profile.verifies == "run" and not verify(call, manifest):
            raise refuse("its signature is not the user's")
        return manifest

    def _open_part(self, image: Record, file: str) -> BufferedReader:
        key = f"{image['key'].rpartition('/')[0]}/{file}".removeprefix("/")
        try:
            found = self._cloud.shelf.find(image["bucket"], key)
        except Fault as fault:
            raise refuse(f"{image['bucket']}/{key} cannot be read: {fault.message}") from None
        check_readable(self._cloud.profile.reads_as_system, found)
        return found.path.open("rb")

    def drop_unused(self) -> None:
        """Remove the files of images that are not registered any more, and that no instance runs from."""
        there = list(self._folder.iterdir())  # before it is looked up who uses what: meanwhile others may come
        index = self._cloud.index
        with index.changing():
            used = {each["id"] for each in index.list_all(IMAGES)} | list_images(index.list_all(INSTANCES))
        for path in there:
            if path.name not in used:
                with self._locks[path.name]:
                    remove_path(path)
