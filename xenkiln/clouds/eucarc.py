"""An eucarc, the shell script that Eucalyptus 1.4 to 5 gives its users, read without a shell."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

NAME = r"[A-Za-z_][A-Za-z0-9_]*"
ASSIGNMENT = re.compile(rf"({NAME})(\+?)=(.*)", re.DOTALL)
SELF = r'"?\$(?:\{BASH_SOURCE(?:\[0\])?(?::?-\$\{?0\}?)?\}|BASH_SOURCE)"?'
FOLLOWED = rf'"?\$\((?:readlink\s+-[fe]|realpath)\s+(?:--\s+)?{SELF}\s*\)"?'
DIRNAME = rf"\$\(dirname\s+(?:--\s+)?(?:{SELF}|{FOLLOWED})\s*\)"
SILENCE = r"(?:\s*&?>\s*/dev/null(?:\s*2>\s*(?:&1|/dev/null))?)?"
OWN_FOLDER = re.compile(rf'\$\(cd\s+(?:-P\s+)?(?:--\s+)?"?{DIRNAME}"?{SILENCE}\s*(?:;|&&)\s*pwd(?:\s+-[PL])?\s*\)'
                        rf"|{DIRNAME}")  # fmt: skip
"""However a release writes it, the first line asks for the folder that the file is in."""
FOLDER_VARIABLE = "XENKILN_OWN_FOLDER"
ACCOUNT_OF_ALIAS = re.compile(r"--user[ =]([0-9]{12})\b")
"""1.4 has the account's number in its alias for ec2-bundle-image and nowhere else."""
VARIABLE = rf"""\$(?:\{{{NAME}(?::?-[^{{}}$`"'\\]*)?\}}|{NAME})"""
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
INSIDE = re.compile(rf"\$(?:\{{({NAME})(?:(:?)-([^}}]*))?\}}|({NAME}))|\\([$\"\\`])")
SPAN = re.compile(r"""\\.|'[^']*'|"(?:[^"\\]|\\.)*\"""")
"""What is quoted, from its beginning to its end."""
UNKNOWN, END = "\0", "\0;"
"""In a word: that only a shell could tell the rest; alone: the end of a command."""
OPENING, CLOSING = {"if", "case", "for", "while", "until", "select", "{"}, {"fi", "esac", "done", "}"}
BEFORE_COMMANDS = {"then", "else", "elif", "do", "!"}
WORDS = "|".join(map(re.escape, sorted(OPENING | CLOSING)))
LATER = re.compile(rf"(?:^|(?<=[\s;&|()]))(?:({NAME})\+?=|({WORDS})(?=[\s;]|$))")
"""What may be assigned, begun or ended behind what takes a shell."""


@dataclass
class Eucarc:
    """values: variable -> text. unknown: variable -> the line that sets it to what only a shell could tell."""

    values: dict[str, str] = field(default_factory=dict, repr=False)
    unknown: dict[str, int] = field(default_factory=dict)

    def set(self, name: str, text: str, line: int) -> None:
        """As the line does; a text with UNKNOWN in it is none."""
        self.values.pop(name, None)
        self.unknown.pop(name, None)
        if UNKNOWN in text:
            self.unknown[name] = line
        else:
            self.values[name] = text


def read_eucarc(path: Path, environment: Mapping[str, str]) -> Eucarc:
    """Its variables, in terms of `environment`. What stands under a condition counts as unknown.

    The number in 1.4's aliases is taken for EC2_USER_ID where that is not set. Raises OSError.
    """
    found = Eucarc()
    account, depth = "", 0
    for number, line in _list_lines(path.read_text(encoding="utf-8-sig", errors="replace")):
        if line.lstrip().startswith("alias "):
            match = ACCOUNT_OF_ALIAS.search(line)
            account = match[1] if match else account
            continue
        text, folder = _name_folder(line.strip(), path)
        known = {**environment, **found.values, **dict.fromkeys(found.unknown, UNKNOWN), FOLDER_VARIABLE: str(folder)}
        for command in _list_commands(text, known):
            depth = _obey(command, found, depth, number)
            known |= found.values | dict.fromkeys(found.unknown, UNKNOWN)
    if account and "EC2_USER_ID" not in found.unknown:
        found.values.setdefault("EC2_USER_ID", account)
    return found


