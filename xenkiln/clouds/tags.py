"""Tags: what is kept with an image or a snapshot at the cloud, and whether xenkiln made it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from xenkiln.errors import BuildError

MARK_KEY, MARK_VALUE = "made-by", "xenkiln"
MAX_TAGS, LONGEST_KEY, LONGEST_VALUE = 50, 128, 256
"""Amazon EC2 User Guide, "Tag restrictions"."""


def list_tags(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """Tags as the API takes them, sorted, our own mark among them; BuildError for what no cloud takes."""
    marked = {**tags, MARK_KEY: MARK_VALUE}
    for key, value in marked.items():
        if not 1 <= len(key) <= LONGEST_KEY or len(value) > LONGEST_VALUE or key.startswith("aws:"):
            raise BuildError(f"a tag has a name of 1 to {LONGEST_KEY} characters that does not begin with 'aws:', and"
                             f" a value of at most {LONGEST_VALUE}", place=f"tag {key[:LONGEST_KEY]}",
                             next_step="shorten or rename it")  # fmt: skip
    if len(marked) > MAX_TAGS:
        raise BuildError(f"{len(marked)} tags are too many: {MAX_TAGS} at most, one of them ours", place="tags",
                         next_step="leave some out")  # fmt: skip
    return [{"Key": key, "Value": value} for key, value in sorted(marked.items())]


def read_tags(described: Mapping[str, Any]) -> dict[str, str]:
    """The tags of something as the cloud describes it."""
    pairs: Iterable[Mapping[str, str]] = described.get("Tags") or ()
    return {pair.get("Key", ""): pair.get("Value", "") for pair in pairs}


def is_ours(described: Mapping[str, Any]) -> bool:
    """Whether xenkiln made it."""
    return read_tags(described).get(MARK_KEY) == MARK_VALUE
