"""Static device nodes: what a guest's first programs open before anything fills /dev."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from xenkiln.errors import BuildError
from xenkiln.model.configure import DeviceNode
from xenkiln.system.execution import Context
from xenkiln.system.files import remove_path, resolve_in_root
from xenkiln.system.steps import Do, Step

FIRST_NODES = (
    DeviceNode(path="/dev/console", major=5, minor=1, mode="0600"),
    DeviceNode(path="/dev/null", major=1, minor=3, mode="0666"),
    DeviceNode(path="/dev/zero", major=1, minor=5, mode="0666"),
)
"""Numbers from Linux's devices.txt."""


def make_node_steps(nodes: Sequence[DeviceNode], root: Path) -> list[Step]:
    """One step for all nodes, done while nothing is mounted over the image's own /dev."""

    def make_nodes(context: Context) -> None:
        for node in nodes:
            make_node(resolve_in_root(root, node.path), node)

    names = ", ".join(node.path for node in nodes)
    return [Do(f"make the device nodes {names}", make_nodes, writes=_list_places(nodes, root))] if nodes else []


def _list_places(nodes: Sequence[DeviceNode], root: Path) -> tuple[Path, ...]:
    return tuple(root / node.path.lstrip("/") for node in nodes)


def make_node(path: Path, node: DeviceNode) -> None:
    """Make a node in place of whatever is there; a folder is refused."""
    if path.is_dir() and not path.is_symlink():
        raise BuildError("is a folder in the image, a device node was to be made there", place=node.path)
    remove_path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = stat.S_IFCHR if node.type == "character" else stat.S_IFBLK
    os.mknod(path, kind | 0o600, os.makedev(node.major, node.minor))
    path.chmod(int(node.mode, 8))
