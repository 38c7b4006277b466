"""The small types that recipe sections are made of."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

SHAPES: dict[str, str] = {}
"""Regular expression -> what it asks for in words, as messages and the editors' schema say it."""


class Section(BaseModel):
    """A part of a recipe: frozen, strict about types, and closed to unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def fault_at(path: tuple[str | int, ...], fact: str) -> PydanticCustomError:
    """What a check of several sections raises, so that it is reported at the field it speaks of and not at the top."""
    return PydanticCustomError("at_field", "{fact}", {"fact": fact, "path": path})


def match_shape(regex: str, words: str) -> Any:
    """Constrain text to `regex` (Rust's dialect: no look-around) and keep the words a message uses for it."""
    SHAPES[regex] = words
    return Field(pattern=regex)


def check_guest_path(value: str) -> str:
    """Refuse a path that is not absolute and plain: it will be resolved inside the guest's root."""
    path = PurePosixPath(value)
    if not path.is_absolute() or ".." in path.parts or "\0" in value or "\n" in value:
        raise ValueError("must be an absolute path inside the guest, without '..'")
    # PurePosixPath keeps exactly two leading slashes (POSIX lets them mean something); here they are one.
    plain = f"/{'/'.join(path.parts[1:])}"
    if plain == "/":
        raise ValueError("names the guest's root itself")
    return plain


def check_recipe_path(value: str) -> str:
    """Refuse a file reference that leaves the recipe's project: it is resolved below the recipe's folder."""
    path = PurePosixPath(value)
    if path.is_absolute() or ".." in path.parts or not path.parts or not value.isprintable():
        raise ValueError("must be a path below the recipe's own folder, without '..' or a leading '/'")
    return str(path)


def check_key_path(value: str) -> str:
    """Take a key file below the recipe's folder, or by its absolute path on the building host."""
    if value.startswith("/"):
        return check_guest_path(value)
    return check_recipe_path(value)


def check_line(value: str) -> str:
    """Refuse text that would end the line it is written into."""
    if any(character in value for character in "\n\r\0"):
        raise ValueError("must be a single line")
    return value


def check_address(value: str) -> str:
    """Refuse what is no IPv4 or IPv6 address."""
    from ipaddress import ip_address  # only recipes with fixed addresses pay for this import

    try:
        address = ip_address(value)
    except ValueError:
        raise ValueError("must be an IP address, such as 10.0.2.1") from None
    if address.is_unspecified or address.is_multicast or str(address) == "255.255.255.255":
        raise ValueError(f"{address} is not the address of one machine")
    return str(address)


def check_interface_address(value: str) -> str:
    """Refuse what is no IPv4 address with the length of its network."""
    from ipaddress import IPv4Interface

    try:
        if "/" not in value:
            raise ValueError
        interface = IPv4Interface(value)
    except ValueError:
        raise ValueError("must be an address with its network's length, such as 10.0.2.50/24") from None
    address, network = interface.ip, interface.network
    if address.is_multicast or address.is_reserved or address.is_loopback or int(address) >> 24 == 0:
        raise ValueError(f"{address} is not an address that a machine can have in a network")
    if network.prefixlen == 0:
        raise ValueError("a network of length 0 is the whole Internet: give its real length, such as /24")
    # RFC 3021: a network of two has neither.
    if network.prefixlen < 31 and address in (network.network_address, network.broadcast_address):
        which = "network itself" if address == network.network_address else "network's broadcast address"
        raise ValueError(f"{address} is the {which}, not one machine in {network}")
    return interface.with_prefixlen


def check_gateway(gateway: str, addresses: Iterable[str]) -> None:
    """Refuse a gateway that a machine with these addresses could not reach, or that is the machine itself."""
    from ipaddress import IPv4Interface, ip_address

    found = [IPv4Interface(address) for address in addresses]
    networks = " or ".join(str(interface.network) for interface in found)
    if not any(ip_address(gateway) in interface.network for interface in found):
        raise ValueError(f"gateway: {gateway} is not in the network {networks}")
    if any(ip_address(gateway) == interface.ip for interface in found):
        raise ValueError(f"gateway: {gateway} is the interface's own address")


def check_repository_name(value: str) -> str:
    """Refuse the one section of yum.conf(5) that is no repository."""
    if value == "main":
        raise ValueError("dnf and yum keep the name 'main' for their own settings: take another one")
    return value


def find_repeated(values: Iterable[object]) -> list[str]:
    """The values that occur more than once, as text, each once and in order."""
    count = Counter(values)
    return [str(value) for value in count if count[value] > 1]


def require_unique(values: Iterable[object], what: str) -> None:
    """Refuse two entries of a list that would overwrite each other; `what` names what they share."""
    if repeated := find_repeated(values):
        raise ValueError(f"two entries share the {what} {', '.join(repeated)}")


PACKAGE_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+~^:-]*")
"""Names, versions and architectures of packages, dpkg's and rpm's."""


