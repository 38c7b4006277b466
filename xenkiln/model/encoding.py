"""What a stage reads, as JSON types: the text that its rebuild key is made of."""

from __future__ import annotations

import json
from dataclasses import is_dataclass
from pathlib import Path

from pydantic import BaseModel

UNKNOWN = "not known"
"""In a slice: a secret that is not there now, which matters only when its stage runs."""


def encode_value(value: object) -> object:
    """A slice of a recipe, whatever it is made of, as JSON types; raises TypeError for what has no fixed form."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if is_dataclass(value) and not isinstance(value, type):
        return {name: encode_value(item) for name, item in vars(value).items()}
    if isinstance(value, tuple | list):
        return [encode_value(item) for item in value]
    if isinstance(value, dict):
        return {str(key): encode_value(item) for key, item in value.items()}
    if isinstance(value, Path):
        return str(value)
    if value is None or isinstance(value, str | int | float):
        return value
    raise TypeError(f"a {type(value).__name__} cannot be part of a rebuild key")


def list_leaves(value: object, name: str = "") -> dict[str, str]:
    """Field -> JSON text of an encoded slice; a list is one leaf, so that a reason stays short."""
    if not isinstance(value, dict):
        return {name: json.dumps(value, sort_keys=True)}
    found: dict[str, str] = {}
    for key, item in value.items():
        found |= list_leaves(item, f"{name}.{key}" if name else str(key))
    return found
