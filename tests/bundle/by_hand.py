"""A bundle opened with openssl, gzip and tar alone, and keys made with openssl: nothing of ours takes part."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key


def run(words: Sequence[str | os.PathLike[str]], given: bytes = b"") -> bytes:
    return subprocess.run(words, input=given, check=True, capture_output=True).stdout


@dataclass(frozen=True)
class Owner:
    """A key and its certificate, as files."""

    key_file: Path
    certificate_file: Path

    @cached_property
    def key(self) -> rsa.RSAPrivateKey:
        key = load_pem_private_key(self.key_file.read_bytes(), None)
        assert isinstance(key, rsa.RSAPrivateKey)
        return key


def make_owner(folder: Path, name: str) -> Owner:
    folder.mkdir(parents=True, exist_ok=True)
    key, certificate = folder / f"{name}-pk.pem", folder / f"{name}-cert.pem"
    run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-days", "2",
         "-keyout", key, "-out", certificate])  # fmt: skip
    return Owner(key, certificate)


def find(pattern: str, manifest: bytes) -> str:
    found = re.search(pattern, manifest.decode("ascii"), re.DOTALL)
    assert found, pattern
    return found[1]


def check_signature(manifest: bytes, owner: Owner, folder: Path) -> bool:
    """As the servers do: the two elements cut out of the text, one after the other."""
    signed = (find("(<machine_configuration>.*</machine_configuration>)", manifest)
              + find("(<image>.*</image>)", manifest))  # fmt: skip
    (folder / "signature").write_bytes(bytes.fromhex(find("<signature>(.*)</signature>", manifest)))
    (folder / "public.pem").write_bytes(run(["openssl", "x509", "-in", owner.certificate_file, "-noout", "-pubkey"]))
    words: list[str | Path] = ["openssl", "dgst", "-sha1", "-verify", folder / "public.pem"]
    words += ["-signature", folder / "signature"]
    return subprocess.run(words, input=signed.encode(), capture_output=True).returncode == 0


def open_sealed(manifest: bytes, what: str, owner: Owner) -> str:
    sealed = bytes.fromhex(find(f"<{what}(?: [^>]*)?>([0-9a-f]*)</", manifest))
    return run(["openssl", "pkeyutl", "-decrypt", "-inkey", owner.key_file], sealed).decode("ascii")


def open_bundle(folder: Path, name: str, owner: Owner, who: str) -> bytes:
    """The image of a bundle, as a server of the time puts it together again."""
    manifest = (folder / f"{name}.manifest.xml").read_bytes()
    key, iv = (open_sealed(manifest, f"{who}_encrypted_{what}", owner) for what in ("key", "iv"))
    parts = re.findall(r'<part index="(\d+)"><filename>([^<]*)</filename><digest algorithm="SHA1">([0-9a-f]*)</',
                       manifest.decode("ascii"))  # fmt: skip
    assert [int(number) for number, *_ in parts] == list(range(int(find(r'<parts count="(\d+)"', manifest))))
    for _, filename, digest in parts:
        assert run(["sha1sum", folder / filename]).split()[0].decode() == digest
    sizes = [(folder / filename).stat().st_size for _, filename, _ in parts]
    assert all(size == 10485760 for size in sizes[:-1])
    assert 0 < sizes[-1] <= 10485760
    assert sum(sizes) == int(find("<bundled_size>(.*)</bundled_size>", manifest))
    cipher = b"".join((folder / filename).read_bytes() for _, filename, _ in parts)
    archive = run(["gzip", "-dc"], run(["openssl", "enc", "-d", "-aes-128-cbc", "-K", key, "-iv", iv], cipher))
    assert run(["sha1sum"], archive).split()[0].decode() == find('<digest algorithm="SHA1">(.*?)</digest>', manifest)
    image = run(["tar", "xO"], archive)
    assert len(image) == int(find("<size>(.*)</size>", manifest))
    return image