def check_package(name: str, version: str, arch: str, location: str) -> None:
    """Refuse a package whose words cannot be file names and addresses: neither an index nor a lock is trusted."""
    fact = f"impossible package: {(name, version, arch)} at {location!r}"
    if not all(PACKAGE_WORD.fullmatch(word) for word in (name, version, arch)):
        raise ValueError(fact)
    if not location or not location.isprintable() or location.startswith("/") or ".." in location.split("/"):
        raise ValueError(fact)


Name = Annotated[
    str,
    match_shape(
        r"^[a-z0-9][a-z0-9._-]{0,62}$",
        "lower-case letters, digits, '.', '_' and '-', starting with a letter or digit, 63 at most",
    ),
]
"""A recipe's, disk's or repository's name."""

RepositoryName = Annotated[Name, AfterValidator(check_repository_name)]

_LABEL = "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
Hostname = Annotated[
    str,
    match_shape(
        rf"^{_LABEL}(\.{_LABEL})*$", "a host name: letters, digits, inner '-', in parts joined by '.'"
    ),
]
"""RFC 1123, 2.1."""

UserName = Annotated[
    str, match_shape(r"^[a-z_][a-z0-9_-]{0,31}$", "a user name: a-z, 0-9, '_' and '-', 32 at most")
]
"""What useradd of shadow-utils takes."""

PackageName = Annotated[
    str,
    match_shape(
        r"^[A-Za-z0-9][A-Za-z0-9+._:=~^-]*$",
        "a package's name, perhaps with =VERSION",
    ),
]
"""A package as its manager names it; never starts like an option."""

ModuleName = Annotated[str, match_shape(r"^[A-Za-z0-9_-]+$", "a kernel module's name, without .ko")]

GuestPath = Annotated[str, AfterValidator(check_guest_path)]

PlainPath = Annotated[
    str,
    match_shape(r"^/[A-Za-z0-9._+@/-]+$", "an absolute path of letters, digits and . _ + @ - only"),
    AfterValidator(check_guest_path),
]
"""A path that is written into passwd, fstab or a domain config, where ':', blanks, quotes and ',' divide."""

RecipePath = Annotated[str, AfterValidator(check_recipe_path)]
KeyPath = Annotated[str, AfterValidator(check_key_path)]
Line = Annotated[str, AfterValidator(check_line)]

Word = Annotated[str, match_shape(r"^[^\s#]+$", "one word, without blanks or '#'")]
"""A field of fstab(5)."""

Address = Annotated[str, AfterValidator(check_address)]
InterfaceAddress = Annotated[str, AfterValidator(check_interface_address)]

Device = Annotated[
    str,
    match_shape(
        r"^((xvd|sd)[a-p]([1-9]|1[0-5])?|hd[a-d]([1-9]|[1-5][0-9]|6[0-3])?)$",
        "a guest's disk without /dev/, such as xvda1 or sda1: xvda..xvdp and sda..sdp with partitions 1..15,"
        " hda..hdd with 1..63",
    ),
]
"""What the simple numbers of xen-vbd-interface(7) hold; guests differ about the others."""

Mode = Annotated[str, match_shape(r"^[0-7]{3,4}$", 'a file mode in octal, in quotes: "0644"')]

Url = Annotated[
    str,
    match_shape(
        r"^(https?|ftp|file)://[^\s'\"@]+$",
        "a URL (http, https, ftp or file), without blanks and without a user name or password in it",
    ),
]
"""No '@': credentials have no place in a recipe."""

SizeMib = Annotated[int, Field(ge=8, le=16 * 1024 * 1024)]

PublicKey = Annotated[
    str,
    match_shape(
        r"^(ssh-|ecdsa-|sk-)[a-z0-9@.-]+ [A-Za-z0-9+/=]+( [^\n]*)?$",
        "the one line of an ssh public key: type, base64, comment",
    ),
]

PasswordHash = Annotated[
    str,
    match_shape(
        r"^(\$[0-9a-z]+\$[^:\s]+|[!*])$",
        'a password\'s hash, as `openssl passwd -6` prints it, or "!" for none; never the password itself',
    ),
]
"""What crypt(5) writes, or '!' and '*' for no password."""
