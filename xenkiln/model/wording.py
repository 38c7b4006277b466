"""What a validation found, as problems in plain words with the line they are on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING, get_args

from pydantic import BaseModel, ValidationError

from xenkiln.errors import Problem
from xenkiln.model.document import Ambiguous, Document, FieldPath, name_field
from xenkiln.model.fields import SHAPES

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

SHOWN_CHARACTERS = 40
UNSHOWN = frozenset({"root_password", "password_hash", "ssh_keys", "content", "variables", "meta_data"})
"""Fields whose value is never repeated in a message: someone may have put a secret there by mistake."""

_WANTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "tuple_type": "a list, as lines that start with '- ' or as [a, b]",
    "model_type": "a section of keys and values",
    "model_attributes_type": "a section of keys and values",
    "dict_type": "a section of keys and values",
}


def list_problems(error: ValidationError, document: Document, model: type[BaseModel]) -> list[Problem]:
    """Every fault that pydantic found, in the order of the lines of the file, without repeats."""
    details = error.errors(include_url=False)
    guessed = _guess_keys(details, model)
    problems: dict[tuple[FieldPath, str], Problem] = {}
    for detail in details:
        path = _trim_path(detail, document)
        if detail["type"] == "missing" and path in guessed.values():
            continue  # the misspelt key is reported already
        fact = (
            _say_unknown(path, guessed, model) if detail["type"] == "extra_forbidden" else _say(detail, path)
        )
        line = document.line_of(path)
        problems.setdefault((path, fact), Problem(document.file, line, name_field(path), fact))
    return sorted(problems.values(), key=lambda problem: problem.line)


def suggest(word: str, known: list[str]) -> str:
    """`; did you mean 'x'?` for a near miss, else the list of what there is."""
    if near := get_close_matches(word, known, n=1):
        return f"; did you mean '{near[0]}'?"
    return f"; known: {', '.join(known)}" if known else ""


def _trim_path(detail: ErrorDetails, document: Document) -> FieldPath:
    """Where the fault is, without the steps that pydantic adds for its own types."""
    path: FieldPath = (*detail["loc"], *detail.get("ctx", {}).get("path", ()))
    if path[-1:] == ("[key]",):
        path = path[:-1]
    if detail["type"] in ("missing", "extra_forbidden"):
        return path
    while path and path not in document.places:
        path = path[:-1]
    return path


def _guess_keys(details: list[ErrorDetails], model: type[BaseModel]) -> dict[FieldPath, FieldPath]:
    """Unknown key -> the key of the same section that was probably meant."""
    guessed: dict[FieldPath, FieldPath] = {}
    for detail in details:
        if detail["type"] == "extra_forbidden":
            path: FieldPath = tuple(detail["loc"])
            section = find_section(model, path[:-1])
            near = get_close_matches(str(path[-1]), list(section.model_fields) if section else [], n=1)
            if near:
                guessed[path] = (*path[:-1], near[0])
    return guessed


def _say_unknown(path: FieldPath, guessed: Mapping[FieldPath, FieldPath], model: type[BaseModel]) -> str:
    if path in guessed:
        return f"unknown key; did you mean '{guessed[path][-1]}'?"
    elsewhere = [name_field(place) for place in list_sections(model) if path[-1] in _fields_of(model, place)]
    if len(elsewhere) == 1 and elsewhere[0]:
        return f"unknown key here; it belongs into the section {elsewhere[0]}"
    section = find_section(model, path[:-1])
    return f"unknown key; known here: {', '.join(section.model_fields)}" if section else "unknown key"


def _say(detail: ErrorDetails, path: FieldPath) -> str:
    """One fault in words."""
    kind, context, given = detail["type"], detail.get("ctx", {}), detail["input"]
    shown = _show(given, path)
    if kind == "missing":
        return "is missing"
    if kind == "value_error":
        return str(context["error"])
    if kind == "string_pattern_mismatch":
        return f"{shown} does not fit; wanted: {SHAPES[context['pattern']]}"
    if kind == "literal_error":
        return _say_choice(given, shown, str(context["expected"]))
    if kind == "greater_than_equal":
        return f"{shown} is too small: {context['ge']} at least"
    if kind == "less_than_equal":
        return f"{shown} is too large: {context['le']} at most"
    if kind == "string_too_long":
        return f"is too long: {context['max_length']} characters at most"
    if kind in _WANTED:
        return _say_type(given, shown, _WANTED[kind])
    return detail["msg"]


def _say_choice(given: object, shown: str, expected: str) -> str:
    """A value that is not among the given ones; `expected` is pydantic's "'a', 'b' or 'c'"."""
    known = [word.strip("'") for word in expected.replace(" or ", ", ").split(", ")]
    if isinstance(given, str) and (near := get_close_matches(given, known, n=1)):
        return f"{shown} is not known here; did you mean '{near[0]}'?"
    if isinstance(given, Ambiguous) and given.text in known:
        return f'{_say_bite(given, shown)}: put it in quotes: "{given.text}"'
    return f"{shown} is not one of {', '.join(known)}"


