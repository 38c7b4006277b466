"""An action of the query API: the fields that it knows, and a call of it with those that were sent."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from xenkiln.lab.cloud.faults import Fault, miss_parameter, reject_value
from xenkiln.lab.cloud.markup import Node

if TYPE_CHECKING:
    from xenkiln.lab.cloud.cloud import Cloud

NUMBER = re.compile(r"\.[0-9]+(?=\.|$)")
COMMON = frozenset({"Action", "Version"})
FILTER_FIELDS = "Filter.N.Name Filter.N.Value.N"
DONE: Node = {"return": "true"}


@dataclass(frozen=True)
class Call:
    """An action that somebody may call, with its parameters."""

    cloud: Cloud
    parameters: Mapping[str, str]

    def text(self, name: str, default: str | None = None) -> str:
        """A parameter; without a default it must be there."""
        found = self.parameters.get(name, default)
        if found is None or (found == "" and default is None):
            raise miss_parameter(name)
        return found

    def number(self, name: str, least: int, most: int, default: int | None = None) -> int:
        """A whole number within limits."""
        text = self.text(name, None if default is None else str(default))
        if not re.fullmatch("[0-9]{1,9}", text) or not least <= int(text) <= most:
            raise reject_value(name, text)
        return int(text)

    def texts(self, name: str) -> list[str]:
        """NAME.1, NAME.2 ... in the order of their numbers."""
        return [each[""] for each in self.structures(name) if "" in each]

    def structures(self, name: str) -> list[dict[str, str]]:
        """NAME.1.A, NAME.1.B, NAME.2.A ...: for each number what follows it -> value; "" for nothing."""
        found: dict[int, dict[str, str]] = {}
        for field, value in self.parameters.items():
            match = re.fullmatch(rf"{re.escape(name)}\.([0-9]{{1,5}})(?:\.(.*))?", field)
            if match:
                found.setdefault(int(match[1]), {})[match[2] or ""] = value
        return [found[number] for number in sorted(found)]

    def filters(self) -> list[tuple[str, list[str]]]:
        """Name and values of each filter."""
        found = []
        for each in self.structures("Filter"):
            if "Name" not in each:
                raise miss_parameter("Filter.N.Name")
            values = [value for field, value in each.items() if field.startswith("Value.")]
            found.append((each["Name"], values))
        return found


@dataclass(frozen=True)
class Action:
    """Fields are names with N for a number; `later` ones, and the action itself, are known from a release on."""

    run: Callable[[Call], Node]
    fields: str = ""
    later: str = ""
    since: tuple[int, int] = (1, 4)

    def bind(self, cloud: Cloud, parameters: Mapping[str, str], consumed: frozenset[str]) -> Call:
        """The parameters that are its own; raises Fault for others where the release does."""
        known = {*self.fields.split(), *(self.later.split() if cloud.profile.has_tags else ())}
        given = {name: value for name, value in parameters.items() if name not in COMMON | consumed}
        unknown = [name for name in given if NUMBER.sub(".N", name) not in known]
        if unknown and cloud.profile.binds_all:
            lines = "".join(f"{name} = {given[name]}\n" for name in unknown)
            raise Fault("UnknownParameter", f"Failed to bind the following fields:\n{lines}")
        return Call(cloud, {name: value for name, value in given.items() if name not in unknown})


def passes(filters: list[tuple[str, list[str]]], fields: Mapping[str, str], tags: Mapping[str, str]) -> bool:
    """Whether all filters let a thing pass; raises Fault for one that is not known. * and ? are wild."""
    whole = {**fields, **{f"tag:{key}": value for key, value in tags.items()}}
    for name, values in filters:
        if name.startswith("tag:") or name == "tag-key":
            has = [*tags] if name == "tag-key" else [whole[name]] if name in whole else []
        elif name in whole:
            has = [whole[name]]
        else:
            raise Fault("InvalidParameterValue", f"The filter '{name}' is invalid")
        if not any(fnmatchcase(each, value) for each in has for value in values):
            return False
    return True
