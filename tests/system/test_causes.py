"""From the last lines of real tools to the likely cause."""

from __future__ import annotations

import errno
import os

import pytest

from xenkiln.errors import CommandError
from xenkiln.system.causes import explain_os_error, find_cause

FULL, CHANGED, NAME, DOWN, GONE, UNSIGNED, LOOP, ROOT = (
    "the disk is full", "something else than its index promises", "name cannot be resolved", "cannot be reached",
    "does not have it", "a signature does not check", "no free loop device", "needs root",
)  # fmt: skip


@pytest.mark.parametrize(("tail", "cause"), [
    ("tar: ./usr/lib/x: Cannot write: No space left on device", FULL),
    ("  At least 45MB more space needed on the / filesystem.\n  installing package x needs 45MB on the / filesystem",
     FULL),
    ("E: Failed to fetch http://m/x.deb  Hash Sum mismatch", CHANGED),
    ("E: Failed to fetch http://m/x.deb  File has unexpected size (1 != 2). Mirror sync in progress?", CHANGED),
    ("Error: Checksum doesn't match", CHANGED),
    ("  Temporary failure resolving 'deb.debian.org'", NAME),
    ("Curl error (6): Couldn't resolve host name for http://m/ [Could not resolve host: m]", NAME),
    ("  Could not connect to 127.0.0.1:9 (127.0.0.1). - connect (111: Connection refused)", DOWN),
    ("Curl error (28): Timeout was reached for http://m/repomd.xml", DOWN),
    ("Err:1 http://m bookworm Release\n  404  Not Found [IP: 127.0.0.1 80]", GONE),
    ("E: Unable to locate package no-such-thing", GONE),
    ("No match for argument: no-such-thing\nError: Unable to find a match: no-such-thing", GONE),
    ("The following signatures couldn't be verified: NO_PUBKEY 0123456789ABCDEF", UNSIGNED),
    ("Error: GPG check FAILED", UNSIGNED),
    ("mount: /x: failed to setup loop device for /y.", LOOP),
    ("losetup: cannot find an unused loop device", LOOP),
    ("mount: /x: permission denied.", ROOT),
    ("unshare: unshare failed: Operation not permitted", ROOT),
])  # fmt: skip
def test_the_cause_is_found_in_what_tools_really_say(tail: str, cause: str) -> None:
    assert cause in find_cause(tail, 1)


def test_a_crash_points_at_the_page_old_programs_jump_into() -> None:
    assert "vsyscall=emulate" in find_cause("", 139)
    assert "vsyscall=emulate" in find_cause("No space left on device", -11)


@pytest.mark.parametrize("tail", ["", "something went wrong", "4046 files", "checksums written"])
def test_without_a_known_cause_the_log_is_the_next_step(tail: str) -> None:
    assert find_cause(tail, 1).startswith("read the log")


@pytest.mark.parametrize(("number", "way_out"), [
    (errno.ENOSPC, "free some space"), (errno.EACCES, "XENKILN_BUILD"), (errno.EROFS, "XENKILN_BUILD"),
    (errno.ELOOP, "link"), (errno.ENOMEM, "swap"),
])  # fmt: skip
def test_the_kernels_own_errors_get_a_place_and_a_way_out(number: int, way_out: str) -> None:
    text = str(explain_os_error(OSError(number, os.strerror(number), "/some/place")))
    assert text.startswith(f"/some/place: {os.strerror(number)}\n  next: ")
    assert way_out in text


def test_an_error_without_a_file_or_number_is_still_a_sentence() -> None:
    assert str(explain_os_error(OSError("odd"))) == "this host: odd"
    assert str(CommandError("false", "exit code 1")) == "exit code 1: false"
