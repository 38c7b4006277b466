"""The root password as the hash that goes into the image; its clear text never leaves this module."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from functools import cache
from pathlib import Path

from xenkiln.errors import BuildError
from xenkiln.model.configure import Password
from xenkiln.system.commands import Runner

CRYPTED = re.compile(r"\$(1|2[abxy]?|5|6|7|y|gy)\$[./A-Za-z0-9$=,+-]{8,}")
"""crypt(5). A password that merely starts with a dollar is none of these: it would go into the image as it is."""
MAX_BYTES = 256
"""openssl-passwd(1) ignores what is beyond."""


def resolve_password(password: Password, image_name: str) -> str:
    """The crypt(5) hash for /etc/shadow.

    A clear text from a file or the environment becomes SHA-512 crypt with a salt made from the
    image's name, so that the image is the same every time. Raises BuildError where it is not there.
    """
    if password.hash is not None:
        return password.hash
    if password.environment is not None:
        text = os.environ.get(password.environment, "")
        place = f"environment variable {password.environment}"
    else:
        path = Path(password.file or "").expanduser()
        place = str(path)
        text = _read_line(path)
    if not text or "\n" in text or len(text.encode()) > MAX_BYTES:
        raise BuildError(
            f"the root password is not there (one line of {MAX_BYTES} bytes at most is expected)",
            place=place,
            next_step="give it, or a hash in the recipe: configure.root_password",
        )
    return text if CRYPTED.fullmatch(text) else _hash_text(text, image_name)


def _read_line(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip("\r\n") if path.is_file() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise BuildError("the root password cannot be read", place=str(path),
                         next_step="it is to be a text file that you may read") from error  # fmt: skip


@cache
def _hash_text(text: str, image_name: str) -> str:
    digest = hashlib.sha256(f"xenkiln salt {image_name}".encode()).digest()
    salt = base64.b64encode(digest, b"./").decode()[:16]
    # On stdin: an argument would show the password to everyone who lists processes.
    return Runner().read(["openssl", "passwd", "-6", "-salt", salt, "-stdin"], input_text=text + "\n").strip()
