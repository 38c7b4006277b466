"""Bundles: read by openssl, gzip and tar alone; put together again by us; one error ends everything."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bundle.by_hand import Owner, check_signature, open_bundle
from bundle.made import LAYOUTS, MACHINE, SECRET, bundle, make_keys, read, write_image
from xenkiln.bundle import chunks, parts
from xenkiln.bundle import manifest as manifests
from xenkiln.bundle.manifest import Description, open_secret, parse_manifest, render_manifest
from xenkiln.bundle.parts import PART_BYTES, Part, make_secret
from xenkiln.bundle.unbundle import unbundle
from xenkiln.errors import BuildError
from xenkiln.system.files import allocated_bytes


@pytest.mark.parametrize("kind", LAYOUTS)
@pytest.mark.parametrize(
    ("size", "extents"),
    [(0, []), (1, [(0, 1)]), (PART_BYTES + 5, [(0, PART_BYTES + 5)]), (1 << 22, []),
     (1 << 22, [(1 << 20, 4096)]), ((1 << 22) + 7, [(0, 4096), ((1 << 22) - 4096, 4103)])],
    ids=["empty", "a byte", "two parts", "one hole", "holes at both ends", "a hole between"],
)  # fmt: skip
def test_openssl_gzip_and_tar_alone_recover_the_image(
    kind: str, size: int, extents: list[tuple[int, int]], owners: dict[str, Owner], tmp_path: Path
) -> None:
    image = write_image(tmp_path / "root.img", size, extents)
    path = bundle(image, tmp_path / "bundle", make_keys(owners), kind, make_secret())
    assert check_signature(path.read_bytes(), owners["user"], tmp_path)
    assert not check_signature(path.read_bytes(), owners["cloud"], tmp_path)
    for who, name in (("ec2", "cloud"), ("user", "user")):
        assert open_bundle(tmp_path / "bundle", "root.img", owners[name], who) == image.read_bytes()
    unbundle(read(path), tmp_path / "bundle", open_secret(read(path).ec2, owners["cloud"].key, ""), tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == image.read_bytes()
    assert allocated_bytes(tmp_path / "again") <= allocated_bytes(image)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_what_is_bundled_comes_back(data: st.DataObject, owners: dict[str, Owner], tmp_path: Path) -> None:
    """With parts and chunks made small, so that every boundary is met."""
    sizes = st.integers(0, 40000) | st.sampled_from([511, 512, 513, 4096, 8192, 8704, 10240, 16384])
    size = data.draw(sizes)
    extents, end = [], 0
    for gap, length in data.draw(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 3)), max_size=5)):
        start, end = end + gap * 4096, end + (gap + length) * 4096
        if end <= size:
            extents.append((start, length * 4096))
    image = write_image(tmp_path / "root.img", size, extents)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "PART_BYTES", data.draw(st.sampled_from([16, 160, 1024, 10240])))
        patch.setattr(chunks, "CHUNK", data.draw(st.sampled_from([512, 4096, 65536])))
        path = bundle(image, tmp_path / "bundle", make_keys(owners), data.draw(st.sampled_from(list(LAYOUTS))))
    (tmp_path / "again").unlink(missing_ok=True)
    unbundle(read(path), tmp_path / "bundle", SECRET, tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == image.read_bytes()


def test_a_manifest_is_written_as_servers_read_it(owners: dict[str, Owner]) -> None:
    content = parts.Content(5, "a" * 40, (Part(0, 16, "b" * 40, ""), Part(1, 8, "c" * 40, "")))
    text = render_manifest(MACHINE, content, SECRET, make_keys(owners)).decode("ascii")
    assert text.startswith('<?xml version="1.0"?><manifest><version>2007-10-10</version><bundler><name>xenkiln</name>')
    assert ("<machine_configuration><architecture>x86_64</architecture><block_device_mapping>"
            "<mapping><virtual>ami</virtual><device>sda1</device></mapping>"
            "<mapping><virtual>root</virtual><device>/dev/sda1</device></mapping></block_device_mapping>"
            "<product_codes><product_code>A1B2C3D4</product_code></product_codes>"
            "<kernel_id>eki-90591388</kernel_id><ramdisk_id>eri-F4CB118E</ramdisk_id></machine_configuration>"
            "<image><name>root.img</name><user>000100000001</user><type>machine</type>"
            f'<digest algorithm="SHA1">{"a" * 40}</digest><size>5</size><bundled_size>24<') in text  # fmt: skip
    assert re.search(r'<parts count="2"><part index="0"><filename>root\.img\.part\.00</filename>'
                     rf'<digest algorithm="SHA1">{"b" * 40}</digest></part>', text)  # fmt: skip
    assert re.fullmatch(r"[0-9a-f]{512}", text.split("<signature>")[1].split("</signature>")[0])


@pytest.mark.parametrize(("kind", "element"), [("kernel", "kernel_id"), ("ramdisk", "ramdisk_id")])
def test_kernels_and_ramdisks_say_so_twice(kind: manifests.Kind, element: str, owners: dict[str, Owner]) -> None:
    described = Description("vmlinuz", "000100000001", kind, "i386")
    text = render_manifest(described, parts.Content(0, "a" * 40, ()), SECRET, make_keys(owners)).decode()
    assert f"<{element}>true</{element}></machine_configuration>" in text
    assert f"<type>{kind}</type>" in text
    assert ("<kernel_name>vmlinuz</kernel_name>" in text) == (kind == "kernel")


def test_what_was_written_is_read_back(owners: dict[str, Owner]) -> None:
    strange = replace(MACHINE, product_codes=("a<b>&c",), mappings=MACHINE.mappings[::-1])
    content = parts.Content(5, "a" * 40, (Part(0, 16, "b" * 40, ""),))
    found = parse_manifest(render_manifest(strange, content, SECRET, make_keys(owners)), "x")
    assert found.description == replace(strange, mappings=found.description.mappings)
    assert set(found.description.mappings) == set(strange.mappings)
    assert (found.size, found.bundled_size, found.sha1) == (5, 16, "a" * 40)
    assert found.parts == (("root.img.part.00", "b" * 40),)
    assert manifests.check_signature(found, owners["user"].key.public_key())
    assert not manifests.check_signature(found, owners["stranger"].key.public_key())
    for sealed, owner in ((found.ec2, "cloud"), (found.user, "user")):
        assert open_secret(sealed, owners[owner].key, "") == SECRET
        with pytest.raises(BuildError, match=r"does not open the bundle|no key of AES"):
            open_secret(sealed, owners["stranger"].key, "")
