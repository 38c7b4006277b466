"""Answers as XML: text, or a list of named nodes."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

Node: TypeAlias = "str | Mapping[str, Node] | Sequence[tuple[str, Node]]"
DECLARATION = b'<?xml version="1.0" encoding="UTF-8"?>\n'
FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 has no way to write."""


def list_items(nodes: Iterable[Node]) -> Sequence[tuple[str, Node]]:
    """A list as EC2 has it: each one an <item>."""
    return [("item", node) for node in nodes]


def render(name: str, node: Node, namespace: str = "") -> bytes:
    """A document; raises ValueError for text that cannot be written."""
    element = ET.Element(name, {"xmlns": namespace} if namespace else {})
    _fill(element, node)
    data: bytes = ET.tostring(element, encoding="utf-8")
    return DECLARATION + data


def _fill(element: ET.Element, node: Node) -> None:
    if isinstance(node, str):
        if FORBIDDEN.search(node):
            raise ValueError(f"no XML can hold {node[:60]!a}")
        element.text = node
        return
    for name, child in node.items() if isinstance(node, Mapping) else node:
        _fill(ET.SubElement(element, name), child)
