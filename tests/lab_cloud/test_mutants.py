"""Bundles with one thing wrong, and when each release sees it: as it registers, or as it puts the image together."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lab_cloud.bundles import Bundle, pack_tar, run, same
from lab_cloud.conftest import Roots, Shared
from lab_cloud.roots import IMAGE, check_fails, obtain, register, say
from lab_cloud.running import wait_for
from xenkiln.lab.cloud.profiles import PROFILES

ALL = tuple(PROFILES)
BOTH = ("1.4", "3.4")
"""The two ways to put an image together, which know nothing else of the release."""
Change = Callable[[str], str]


def swap(*pairs: tuple[str, str]) -> Change:
    def change(text: str) -> str:
        for old, new in pairs:
            assert old in text
            text = text.replace(old, new, 1)
        return text

    return change


def sign_with(signature: str) -> Change:
    return say("signature", signature)


def pack_two(folder: Path, name: str) -> bytes:
    (folder / "more").write_bytes(b"more")
    return run(["tar", "--format=gnu", "-cf", "-", name, "more"], cwd=folder)


def pack_with_holes(folder: Path, name: str) -> bytes:
    os.truncate(folder / name, len(IMAGE))
    os.truncate(folder / name, 1 << 20)
    return pack_tar("--format=gnu", "-S")(folder, name)


def gzip_twice(data: bytes) -> bytes:
    return run(["gzip"], data[:5000]) + run(["gzip"], data[5000:])


DEVICE = ("<block_device_mapping><mapping><virtual>ami</virtual><device>/dev/null</device></mapping>"
          "</block_device_mapping>")  # fmt: skip
BEFORE_SIGNING: dict[str, tuple[tuple[str, ...], Change, str, str]] = {
    "no size": (ALL, swap(("<size>12000</size>", "")), "InvalidManifest", "image has no size"),
    "a size in words": (ALL, say("size", "many"), "InvalidManifest", "size is no number"),
    "too large": (ALL, say("size", str((30 << 30) + 1)), "InvalidManifest", "30 GiB"),
    "no user": (ALL, say("user", ""), "InvalidManifest", "user is empty"),
    "another user": (("4.4",), say("user", "000000000001"), "AuthFailure", "another account"),
    "the type elsewhere": (ALL, swap(("<type>machine</type>", ""), ("<size>", "<type>machine</type><size>")),
                           "InvalidManifest", "not in order"),
    "no user_encrypted_key": (ALL, swap(("<user_encrypted_key></user_encrypted_key>", "")),
                              "InvalidManifest", "no user_encrypted_key"),
    "no algorithm": (ALL, swap((' algorithm="SHA1"', "")), "InvalidManifest", "is no SHA1"),
    "a part without algorithm": (ALL, swap(('</filename><digest algorithm="SHA1"', "</filename><digest")),
                                 "InvalidManifest", "part 0 is no SHA1"),
    "parts miscounted": (ALL, swap(('<parts count="', '<parts count="1')), "InvalidManifest", "as many as"),
    "parts misnumbered": (ALL, swap(('index="1"', 'index="7"')), "InvalidManifest", "not numbered"),
    "a part elsewhere": (ALL, swap(("<filename>", "<filename>../")), "InvalidManifest", "no file name"),
    "another's key": (ALL, say("ec2_encrypted_key", "ab" * 256), "InvalidManifest", "for this cloud"),
    "another's iv": (ALL, say("ec2_encrypted_iv", "ab" * 256), "InvalidManifest", "for this cloud"),
    "no hex": (ALL, say("ec2_encrypted_iv", "xyz"), "InvalidManifest", "hexadecimal"),
    "a kernel that is not there": (ALL, say("kernel_id", "eki-00000000"), "InvalidAMIID.NotFound", "eki-00000000"),
    "a ramdisk that is none": (ALL, swap(("<ramdisk_id>eri-", "<ramdisk_id>eki-")), "InvalidAMIID.NotFound", "ramdisk"),
    "a strange device": (ALL, swap(("</architecture>", f"</architecture>{DEVICE}")), "InvalidManifest", "root device"),
    "another architecture": (("3.4", "4.4"), say("architecture", "amd64"), "InvalidManifest", "architecture"),
    "no ramdisk": (("4.4",), say("ramdisk_id", ""), "MissingParameter", "paravirtual"),
}  # fmt: skip
AFTER_SIGNING: dict[str, tuple[tuple[str, ...], Change, str, str]] = {
    "no declaration": (ALL, swap(('<?xml version="1.0"?>', "")), "InvalidManifest", "declaration"),
    "no XML": (ALL, swap(("</manifest>", "")), "InvalidManifest", "is no XML"),
    "a DOCTYPE": (ALL, swap(("<manifest>", "<!DOCTYPE a><manifest>")), "InvalidManifest", "DOCTYPE"),
    "an attribute": (ALL, swap(("<image>", '<image a="b">')), "InvalidManifest", "no <image>"),
    "two images": (ALL, swap(("<signature>", "<image></image><signature>")), "InvalidManifest", "in order"),
    "unsigned": (("1.4", "2.0", "4.4"), sign_with("UNSIGNED"), "InvalidManifest", "signature"),
    "half a signature": (("1.4", "2.0", "4.4"), sign_with("ab" * 128), "InvalidManifest", "signature"),
    "a wrong signature": (("4.4",), sign_with("ab" * 256), "InvalidManifest", "not the user's"),
    "signed, then changed": (("4.4",), say("size", "12001"), "InvalidManifest", "not the user's"),
    "no signature element": (ALL, lambda text: re.sub("<signature>.*</signature>", "", text),
                             "InvalidManifest", "no signature"),
}  # fmt: skip
SEEN_LATER: dict[str, tuple[tuple[str, ...], Change, Change, str]] = {
    "a wrong signature": (("1.4", "2.0", "3.4"), same, sign_with("ab" * 256), "signature is not the user's"),
    "unsigned": (("3.4",), same, sign_with("UNSIGNED"), "signature is not the user's"),
    "signed, then changed": (("1.4", "2.0", "3.4"), same, say("size", "12001"), "signature is not the user's"),
    "a part gone": (BOTH, swap(("root.part.02", "root.part.99")), same, "images/root.part.99 cannot be read"),
    "parts in another order": (
        BOTH, swap(("root.part.00", "@1"), ("root.part.01", "root.part.00"), ("@1", "root.part.01")), same,
        "part 0 (root.part.01)"),
    "another archive": (BOTH, say("digest", "0" * 40), same, "the archive has another digest"),
    "another size": (BOTH, say("size", "11999"), same, "the image has 12000 bytes, it says 11999"),
    "another sum": (BOTH, say("bundled_size", "1"), same, "it says 1"),
}  # fmt: skip
PACKED_BADLY: dict[str, tuple[tuple[str, ...], dict[str, Any], str]] = {
    "two members": (("2.0",), {"archive": pack_two}, "the image has 12004 bytes"),
    "no gzip": (BOTH, {"pack": lambda data: data}, "gzip"),
    "no tar": (BOTH, {"archive": lambda folder, name: b"no archive" * 1000}, "archive"),
    "half a tar": (BOTH, {"archive": lambda folder, name: pack_tar()(folder, name)[:9000]}, "archive"),
    "sparse": (("1.4",), {"archive": pack_with_holes, "image": IMAGE + bytes((1 << 20) - 12000)}, "type 'S'"),
    "pax": (("1.4",), {"archive": pack_tar("--format=pax")}, "type 'x'"),
    "a long name": (("1.4",), {"archive": pack_tar("--format=gnu", "--transform=s,$," + "x" * 120 + ",")}, "type 'L'"),
    "two gzip members": (("1.4",), {"pack": gzip_twice}, "first member of the gzip stream"),
    "half a gzip": (BOTH, {"pack": lambda data: run(["gzip"], data)[:-1000]}, "gzip"),
    "a name with tgz": (("1.4",), {"name": "my.tgz"}, "tgz"),
    "a name with tar": (("1.4",), {"name": "start"}, "tgz"),
}  # fmt: skip


def list_cases(table: dict[str, Any]) -> list[tuple[str, str]]:
    return [(profile, name) for name, case in table.items() for profile in case[0]]


@pytest.mark.parametrize(("profile", "name"), list_cases(BEFORE_SIGNING))
def test_what_is_signed_is_wrong(roots: Roots, profile: str, name: str) -> None:
    _, change, code, told = BEFORE_SIGNING[name]
    reply = register(roots(profile), roots(profile).sign(change=change))
    assert (reply.code, told in reply.message) == (code, True), reply.body


@pytest.mark.parametrize(("profile", "name"), list_cases(AFTER_SIGNING))
def test_what_is_changed_afterwards(roots: Roots, profile: str, name: str) -> None:
    _, forge, code, told = AFTER_SIGNING[name]
    reply = register(roots(profile), roots(profile).sign(forge=forge))
    assert (reply.code, told in reply.message) == (code, True), reply.body


@pytest.mark.parametrize(("profile", "name"), list_cases(SEEN_LATER))
def test_it_is_registered_and_cannot_be_put_together(roots: Roots, profile: str, name: str) -> None:
    _, change, forge, told = SEEN_LATER[name]
    root = roots(profile)
    reply = register(root, root.sign(change, forge))
    assert reply.code == "", reply.body
    check_fails(root.running, reply.text("imageId"), told)


@pytest.mark.parametrize(("profile", "name"), list_cases(PACKED_BADLY))
def test_it_is_packed_badly(shared: Shared, tmp_path: Path, profile: str, name: str) -> None:
    _, changes, told = PACKED_BADLY[name]
    running = shared(profile)
    whole = {"name": "packed", "image": IMAGE, "kind": "kernel", "kernel": "true", **changes}
    check_fails(running, Bundle(running, **whole).publish(tmp_path), told)


@pytest.mark.parametrize(
    ("profile", "position"), [("1.4", 0), ("1.4", 5000), ("1.4", -1), ("2.0", 5000), ("3.4", 5000), ("4.4", 5000)]
)
def test_a_damaged_part_is_named(roots: Roots, profile: str, position: int) -> None:
    root = roots(profile)
    names = list(root.parts)
    number = position % sum(map(len, root.parts.values())) // 4096
    damaged = bytearray(root.parts[names[number]])
    damaged[position % len(damaged)] ^= 1
    image = register(root, root.sign()).text("imageId")
    root.put({names[number]: bytes(damaged)})
    check_fails(root.running, image, f"part {number} ({names[number]}) has another digest")
    root.put({names[number]: root.parts[names[number]]})
    assert obtain(root.running, image).read_bytes() == IMAGE


@pytest.mark.parametrize("profile", ALL)
def test_an_image_that_cannot_be_put_together_ends_its_instance(roots: Roots, profile: str) -> None:
    root = roots(profile)
    client = root.running.client
    image = register(root, root.sign(say("digest", "0" * 40))).text("imageId")
    instance = client.run(image)
    reason = wait_for(client, instance, "terminated").text("reservationSet/item/instancesSet/item/reason")
    assert reason == ("Server.InvalidImage: The manifest is not valid: the archive has another digest than it says")
