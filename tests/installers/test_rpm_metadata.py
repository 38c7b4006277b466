"""Indexes that no distribution made: what becomes a path or a number is refused in any other shape."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from xenkiln.errors import BuildError
from xenkiln.installers import rpm_metadata
from xenkiln.installers.rpm_metadata import Entry
from xenkiln.system.commands import Runner

CHECKSUM = "0123456789abcdef" * 4
PACKAGE = f"""\
<metadata xmlns="http://linux.duke.edu/metadata/common" xmlns:c="http://linux.duke.edu/metadata/common">
<package type="rpm"><name>p</name><arch>noarch</arch><version epoch="0" ver="1" rel="1"/>
<checksum type="sha256" pkgid="YES">{CHECKSUM}</checksum><size package="5970" installed="3" archive="248"/>
<location href="p-1-1.noarch.rpm"/></package></metadata>
"""
COLUMNS = ("name", "epoch", "version", "release", "arch", "checksum_type", "pkgId", "size_package", "size_installed",
           "location_href")  # fmt: skip
ROW = ("p", "0", "1", "1", "noarch", "sha256", CHECKSUM, 5970, 3, "p-1-1.noarch.rpm")


def read(folder: Path) -> list[Entry]:
    return list(rpm_metadata.read_entries(folder, Runner()))


def read_changed(folder: Path, old: str, new: str) -> list[Entry]:
    assert old in PACKAGE
    (folder / "primary.xml").write_text(PACKAGE.replace(old, new))
    return read(folder)


@pytest.mark.parametrize("algorithm", ["sha", "sha1"])
def test_both_names_of_sha1_are_known(algorithm: str, tmp_path: Path) -> None:
    (entry,) = read_changed(tmp_path, f'"sha256" pkgid="YES">{CHECKSUM}', f'"{algorithm}">{CHECKSUM[:40].upper()}')
    assert (entry.algorithm, entry.checksum) == ("sha1", CHECKSUM[:40])


@pytest.mark.parametrize("checksum", ["/etc/precious", "../../precious", "", CHECKSUM[:-1], CHECKSUM + "0",
                                      CHECKSUM[:-1] + "g", f"{CHECKSUM[:-1]}\N{ARABIC-INDIC DIGIT ONE}"])  # fmt: skip
def test_a_checksum_that_is_none_is_refused(checksum: str, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="no sha256 checksum for p 1-1 noarch") as caught:
        read_changed(tmp_path, CHECKSUM, checksum)
    assert "name another" in caught.value.next_step


@pytest.mark.parametrize("algorithm", ["foo", "shake_128", "", "SHA256", "blake2b"])
def test_an_algorithm_that_no_index_uses_is_refused(algorithm: str, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="unknown kind of checksum"):
        read_changed(tmp_path, '"sha256"', f'"{algorithm}"')


@pytest.mark.parametrize("size", ["", "-1", "x", "1e9", "9" * 5000, " 1"])
def test_a_size_that_is_no_number_is_refused(size: str, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="no size for p"):
        read_changed(tmp_path, '"5970"', f'"{size}"')


@pytest.mark.parametrize("twice", [
    f'<c:checksum type="sha256">{"0" * 64}</c:checksum>', "<c:name>q</c:name>", '<c:location href="other.rpm"/>',
    '<c:size package="1"/>', "<c:arch>i386</c:arch>", '<c:version ver="2" rel="1"/>'])  # fmt: skip
def test_a_package_that_says_two_things_is_refused(twice: str, tmp_path: Path) -> None:
    """dnf would read one of them, by its prefix, and we the other, by its namespace."""
    with pytest.raises(BuildError, match="2 elements"):
        read_changed(tmp_path, "<checksum", f"{twice}<checksum")


def test_another_namespace_is_no_part_of_a_package(tmp_path: Path) -> None:
    (entry,) = read_changed(tmp_path, "<checksum", '<o:checksum xmlns:o="urn:other">/etc/x</o:checksum><checksum')
    assert entry.checksum == CHECKSUM


@pytest.mark.parametrize(("name", "data"), [
    ("primary.xml", b"<metadata>"), ("primary.xml", b""), ("primary.xml.gz", b"no gzip"), ("primary.xml.xz", b"no xz"),
    ("primary.xml.gz", b"\x1f\x8b\x08\0\0\0\0\0\0\x03\xff\xff\xff"), ("primary.xml.bz2", b"no bzip2"),
    ("primary.sqlite", b"no database")])  # fmt: skip
def test_a_damaged_index_is_told(name: str, data: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(BuildError, match=f"a damaged {name}"):
        read(tmp_path)


def write_database(folder: Path, row: tuple[object, ...]) -> None:
    with sqlite3.connect(folder / "primary.sqlite") as database:
        database.execute(f"CREATE TABLE packages ({', '.join(COLUMNS)})")
        database.execute(f"INSERT INTO packages VALUES ({', '.join('?' * len(COLUMNS))})", row)
    database.close()


@pytest.mark.parametrize(("column", "value"), [
    ("pkgId", "/etc/precious"), ("pkgId", None), ("pkgId", b"x"), ("checksum_type", None), ("size_package", None),
    ("size_package", 1.5), ("size_package", -1), ("size_installed", "x"), ("name", b"../x"),
    ("location_href", "../x")])  # fmt: skip
def test_a_database_is_believed_no_more(column: str, value: object, tmp_path: Path) -> None:
    row = list(ROW)
    row[COLUMNS.index(column)] = value
    write_database(tmp_path, tuple(row))
    with pytest.raises(BuildError, match="the repository's index holds"):
        read(tmp_path)
