"""The text of Xen's domain configuration files: reading it, and quoting for it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

Value = str | int | tuple[str | int, ...]

_TOKEN = re.compile(
    r"""(?P<blank>[ \t\r]+|\#[^\n]*)
    |(?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
    |(?P<number>0[xX][0-9a-fA-F]+|[0-9]+)
    |(?P<word>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<mark>[=\[\],;\n])""",
    re.VERBOSE,
)


@dataclass(frozen=True)
class Setting:
    """One `key = value` and the line that it starts on."""

    key: str
    value: Value
    line: int


def parse_config(text: str) -> list[Setting]:
    """The settings in order.

    The grammar is what xl.cfg(5) and a Python file of plain assignments have in common. Raises ValueError
    (line, fact) for anything else, the first that is found.
    """
    tokens = list(_scan(text))
    settings: list[Setting] = []
    position = 0
    while position < len(tokens):
        kind, word, line = tokens[position]
        if kind == "mark" and word in "\n;":
            position += 1
            continue
        if kind != "word" or tokens[position + 1 : position + 2] not in ([("mark", "=", line)],):
            raise ValueError(line, f"{word!r} is not the start of a setting, key = value")
        value, position = _read_value(tokens, position + 2, line)
        if position < len(tokens) and tokens[position][1] not in "\n;":
            raise ValueError(line, f"{tokens[position][1]!r} after the value of {word}")
        settings.append(Setting(word, value, line))
    return settings


def _scan(text: str) -> Iterator[tuple[str, str, int]]:
    """Kind, text and line of each token."""
    position, line = 0, 1
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise ValueError(line, f"cannot be read from {text[position : position + 20]!r} on")
        if match.lastgroup != "blank":
            yield str(match.lastgroup), match.group(), line
        line += match.group().count("\n")
        position = match.end()


def _read_value(tokens: list[tuple[str, str, int]], position: int, line: int) -> tuple[Value, int]:
    """A text, a number or a list of those, and where it ends."""
    if position >= len(tokens) or tokens[position][1] != "[":
        return _read_atom(tokens, position, line), position + 1
    items: list[str | int] = []
    position = _skip_lines(tokens, position + 1)
    while position < len(tokens) and tokens[position][1] != "]":
        items.append(_read_atom(tokens, position, line))
        position = _skip_lines(tokens, position + 1)
        if position < len(tokens) and tokens[position][1] == ",":
            position = _skip_lines(tokens, position + 1)
        elif position < len(tokens) and tokens[position][1] != "]":
            raise ValueError(tokens[position][2], "a comma is missing in the list")
    if position >= len(tokens):
        raise ValueError(line, "the list has no end")
    return tuple(items), position + 1


def _skip_lines(tokens: list[tuple[str, str, int]], position: int) -> int:
    while position < len(tokens) and tokens[position][1] == "\n":
        position += 1
    return position


def _read_atom(tokens: list[tuple[str, str, int]], position: int, line: int) -> str | int:
    kind, word, line = tokens[position] if position < len(tokens) else ("", "the end of the file", line)
    if kind == "number":
        if re.fullmatch("0[0-9]+", word):
            raise ValueError(line, f"{word} is octal to every toolstack: write it without the zero in front")
        return int(word, 0)
    if kind != "text":
        raise ValueError(line, f"a text in quotes, a number or a list is wanted, not {word!r}")
    if strange := re.search(r"\\[^\\\"']", re.sub(r"\\\\", "", word)):
        raise ValueError(line, f"{strange.group()} is not understood alike by xl and by Python")
    return re.sub(r"\\(.)", r"\1", word[1:-1])


def quote_text(text: str, mark: str) -> str:
    """A text in quotes that xl and xm (which runs its file as Python 2) both read back as it was.

    Raises ValueError for what only one of them could: control characters and letters beyond ASCII.
    """
    if not (text.isascii() and text.isprintable()) and text:
        raise ValueError("only printable ASCII characters are understood alike by every Xen toolstack")
    return mark + text.replace("\\", "\\\\").replace(mark, "\\" + mark) + mark
