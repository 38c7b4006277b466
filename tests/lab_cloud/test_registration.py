"""RegisterImage: where a manifest may be, who reads it, and what an image is taken for."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lab_cloud.bundles import Bundle
from lab_cloud.conftest import Roots, Shared
from lab_cloud.roots import check_fails, obtain, register, say
from xenkiln.lab.cloud.faults import Fault
from xenkiln.lab.cloud.manifest import read_manifest
from xenkiln.lab.cloud.profiles import PROFILES

ALL = tuple(PROFILES)


@pytest.mark.parametrize(
    ("profile", "location", "code"),
    [
        ("1.4", "images/dir/root.manifest.xml", "InvalidParameterValue"),
        ("2.0", "images/dir/root.manifest.xml", "InvalidParameterValue"),
        ("3.4", "images/dir/root.manifest.xml", "InvalidManifest"),
        *[(profile, "/images/root.manifest.xml", "InvalidParameterValue") for profile in ALL],
        *[(profile, "x/root.manifest.xml", "InvalidParameterValue") for profile in ALL],
        *[(profile, "root.manifest.xml", "InvalidParameterValue") for profile in ALL],
        *[(profile, "images/", "InvalidParameterValue") for profile in ALL],
        *[(profile, "images/none.manifest.xml", "InvalidManifest") for profile in ALL],
        *[(profile, "nowhere/root.manifest.xml", "InvalidManifest") for profile in ALL],
        *[(profile, "eucalyptus/root.manifest.xml", "InvalidManifest") for profile in ALL],
    ],
)
def test_locations_that_are_none(shared: Shared, profile: str, location: str, code: str) -> None:
    client = shared(profile).client
    client.s3("PUT", "/images")
    assert client.ec2("RegisterImage", ImageLocation=location).code == code


@pytest.mark.parametrize("profile", ["3.4", "4.4"])
def test_a_key_may_have_slashes_from_3_0_on(shared: Shared, tmp_path: Path, profile: str) -> None:
    running = shared(profile)
    kernel = Bundle(running, "kernel", b"kernel", "kernel", kernel="true").build(tmp_path)
    location = kernel.upload(kernel.sign(), prefix="some/where/")
    image = running.client.ec2("RegisterImage", ImageLocation=location).text("imageId")
    assert obtain(running, image).read_bytes() == b"kernel"


@pytest.mark.parametrize(("profile", "code"), [("1.4", ""), ("2.0", ""), ("3.4", ""), ("4.4", "InvalidManifest")])
def test_4_4_reads_what_it_is_let_to_read(shared: Shared, tmp_path: Path, profile: str, code: str) -> None:
    running = shared(profile)
    kernel = Bundle(running, "vmlinuz-secret", b"k", "kernel", kernel="true").build(tmp_path)
    location = kernel.upload(kernel.sign(), acl="private")
    assert running.client.ec2("RegisterImage", ImageLocation=location).code == code
    if code:
        name = location.partition("/")[2]
        assert running.client.s3("PUT", f"/images/{name}?acl", x_amz_acl="aws-exec-read").code == ""
        image = running.client.ec2("RegisterImage", ImageLocation=location).text("imageId")
        check_fails(running, image, "vmlinuz-secret.part.00 cannot be read")


@pytest.mark.parametrize(
    ("profile", "name", "kind", "kernel", "prefix"),
    [
        ("1.4", "initrd-root", "machine", "", "eri"), ("2.0", "vmlinuz-root", "machine", "", "eki"),
        ("3.4", "initrd-root", "machine", "", "emi"), ("3.4", "kernel", "kernel", "", "emi"),
        ("4.4", "kernel", "kernel", "", "eki"), ("1.4", "kernel", "kernel", "", "emi"),
        ("1.4", "x", "machine", "yes", "eki"), ("4.4", "x", "machine", "true", "eki"),
    ],
)  # fmt: skip
def test_what_makes_a_kernel(
    shared: Shared, tmp_path: Path, profile: str, name: str, kind: str, kernel: str, prefix: str
) -> None:
    assert Bundle(shared(profile), name, b"image", kind, kernel=kernel).publish(tmp_path).startswith(prefix)


def test_1_4_reads_the_manifest_again(roots: Roots) -> None:
    root = roots("1.4")
    image = register(root, root.sign()).text("imageId")
    obtain(root.running, image)
    root.put({"root.manifest.xml": root.sign(say("size", "11999"))})
    with pytest.raises(Fault, match="Manifest signature has changed since registration"):
        obtain(root.running, image)


@pytest.mark.parametrize("profile", ["3.4", "4.4"])
@pytest.mark.parametrize(
    ("name", "code"),
    [("ab", "InvalidAMIName.Malformed"), ("a*b", "InvalidAMIName.Malformed"), ("x" * 129, "InvalidAMIName.Malformed"),
     ("tiny (1)/a-b_c.d", "")],
)  # fmt: skip
def test_names_of_images(roots: Roots, profile: str, name: str, code: str) -> None:
    root = roots(profile)
    root.put({"root.manifest.xml": root.sign()})
    given = {"ImageLocation": "images/root.manifest.xml", "Name": name}
    assert root.running.client.ec2("RegisterImage", given).code == code
    if not code:
        assert root.running.client.ec2("RegisterImage", given).code == "InvalidAMIName.Duplicate"


@pytest.fixture(scope="session")
def good(roots: Roots) -> bytes:
    """A signed manifest."""
    return roots("4.4").sign()


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_manifest_of_any_bytes_is_read_or_refused(good: bytes, data: st.DataObject) -> None:
    whole = bytearray(good)
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(whole) - 1))
        whole[position : position + data.draw(st.integers(0, 30))] = data.draw(st.binary(max_size=8))
    with suppress(Fault):
        assert read_manifest(bytes(whole)).parts


@pytest.mark.parametrize(
    "data",
    [b"<?xml version='1.0'?>" + b"<a>" * 500_000 + b"</a>" * 500_000,
     b"<?xml version='1.0' encoding='utf-7'?><manifest/>",
     b"<?xml version='1.0' encoding='none'?><a/>", b"<?xml \0", b"<?xml ?>", b"", bytes((5 << 20) + 1)],
    ids=lambda data: str(len(data)),
)  # fmt: skip
def test_what_is_no_manifest_at_all(data: bytes) -> None:
    with pytest.raises(Fault) as caught:
        read_manifest(data)
    assert caught.value.code == "InvalidManifest"
