"""Facts of Debian and Ubuntu releases: whose they are, where their archive is, what they can read."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DebianRelease:
    """One suite. init: what starts its services; pocket names follow the suite's own."""

    distribution: str
    init: str
    suites: tuple[str, ...]
    mirror: str
    keyring: str


def _debian(suite: str, init: str = "systemd") -> DebianRelease:
    return DebianRelease("debian", init, (suite, f"{suite}-updates", f"{suite}-security"),
                         "http://deb.debian.org/debian", "/usr/share/keyrings/debian-archive-keyring.gpg")  # fmt: skip


def _ubuntu(suite: str, init: str, mirror: str, keyring: str) -> DebianRelease:
    pockets = (suite, f"{suite}-updates", f"{suite}-security")
    return DebianRelease("ubuntu", init, pockets, mirror, f"/usr/share/keyrings/{keyring}")


_LIVE = ("http://archive.ubuntu.com/ubuntu", "ubuntu-archive-keyring.gpg")
_OLD = ("http://old-releases.ubuntu.com/ubuntu", "ubuntu-archive-removed-keys.gpg")

DEBIAN_RELEASES = {
    "bullseye": _debian("bullseye"),
    "bookworm": _debian("bookworm"),
    "trixie": _debian("trixie"),
    "lucid": _ubuntu("lucid", "upstart", *_OLD),
    "jammy": _ubuntu("jammy", "systemd", *_LIVE),
    "noble": _ubuntu("noble", "systemd", *_LIVE),
}
"""Mirrors and keyrings are those that mmdebstrap(1) and the keyring packages of Debian and Ubuntu name."""
