"""An instance's folder, and what its status says."""

from __future__ import annotations

import json
from pathlib import Path

from xenkiln.lab.instance import Status
from xenkiln.lab.session import Lab


def make_folder(folder: Path, lab: Lab) -> Path:
    """A folder that is ready to be run, of files that are nothing."""
    folder.mkdir()
    for name in ("kernel", "root.img"):
        (folder / name).write_text(name)
    write_spec(folder)
    words = {"folder": str(lab.folder), "images": str(lab.images), "modules": lab.modules}
    (folder / "lab.json").write_text(json.dumps(words))
    return folder


def write_spec(folder: Path, **changes: object) -> None:
    spec = {"name": "i-1", "memory_mib": 96, "vcpus": 1, "kernel": "kernel", "ramdisk": None, "root": "root.img",
            "root_device": "xvda1", "meta_data": {"user-data": "x"}} | changes  # fmt: skip
    (folder / "spec.json").write_text(json.dumps(spec))


def read_status(folder: Path) -> Status:
    return Status(**json.loads((folder / "status.json").read_text()))
