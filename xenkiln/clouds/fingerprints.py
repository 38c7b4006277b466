"""Whether a private key is that of a key pair at a cloud, by the fingerprint that the cloud tells.

Of a pair that they have made, Amazon (KeyPairInfo in the EC2 API reference) and every Eucalyptus tell SHA-1 of the
private key in PKCS #8 DER; of an imported one, MD5 of the public key, in DER or as ssh has it (RFC 4716, section 4);
of ED25519, SHA-256 as ssh-keygen prints it.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_ssh_private_key,
)

from xenkiln.clouds.settings import read_file
from xenkiln.errors import HostError

PREFIX = re.compile(r"(MD5|SHA1|SHA256):", re.IGNORECASE)
OPENSSH = b"-----BEGIN OPENSSH"


def has_fingerprint(path: Path, told: str) -> bool:
    """Whether the private key in that file has this fingerprint; HostError where it is none that can be read."""
    data = read_file(path, str(path), "make it readable for you")
    try:
        key = load_ssh_private_key(data, None) if OPENSSH in data else load_pem_private_key(data, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey):
        raise HostError("is no private key that can be read without a passphrase", place=str(path),
                        next_step="put the pair's own there, or move this one away")  # fmt: skip
    bare = PREFIX.sub("", told.strip(), count=1)
    return bare.replace(":", "").lower() in _list_hex(key) or bare.rstrip("=") in _list_base64(key)


def _list_forms(key: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey) -> Iterator[bytes]:
    public = key.public_key()
    yield key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    yield public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    yield base64.b64decode(public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).split()[1])


def _list_hex(key: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey) -> set[str]:
    return {hashlib.new(name, form, usedforsecurity=False).hexdigest()
            for form in _list_forms(key) for name in ("md5", "sha1", "sha256")}  # fmt: skip


def _list_base64(key: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey) -> set[str]:
    return {base64.b64encode(hashlib.sha256(form).digest()).decode().rstrip("=") for form in _list_forms(key)}
