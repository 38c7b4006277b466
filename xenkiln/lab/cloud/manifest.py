"""A bundle's manifest as a server reads it: what must be in it, in which order, and which bytes are signed."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass

from xenkiln.lab.cloud.faults import Fault

LARGEST_BYTES = 5 << 20
SIGNED = ("machine_configuration", "image")
OUTER_ORDER = ("version", "bundler", "machine_configuration", "image", "signature")
IMAGE_ORDER = ("name", "user", "type", "kernel_name", "ancestry", "digest", "size", "bundled_size", "ec2_encrypted_key",
               "user_encrypted_key", "ec2_encrypted_iv", "user_encrypted_iv", "parts")  # fmt: skip
"""Amazon's, who checks it; a missing user_encrypted_key is refused there, too, and an empty one is not."""
OPTIONAL = {"kernel_name", "ancestry"}
HEX = re.compile("[0-9a-fA-F]+")


@dataclass(frozen=True)
class Part:
    """file: its object's name beside the manifest's; sha1 in hex."""

    file: str
    sha1: str


@dataclass(frozen=True)
class Manifest:
    """kernel, ramdisk: ids, "true" or "yes", or ""; devices: virtual name -> device; signed: the bytes that are."""

    architecture: str
    kernel: str
    ramdisk: str
    devices: dict[str, str]
    user: str
    kind: str
    sha1: str
    size: int
    bundled_size: int
    sealed_key: str
    sealed_iv: str
    parts: tuple[Part, ...]
    signed: bytes
    signature: str


def refuse(why: str) -> Fault:
    """EC2's for a manifest that is not one."""
    return Fault("InvalidManifest", f"The manifest is not valid: {why}")


def read_manifest(data: bytes) -> Manifest:
    """Raises Fault."""
    if len(data) > LARGEST_BYTES:
        raise refuse(f"it has more than {LARGEST_BYTES} bytes")
    if not data.startswith(b"<?xml "):
        raise refuse("it does not begin with an XML declaration")
    if b"<!" in data:
        raise refuse("it has a DOCTYPE or a comment in it")
    try:
        root = ET.fromstring(data)  # noqa: S314  # without a DOCTYPE there are no entities
    except (ET.ParseError, ValueError, LookupError) as error:
        raise refuse(f"it is no XML: {error}") from None
    signed = b"".join(cut_first(data, name) for name in SIGNED)
    check_order(root, "manifest", OUTER_ORDER, {"bundler"})
    image, machine = root.find("image"), root.find("machine_configuration")
    assert image is not None  # noqa: S101  # the order has been checked
    assert machine is not None  # noqa: S101
    check_order(image, "image", IMAGE_ORDER, OPTIONAL)
    names = [child.tag for child in image]
    if names.index("type") != names.index("user") + 1:
        raise refuse("image/type does not follow image/user")
    return Manifest(
        read_text(machine, "architecture"), machine.findtext("kernel_id", ""), machine.findtext("ramdisk_id", ""),
        {each.findtext("virtual", ""): each.findtext("device", "")
         for each in machine.iterfind("block_device_mapping/mapping")},
        read_text(image, "user"), read_text(image, "type"), read_digest(image, "image"),
        read_number(image, "size"), read_number(image, "bundled_size"),
        read_text(image, "ec2_encrypted_key"), read_text(image, "ec2_encrypted_iv"), read_parts(image), signed,
        read_text(root, "signature"),
    )  # fmt: skip


def cut_first(data: bytes, name: str) -> bytes:
    """From the first start tag to the first end tag, as text: so every release finds what is signed."""
    start, end = f"<{name}>".encode(), f"</{name}>".encode()
    first, last = data.find(start), data.find(end)
    if first < 0 or last < first:
        raise refuse(f"there is no <{name}> that is written just so")
    return data[first : last + len(end)]


def check_order(element: ET.Element, tag: str, order: tuple[str, ...], optional: set[str]) -> None:
    """Every element once, in the known order; others may stand between."""
    names = [child.tag for child in element if child.tag in order]
    for name in order:
        if name not in optional and name not in names:
            raise refuse(f"{tag} has no {name}")
    if element.tag != tag or names != [name for name in order if name in names]:
        raise refuse(f"the elements of {tag} are not in order, or not there once")


def read_text(element: ET.Element, name: str) -> str:
    """An element's text, which must be there."""
    text = element.findtext(name)
    if not text:
        raise refuse(f"{name} is empty or missing")
    return text


def read_number(element: ET.Element, name: str) -> int:
    """A count of bytes."""
    text = read_text(element, name)
    if not re.fullmatch("[0-9]{1,15}", text):
        raise refuse(f"{name} is no number")
    return int(text)


def read_digest(element: ET.Element, what: str) -> str:
    """In lower case; its algorithm must be named."""
    found = element.find("digest")
    if found is None or found.get("algorithm") != "SHA1" or not re.fullmatch("[0-9a-fA-F]{40}", found.text or ""):
        raise refuse(f"the digest of {what} is no SHA1")
    return (found.text or "").lower()


def read_parts(image: ET.Element) -> tuple[Part, ...]:
    """In the order in which they are put together."""
    parts = image.find("parts")
    assert parts is not None  # noqa: S101  # the order has been checked
    found = parts.findall("part")
    if parts.get("count") != str(len(found)) or not found:
        raise refuse("its parts are not as many as their count says")
    if [part.get("index") for part in found] != [str(number) for number in range(len(found))]:
        raise refuse("its parts are not numbered from 0 on")
    named = []
    for number, part in enumerate(found):
        file = part.findtext("filename", "")
        if not file or "/" in file:
            raise refuse(f"part {number} has no file name")
        named.append(Part(file, read_digest(part, f"part {number}")))
    return tuple(named)
