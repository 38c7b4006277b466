"""The root password as the hash that goes into the image; its clear text never leaves this module."""

from __future__ import annotations

import base64
import hashlib
import os
from functools import cache
from pathlib import Path

from xenkiln.errors import BuildError
from xenkiln.model.configure import Password
from xenkiln.system.commands import Runner


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
        text = path.read_text(encoding="utf-8").strip("\n") if path.is_file() else ""
    if not text or "\n" in text:
        raise BuildError(
            "the root password is not there (one line is expected)",
            place=place,
            next_step="give it, or a hash in the recipe: configure.root_password",
        )
    return text if text.startswith("$") else _hash_text(text, image_name)


@cache
def _hash_text(text: str, image_name: str) -> str:
    digest = hashlib.sha256(f"xenkiln salt {image_name}".encode()).digest()
    salt = base64.b64encode(digest, b"./").decode()[:16]
    # On stdin: an argument would show the password to everyone who lists processes.
    return Runner().read(["openssl", "passwd", "-6", "-salt", salt, "-stdin"], input_text=text + "\n").strip()
