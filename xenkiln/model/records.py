"""Records: what a stage did, with which inputs, how long each step took. One JSON file each."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class StepTime:
    """One step of a stage and its seconds."""

    name: str
    seconds: float


@dataclass(frozen=True)
class Record:
    """What happened; written atomically once a stage has finished.

    key: SHA-256 over everything the stage read. identity: what later stages compare; a stage whose
    result is the same gives the same one. files: path -> (size in bytes, mtime in ns) of what it
    left. values: facts for later stages (epoch, kernel version). parts: what the key was made of, each
    with a digest, so that a later run can say what has changed. started: seconds since 1970.
    """

    kind: str
    name: str
    key: str
    identity: str
    started: float
    steps: tuple[StepTime, ...] = ()
    files: dict[str, tuple[int, int]] = field(default_factory=dict)
    values: dict[str, str] = field(default_factory=dict)
    parts: dict[str, str] = field(default_factory=dict)
    result: str = "done"
    schema_version: int = SCHEMA_VERSION

    @property
    def seconds(self) -> float:
        """How long the stage took."""
        return sum(step.seconds for step in self.steps)


def dump_record(record: Record) -> str:
    """A record as JSON text."""
    return json.dumps(asdict(record), indent=2, sort_keys=True) + "\n"


def parse_record(text: str) -> Record | None:
    """A record from JSON text; None for anything that is not one of this schema version."""
    try:
        data = json.loads(text)
        if data["schema_version"] != SCHEMA_VERSION:
            return None
        data["steps"] = tuple(StepTime(**step) for step in data["steps"])
        data["files"] = {path: (size, mtime) for path, (size, mtime) in data["files"].items()}
        record = Record(**data)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    texts = [record.kind, record.name, record.key, record.identity, record.result, *_list_texts(record.values),
             *_list_texts(record.parts)]  # fmt: skip
    return record if all(isinstance(text, str) for text in texts) else None


def _list_texts(values: object) -> list[object]:
    """The values of a dictionary of texts; of anything else itself, which is none."""
    return list(values.values()) if isinstance(values, dict) else [values] if not isinstance(values, str) else [None]
