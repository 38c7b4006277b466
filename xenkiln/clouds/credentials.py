"""Whose bundles are made: key, certificates and account, from the place that the user's access comes from."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from xenkiln.clouds.settings import Problems, Role, Source, expand_path, read_file, warn_of_readers
from xenkiln.clouds.sources import choose_source
from xenkiln.errors import HostError
from xenkiln.model.cloud import CloudRecipe

OLD_DIALECTS = ("eucalyptus-1.4", "eucalyptus-2")
KEY_FILE_NAME = re.compile(r"euca2-(.+)-[0-9a-f]{8}-pk\.pem")
"""The name in it is the user's."""


@dataclass(frozen=True)
class Credentials:
    """What bundling needs: account is 12 digits."""

    account: str
    private_key: rsa.RSAPrivateKey = field(repr=False)
    certificate: x509.Certificate
    cloud_certificate: x509.Certificate

    @property
    def public_text(self) -> str:
        """Whose bundles these credentials make, as text without any secret."""
        keys = [each.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
                for each in (self.certificate, self.cloud_certificate)]  # fmt: skip
        return "\n".join([self.account, *keys])

    def derive_secret(self, digest: str, count: int) -> bytes:
        """Bytes that follow from the user's key and `digest` alone, and tell nothing of that key (RFC 5869)."""
        key = self.private_key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        return HKDF(SHA256(), count, None, f"xenkiln bundle {digest}".encode()).derive(key)

    @property
    def cloud_key(self) -> rsa.RSAPublicKey:
        """The key that the cloud alone can open."""
        key = self.cloud_certificate.public_key()
        assert isinstance(key, rsa.RSAPublicKey)  # noqa: S101  # as it was read
        return key


def find_credentials(
    environment: Mapping[str, str], recipe: CloudRecipe | None = None, place: str = "credentials"
) -> Credentials:
    """All that bundling needs, from the same place as the user's access; `place` is the recipe's file.

    Raises one HostError with all that is missing or wrong, and where it was looked for.
    """
    source = choose_source(recipe, environment, place)
    problems = Problems()
    attempt = problems.attempt
    key = attempt(lambda: _read_private_key(source))
    certificate = attempt(lambda: _read_certificate(source, "certificate"))
    cloud = attempt(lambda: _read_certificate(source, "cloud_certificate"))
    account = attempt(lambda: _find_account(source, recipe))
    if key and certificate and certificate.public_key() != key.public_key():
        fact = f"the certificate is not that of the key in {source.name('private_key')}"
        problems.found.append(HostError(fact, place=source.name("certificate"),
                                        next_step="take both from the same credentials"))  # fmt: skip
    if problems.found or not (key and certificate and cloud and account):
        problems.refuse()
    return Credentials(account, key, certificate, cloud)


def find_private_key(
    environment: Mapping[str, str], recipe: CloudRecipe | None = None, place: str = "credentials"
) -> rsa.RSAPrivateKey:
    """The user's own key."""
    return _read_private_key(choose_source(recipe, environment, place))


def _find_account(source: Source, recipe: CloudRecipe | None) -> str:
    """12 digits. In releases before 3.0 they are made of the user's name, and some eucarcs have none or others."""
    account = source.get("account").replace("-", "")
    if re.fullmatch("[0-9]{12}", account):
        return account
    if recipe and recipe.dialect in OLD_DIALECTS:
        named = KEY_FILE_NAME.fullmatch(source.get("private_key").rpartition("/")[2])
        if named:
            return f"{zlib.adler32(named[1].encode()):012d}"
    if not account:
        raise source.describe_missing("account")
    shown = repr(account) if account.isdigit() else "something else"
    raise HostError(f"an account has 12 digits, this is {shown}", place=source.name("account"),
                    next_step=f"set {source.names['account']} to your account's number")  # fmt: skip


def _read_setting(source: Source, role: Role) -> tuple[bytes, str, Path]:
    """The file that a setting names, how to speak of it, and its path."""
    value = source.get(role)
    if not value:
        raise source.describe_missing(role)
    path = expand_path(value, source.name(role))
    place = f"{source.name(role)}={path}"
    return read_file(path, place, "unpack your cloud's credentials, or correct it"), place, path


def _read_private_key(source: Source) -> rsa.RSAPrivateKey:
    data, place, path = _read_setting(source, "private_key")
    warn_of_readers(path)
    return parse_private_key(data, place)


def parse_private_key(data: bytes, place: str) -> rsa.RSAPrivateKey:
    """A private key of RSA in PEM, without a pass phrase."""
    try:
        key = load_pem_private_key(data, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise HostError("is no private key in PEM without a pass phrase", place=place,
                        next_step="openssl rsa -in FILE -out FILE takes a pass phrase away") from error  # fmt: skip
    if not isinstance(key, rsa.RSAPrivateKey):
        raise HostError("is no key of RSA, and bundles know no other", place=place,
                        next_step="use the key of your cloud's credentials")  # fmt: skip
    return key


def _read_certificate(source: Source, role: Role) -> x509.Certificate:
    data, place, _ = _read_setting(source, role)
    try:
        certificate = x509.load_pem_x509_certificate(data)
        is_rsa = isinstance(certificate.public_key(), rsa.RSAPublicKey)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise HostError("is no certificate in PEM", place=place,
                        next_step="unpack your cloud's credentials again") from error  # fmt: skip
    if not is_rsa:
        raise HostError("is no certificate of RSA, and bundles know no other", place=place,
                        next_step="use the certificates of your cloud's credentials")  # fmt: skip
    return certificate
