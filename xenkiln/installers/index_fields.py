"""What an index of a mirror says of a package and becomes a path or a number here: taken in its one shape only."""

from __future__ import annotations

import re
from pathlib import Path

from xenkiln.errors import BuildError

HEX_DIGITS = {"md5": 32, "sha1": 40, "sha224": 56, "sha256": 64, "sha384": 96, "sha512": 128}
"""Algorithm, as hashlib names it -> digits of a checksum: all that createrepo_c ever wrote."""

_SIZE = re.compile(r"[0-9]{1,15}")
_BROKEN = "the mirror is broken or was tampered with: name another one"


def index_error(fact: str) -> BuildError:
    """An index that cannot be what a distribution made."""
    return BuildError(f"the repository's index holds {fact}", next_step=_BROKEN)


def check_checksum(algorithm: str, checksum: str, package: str) -> str:
    """The checksum in lower case; raises BuildError for what is none of that algorithm: it may hold any path."""
    if algorithm not in HEX_DIGITS:
        raise index_error(f"an unknown kind of checksum for {package}: {algorithm!r}")
    found = checksum.lower()
    if not re.fullmatch(rf"[0-9a-f]{{{HEX_DIGITS[algorithm]}}}", found):
        raise index_error(f"no {algorithm} checksum for {package} but {checksum!r}")
    return found


def read_size(text: str, package: str) -> int:
    """A size in the index's unit; raises BuildError for what is no number."""
    if not _SIZE.fullmatch(text):
        raise index_error(f"no size for {package} but {text!r}")
    return int(text)


def place_by_checksum(folder: Path, sha256: str) -> Path:
    """Where a file named by its SHA-256 lies; raises BuildError for anything else, whoever says it."""
    if not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise BuildError(f"{sha256!r} is no SHA-256, and so no name in the package cache", place=str(folder),
                         next_step=_BROKEN)  # fmt: skip
    return folder / sha256
