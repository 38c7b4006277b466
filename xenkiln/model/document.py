"""A YAML file as plain values, with the line and the text of each: what recipes are read from."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from yaml.resolver import Resolver

from xenkiln.errors import Problem

FieldPath = tuple[str | int, ...]
"""Where a value is: ("disks", "extra", 0, "size_mib")."""

BYTES_LIMIT = 4 << 20
DEPTH_LIMIT = 30
VALUES_LIMIT = 100_000
ALIASES_LIMIT = 100
"""More than that is an attack (aliases of aliases of aliases) or a mistake."""

_PARSER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_RESOLVER = Resolver()
_DECIMAL = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})")
# What YAML refuses, and the line breaks by which it counts other lines than most editors.
_UNSEEN = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]|\r(?!\n)")
_TRUTH = {"true": True, "false": False}


@dataclass(frozen=True)
class Ambiguous:
    """A bare value that YAML 1.1 and a human read differently: `no`, 5.10, 0755, 22:22, 2024-01-31.

    `kind` is what YAML makes of it: bool, int, float or timestamp. No field of a recipe is of this type, so
    checking it always ends in a message that can say what to write instead.
    """

    text: str
    kind: str


@dataclass(frozen=True)
class Place:
    """Where a value stands in the file (from 1) and what is written there ("" for a list or mapping)."""

    line: int
    text: str = ""


@dataclass
class _Frame:
    """A list or mapping whose end has not been read yet."""

    path: FieldPath
    items: list[object] | dict[str, object]
    anchor: str | None
    key: str | None = None
    key_line: int = 0
    dropped: bool = False


@dataclass
class Document:
    """What one file holds.

    `value` is made of None, bool, int, str, Ambiguous, tuple and dict; `places` says where each part of it
    stands, `problems` what kept the rest from being read.
    """

    file: str
    value: object = None
    places: dict[FieldPath, Place] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def line_of(self, path: FieldPath) -> int:
        """The line of a value, or of the nearest section around it that the file has; 0 for none."""
        for length in range(len(path), -1, -1):
            if place := self.places.get(path[:length]):
                return place.line
        return 0

    def report(self, line: int, fact: str, path: FieldPath = ()) -> None:
        """Add a problem."""
        self.problems.append(Problem(self.file, line, name_field(path), fact))


def name_field(path: FieldPath) -> str:
    """A field as messages name it: disks.extra[0].size_mib."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).lstrip(".")


def read_document(path: Path, file: str) -> Document:
    """Read a YAML file; what is wrong with it ends in `problems`, never in an exception."""
    document = Document(file)
    try:
        if not path.is_file():
            document.report(0, "is no file" if path.exists() else "there is no such file")
            return document
        with path.open("rb") as stream:
            data = stream.read(BYTES_LIMIT + 1)
    except OSError as error:
        document.report(0, f"cannot be read: {error.strerror}")
        return document
    if len(data) > BYTES_LIMIT:
        document.report(0, "is larger than 4 MiB: not a recipe")
        return document
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        document.report(data.count(b"\n", 0, error.start) + 1, "is not UTF-8 text")
        return document
    _read_text(text, document)
    return document


def _read_text(text: str, document: Document) -> None:
    if odd := _UNSEEN.search(text):
        line = text.count("\n", 0, odd.start()) + 1
        document.report(line, f"holds a control character or unusual line break ({odd[0]!a}): remove it")
        return
    builder = _Builder(document)
    try:
        for event in yaml.parse(text, Loader=_PARSER):
            builder.take(event)
            if builder.stopped:
                return
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = min(mark.line, text.count("\n")) + 1 if mark else 0
        document.report(*say_syntax(error, text.split("\n"), line))
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        document.report(0, f"is not valid YAML: {error}")


def say_syntax(error: yaml.MarkedYAMLError, lines: list[str], line: int) -> tuple[int, str]:
    """The line to look at and the parser's complaint, in plain words where it is one of the usual slips."""
    here = lines[line - 1] if 0 < line <= len(lines) else ""
    problem = error.problem or ""
    if "\t" in here[: len(here) - len(here.lstrip())] or (
        "cannot start any token" in problem and "\t" in here
    ):
        return line, "a tab: YAML is indented by spaces only"
    if "mapping values are not allowed" in problem:
        return line, 'a second ":" in one value: put the value in quotes, or check the indentation'
    if "cannot start any token" in problem:
        return (
            line,
            "a value starts with a character that means something to YAML (@, `, %): put it in quotes",
        )
    if "expected key" in problem or "expected ':'" in problem:
        return line, "the indentation does not fit the lines above, or a ':' is missing"
    if error.context_mark and re.search(r"quoted scalar|flow (sequence|mapping)", str(error.context)):
        return error.context_mark.line + 1, "a quote or bracket that opens here is not closed"
    context = f"{error.context}: " if error.context else ""
    return line, f"is not valid YAML: {context}{problem}"


