"""The JSON Schema that editors check recipes with, made from the model and from what docs/recipes.md says."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from xenkiln.model.document import FieldPath
from xenkiln.model.wording import find_section, list_sections

_ROW = re.compile(r"^\| `([a-z0-9_.\[\]]+)` \| (.+?) \| (.+?) \| (.+) \|$", re.MULTILINE)
_MARKUP = re.compile(r"`|\[([^\]]+)\]\([^)]+\)")


@dataclass(frozen=True)
class FieldNote:
    """A row of the reference: what the field takes, what it is when left out, and what it means."""

    takes: str
    left_out: str
    meaning: str


def list_fields(model: type[BaseModel]) -> dict[str, str]:
    """Every field as the reference names it, `disks.extra[].name`, and what it is when left out."""
    fields = {}
    for path in list_sections(model):
        section = find_section(model, path)
        for name, field in section.model_fields.items() if section else ():
            default = field.get_default(call_default_factory=True)
            left_out = "required" if field.is_required() else _render_default(default)
            fields[_name_field((*path, name), model)] = left_out
    return fields


def read_reference(text: str) -> dict[str, FieldNote]:
    """The rows of a page's tables by field."""
    return {row[0]: FieldNote(*row[1:]) for row in _ROW.findall(text)}


def render_schema(reference: str, model: type[BaseModel]) -> str:
    """The text of a schema.json beside such recipes; `reference` is the page with a row for each field."""
    notes = read_reference(reference)
    schema = model.model_json_schema()
    for path in list_sections(model):
        section = find_section(model, path)
        place = schema if section is model else schema["$defs"][section.__name__ if section else ""]
        for name, entry in place["properties"].items():
            entry.pop("title", None)
            entry.pop("default", None)
            note = notes.get(_name_field((*path, name), model))
            if note:
                entry["description"] = _MARKUP.sub(r"\1", note.meaning)
    schema["$schema"] = "http://json-schema.org/draft-07/schema#"
    return json.dumps(schema, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _name_field(path: FieldPath, model: type[BaseModel]) -> str:
    """The path with [] after every list, without the indexes that a particular recipe has."""
    steps = []
    for length, step in enumerate(path, 1):
        section = find_section(model, path[: length - 1])
        field = section.model_fields[str(step)] if section else None
        many = field is not None and length < len(path) and "tuple[" in str(field.annotation)
        steps.append(f"{step}[]" if many else str(step))
    return ".".join(steps)


def _render_default(value: Any) -> str:
    """A default as a recipe would say it; "-" for nothing and for sections, whose fields have their own."""
    if value is None or value == "" or value == () or value == {} or isinstance(value, BaseModel):
        return "-"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return f"`[{', '.join(_render_item(item) for item in value)}]`"
    return (
        f"`{value}`" if not (isinstance(value, str) and re.fullmatch(r"[0-9!]+", value)) else f'`"{value}"`'
    )


def _render_item(item: object) -> str:
    if isinstance(item, BaseModel):
        return (
            "{"
            + ", ".join(f"{key}: {value}" for key, value in item.model_dump(exclude_unset=True).items())
            + "}"
        )
    return str(item)
