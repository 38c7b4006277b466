"""manifest.xml, version 2007-10-10: what a cloud reads of a bundle, signed by the user's key.

Element order, the literal "true" of kernels and ramdisks, empty elements instead of missing ones and the text that
is signed are as euca2ools 3.4.1 and ec2-ami-tools 1.5.3 write them and as Amazon and Eucalyptus 1.4 to 5 read them.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from xenkiln import __version__
from xenkiln.bundle.parts import Content, Secret
from xenkiln.errors import BuildError

PrivateKey = rsa.RSAPrivateKey
Kind = Literal["machine", "kernel", "ramdisk"]
KINDS: tuple[Kind, ...] = get_args(Kind)
VERSION = "2007-10-10"
LARGEST_BYTES = 5 << 20
"""Eucalyptus 3.4 and later refuse a larger one."""
SIGNED = ("machine_configuration", "image")
"""Servers cut these two elements out as text and check the signature over one after the other."""
UNSIGNED = "UNSIGNED"
"""What euca2ools writes in a signature's place when it is given no key."""
SHOWN_CHARACTERS = 60


@dataclass(frozen=True)
class Mapping:
    """A line of a machine image's block device mapping: ami -> sda1."""

    virtual: str
    device: str


@dataclass(frozen=True)
class Description:
    """What a manifest says beside the content: `name` prefixes the parts, `user` is the account's 12 digits."""

    name: str
    user: str
    kind: Kind
    architecture: str
    kernel_id: str = ""
    ramdisk_id: str = ""
    mappings: tuple[Mapping, ...] = ()
    product_codes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Keys:
    """Whose a bundle is: the user's key signs it; it and the key of the cloud's certificate can open it."""

    cloud: rsa.RSAPublicKey
    private: rsa.RSAPrivateKey


@dataclass(frozen=True)
class Manifest:
    """A manifest that was read.

    size, bundled_size: bytes of the image and of all parts. sha1: of the archive. parts: (file name, SHA-1) in their
    order. ec2, user: (key, iv) as encrypted for the cloud and for the user. All digests and secrets are in hex.
    """

    description: Description
    size: int
    bundled_size: int
    sha1: str
    parts: tuple[tuple[str, str], ...]
    ec2: tuple[str, str]
    user: tuple[str, str]
    signed: bytes
    signature: str


def name_part(name: str, number: int) -> str:
    """As euca2ools names them; readers take names and order from the manifest alone."""
    return f"{name}.part.{number:02d}"


def render_manifest(description: Description, content: Content, secret: Secret, keys: Keys) -> bytes:
    """The whole file: ASCII, compact, as it is signed."""
    configuration = _serialise(_describe_machine(description))
    image = _serialise(_describe_image(description, content, secret, keys))
    signature = keys.private.sign(configuration + image, padding.PKCS1v15(), hashes.SHA1()).hex()  # noqa: S303  # the format's
    head = _serialise(_element("version", VERSION)) + _serialise(_element("bundler", children=[
        _element("name", "xenkiln"), _element("version", __version__), _element("release", "1")]))  # fmt: skip
    end = _serialise(_element("signature", signature))
    return b'<?xml version="1.0"?><manifest>' + head + configuration + image + end + b"</manifest>"


def _describe_machine(description: Description) -> ET.Element:
    # Eucalyptus before 4.1 knows a kernel and a ramdisk by this word alone.
    kernel = "true" if description.kind == "kernel" else description.kernel_id
    ramdisk = "true" if description.kind == "ramdisk" else description.ramdisk_id
    children = [_element("architecture", description.architecture)]
    if description.mappings:
        children.append(_element("block_device_mapping", children=[
            _element("mapping", children=[_element("virtual", each.virtual), _element("device", each.device)])
            for each in sorted(description.mappings, key=lambda each: each.virtual)]))  # fmt: skip
    if description.product_codes:
        codes = [_element("product_code", code) for code in description.product_codes]
        children.append(_element("product_codes", children=codes))
    children += [_element("kernel_id", kernel)] if kernel else []
    children += [_element("ramdisk_id", ramdisk)] if ramdisk else []
    return _element("machine_configuration", children=children)