class _Builder:
    """Makes values and places out of the parser's events, one at a time and without recursion."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.stopped = False
        self._frames: list[_Frame] = []
        self._anchors: dict[str, tuple[FieldPath, object]] = {}
        self._documents = 0
        self._aliases = 0

    def take(self, event: yaml.Event) -> None:
        """Go on by one event; `stopped` is set where reading on makes no sense."""
        line = event.start_mark.line + 1 if event.start_mark else 0
        if isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                self._stop(line, "a second document starts here (---): a recipe is one document")
        elif isinstance(event, yaml.ScalarEvent):
            self._take_scalar(event, line)
        elif isinstance(event, yaml.CollectionStartEvent):
            self._open(event, line)
        elif isinstance(event, yaml.CollectionEndEvent):
            self._close()
        elif isinstance(event, yaml.AliasEvent):
            self._take_alias(str(event.anchor), line)
        if len(self.document.places) > VALUES_LIMIT:
            self._stop(line, f"holds more than {VALUES_LIMIT} values: not a recipe")

    def _stop(self, line: int, fact: str) -> None:
        self.document.report(line, fact)
        self.stopped = True

    def _awaits_key(self) -> bool:
        frame = self._frames[-1] if self._frames else None
        return frame is not None and isinstance(frame.items, dict) and frame.key is None

    def _take_scalar(self, event: yaml.ScalarEvent, line: int) -> None:
        self._refuse_tag(event.tag, line)
        if self._awaits_key():
            self._start_entry(event.value, line)
            return
        value = resolve_scalar(event.value) if event.implicit[0] and not event.tag else event.value
        path = self._place(line, event.value)
        self._put(path, value, event.anchor)

    def _refuse_tag(self, tag: str | None, line: int) -> None:
        if tag not in (None, "!"):
            shown = str(tag).replace("tag:yaml.org,2002:", "!!")
            self.document.report(line, f"the tag {shown} is not allowed here: write the value without it")

    def _start_entry(self, key: str, line: int) -> None:
        frame = self._frames[-1]
        frame.key, frame.key_line = key, line
        path = (*frame.path, key)
        if key == "<<":
            self.document.report(line, "merge keys (<<) are not allowed in a recipe", frame.path)
            frame.dropped = True
        if isinstance(frame.items, dict) and key in frame.items:
            first = self.document.places[path].line
            self.document.report(line, f"the same key is on line {first}; keep one of the two", path)
            frame.dropped = True

    def _place(self, line: int, text: str = "") -> FieldPath:
        """Note where the next value stands; in a mapping that is the line of its key."""
        if not self._frames:
            path: FieldPath = ()
        else:
            frame = self._frames[-1]
            path = (*frame.path, len(frame.items) if frame.key is None else frame.key)
            line = frame.key_line if frame.key is not None else line
        self.document.places.setdefault(path, Place(line, text))
        return path

    def _put(self, path: FieldPath, value: object, anchor: str | None = None) -> None:
        """Hand a finished value to what it is part of."""
        if anchor is not None:
            self._anchors[anchor] = (path, value)
        if not self._frames:
            self.document.value = value
            return
        frame = self._frames[-1]
        if isinstance(frame.items, list):
            frame.items.append(value)
        elif frame.key is not None:
            if not frame.dropped:
                frame.items[frame.key] = value
            frame.key, frame.dropped = None, False

    def _open(self, event: yaml.CollectionStartEvent, line: int) -> None:
        if self._awaits_key():
            self._stop(line, "a list or mapping is used as a key: put text that starts with { or [ in quotes")
            return
        if len(self._frames) >= DEPTH_LIMIT:
            self._stop(line, f"is nested more than {DEPTH_LIMIT} deep: not a recipe")
            return
        self._refuse_tag(event.tag, line)
        path = self._place(line)
        items: list[object] | dict[str, object] = {} if isinstance(event, yaml.MappingStartEvent) else []
        self._frames.append(_Frame(path, items, event.anchor))

    def _close(self) -> None:
        frame = self._frames.pop()
        value = tuple(frame.items) if isinstance(frame.items, list) else frame.items
        self._put(frame.path, value, frame.anchor)

    def _take_alias(self, anchor: str, line: int) -> None:
        if self._awaits_key():
            self._stop(line, "an alias (*name) is used as a key: write the key out")
            return
        if anchor not in self._anchors:
            self._stop(line, f"*{anchor} stands for nothing: no finished value before it is marked &{anchor}")
            return
        self._aliases += 1
        if self._aliases > ALIASES_LIMIT:
            self._stop(line, f"holds more than {ALIASES_LIMIT} aliases: not a recipe")
            return
        source, value = self._anchors[anchor]
        path = self._place(line, self.document.places[source].text)
        line = self.document.places[path].line
        places = self.document.places
        below = [place for place in places if place[: len(source)] == source and len(place) > len(source)]
        for inner in below:
            places[(*path, *inner[len(source) :])] = Place(line, places[inner].text)
        self._put(path, value)


def resolve_scalar(text: str) -> object:
    """A bare value as YAML 1.1 types it, kept to what all YAML versions agree on; the rest is Ambiguous."""
    tag: str = _RESOLVER.resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]
    kind = tag.removeprefix("tag:yaml.org,2002:")
    if kind == "null":
        return None
    if kind == "bool" and text.lower() in _TRUTH:
        return _TRUTH[text.lower()]
    if kind == "int" and _DECIMAL.fullmatch(text):
        return int(text)
    if kind in ("bool", "int", "float", "timestamp"):
        return Ambiguous(text, kind)
    return text
