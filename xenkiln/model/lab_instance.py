"""spec.json: an instance that the lab is to run, as its cloud asks for it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Annotated

from pydantic import AfterValidator, Field, ValidationError

from xenkiln.errors import Problem, RecipeError
from xenkiln.model.document import Document, FieldPath, Place
from xenkiln.model.fields import Line, Section, match_shape
from xenkiln.model.wording import list_problems

PATH = re.compile(r"(meta-data(/[A-Za-z0-9_][A-Za-z0-9._:@=+-]*)+|user-data)")
"""Below latest/; each becomes a file in dom0."""


def check_meta_data(values: dict[str, str]) -> dict[str, str]:
    """Refuse paths that cannot be files, each of its own, below one folder."""
    for path in values:
        if not PATH.fullmatch(path):
            raise ValueError(f"{path!r} is not meta-data/NAME, with more folders between perhaps, nor user-data")
        folders = path.split("/")[:-1]
        above = ["/".join(folders[:depth]) for depth in range(1, len(folders) + 1)]
        if taken := next((name for name in above if name in values), None):
            raise ValueError(f"{taken!r} has a value of its own, so {path!r} cannot lie below it")
    return values


class InstanceSpec(Section):
    """One instance; kernel, ramdisk and root are files here, the root a raw image that is never written.

    arguments: the kernel's command line. public_key: told to the guest by meta-data, where these do not tell it
    themselves. meta_data: path below latest/ -> body.
    """

    name: Annotated[str, match_shape(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$", "an instance's name, such as i-2ECA052C")]
    memory_mib: Annotated[int, Field(ge=16, le=1 << 20)]
    vcpus: Annotated[int, Field(ge=1, le=128)]
    kernel: Line
    ramdisk: Line | None = None
    root: Line
    root_device: Annotated[str, match_shape(r"^(xvd|sd|hd)[a-p][0-9]{0,2}$", "a disk or partition, such as xvda1")]
    arguments: Line = ""
    public_key: Line = ""
    meta_data: Annotated[dict[str, str], AfterValidator(check_meta_data)] = Field(default_factory=dict)


def parse_instance(text: str, place: str) -> InstanceSpec:
    """The instance of a spec.json; raises RecipeError with all that is wrong in it. `place` names the file."""
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RecipeError([Problem(place, 0, "", f"is not JSON: {error}")]) from error
    try:
        return InstanceSpec.model_validate(value)
    except ValidationError as error:
        document = Document(place, value, dict.fromkeys(_list_paths(value), Place(0)))
        raise RecipeError(list_problems(error, document, InstanceSpec)) from error


def _list_paths(value: object, path: FieldPath = ()) -> Iterator[FieldPath]:
    """Where there is a value."""
    yield path
    for key, part in value.items() if isinstance(value, Mapping) else ():
        yield from _list_paths(part, (*path, key))