def _describe_image(description: Description, content: Content, secret: Secret, keys: Keys) -> ET.Element:
    sealed = {"ec2": _seal(secret, keys.cloud), "user": _seal(secret, keys.private.public_key())}
    parts = [
        _element("part", index=str(part.number), children=[
            _element("filename", name_part(description.name, part.number)),
            _element("digest", part.sha1, algorithm="SHA1"),
        ])
        for part in content.parts
    ]  # fmt: skip
    # Amazon wants this order.
    return _element("image", children=[
        _element("name", description.name),
        _element("user", description.user),
        _element("type", description.kind),
        *([_element("kernel_name", description.name)] if description.kind == "kernel" else []),
        _element("digest", content.sha1, algorithm="SHA1"),
        _element("size", str(content.size)),
        _element("bundled_size", str(content.bundled_size)),
        _element("ec2_encrypted_key", sealed["ec2"][0], algorithm="AES-128-CBC"),
        _element("user_encrypted_key", sealed["user"][0], algorithm="AES-128-CBC"),
        _element("ec2_encrypted_iv", sealed["ec2"][1]),
        _element("user_encrypted_iv", sealed["user"][1]),
        _element("parts", count=str(len(parts)), children=parts),
    ])  # fmt: skip


def _element(name: str, text: str = "", *, children: Iterable[ET.Element] = (), **attributes: str) -> ET.Element:
    element = ET.Element(name, attributes)
    element.text = text
    element.extend(children)
    return element


def _serialise(element: ET.Element) -> bytes:
    # A reader that looks for the two tags does not know the short form of an empty element.
    return ET.tostring(element, encoding="unicode", short_empty_elements=False).encode("ascii", "xmlcharrefreplace")


def _seal(secret: Secret, key: rsa.RSAPublicKey) -> tuple[str, str]:
    """Key and iv for the key's owner: what is encrypted is their hex digits, not their bytes."""
    sealed = [key.encrypt(each.hex().encode(), padding.PKCS1v15()).hex() for each in (secret.key, secret.iv)]
    return sealed[0], sealed[1]


def parse_manifest(data: bytes, place: str) -> Manifest:
    """Read a manifest of any bundler; raises BuildError naming what it lacks or has too much of.

    All that is said of the image comes from the very bytes that are signed.
    """
    if len(data) > LARGEST_BYTES:
        raise BuildError(f"a manifest of {len(data)} bytes is no manifest", place=place)
    signed = b"".join(_cut(data, name, place) for name in SIGNED)
    root = _parse(b"<manifest>" + signed + b"</manifest>", place)
    outer = _Reader(_parse(_strip_declaration(data), place), place)
    if (version := outer.text("version")) != VERSION:
        raise BuildError(f"version is {_show(version)}, this is written for {VERSION}", place=place)
    reader = _Reader(root, place)
    kind = reader.text("image/type")
    if kind not in KINDS:
        raise BuildError(f"image/type is {_show(kind)}, which is none of {', '.join(KINDS)}", place=place)
    description = Description(
        reader.text("image/name"), reader.text("image/user"), kind, reader.text("machine_configuration/architecture"),
        reader.text("machine_configuration/kernel_id", ""), reader.text("machine_configuration/ramdisk_id", ""),
        tuple(Mapping(each.findtext("virtual", ""), each.findtext("device", ""))
              for each in root.iterfind("machine_configuration/block_device_mapping/mapping")),
        tuple(each.text or "" for each in root.iterfind("machine_configuration/product_codes/product_code")),
    )  # fmt: skip
    ec2, user = ((reader.text(f"image/{who}_encrypted_key", ""), reader.text(f"image/{who}_encrypted_iv", ""))
                 for who in ("ec2", "user"))  # fmt: skip
    size, bundled_size = reader.number("image/size"), reader.number("image/bundled_size")
    return Manifest(description, size, bundled_size, reader.digest("image/digest"), reader.parts(),
                    ec2, user, signed, outer.text("signature"))  # fmt: skip


