"""Ids as Eucalyptus gives them: emi-F4CB118E."""

from __future__ import annotations

import secrets


def make_id(kind: str) -> str:
    """A new one."""
    return f"{kind}-{secrets.token_hex(4).upper()}"
