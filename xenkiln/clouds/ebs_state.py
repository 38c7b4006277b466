"""How far the upload of a snapshot has come: a small file from which the next run goes on after any end.

The service tells nothing of the blocks of a snapshot that is not completed (Amazon EBS User Guide, "Frequently asked
questions for EBS direct APIs"), so what is written is remembered here. A block that was written and is not in
here is written again, which changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xenkiln.clouds.blocks import BLOCK_BYTES
from xenkiln.system.files import write_finished

FORMAT = 1
TEXTS = ("token", "checksum", "description", "snapshot_id")


@dataclass
class UploadState:
    """token: makes a repeated StartSnapshot harmless. snapshot_id: "" until the service has given one.

    size and checksum say of which image; written are indexes of blocks. is_completing: everything was written, and
    CompleteSnapshot was perhaps sent.
    """

    token: str
    size: int
    checksum: str
    description: str
    tags: dict[str, str]
    snapshot_id: str = ""
    is_completing: bool = False
    written: set[int] = field(default_factory=set)


def read_state(path: Path) -> UploadState | None:
    """What an earlier run left; None where nothing is there that could be used."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        runs = data.pop("written")
        blocks = -(-data["size"] // BLOCK_BYTES)
        if data.pop("format") != FORMAT or not all(0 <= first <= last < blocks for first, last in runs):
            return None
        texts = [data[name] for name in TEXTS]
        if not all(isinstance(text, str) for text in [*texts, *data["tags"].values()]):
            return None
        return UploadState(**data, written={index for first, last in runs for index in range(first, last + 1)})
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def write_state(path: Path, state: UploadState) -> None:
    """Keep it, whole or not at all."""
    data: dict[str, Any] = {**vars(state), "format": FORMAT, "written": _list_runs(state.written)}
    write_finished(path, json.dumps(data, sort_keys=True) + "\n", mode=0o600)


def _list_runs(indexes: Iterable[int]) -> list[tuple[int, int]]:
    """First and last of each run of neighbours: most blocks are written in order."""
    runs: list[tuple[int, int]] = []
    for index in sorted(indexes):
        if runs and runs[-1][1] == index - 1:
            runs[-1] = (runs[-1][0], index)
        else:
            runs.append((index, index))
    return runs