def _list_lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines with their numbers; one that ends with a backslash goes on in the next."""
    begun, start = "", 0
    for number, line in enumerate(text.splitlines(), 1):
        start = start if begun else number
        whole = begun + line
        backslashes = len(whole) - len(whole.rstrip("\\"))
        # In single quotes, and in a comment, it is a backslash.
        is_bare = SPAN.sub("", whole[:-1]).partition('"')[0].find("'") < 0 and not whole.lstrip().startswith("#")
        if backslashes % 2 and is_bare:
            begun = whole[:-1]
            continue
        yield start, whole
        begun = ""
    if begun:
        yield start, begun


def _obey(words: list[str], found: Eucarc, depth: int, line: int) -> int:
    """Do what a command does to variables; in how many compound commands the next one is."""
    names = list(words)
    while names and names[0] in OPENING | CLOSING | BEFORE_COMMANDS:
        word = names.pop(0)
        depth = max(0, depth + (word in OPENING) - (word in CLOSING))
    if names and names[0] == "unset":
        for name in names[1:]:
            found.set(name, UNKNOWN if depth else "", line)  # nobody tells an empty one from none
        return depth
    for word in names:
        if match := ASSIGNMENT.fullmatch(word):
            found.set(match[1], UNKNOWN if depth or match[2] else match[3], line)
    return depth


def _name_folder(text: str, path: Path) -> tuple[str, Path]:
    """The line with a variable for the file's own folder, and that folder."""
    match = OWN_FOLDER.search(text)
    follows = match is not None and ("readlink" in match[0] or "realpath" in match[0])
    return OWN_FOLDER.sub(f"${{{FOLDER_VARIABLE}}}", text), (path.resolve() if follows else path.absolute()).parent


def _list_commands(text: str, values: Mapping[str, str]) -> Iterator[list[str]]:
    """The simple commands of a line, each as its words."""
    words: list[str] = []
    for word in _list_words(text, values):
        if word == END:
            yield words
            words = []
        else:
            words.append(word)
    yield words


def _list_words(text: str, values: Mapping[str, str]) -> Iterator[str]:
    """Words of a line as sh makes them, up to a comment; END between commands.

    Of what only sh could make something of, what it may set or end, as commands of their own.
    """
    position, word = 0, None
    while match := PIECE.match(text, position):
        position = match.end()
        if match["blank"] or match["end"] is not None:
            if word is not None:
                yield word
            word = None
            if position >= len(text):
                return
            if match["end"]:
                yield END
            continue
        plain = match["plain"]
        if plain and word is None and plain.startswith("#"):
            return
        word = (word or "") + _expand(match, values)
    if word is not None:
        yield word + UNKNOWN
    for later in LATER.finditer(text, position):
        yield END
        yield f"{later[1]}={UNKNOWN}" if later[1] else later[2]


def _expand(match: re.Match[str], values: Mapping[str, str]) -> str:
    if match["literal"] is not None:
        return match["literal"]
    if match["escaped"]:
        return match["escaped"]
    text = match["quoted"] if match["quoted"] is not None else match["plain"]
    return INSIDE.sub(lambda found: _look_up(found, values), text)


def _look_up(found: re.Match[str], values: Mapping[str, str]) -> str:
    """What stands for a variable, with the default that `${NAME:-DEFAULT}` has, or for an escaped character."""
    braced, colon, default, bare, escaped = found.groups()
    if escaped:
        return escaped
    value = values.get(braced or bare)
    if default is not None and (value is None or (colon and not value)):
        return default
    return value or ""
