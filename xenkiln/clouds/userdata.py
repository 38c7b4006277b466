"""User-data: what an instance is told when it is launched, rendered from a template and looked at before it goes.

What cloud-init takes, and by which beginning: cloudinit/handlers/__init__.py of its source. The meta-data client of
our images runs what begins with #! and keeps the rest.
"""

from __future__ import annotations

import email
import re
import zlib
from collections.abc import Callable, Mapping
from difflib import get_close_matches

from xenkiln.errors import BuildError, RecipeError
from xenkiln.model.cloud_config import BEGINNING, find_cloud_config_problem
from xenkiln.system.templates import MARKS, render_text

BYTES_LIMIT = 16384
"""EC2's, of the bytes before base64. Compressed user-data counts as it is sent."""
UNPACKED_LIMIT = 1 << 24
GZIP = b"\x1f\x8b"
BEGINNINGS = ("#!", BEGINNING, "#cloud-config-archive", "#cloud-boothook", "#include", "#include-once",
              "#part-handler", "#upstart-job", "## template: jinja")  # fmt: skip
TAKEN = f"one of {', '.join(BEGINNINGS)} begins it, or the headers of a MIME multipart; or all of it is gzip'd"
_MIME = re.compile(r"(content-type:\s*multipart/|mime-version:)", re.IGNORECASE)
_URL = re.compile(r"[a-z][a-z0-9+.-]*://\S+")
_VARIABLES = "launch.variables"


def make_user_data(content: bytes, values: Mapping[str, object], place: str) -> bytes:
    """User-data from a file's content: a template, or what is gzip'd already. Raises BuildError, RecipeError."""
    if not content.startswith(GZIP):
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError as error:
            line = content.count(b"\n", 0, error.start) + 1
            raise BuildError("neither UTF-8 text nor gzip", place=f"{place}:{line}") from error
        return render_user_data(text, values, place)
    _check_size(content, place)
    text = unpack_user_data(content, place).decode("utf-8", "replace")
    _check_kind(text, place)
    return content


def render_user_data(text: str, values: Mapping[str, object], place: str) -> bytes:
    """User-data from a template's text, of a kind that something in the guest takes, or plain.

    A text without jinja2's marks is left as it is, byte for byte; in a template lines end as they did. Raises
    BuildError and RecipeError that name the place and, where there is one, the line.
    """
    if any(mark in text for mark in MARKS):
        plain = text.replace("\r\n", "")
        if "\r" in plain or ("\n" in plain and plain != text):
            raise BuildError("some of its lines end in CR LF and some do not", place=place,
                             next_step="save it with one kind of line ends")  # fmt: skip
        text = render_text(text, values, place=place, variables=_VARIABLES,
                           line_end="\n" if plain == text else "\r\n")  # fmt: skip
    data = text.encode("utf-8")
    _check_size(data, place)
    _check_kind(text, place)
    return data


def unpack_user_data(data: bytes, place: str) -> bytes:
    """What is in it, where it is gzip'd; else itself."""
    if not data.startswith(GZIP):
        return data
    unpacker = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        content = unpacker.decompress(data, UNPACKED_LIMIT)
    except zlib.error as error:
        raise BuildError(f"begins as gzip does and is none: {error}", place=place) from error
    if not unpacker.eof:
        raise BuildError(f"gzip that is cut off, or more than {UNPACKED_LIMIT} bytes unpacked", place=place)
    return content


def _check_size(data: bytes, place: str) -> None:
    if len(data) > BYTES_LIMIT:
        raise BuildError(
            f"{len(data)} bytes of user-data, and a cloud takes at most {BYTES_LIMIT}", place=place,
            next_step="have it fetch the rest, or gzip it: then the compressed size counts, where cloud-init reads it",
        )  # fmt: skip


def _check_kind(text: str, place: str) -> None:
    """Refuse what is meant to be of a kind and would not be taken for it."""
    first = text.split("\n", 1)[0]
    words = first.split()
    if first.startswith("#!"):
        _check_script(first, place)
    elif _MIME.match(text):
        _check_multipart(text, place)
    elif not first.startswith("## template: jinja"):
        beginning = words[0] if words and first.startswith(words[0]) else ""
        if check := _CHECKS.get(beginning):
            check(text, f"{place} (as rendered)")
        elif beginning not in BEGINNINGS:
            _refuse_slip(text, place)


def _check_script(first: str, place: str) -> None:
    if first.endswith("\r"):
        raise BuildError("the #! line ends in CR LF: the guest would look for an interpreter of that name",
                         place=f"{place}:1", next_step="save the script with LF line ends")  # fmt: skip
    if not re.match(r"#![ \t]*/", first):
        raise BuildError("the first line must name the interpreter with its path: #!/bin/sh", place=f"{place}:1")


def _check_cloud_config(text: str, place: str) -> None:
    if problem := find_cloud_config_problem(text, place):
        raise RecipeError([problem])


def _check_include(text: str, place: str) -> None:
    for number, line in enumerate(text.splitlines()[1:], start=2):
        if line.strip() and not line.startswith("#") and not _URL.fullmatch(line.strip()):
            raise BuildError("is no URL: #include is followed by one a line", place=f"{place}:{number}")


def _check_multipart(text: str, place: str) -> None:
    message = email.message_from_string(text)
    if not message.is_multipart() or message.defects:
        faults = ", ".join(type(defect).__name__ for defect in message.defects) or "no parts"
        raise BuildError(f"no whole MIME multipart: {faults}", place=place,
                         next_step="make it with cloud-init devel make-mime")  # fmt: skip


def _refuse_slip(text: str, place: str) -> None:
    """A beginning that is nearly one of the known makes plain text of the rest, which nobody would run."""
    first = text.lstrip("\ufeff \t\r\n").split("\n", 1)[0]
    squeezed = "".join(first.split()).lower()
    known = ["#!"] if squeezed.startswith("#!/") else get_close_matches(squeezed, BEGINNINGS, 1, 0.85)
    if known:
        raise BuildError(f"what must be its very first characters, {known[0]}, is not quite there", place=f"{place}:1",
                         next_step=TAKEN)  # fmt: skip


_CHECKS: dict[str, Callable[[str, str], None]] = {
    BEGINNING: _check_cloud_config, "#include": _check_include, "#include-once": _check_include,
}  # fmt: skip
