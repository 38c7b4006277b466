"""Bundles made with tar, gzip, split and openssl alone, right ones and wrong ones."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path

from lab_cloud.running import Running

KEY, IV = "00112233445566778899aabbccddeeff", "0f1e2d3c4b5a69788796a5b4c3d2e1f0"
PART_BYTES = 4096


def run(words: Sequence[str | os.PathLike[str]], given: bytes = b"", cwd: Path | None = None) -> bytes:
    return subprocess.run(words, input=given, check=True, capture_output=True, cwd=cwd).stdout


def same(text: str) -> str:
    """Change nothing."""
    return text


def pack_tar(*words: str) -> Callable[[Path, str], bytes]:
    """An archive of one file."""
    return lambda folder, name: run(["tar", *words, "-cf", "-", name], cwd=folder)


@dataclass
class Bundle:
    """An image on its way into a cloud; tests pack it as they like, and change what is said of it."""

    running: Running
    name: str
    image: bytes
    kind: str = "machine"
    kernel: str = ""
    ramdisk: str = ""
    architecture: str = "x86_64"
    archive: Callable[[Path, str], bytes] = lambda folder, name: pack_tar("--format=gnu")(folder, name)
    pack: Callable[[bytes], bytes] = lambda data: run(["gzip", "-1"], data)
    parts: dict[str, bytes] = field(default_factory=dict)
    text: str = ""
    """The manifest, with @ in place of its signature."""

    @cached_property
    def image_id(self) -> str:
        """Of one registration that nobody takes back."""
        name = f"{self.name}-kept.manifest.xml"
        self.put({name: self.sign()})
        return self.running.client.ec2("RegisterImage", ImageLocation=f"images/{name}").text("imageId")

    def build(self, folder: Path) -> Bundle:
        """Make the parts, and the manifest's text."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / self.name).write_bytes(self.image)
        archive = self.archive(folder, self.name)
        cipher = run(["openssl", "enc", "-aes-128-cbc", "-K", KEY, "-iv", IV], self.pack(archive))
        self.parts = {f"{self.name}.part.{start // PART_BYTES:02d}": cipher[start : start + PART_BYTES]
                      for start in range(0, len(cipher), PART_BYTES)}  # fmt: skip
        certificate = self.running.credentials / "cloud-cert.pem"
        elements = "".join(f"<{name}>{text}</{name.split()[0]}>" for name, text in {
            "name": self.name, "user": self.running.cloud.account.number, "type": self.kind,
            'digest algorithm="SHA1"': hashlib.sha1(archive).hexdigest(), "size": str(len(self.image)),
            "bundled_size": str(len(cipher)), 'ec2_encrypted_key algorithm="AES-128-CBC"': seal(certificate, KEY),
            "user_encrypted_key": "", "ec2_encrypted_iv": seal(certificate, IV), "user_encrypted_iv": "",
        }.items())  # fmt: skip
        listed = "".join(f'<part index="{number}"><filename>{name}</filename><digest algorithm="SHA1">'
                         f"{hashlib.sha1(data).hexdigest()}</digest></part>"
                         for number, (name, data) in enumerate(self.parts.items()))  # fmt: skip
        ids = "".join(f"<{name}_id>{value}</{name}_id>" for name, value in
                      (("kernel", self.kernel), ("ramdisk", self.ramdisk)) if value)  # fmt: skip
        self.text = (
            '<?xml version="1.0"?><manifest><version>2007-10-10</version><bundler><name>by hand</name></bundler>'
            f"<machine_configuration><architecture>{self.architecture}</architecture>{ids}</machine_configuration>"
            f'<image>{elements}<parts count="{len(self.parts)}">{listed}</parts></image>@</manifest>')  # fmt: skip
        return self

    def sign(self, change: Callable[[str], str] = same, forge: Callable[[str], str] = same) -> bytes:
        """The manifest, changed before and after it is signed."""
        text = change(self.text)
        machine = text[text.index("<machine_configuration>") : text.index("</machine_configuration>")]
        image = text[text.index("<image>") : text.index("</image>")]
        whole = f"{machine}</machine_configuration>{image}</image>".encode()
        key = next(self.running.credentials.glob("euca2-*-pk.pem"))
        signature = run(["openssl", "dgst", "-sha1", "-sign", key], whole).hex()
        return forge(text.replace("@", f"<signature>{signature}</signature>")).encode()

    def put(self, objects: dict[str, bytes], bucket: str = "images", acl: str = "aws-exec-read") -> None:
        client = self.running.client
        assert client.s3("PUT", f"/{bucket}").code in ("", "BucketAlreadyOwnedByYou")
        for name, data in objects.items():
            assert client.s3("PUT", f"/{bucket}/{name}", data, x_amz_acl=acl).code == ""

    def upload(self, manifest: bytes, acl: str = "aws-exec-read", prefix: str = "") -> str:
        """The manifest's location."""
        name = f"{prefix}{self.name}.manifest.xml"
        self.put({name: manifest, **{f"{prefix}{name}": data for name, data in self.parts.items()}}, acl=acl)
        return f"images/{name}"

    def publish(self, folder: Path) -> str:
        """The registered image's id."""
        reply = self.running.client.ec2("RegisterImage", ImageLocation=self.upload(self.build(folder).sign()))
        assert reply.code == "", reply.body
        return reply.text("imageId")


@cache
def seal(certificate: Path, text: str) -> str:
    return run(["openssl", "pkeyutl", "-encrypt", "-certin", "-inkey", certificate], text.encode()).hex()
