"""The index of an rpm repository, as dnf or yum left it in their cache: repomd.xml and the primary list.

Formats: createrepo_c's documentation; the elements are those of http://linux.duke.edu/metadata/{repo,common}.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import sqlite3
import xml.etree.ElementTree as ET
import zlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from xenkiln.errors import BuildError
from xenkiln.installers.index_fields import check_checksum, index_error, read_size
from xenkiln.model.fields import check_package
from xenkiln.system.commands import Runner

_REPO = "{http://linux.duke.edu/metadata/repo}"
_COMMON = "{http://linux.duke.edu/metadata/common}"
_EARLIEST = 100_000_000
"""A <revision> may be any number; below this (1973) it is a counter and no date."""

Identity = tuple[str, str, str]
"""Name, [epoch:]version-release, architecture."""


@dataclass(frozen=True)
class Entry:
    """A package as an index lists it. algorithm: as hashlib names it; sizes in bytes."""

    identity: Identity
    algorithm: str
    checksum: str
    size: int
    installed_bytes: int
    location: str


def join_version(epoch: str | None, version: str, release: str) -> str:
    """Epoch, version and release as one word; no epoch and 0 are the same to rpm."""
    return f"{version}-{release}" if epoch in (None, "", "0", "(none)") else f"{epoch}:{version}-{release}"


def find_index(cache: Path, repository: str) -> Path:
    """The folder of dnf's (NAME-16 hex digits/repodata) or yum's (NAME) cache that holds a repository's index."""
    dnf = re.compile(re.escape(repository) + r"-[0-9a-f]{16}")
    for folder in sorted(cache.iterdir()) if cache.is_dir() else ():
        if dnf.fullmatch(folder.name) or folder.name == repository:
            for place in (folder / "repodata", folder):
                if (place / "repomd.xml").is_file():
                    return place
    raise BuildError(f"no index of repository {repository} was fetched", place=str(cache))


def read_date(index: Path) -> int:
    """When the repository was made, in seconds UTC: the newest of its revision and its files' timestamps."""
    root = ET.parse(index / "repomd.xml").getroot()  # noqa: S314  # expat since 2.4.1 refuses entity bombs
    stamps = [element.text or "" for element in root.iter(f"{_REPO}timestamp")]
    stamps += [element.text or "" for element in root.iter(f"{_REPO}revision")]
    dates = [int(float(stamp)) for stamp in stamps if re.fullmatch(r"\d+(\.\d+)?", stamp.strip())]
    return max((date for date in dates if date >= _EARLIEST), default=0)


def read_entries(index: Path, runner: Runner) -> Iterator[Entry]:
    """Every package of an index; raises BuildError for one that no distribution made."""
    for path in sorted(index.glob("*primary.*")):
        read = _read_xml if ".xml" in path.name else _read_database if ".sqlite" in path.name else None
        if read:
            try:
                yield from read(_unpack(path, runner))
            except (ET.ParseError, sqlite3.Error, zlib.error, lzma.LZMAError, EOFError, OSError) as error:
                raise index_error(f"a damaged {path.name}: {error}") from error
            return
    raise BuildError("the repository's index lists no packages", place=str(index))


def _unpack(path: Path, runner: Runner) -> bytes:
    data = path.read_bytes()
    if path.suffix == ".zst":
        return runner.read(["zstd", "-dcq", str(path)]).encode()
    unpackers = {".gz": gzip.decompress, ".xz": lzma.decompress, ".bz2": bz2.decompress}
    return unpackers[path.suffix](data) if path.suffix in unpackers else data


def _read_xml(data: bytes) -> Iterator[Entry]:
    for _, element in ET.iterparse(io.BytesIO(data)):  # noqa: S314
        if element.tag == f"{_COMMON}package":
            yield _read_package(element)
            element.clear()


def _read_package(element: ET.Element) -> Entry:
    def find(tag: str) -> ET.Element:
        found = element.findall(_COMMON + tag)
        # The package manager and we must not read two different ones.
        if len(found) != 1:
            raise index_error(f"a package with {len(found)} elements {tag}")
        return found[0]

    def text(tag: str) -> str:
        return (find(tag).text or "").strip()

    def attribute(tag: str, name: str) -> str:
        return find(tag).get(name, "")

    version = join_version(attribute("version", "epoch"), attribute("version", "ver"), attribute("version", "rel"))
    identity = (text("name"), version, text("arch"))
    sizes = attribute("size", "package"), attribute("size", "installed")
    return _make_entry(identity, attribute("checksum", "type"), text("checksum"), *sizes, attribute("location", "href"))


def _read_database(data: bytes) -> Iterator[Entry]:
    """The sqlite form, which is what old yum asks for."""
    with closing(sqlite3.connect(":memory:")) as database:
        database.deserialize(data)
        rows = database.execute("SELECT name, epoch, version, release, arch, checksum_type, pkgId, size_package,"
                                " size_installed, location_href FROM packages").fetchall()  # fmt: skip
    for name, epoch, version, release, arch, algorithm, checksum, size, installed, location in rows:
        identity = (str(name), join_version(epoch, version, release), str(arch))
        yield _make_entry(identity, *map(str, (algorithm, checksum, size, installed or 0, location)))


def _make_entry(identity: Identity, algorithm: str, checksum: str, size: str, installed: str, location: str) -> Entry:
    try:
        check_package(*identity, location)
    except ValueError as error:
        raise index_error(f"an {error}") from error
    name, words = "sha1" if algorithm == "sha" else algorithm, " ".join(identity)
    return Entry(identity, name, check_checksum(name, checksum, words), read_size(size, words),
                 read_size(installed or "0", words), location)  # fmt: skip
