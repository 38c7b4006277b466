"""Ids that a cloud gives: held against their form before anything is named by them, printed or sent back."""

from __future__ import annotations

import re
from typing import Literal

from xenkiln.errors import CloudError

Kind = Literal["image", "instance", "snapshot"]

PREFIXES: dict[Kind, str] = {"image": "[aAeE][mMkKrR][iI]", "instance": "[iI]", "snapshot": "snap"}
LONGEST_SHOWN = 80


def check_id(value: object, kind: Kind, place: str) -> str:
    """An id as a cloud has given it; CloudError for what is none, for it becomes the name of a file.

    Those of Amazon and Eucalyptus are emi-1A2B3C4D, i-0123456789abcdef0 and the like.
    """
    text = "" if value is None else str(value)
    if not re.fullmatch(rf"{PREFIXES[kind]}-[A-Za-z0-9-]{{1,64}}", text):
        shown = ascii(text[:LONGEST_SHOWN]) + ("..." if len(text) > LONGEST_SHOWN else "")
        raise CloudError(f"the cloud gives an id that no {kind} has: {shown}", place=place,
                         next_step="is a cloud's service at that address? Nothing is done with such an id")  # fmt: skip
    return text
