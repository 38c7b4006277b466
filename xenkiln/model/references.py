"""What a recipe names without holding it: files beside it, keys on the host, modules of xenkiln itself."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from xenkiln.errors import Problem
from xenkiln.model.document import Document, FieldPath, name_field
from xenkiln.model.fields import check_key_path
from xenkiln.model.wording import suggest

EACH = "each"

REFERENCES: dict[tuple[str, ...], str] = {
    ("configure", "files", EACH, "source"): "file",
    ("configure", "files", EACH, "template"): "file",
    ("configure", "scripts", EACH, "source"): "file",
    ("configure", "ssh_key_files", EACH): "file",
    ("launch", "user_data"): "file",
    ("packages", "keyring"): "file",
    ("packages", "repositories", EACH, "gpgkeys", EACH): "file",
    ("kernel", "vmlinuz"): "file",
    ("kernel", "modules"): "folder",
}
"""Field (EACH for a list's index) -> what it names: a test holds this against the model."""

ROOMS = {("family",): ("families", "INSTALLER"), ("ramdisk", "maker"): ("ramdisks", "FRONT_ENDS")}
"""Field -> the folder of xenkiln whose modules it chooses from, and the name that such a module defines."""

_KEY_PACKAGES = {
    "/usr/share/distribution-gpg-keys/": "distribution-gpg-keys",
    "/usr/share/keyrings/ubuntu-": "ubuntu-keyring (of Ubuntu)",
    "/usr/share/keyrings/debian-": "debian-archive-keyring",
}


def check_references(document: Document, folder: Path) -> list[Problem]:
    """Hold the files that a recipe names against `folder`, its own; keys at absolute paths are left alone.

    Works on the document, so that a recipe with other faults has these reported in the same run.
    """
    problems = []
    for path, text, kind in _list_references(document):
        if not text.startswith("/") and (fact := _check_file(folder, text, kind)):
            problems.append(Problem(document.file, document.line_of(path), name_field(path), fact))
    return problems


def check_host_files(document: Document) -> list[Problem]:
    """Keys that a recipe names by their absolute path and that this host lacks; asked before a build."""
    return [
        Problem(document.file, document.line_of(path), name_field(path), _say_key(text))
        for path, text, _ in _list_references(document)
        if text.startswith("/") and not Path(text).is_file()
    ]


def check_names(document: Document) -> list[Problem]:
    """Hold the names of families and ramdisk makers against the modules there are."""
    problems = []
    for path, (room, mark) in ROOMS.items():
        place = document.places.get(path)
        known = list_modules(room, mark)
        if place and place.text and place.text not in known:
            fact = f"there is no '{place.text}' in xenkiln/{room}{suggest(place.text, known)}"
            problems.append(Problem(document.file, place.line, name_field(path), fact))
    return problems


@cache
def list_modules(room: str, mark: str) -> list[str]:
    """The modules of a folder of xenkiln that define `mark`, in order; what they share lies beside them.

    Read as text: importing them all would cost more than a build that has nothing to do.
    """
    folder = Path(__file__).parent.parent / room
    defines = re.compile(rf"^{mark}\b[^=\n]*=", re.MULTILINE)
    return sorted(
        path.stem for path in folder.glob("*.py") if defines.search(path.read_text(encoding="utf-8"))
    )


def _list_references(document: Document) -> Iterator[tuple[FieldPath, str, str]]:
    """The path, text and kind of every well-formed reference; malformed ones are validated elsewhere."""
    for path, place in document.places.items():
        kind = REFERENCES.get(tuple(EACH if isinstance(step, int) else step for step in path))
        if kind is None or not place.text:
            continue
        try:
            yield path, check_key_path(place.text), kind
        except ValueError:
            continue


def _check_file(folder: Path, text: str, kind: str) -> str:
    """What is wrong with a file beside the recipe; "" for nothing."""
    target = folder / text
    try:
        if not target.exists():
            return f"there is no {kind} {text} in the recipe's folder"
        if not target.resolve().is_relative_to(folder.resolve()):
            return f"{text} is a link that leads out of the recipe's folder: put a copy there"
        if not (target.is_dir() if kind == "folder" else target.is_file()):
            return f"{text} is not a {kind}"
        if kind == "file":
            target.open("rb").close()
    except OSError as error:
        return f"{text} cannot be read: {error.strerror}"
    return ""


def _say_key(text: str) -> str:
    source = next((name for start, name in _KEY_PACKAGES.items() if text.startswith(start)), "")
    get = f"install the package {source} or put" if source else "put"
    return (
        f"this host has no key file {text}; next: {get} the distribution's key there"
        " (compare its fingerprint with the published one), or name another file"
    )
