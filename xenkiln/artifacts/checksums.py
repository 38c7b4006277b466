"""SHA256SUMS, in the format of sha256sum, and the signature beside it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from xenkiln.errors import BuildError, CommandError, HostError
from xenkiln.system.commands import Runner
from xenkiln.system.files import hash_file
from xenkiln.system.steps import Run

HASHING_THREADS = 4


def hash_files(files: Iterable[Path]) -> list[str]:
    """SHA-256 of each file, several at once, while the disk is already writing them."""
    files = list(files)
    with ThreadPoolExecutor(2 * HASHING_THREADS) as pool:
        synced = pool.map(_sync_file, files)
        digests = list(pool.map(hash_file, files))
        list(synced)
    return digests


def _sync_file(path: Path) -> None:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def format_checksums(digests: Mapping[str, str]) -> str:
    """File name -> SHA-256 as lines for `sha256sum -c`, sorted by name."""
    return "".join(f"{digests[name]}  {name}\n" for name in sorted(digests))


def read_checksums(path: Path) -> dict[str, str]:
    """File name -> SHA-256; raises BuildError for a file that is not SHA256SUMS."""
    digests = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        digest, _, name = line.partition("  ")
        if len(digest) != 64 or not name:
            raise BuildError(f"not a line of sha256sum: {line[:80]!r}", place=str(path))
        digests[name] = digest
    return digests


def gnupg_home() -> str:
    """The user's own key ring; the build has another HOME."""
    return os.environ.get("GNUPGHOME") or str(Path.home() / ".gnupg")


def make_signing_step(key: str, sums: Path, signature: Path) -> Run:
    """Sign `sums`, detached and as text."""
    argv = ("gpg", "--batch", "--yes", "--local-user", key, "--armor", "--detach-sign", "--output", signature, sums)
    return Run(f"sign {sums.name} with {key}", argv, env=(("GNUPGHOME", gnupg_home()),))


def find_key_problem(key: str) -> HostError | None:
    """Why `key` cannot sign here, None when it can."""
    if _has_key(key):
        return None
    return HostError(f"there is no secret key {key} in {gnupg_home()}", place="signing_key",
                     next_step="import it with gpg --import, or take signing_key out of the recipe")  # fmt: skip


def _has_key(key: str) -> bool:
    # Asked in the name of one who has no key ring, gpg would make it.
    if not Path(gnupg_home()).is_dir():
        return False
    try:
        Runner(env={"GNUPGHOME": gnupg_home()}).read(["gpg", "--batch", "--list-secret-keys", "--", key])
    except (CommandError, HostError):
        return False
    return True
