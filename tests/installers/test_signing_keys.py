"""What the tests themselves sign with leaves no process behind."""

from __future__ import annotations

import time
from pathlib import Path

from debian_archive import make_signing_key
from repositories import Rpm, build_rpm, make_key

WAIT_SECONDS = 10


def list_users(home: Path) -> list[str]:
    """Processes that were told to work in that home."""
    found = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = process.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue  # it ended while we looked
        found += [words[0]] if str(home) in words else []
    return found


def wait_for_nobody(home: Path) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while found := list_users(home):
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


def test_a_key_for_packages_leaves_no_agent(tmp_path: Path) -> None:
    key = make_key(tmp_path, "key")
    wait_for_nobody(key.home)
    key.sign(build_rpm(Rpm("p", {"/etc/p": "text\n"}), tmp_path / "repository"))
    wait_for_nobody(key.home)


def test_a_key_for_an_archive_leaves_no_agent() -> None:
    with make_signing_key() as key:
        key.sign(b"text")
        assert list_users(key.home)
    wait_for_nobody(key.home)
