"""The cache's places: a checksum is a name only as 64 digits, and nothing is written through a link."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from xenkiln.errors import BuildError
from xenkiln.installers import downloads
from xenkiln.installers.cache import cache_file, keep_file
from xenkiln.installers.downloads import Wanted
from xenkiln.model.packages import Package

DATA = b"a package"
CHECKSUM = hashlib.sha256(DATA).hexdigest()


def make_package(sha256: str) -> Package:
    return Package("a", "1-1", "noarch", sha256, len(DATA), 1, "a.rpm", "base")


@pytest.mark.parametrize(
    "sha256", ["/etc/passwd", "../lock", "", ".", CHECKSUM.upper(), f"{CHECKSUM}\n"]
)
def test_only_a_checksum_becomes_a_name(sha256: str, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="is no SHA-256"):
        cache_file(tmp_path, make_package(sha256))


@pytest.mark.parametrize("place", ["packages", "fetching"])
def test_a_partial_file_is_never_written_through_a_link(place: str, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_bytes(b"mine")
    source = tmp_path / "a.rpm"
    source.write_bytes(DATA)
    partial = tmp_path / place / f"{CHECKSUM}.partial"
    partial.parent.mkdir()
    partial.symlink_to(precious)
    if place == "packages":
        keep_file(tmp_path, make_package(CHECKSUM), source)
    else:
        wanted = Wanted((source.as_uri(),), tmp_path / place / CHECKSUM, "sha256", CHECKSUM, len(DATA))
        assert downloads.fetch_file(wanted) is None
    assert precious.read_bytes() == b"mine"
    assert (tmp_path / place / CHECKSUM).read_bytes() == DATA
