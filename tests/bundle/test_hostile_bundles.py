"""Bundles that are damaged, forged, or made to hurt."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bundle.by_hand import Owner
from bundle.made import SECRET, read
from xenkiln.bundle import manifest as manifests
from xenkiln.bundle.archive import lay_out_sparse
from xenkiln.bundle.extraction import ArchiveStream, take_image
from xenkiln.bundle.manifest import parse_manifest
from xenkiln.bundle.parts import make_secret
from xenkiln.bundle.unbundle import unbundle
from xenkiln.errors import BuildError


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_part_is_named(data: st.DataObject, small: Path, tmp_path: Path) -> None:
    found = read(small)
    number = data.draw(st.integers(0, len(found.parts) - 1))
    path = small.with_name(found.parts[number][0])
    whole = path.read_bytes()
    position = data.draw(st.integers(0, len(whole) - 1))
    how = data.draw(st.sampled_from(["flipped", "cut", "longer", "gone"]))
    if how == "gone":
        path.unlink()
    else:
        other = bytes([whole[position] ^ data.draw(st.integers(1, 255))])
        damaged = {"flipped": whole[:position] + other + whole[position + 1 :],
                   "cut": whole[:position], "longer": whole + b"\0"}  # fmt: skip
        path.write_bytes(damaged[how])
    try:
        with pytest.raises(BuildError, match=rf"{path.name} \(part {number} of {len(found.parts)}\)"):
            unbundle(found, small.parent, SECRET, tmp_path / "again")
    finally:
        path.write_bytes(whole)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "root.img"]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_byte_of_what_is_signed_can_be_changed(data: st.DataObject, small: Path, owners: dict[str, Owner]) -> None:
    text = small.read_bytes()
    position = data.draw(st.integers(0, len(text) - 1))
    changed = bytes([data.draw(st.integers(0, 255).filter(lambda byte: byte != text[position]))])
    try:
        found = parse_manifest(text[:position] + changed + text[position + 1 :], "x")
    except BuildError:
        return
    # What is around them may be written otherwise, and hex digits in capitals.
    if manifests.check_signature(found, owners["user"].key.public_key()):
        assert found.signature.lower() == read(small).signature
        assert replace(found, signature="") == replace(read(small), signature="")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (b"</manifest>", b"", "is no XML"),
        (b"<size>10000<", b"<size>ten<", "image/size is no number"),
        (b"<size>10000<", b"<size>9999<", "the archive holds 10000 bytes, the manifest says 9999"),
        (b"<type>machine<", b"<type>disk<", "image/type is 'disk'"),
        (b"root.img.part.01<", b"../part<", "a name that is no plain file's: '../part'"),
        (b"root.img.part.01<", b"/etc/passwd<", "a name that is no plain file's"),
        (b'index="1"', b'index="7"', "not numbered from 0"),
        (b'<parts count="', b'<parts count="1', "not numbered from 0"),
        (b"<bundled_size>", b"<bundled_size>1", "the parts are"),
        (b'<digest algorithm="SHA1">', b'<digest algorithm="SHA1">x', "is no SHA-1"),
        (b"<version>2007-10-10<", b"<version>1999-01-01<", "version is '1999-01-01'"),
    ],
)
def test_a_manifest_that_lies_is_refused(old: bytes, new: bytes, told: str, small: Path, tmp_path: Path) -> None:
    text = small.read_bytes()
    assert old in text
    with pytest.raises(BuildError, match=re.escape(told)):
        unbundle(parse_manifest(text.replace(old, new, 1), "x"), small.parent, SECRET, tmp_path / "again")
    assert not (tmp_path / "again").exists()


FORGERIES: dict[str, Callable[[bytes], bytes]] = {
    "in a comment": lambda text: text.replace(b"<version>", b"<!--" + text[text.index(b"<machine"):text.index(b"<sig")]
                                              + b"--><version>", 1).replace(b"<size>10000<", b"<size>1<"),
    "twice": lambda text: text.replace(b"<signature>", b"<image></image><signature>"),
    "written otherwise": lambda text: text.replace(b"<image>", b"<image >"),
    "with a DOCTYPE": lambda text: text.replace(b"<manifest>", b"<!DOCTYPE manifest><manifest>"),
    "in another encoding": lambda text: text.replace(b'version="1.0"', b'version="1.0" encoding="hex"')[:-3],
}  # fmt: skip


@pytest.mark.parametrize("how", FORGERIES)
def test_what_is_used_is_what_is_signed(how: str, small: Path) -> None:
    with pytest.raises(BuildError):
        parse_manifest(FORGERIES[how](small.read_bytes()), "x")


def test_names_and_numbers_are_shown_so_that_no_terminal_obeys(small: Path) -> None:
    text = small.read_bytes().replace(b'index="1"', b'index="&#x9b;31m&#10;' + b"x" * 5000 + b'"')
    with pytest.raises(BuildError) as caught:
        parse_manifest(text, "x")
    assert str(caught.value).isascii()
    assert str(caught.value).count("\n") == 0
    assert len(str(caught.value)) < 300


def test_a_long_hostile_manifest_takes_no_time(small: Path) -> None:
    with pytest.raises(BuildError, match="not just one"):
        parse_manifest(b"<image>" * 500_000 + small.read_bytes(), "x")


def make_sparse_header(size: int, entries: list[tuple[int, int]]) -> bytes:
    """A map as only an attacker writes it."""
    header = bytearray(lay_out_sparse("root.img", size, [(0, 1)]).head)
    held = sum(max(0, length) for _, length in entries)
    header[124:136] = b"%011o\0" % held
    header[386:482] = b"".join(b"%011o\0%011o\0" % entry for entry in entries).ljust(96, b"\0")
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


@pytest.mark.parametrize("entries", [[(0, 512), (256, 512)], [(1024, 512), (0, 512)], [(3584, 1024)], [(8192, 512)]])
def test_a_map_that_tar_refuses_is_refused(entries: list[tuple[int, int]], tmp_path: Path) -> None:
    archive = make_sparse_header(4096, entries) + bytes(sum(length for _, length in entries)) + bytes(1024)
    with (tmp_path / "image").open("wb") as image, pytest.raises(BuildError, match="map of its data is wrong"):
        take_image(ArchiveStream(iter([archive])), 4096, image.fileno(), "x")


def test_a_member_that_asks_for_memory_is_refused_before_it_gets_any(tmp_path: Path) -> None:
    header = tarfile.TarInfo("x" * 200).tobuf(tarfile.GNU_FORMAT)
    with (tmp_path / "image").open("wb") as image, pytest.raises(BuildError, match="member of type b'L'"):
        take_image(ArchiveStream(iter([header])), 0, image.fileno(), "x")


def test_what_is_there_or_comes_meanwhile_stays(small: Path, tmp_path: Path) -> None:
    target = tmp_path / "again"
    (tmp_path / "again.partial").write_text("the user's own")
    target.write_text("precious")
    with pytest.raises(BuildError, match="is there already"):
        unbundle(read(small), small.parent, SECRET, target)
    assert target.read_text() == "precious"
    target.unlink()
    target.symlink_to("nowhere")
    with pytest.raises(BuildError, match="is there already"):
        unbundle(read(small), small.parent, SECRET, target)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again", "again.partial", "bundle", "root.img"]


def test_another_key_does_not_unbundle(small: Path, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"no gzip stream|do not end as AES"):
        unbundle(read(small), small.parent, make_secret(), tmp_path / "again")
    assert not (tmp_path / "again.partial").exists()
