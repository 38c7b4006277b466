"""unbundle: any bundle back to the image that it holds."""

from __future__ import annotations

import os
from pathlib import Path

from xenkiln.bundle.manifest import UNSIGNED, Manifest, PrivateKey, check_signature, open_secret, parse_manifest
from xenkiln.bundle.parts import Secret
from xenkiln.bundle.unbundle import unbundle
from xenkiln.clouds.credentials import find_private_key, parse_private_key
from xenkiln.errors import BuildError, HostError
from xenkiln.model.loader import LoadedCloud
from xenkiln.publishing.opening import open_target
from xenkiln.system.files import allocated_bytes
from xenkiln.system.progress import Tell, show_progress


def run(cloud: LoadedCloud | None = None, *, manifest: str, to: str, key: str) -> None:
    """Read the manifest at `manifest`, the parts beside it, and write the image at `to`.

    key: a private key's file, "" for the user's own, at that cloud where one is given.
    """
    if not manifest or not to:
        raise HostError("it is not said which bundle, or where to", place="unbundle",
                        next_step="doit unbundle --manifest NAME.manifest.xml --to IMAGE")  # fmt: skip
    path, target = Path(manifest).expanduser(), Path(to).expanduser()
    is_there = target.exists() or target.is_symlink()
    if is_there or not target.parent.is_dir():
        raise HostError("is there already" if is_there else "its folder is not there", place=str(target),
                        next_step="give another --to")  # fmt: skip
    found = parse_manifest(path.read_bytes(), str(path))
    with show_progress("unbundle") as tell:
        secret, signed = open_bundle(found, read_key(key, cloud, tell), str(path), is_own=not key)
        tell(f"{len(found.parts)} parts")
        unbundle(found, path.parent, secret, target)
    taken = allocated_bytes(target) / 2**20
    print(f"unbundle  {target}: {found.size / 2**20:.0f} MiB, of which {taken:.0f} on disk; {signed}")


def read_key(name: str, cloud: LoadedCloud | None, tell: Tell) -> PrivateKey:
    """The key of that file, else the user's own."""
    if not name and cloud:
        return open_target(cloud, tell).credentials.private_key
    if not name:
        return find_private_key(os.environ)
    return parse_private_key(Path(name).expanduser().read_bytes(), name)


def open_bundle(manifest: Manifest, private: PrivateKey, place: str, *, is_own: bool) -> tuple[Secret, str]:
    """Key and iv, and what is known of the signature: the user's must be right, a cloud cannot tell by its own key."""
    try:
        secret = open_secret(manifest.user, private, place)
    except BuildError:
        if is_own:
            raise
        secret = open_secret(manifest.ec2, private, place)
        return secret, "opened with the key that was given, as a cloud does: nobody has checked who signed it"
    if manifest.signature == UNSIGNED:
        return secret, "not signed"
    if not check_signature(manifest, private.public_key()):
        raise BuildError("its signature is not right: somebody has changed the manifest", place=place,
                         next_step="fetch the bundle again")  # fmt: skip
    return secret, "signed by you"