def _say_type(given: object, shown: str, wanted: str) -> str:
    """A value of the wrong type, with the way out where YAML has read it otherwise than it was meant."""
    if given is None:
        return f"is empty; {wanted} is wanted, or leave the key out"
    if wanted == "text" and isinstance(given, bool | int | Ambiguous):
        return f"{_say_bite(given, shown)}, and text is wanted: put it in quotes{_quote(shown)}"
    if wanted.startswith("true") and isinstance(given, Ambiguous | str):
        return f"{shown} is read differently by different YAML versions: write true or false"
    if isinstance(given, Ambiguous):
        return f"{_say_bite(given, shown)}; {wanted} in plain digits is wanted"
    if wanted == "a whole number" and isinstance(given, str) and given.isdecimal():
        return "is text because of its quotes; write the number without them"
    return f"{shown} does not fit; wanted: {wanted}"


def _say_bite(given: object, shown: str) -> str:
    """What YAML makes of a bare value."""
    if not isinstance(given, Ambiguous):
        return f"YAML reads {shown} as {'a truth value' if isinstance(given, bool) else 'a number'}"
    text = given.text
    if given.kind == "int" and text.lstrip("+-").startswith("0") and text.strip("+-0_").isdecimal():
        return f"YAML reads {shown} as an octal number"
    if ":" in text and given.kind in ("int", "float"):
        return f"YAML reads {shown} as a number to base 60"
    kinds = {"bool": "a truth value", "timestamp": "a date"}
    return f"YAML reads {shown} as {kinds.get(given.kind, 'a number')}"


def _quote(shown: str) -> str:
    return f': "{shown}"' if shown.isprintable() and shown != "the value" else ""


def _show(given: object, path: FieldPath) -> str:
    """A value as a message may repeat it: short, on one line, never from a field that may hold a secret."""
    if UNSHOWN.intersection(map(str, path)):
        return "the value"
    if isinstance(given, Mapping):
        return "a section of keys and values"
    if isinstance(given, tuple):
        return "a list"
    if isinstance(given, bool):
        return str(given).lower()
    text = given.text if isinstance(given, Ambiguous) else str(given)
    if "://" in text and "@" in text:
        return "the value"  # a password in a URL
    if isinstance(given, str):
        text = repr(text)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."


def find_section(model: type[BaseModel], path: FieldPath) -> type[BaseModel] | None:
    """The section class at a path of a recipe, None where there is no section."""
    section: type[BaseModel] | None = model
    for step in path:
        if isinstance(step, str) and section is not None:
            field = section.model_fields.get(step)
            section = next(_find_models(field.annotation), None) if field else None
    return section


def _find_models(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _find_models(argument)


def list_sections(model: type[BaseModel], path: FieldPath = ()) -> Iterator[FieldPath]:
    """Every section's path, the recipe's own () first, lists without their indexes, in the model's order."""
    yield path
    section = find_section(model, path)
    for name, field in section.model_fields.items() if section else ():
        if any(_find_models(field.annotation)):
            yield from list_sections(model, (*path, name))


def _fields_of(model: type[BaseModel], path: FieldPath) -> list[str]:
    section = find_section(model, path)
    return list(section.model_fields) if section else []
