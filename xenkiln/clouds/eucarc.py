"""An eucarc, the shell script that Eucalyptus 1.4 to 5 gives its users, read without a shell."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

NAME = r"[A-Za-z_][A-Za-z0-9_]*"
ASSIGNMENT = re.compile(rf"({NAME})=(.*)", re.DOTALL)
OWN_FOLDER = re.compile(r"\$\((dirname \$\(readlink -f|cd \$\(dirname) \$\{BASH_SOURCE[^()]*\)[^()]*\)")
"""However a release writes it, the first line asks for the folder that the file is in."""
FOLDER_VARIABLE = "XENKILN_OWN_FOLDER"
ACCOUNT_OF_ALIAS = re.compile(r"--user[ =]([0-9]{12})\b")
"""1.4 has the account's number in its alias for ec2-bundle-image and nowhere else."""
VARIABLE = rf"\$(?:\{{{NAME}\}}|{NAME})"
PIECE = re.compile(
    rf"""'(?P<literal>[^']*)'
       |"(?P<quoted>(?:[^"\\`$]|\\.|{VARIABLE})*)"
       |\\(?P<escaped>.)
       |(?P<blank>[ \t]+)
       |(?P<end>;|\Z)
       |(?P<plain>(?:[^\s'"\\;`$&|<>()]|{VARIABLE})+)""",
    re.VERBOSE | re.DOTALL,
)
"""A piece of a word of sh, or what ends one; a character that begins none of them takes a shell."""
INSIDE = re.compile(rf"\$\{{?({NAME})\}}?|\\([$\"\\`])")


def read_eucarc(path: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """Its variables, in terms of `environment`; one whose value only a shell could find out is left out.

    The number in 1.4's aliases is taken for EC2_USER_ID where that is not set. Raises OSError.
    """
    values: dict[str, str] = {}
    account = ""
    for line in path.read_text(encoding="utf-8-sig", errors="replace").splitlines():
        if line.lstrip().startswith("alias "):
            found = ACCOUNT_OF_ALIAS.search(line)
            account = found[1] if found else account
            continue
        text, folder = _name_folder(line.strip(), path)
        for word in _list_words(text, {**environment, **values, FOLDER_VARIABLE: str(folder)}):
            if match := ASSIGNMENT.fullmatch(word):
                values[match[1]] = match[2]
    return {"EC2_USER_ID": account} | values if account else values


def _name_folder(text: str, path: Path) -> tuple[str, Path]:
    """The line with a variable for the file's own folder, and that folder."""
    match = OWN_FOLDER.search(text)
    follows = match is not None and "readlink" in match[1]
    return OWN_FOLDER.sub(f"${{{FOLDER_VARIABLE}}}", text), (path.resolve() if follows else path.absolute()).parent


def _list_words(text: str, values: Mapping[str, str]) -> Iterator[str]:
    """Words of a line as sh makes them, up to a comment or to what only sh could make of it."""
    position, word = 0, None
    while match := PIECE.match(text, position):
        position = match.end()
        if match["blank"] or match["end"] is not None:
            if word is not None:
                yield word
            word = None
            if position >= len(text):
                return
            continue
        plain = match["plain"]
        if plain and word is None and plain.startswith("#"):
            return
        word = (word or "") + _expand(match, values)


def _expand(match: re.Match[str], values: Mapping[str, str]) -> str:
    if match["literal"] is not None:
        return match["literal"]
    if match["escaped"]:
        return match["escaped"]
    text = match["quoted"] if match["quoted"] is not None else match["plain"]
    return INSIDE.sub(lambda found: values.get(found[1], "") if found[1] else found[2], text)
