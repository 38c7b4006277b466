"""Device nodes: what is made in the image's own /dev, and what is in the way."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from xenkiln.errors import BuildError
from xenkiln.families.device_nodes import make_node, make_node_steps
from xenkiln.model.configure import DeviceNode


def test_without_nodes_there_is_no_step() -> None:
    assert make_node_steps((), Path("/ROOT")) == []


@pytest.mark.root
def test_device_nodes_are_made_over_files_and_never_over_folders(tmp_path: Path) -> None:
    node = DeviceNode(path="/dev/null", major=1, minor=3, mode="0666")
    path = tmp_path / "dev/null"
    path.parent.mkdir()
    path.write_text("in the way")
    make_node(path, node)
    made = path.stat()
    assert stat.S_ISCHR(made.st_mode)
    assert (stat.S_IMODE(made.st_mode), made.st_rdev) == (0o666, os.makedev(1, 3))
    path.unlink()
    path.mkdir()
    with pytest.raises(BuildError, match="is a folder"):
        make_node(path, node)
