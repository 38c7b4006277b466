"""A recipe whose stages are all done, as their records say: what the tests of rebuild keys work on."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from xenkiln import pipeline
from xenkiln.model.loader import LoadedImage, load_image
from xenkiln.model.records import Record, dump_record
from xenkiln.system.files import write_finished
from xenkiln.system.layout import PROJECT

FILES = {"one/motd": "first", "two/motd": "second", "setup.sh": "#!/bin/sh\ntrue\n", "me.pub": "ssh-ed25519 AAAA me"}


@dataclass(frozen=True)
class Site:
    """The tiny recipe with a few files more, in folders of its own."""

    recipes: Path
    data: dict[str, Any]

    def load(self, **changes: object) -> LoadedImage:
        """The recipe with other values: `load(domain__memory_mib=300)`."""
        data: Any = deepcopy(self.data)
        for name, value in changes.items():
            *steps, last = name.split("__")
            place: Any = data
            for step in steps:
                place = place[int(step) if step.isdigit() else step]
            place[last] = value
        path = self.recipes / "tiny.yaml"
        path.write_text(yaml.safe_dump(data))
        return load_image(path)

    def list_stale(self, loaded: LoadedImage) -> set[str]:
        return {name for name in pipeline.slices(loaded) if not pipeline.is_current(name, loaded)}


def pretend_built(loaded: LoadedImage) -> None:
    paths = pipeline.paths_for(loaded)
    for name, inputs in pipeline.slices(loaded).items():
        outputs = pipeline.load_stage(name).list_outputs(inputs, paths)
        for path in outputs:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"made by {name}")
        parts = pipeline.list_parts(name, inputs, paths)
        assert parts
        key = pipeline.combine_parts(name, parts)
        record = Record(name, loaded.name, key, f"identity of {name}", 1.0, files=pipeline.stat_files(outputs),
                        parts=parts)  # fmt: skip
        write_finished(paths.record(name), dump_record(record))


def make_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """All stages are done, as their records say."""
    recipes = tmp_path / "recipes"
    recipes.mkdir()
    for name, text in FILES.items():
        (recipes / name).parent.mkdir(exist_ok=True)
        (recipes / name).write_text(text)
    monkeypatch.setenv("XENKILN_RECIPES", str(recipes))
    monkeypatch.setenv("XENKILN_BUILD", str(tmp_path / "build"))
    monkeypatch.delenv("XENKILN_CACHE", raising=False)
    data = yaml.safe_load((PROJECT / "recipes" / "images" / "tiny.yaml").read_text())
    data["configure"] |= {
        "files": [{"path": f"/etc/{name[:3]}", "source": name} for name in ("one/motd", "two/motd")],
        "scripts": [{"source": "setup.sh"}],
        "ssh_key_files": ["me.pub"],
    }
    site = Site(recipes, data)
    pretend_built(site.load())
    return site
