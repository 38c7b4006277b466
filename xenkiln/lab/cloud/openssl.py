"""What a server does with keys, done by openssl itself."""

from __future__ import annotations

import re
import tempfile
from functools import cache, lru_cache
from pathlib import Path

from xenkiln.errors import CommandError
from xenkiln.lab.cloud.faults import Fault
from xenkiln.lab.cloud.manifest import HEX, refuse
from xenkiln.system.commands import Runner

SIGNATURE_BYTES = 256
"""Of an RSA key of 2048 bits, which all keys of this cloud are."""


def check_signature_form(signature: str) -> None:
    """Raises Fault for what cannot be a signature at all."""
    if not HEX.fullmatch(signature) or len(signature) != 2 * SIGNATURE_BYTES:
        raise refuse(f"its signature is not {SIGNATURE_BYTES} bytes in hexadecimal digits")


def verify_signature(signed: bytes, signature: str, certificate: Path) -> bool:
    """Whether the owner of a certificate has signed these bytes: RSA, SHA-1."""
    try:
        check_signature_form(signature)
    except Fault:
        return False
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "public").write_text(read_public_key(certificate))
        (folder / "signed").write_bytes(signed)
        (folder / "signature").write_bytes(bytes.fromhex(signature))
        words = ["openssl", "dgst", "-sha1", "-verify", "public", "-signature", "signature", "signed"]
        return Runner().run(words, cwd=folder, accept=(0, 1)) == 0


@cache
def read_public_key(certificate: Path) -> str:
    """In PEM."""
    return Runner().read(["openssl", "x509", "-in", str(certificate), "-noout", "-pubkey"])


@lru_cache(256)
def open_sealed(sealed: str, what: str, key: Path) -> str:
    """32 hexadecimal digits that were encrypted for a key, remembered for a while; raises Fault for anything else."""
    if not HEX.fullmatch(sealed) or len(sealed) % 2:
        raise refuse(f"{what} is not in hexadecimal digits")
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "sealed"
        path.write_bytes(bytes.fromhex(sealed))
        words = ["openssl", "pkeyutl", "-decrypt", "-inkey", str(key), "-in", str(path)]
        try:
            opened = Runner().read(words)
        except CommandError:
            opened = ""
    # Newer ones of openssl give noise for what was not meant for this key.
    if not re.fullmatch("[0-9a-fA-F]{32}", opened):
        raise refuse(f"{what} is not encrypted for this cloud")
    return opened
