"""The default image, its whole build folder on each of four filesystem types: always the same bytes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from xenkiln.system.layout import PROJECT

pytestmark = [pytest.mark.root, pytest.mark.network]

KINDS = ("ext4", "tmpfs", "xfs", "btrfs")
INCREMENTAL = "xfs"
SPACE_GIB = 4
SCRIPT = """
set -e
folder=$1 kind=$2; shift 2
if [ "$kind" = tmpfs ]; then
    mount -t tmpfs tmpfs "$folder/build"
else
    truncate -s "${SPACE_GIB}G" "$folder/disk"
    "mkfs.$kind" -q "$folder/disk"
    mount -o loop "$folder/disk" "$folder/build"
fi
if [ -d "$folder/before" ]; then
    XENKILN_RECIPES=$folder/before "$@"
    cp "$folder/build/images/tiny/SHA256SUMS" "$folder/sums before"
fi
XENKILN_RECIPES=$folder/recipes "$@"
cp "$folder/build/images/tiny/SHA256SUMS" "$folder/sums"
cd "$folder/build/images/tiny"
exec sha256sum --check --strict --quiet SHA256SUMS
"""
"""In a mount namespace of its own, which takes the mounts and the loop device with it when it ends."""


def build_on(kind: str, folder: Path, *, before: str | None = None) -> str:
    """SHA256SUMS of tiny built below `folder` on that filesystem, after another host name where one is given."""
    text = (PROJECT / "recipes" / "images" / "tiny.yaml").read_text(encoding="utf-8")
    assert "hostname: tiny\n" in text
    for name, hostname in (("recipes", "tiny"), ("before", before), ("build", None)):
        if hostname or name == "build":
            (folder / name).mkdir(parents=True)
        if hostname:
            changed = text.replace("hostname: tiny\n", f"hostname: {hostname}\n")
            (folder / name / "tiny.yaml").write_text(changed, encoding="utf-8")
    environment = os.environ | {
        "XENKILN_BUILD": str(folder / "build"), "XENKILN_CACHE": str(PROJECT / "build" / "cache"),
        "PYTHONPATH": str(PROJECT), "SPACE_GIB": str(SPACE_GIB),
    }  # fmt: skip
    words = ["unshare", "--mount", "--propagation", "private", "sh", "-c", SCRIPT, "sh", str(folder), kind,
             sys.executable, "-m", "doit", "build:tiny"]  # fmt: skip
    done = subprocess.run(words, cwd=PROJECT, env=environment, text=True, check=False, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)  # fmt: skip
    assert done.returncode == 0, done.stdout
    return (folder / "sums").read_text()


def test_the_same_bytes_on_four_filesystems_cold_and_incremental(tmp_path: Path) -> None:
    found = {}
    for kind in KINDS:
        before = "another" if kind == INCREMENTAL else None
        found[kind] = build_on(kind, tmp_path / kind, before=before)
    assert set(found.values()) == {found[KINDS[0]]}, found
    assert (tmp_path / INCREMENTAL / "sums before").read_text() != found[INCREMENTAL], "the change was in the image"
