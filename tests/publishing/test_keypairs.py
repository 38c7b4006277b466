"""Key pairs: the only private key is never lost, and none is left at a cloud that nobody has the private key of."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from publishing import meddling
from publishing.conftest import Begin, Meet
from publishing.meddling import ALWAYS, is_action
from publishing.site import Site
from publishing.struck import kill, running
from xenkiln.clouds.fingerprints import has_fingerprint
from xenkiln.commands import keypair
from xenkiln.errors import CloudError, HostError


def read_public(key: Path) -> str:
    return subprocess.run(["ssh-keygen", "-y", "-f", key], check=True, capture_output=True, text=True).stdout.split()[1]


def is_whole(site: Site) -> bool:
    """Whether the private key here is that of the pair there, and nothing else is left."""
    there = site.server.index.find("keys", "xenkiln")
    assert there
    left = {path.name for path in site.key.parent.iterdir()} - {"xenkiln.pem", "lock"}
    return read_public(site.key) in there["public"] and not left


def test_an_earlier_private_key_is_kept(begin: Begin, capsys: pytest.CaptureFixture[str]) -> None:
    site = begin("4.4")
    site.keypair()
    assert is_whole(site)
    keys = [site.key.read_bytes()]
    for _ in range(2):
        site.target.compute.delete_keypair("xenkiln")
        site.keypair()
        keys.append(site.key.read_bytes())
    kept = sorted(site.key.parent.glob("xenkiln-*.pem"))
    assert {path.read_bytes() for path in kept} == set(keys[:2])
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in [*kept, site.key])
    said = capsys.readouterr().out
    assert all(f"its private key is kept in {path}" in said for path in kept)


def test_a_refusal_leaves_the_private_key_where_it_was(meet: Meet) -> None:
    site, meddler = meet()
    site.keypair()
    before = site.key.read_bytes()
    meddler.meddle(is_action("DescribeKeyPairs"), meddling.say(b"<DescribeKeyPairsResponse/>"))
    with pytest.raises(CloudError, match="Duplicate"):
        site.keypair()
    assert site.key.read_bytes() == before
    assert is_whole(site)


def fill_disk(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_nothing_is_asked_for_without_room_for_the_key(meet: Meet, monkeypatch: pytest.MonkeyPatch) -> None:
    site, meddler = meet()
    monkeypatch.setattr(os, "posix_fallocate", fill_disk)
    with pytest.raises(OSError, match="No space"):
        site.keypair()
    assert meddler.count("CreateKeyPair") == 0
    assert not list(site.key.parent.glob("xenkiln*"))


@pytest.mark.parametrize("is_away", [False, True])
def test_a_pair_whose_key_cannot_be_written_does_not_stay(
    is_away: bool, meet: Meet, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, meddler = meet()
    if is_away:
        meddler.meddle(is_action("DeleteKeyPair"), meddling.refuse("Denied", 403))
    with monkeypatch.context() as patch:
        patch.setattr(keypair, "finish_file", fill_disk)
        with pytest.raises(CloudError if is_away else OSError):
            site.keypair()
    assert bool(site.target.compute.list_keypairs()) is is_away
    site.keypair()
    assert is_whole(site)


@pytest.mark.parametrize("after_work", [False, True], ids=["before", "after"])
def test_the_pair_of_a_killed_run_is_made_anew(after_work: bool, meet: Meet) -> None:
    site, meddler = meet()
    with running(site, "keypair") as process:
        meddler.meddle(is_action("CreateKeyPair"), kill(process, after_work))
    assert process.exitcode == -signal.SIGKILL
    assert bool(site.target.compute.list_keypairs()) is after_work
    site.keypair()
    assert is_whole(site)


def test_the_note_of_another_account_removes_nothing(meet: Meet, monkeypatch: pytest.MonkeyPatch) -> None:
    site, meddler = meet()
    meddler.meddle(is_action("CreateKeyPair"), meddling.cut_after_work)
    meddler.meddle(is_action("DeleteKeyPair"), meddling.cut_after_body, ALWAYS)
    with pytest.raises(CloudError):
        site.keypair()
    meddler.rules.clear()
    with monkeypatch.context() as patch:
        patch.setattr(keypair, "mark", lambda _: "another account")
        with pytest.raises(HostError, match="its private key is not here"):
            site.keypair()
    site.keypair()
    assert is_whole(site)


@pytest.mark.parametrize("profile", ["1.4", "4.4"])
def test_another_pair_of_that_name_is_not_ours(profile: str, begin: Begin) -> None:
    site = begin(profile)
    site.keypair()
    site.keypair()
    site.target.compute.delete_keypair("xenkiln")
    site.target.compute.create_keypair("xenkiln")
    with pytest.raises(HostError, match=r"another one: its fingerprint ([0-9a-f]{2}:){19}[0-9a-f]{2} is not that of"):
        site.keypair()


def test_a_cloud_that_tells_no_fingerprint_is_believed(meet: Meet) -> None:
    site, meddler = meet()
    site.keypair()
    bare = meddling.change("<keyFingerprint>.*</keyFingerprint>", "")
    meddler.meddle(is_action("DescribeKeyPairs"), bare)
    site.keypair()


def tell_by_openssl(*words: str) -> Callable[[Path], str]:
    def tell(key: Path) -> str:
        der = subprocess.run(["openssl", *words, "-in", str(key), "-outform", "DER"], check=True, capture_output=True)
        argv = ["openssl", "dgst", "-sha1" if words[0] == "pkcs8" else "-md5", "-c"]
        told = subprocess.run(argv, input=der.stdout, check=True, capture_output=True)
        return told.stdout.decode().rpartition(" ")[2].strip()

    return tell


def tell_by_ssh(algorithm: str) -> Callable[[Path], str]:
    def tell(key: Path) -> str:
        asked = ["ssh-keygen", "-l", "-E", algorithm, "-f", str(key)]
        return subprocess.run(asked, check=True, capture_output=True, text=True).stdout.split()[1]

    return tell


@pytest.mark.parametrize(("kind", "tell"), [
    (["rsa", "-m", "PEM"], tell_by_openssl("pkcs8", "-topk8", "-nocrypt")),
    (["rsa", "-m", "PEM"], tell_by_openssl("rsa", "-pubout")),
    (["rsa"], tell_by_ssh("md5")),
    (["ed25519"], tell_by_ssh("sha256")),
    (["ed25519"], lambda key: tell_by_ssh("sha256")(key).removeprefix("SHA256:") + "="),
], ids=["made", "imported", "imported, by ssh", "ed25519", "ed25519 at Amazon"])  # fmt: skip
def test_fingerprints_as_tools_make_them(kind: list[str], tell: Callable[[Path], str], tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for path in (one, other):
        subprocess.run(["ssh-keygen", "-q", "-t", *kind, "-N", "", "-f", path], check=True)
    told = tell(one)
    assert has_fingerprint(one, told)
    assert not has_fingerprint(other, told)


@pytest.mark.parametrize("data", [b"\0", b"-----BEGIN OPENSSH PRIVATE KEY-----\n", b""])
def test_what_is_no_private_key_is_said(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(data)
    with pytest.raises(HostError, match="no private key that can be read without a passphrase"):
        has_fingerprint(path, "00")
