"""Who the user is at a cloud: key, certificates and account, from the environment or an eucarc."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from xenkiln.clouds.eucarc import read_eucarc
from xenkiln.errors import HostError

EUCARC = Path("~/.euca/eucarc")
"""Where euca2ools looks too."""
PRIVATE_KEY, CERTIFICATE, CLOUD_CERTIFICATE = "EC2_PRIVATE_KEY", "EC2_CERT", "EUCALYPTUS_CERT"
ACCOUNTS = ("EC2_ACCOUNT_NUMBER", "EC2_USER_ID")
"""From Eucalyptus 3.0 on the second is the user's own number, and the first the one that a manifest has."""


@dataclass(frozen=True)
class Credentials:
    """What bundling needs: account is 12 digits."""

    account: str
    private_key: rsa.RSAPrivateKey
    certificate: x509.Certificate
    cloud_certificate: x509.Certificate

    @property
    def public_text(self) -> str:
        """Whose bundles these credentials make, as text without any secret."""
        keys = [each.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
                for each in (self.certificate, self.cloud_certificate)]  # fmt: skip
        return "\n".join([self.account, *keys])

    @property
    def cloud_key(self) -> rsa.RSAPublicKey:
        """The key that the cloud alone can open."""
        key = self.cloud_certificate.public_key()
        assert isinstance(key, rsa.RSAPublicKey)  # noqa: S101  # as it was read
        return key


class Lookup:
    """Variables of the environment and of one eucarc; remembers where it looked.

    Where the environment names a private key, only the eucarc beside that one counts: two clouds are never mixed.
    """

    def __init__(self, environment: Mapping[str, str], eucarc: Path) -> None:
        self._environment = environment
        named = environment.get(PRIVATE_KEY)
        self._eucarc = Path(named).expanduser().with_name("eucarc") if named else eucarc.expanduser()
        try:
            self._values = read_eucarc(self._eucarc, environment)
        except FileNotFoundError:
            self._values = {}
        except OSError as error:
            raise HostError(f"cannot be read: {error.strerror}", place=str(self._eucarc),
                            next_step="make it readable for you alone: chmod 600") from error  # fmt: skip

    def find(self, *names: str) -> str:
        """The first of these variables that is set; HostError naming them and where they were looked for."""
        for source in (self._environment, self._values):
            for name in names:
                if value := source.get(name):
                    return value
        raise HostError(f"{' or '.join(names)} is not set, neither in the environment nor in {self._eucarc}",
                        place="credentials",
                        next_step=f"source your cloud's eucarc, or put it at {EUCARC}")  # fmt: skip

    def read(self, name: str) -> tuple[bytes, str]:
        """The file that a variable names, and how to speak of it."""
        path = Path(self.find(name)).expanduser()
        try:
            return path.read_bytes(), f"{name}={path}"
        except OSError as error:
            raise HostError(f"cannot be read: {error.strerror}", place=f"{name}={path}",
                            next_step="unpack your cloud's credentials, or correct it") from error  # fmt: skip


def find_credentials(environment: Mapping[str, str], eucarc: Path = EUCARC) -> Credentials:
    """All that bundling needs; raises HostError naming the variable and the file that is missing or wrong."""
    lookup = Lookup(environment, eucarc)
    key = find_private_key(lookup)
    certificate, place = _read_certificate(lookup, CERTIFICATE)
    if certificate.public_key() != key.public_key():
        raise HostError(f"the certificate is not that of the key in {PRIVATE_KEY}", place=place,
                        next_step="take both from the same credentials")  # fmt: skip
    cloud, _ = _read_certificate(lookup, CLOUD_CERTIFICATE)
    account = lookup.find(*ACCOUNTS).replace("-", "")
    if not re.fullmatch("[0-9]{12}", account):
        raise HostError(f"an account has 12 digits, this is {account!r}", place=" or ".join(ACCOUNTS),
                        next_step="set EC2_ACCOUNT_NUMBER to your account's number")  # fmt: skip
    return Credentials(account, key, certificate, cloud)


def find_private_key(lookup: Lookup) -> rsa.RSAPrivateKey:
    """The user's own key."""
    data, place = lookup.read(PRIVATE_KEY)
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


def _read_certificate(lookup: Lookup, name: str) -> tuple[x509.Certificate, str]:
    data, place = lookup.read(name)
    try:
        certificate = x509.load_pem_x509_certificate(data)
        is_rsa = isinstance(certificate.public_key(), rsa.RSAPublicKey)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise HostError("is no certificate in PEM", place=place,
                        next_step="unpack your cloud's credentials again") from error  # fmt: skip
    if not is_rsa:
        raise HostError("is no certificate of RSA, and bundles know no other", place=place,
                        next_step="use the certificates of your cloud's credentials")  # fmt: skip
    return certificate, place