def _cut(data: bytes, name: str, place: str) -> bytes:
    """The one element of that name, as it stands in the file."""
    start, end = f"<{name}>".encode(), f"</{name}>".encode()
    if (data.count(start), data.count(end)) != (1, 1) or data.index(end) < data.index(start):
        raise BuildError(f"has not just one <{name}>, written as it must be signed", place=place)
    return data[data.index(start) : data.index(end) + len(end)]


def _strip_declaration(data: bytes) -> bytes:
    """Without `<?xml ...?>`: the format is ASCII, whatever encoding that names."""
    return re.sub(rb"\A\s*<\?xml[^>]*\?>", b"", data)


def _parse(data: bytes, place: str) -> ET.Element:
    if any(mark in data for mark in (b"<!", b"<?")):
        raise BuildError("has a comment, an entity or an instruction in it, which no bundler writes", place=place)
    try:
        return ET.fromstring(data)  # noqa: S314  # without a DOCTYPE there are no entities
    except ET.ParseError as error:
        raise BuildError(f"is no XML: {error}", place=place) from error


def _show(text: str) -> str:
    """Somebody else's text for a message: short, and without a character that a terminal would obey."""
    return ascii(text[:SHOWN_CHARACTERS])


class _Reader:
    """Elements of a manifest, or BuildError with their path."""

    def __init__(self, root: ET.Element, place: str) -> None:
        self.root, self.place = root, place

    def text(self, path: str, default: str | None = None) -> str:
        found = self.root.findtext(path, default)
        if found is None:
            raise BuildError(f"has no {path}", place=self.place)
        return found.strip()

    def number(self, path: str) -> int:
        text = self.text(path)
        if not re.fullmatch("[0-9]{1,18}", text):
            raise BuildError(f"{path} is no number of bytes: {_show(text)}", place=self.place)
        return int(text)

    def digest(self, path: str) -> str:
        return self.check_digest(self.text(path), path.removesuffix("/digest"))

    def check_digest(self, text: str, path: str) -> str:
        if not re.fullmatch("[0-9a-f]{40}", text.strip().lower()):
            raise BuildError(f"the digest of {path} is no SHA-1: {_show(text)}", place=self.place)
        return text.strip().lower()

    def parts(self) -> tuple[tuple[str, str], ...]:
        """(file name, digest) in the order of their numbers, which must be all from 0 on."""
        found = {}
        elements = self.root.findall("image/parts/part")
        for element in elements:
            name, index = element.findtext("filename", ""), element.get("index", "")
            if name != Path(name).name or name in ("", "..") or not name.isprintable():
                raise BuildError(f"part {_show(index)} has a name that is no plain file's: {_show(name)}",
                                 place=self.place)  # fmt: skip
            found[index] = (name, self.check_digest(element.findtext("digest", ""), f"part {_show(index)}"))
        wanted = [str(number) for number in range(len(elements))]
        parts = self.root.find("image/parts")
        if {*found} != {*wanted} or parts is None or parts.get("count", "") not in ("", str(len(found))):
            raise BuildError(f"its parts are not numbered from 0 to their count: {_show(', '.join(found))}",
                             place=self.place)  # fmt: skip
        return tuple(found[number] for number in wanted)


def check_signature(manifest: Manifest, key: rsa.RSAPublicKey) -> bool:
    """Whether the key's owner has signed this manifest."""
    try:
        key.verify(bytes.fromhex(manifest.signature), manifest.signed, padding.PKCS1v15(), hashes.SHA1())  # noqa: S303
    except (InvalidSignature, ValueError):
        return False
    return True


def open_secret(sealed: tuple[str, str], key: rsa.RSAPrivateKey, place: str) -> Secret:
    """The bundle's key and iv, as one of the two can open them; BuildError where it is not this one's."""
    try:
        plain = [key.decrypt(bytes.fromhex(each), padding.PKCS1v15()) for each in sealed]
        opened = Secret(*(bytes.fromhex(each.decode("ascii")) for each in plain))
    except ValueError as error:
        raise BuildError("this private key does not open the bundle", place=place,
                         next_step="give the key of the user who bundled it, or the cloud's") from error  # fmt: skip
    if (len(opened.key), len(opened.iv)) != (16, 16):
        raise BuildError("what the private key opens is no key of AES-128", place=place)
    return opened
