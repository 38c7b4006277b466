"""keypair:CLOUD: the key pair that instances get, made once; the private key stays here alone."""

from __future__ import annotations

import hashlib
import itertools
import os
import time
from contextlib import suppress
from pathlib import Path

from xenkiln.clouds.fingerprints import has_fingerprint
from xenkiln.clouds.refusals import UNSURE_CODES
from xenkiln.errors import CloudError, HostError
from xenkiln.model.loader import LoadedCloud
from xenkiln.publishing.opening import open_target
from xenkiln.publishing.target import Target
from xenkiln.system.files import finish_file, open_partial, partial_path, sync_folder, write_finished
from xenkiln.system.layout import build_folder
from xenkiln.system.locks import hold_lock
from xenkiln.system.progress import show_progress

ROOM_BYTES = 16 << 10
"""More than any private key takes."""


def run(cloud: LoadedCloud) -> None:
    """Make it where the cloud has none of that name; one whose private key is not here is left alone."""
    name = cloud.recipe.keypair
    path = key_path(cloud.name, name)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (
        show_progress(f"keypair:{cloud.name}") as tell,
        hold_lock(path.with_name("lock"), f"the key pairs of {cloud.name}", wait=True),
    ):
        is_new = make_keypair(open_target(cloud, tell), name, path)
    print(f"keypair:{cloud.name}  {name}  {'' if is_new else 'up to date: '}{path}")


def make_keypair(target: Target, name: str, path: Path) -> bool:
    """Whether it was made now; HostError where the one that the cloud has is not the one whose private key is here.

    A note that a pair was asked for lies beside the key until that is written: the pair of a run that was killed in
    between is of no use to anybody, and made anew.
    """
    note = path.with_suffix(".asked")
    there = target.compute.list_keypairs()
    is_here = path.is_file() and path.stat().st_size > 0
    if name in there and is_here:
        require_same(target, name, path, there[name])
        note.unlink(missing_ok=True)
        return False
    if name in there:
        if not is_noted(note, target):
            raise HostError(f"the cloud has a key pair {name}, and its private key is not here", place=str(path),
                            next_step=f"put it there, or name another: keypair: NAME in {target.place}")  # fmt: skip
        target.compute.delete_keypair(name)
    create(target, name, path, note)
    return True


def require_same(target: Target, name: str, path: Path, told: str) -> None:
    """Raise HostError where the fingerprint that the cloud tells, if any, is not that of the private key."""
    if told and not has_fingerprint(path, told):
        fact = (f"the cloud's key pair {name} is another one: its fingerprint {told} is not that of the private key"
                " here, in no form that is known")  # fmt: skip
        again = f"put its private key there, or name another pair: keypair: NAME in {target.place}"
        raise HostError(fact, place=str(path), next_step=again)


def create(target: Target, name: str, path: Path, note: Path) -> None:
    """Ask for the pair when there is room for its private key; what cannot be kept is not left at the cloud."""
    reserve(path)
    kept = keep_earlier(path)
    write_finished(note, mark(target), 0o600)
    try:
        material = target.compute.create_keypair(name)
    except CloudError as error:
        partial_path(path).unlink(missing_ok=True)
        if error.code not in UNSURE_CODES:
            note.unlink()
            if kept:
                kept.rename(path)
        raise
    try:
        with partial_path(path).open("r+b") as stream:
            stream.write(material.encode())
            stream.truncate()
        finish_file(path)
    except OSError:
        with suppress(OSError):
            partial_path(path).unlink(missing_ok=True)
        target.compute.delete_keypair(name)
        note.unlink()
        raise
    note.unlink()
    if kept:
        print(f"keypair:{target.name}  the cloud had no key pair {name} any more: its private key is kept in {kept}")


def reserve(path: Path) -> None:
    """Begin the file of a private key, with all the room that it will need."""
    try:
        with open_partial(path, 0o600) as stream:
            os.posix_fallocate(stream.fileno(), 0, ROOM_BYTES)
            os.fsync(stream.fileno())
    except OSError:
        partial_path(path).unlink(missing_ok=True)
        raise


def keep_earlier(path: Path) -> Path | None:
    """Set the only copy of an earlier private key aside; where it is now."""
    if not path.is_file() or not path.stat().st_size:
        return None
    when = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    names = itertools.chain([when], (f"{when}-{number}" for number in itertools.count(2)))
    kept = next(each for name in names if not (each := path.with_name(f"{path.stem}-{name}.pem")).exists())
    path.rename(kept)
    sync_folder(path.parent)
    return kept


def mark(target: Target) -> str:
    """Of whom, and where, a pair was asked for: another account's pair of that name is not ours to remove."""
    access = target.access
    return hashlib.sha256("\n".join([access.ec2_url, access.region, access.access_key]).encode()).hexdigest()


def is_noted(note: Path, target: Target) -> bool:
    """Whether an earlier run has asked this cloud for the pair, and did not come to write its private key."""
    return note.is_file() and note.read_text(encoding="ascii", errors="replace") == mark(target)


def key_path(cloud: str, name: str) -> Path:
    """Where the private key is kept."""
    return build_folder() / "clouds" / cloud / "keys" / f"{name}.pem"
