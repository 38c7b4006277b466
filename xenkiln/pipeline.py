"""From a recipe and a stage to work done once: keys, records, checks. doit comes in tasks.py only."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol, cast

from pydantic import BaseModel

from xenkiln.errors import BuildError, HostError, XenkilnError
from xenkiln.model.loader import LoadedImage
from xenkiln.model.records import Record, dump_record, parse_record
from xenkiln.system.commands import Runner
from xenkiln.system.execution import Context, run_steps
from xenkiln.system.files import fixed_umask, hash_file, partial_path, write_finished
from xenkiln.system.layout import PROJECT, Paths, build_folder, recipe_folder
from xenkiln.system.locks import hold_lock
from xenkiln.system.steps import Step, list_tools, needs_root
from xenkiln.system.tools import find_missing, missing_tools_error

CHAIN = ("repository", "packages", "filesystem", "bootstrap", "configure", "ramdisk", "seal", "domain")
"""The stages of `build`, in order."""

CODE_FOLDERS = ("scripts/guest", "templates", "xenkiln/artifacts", "xenkiln/configuration", "xenkiln/families",
    "xenkiln/installers", "xenkiln/kernels", "xenkiln/ramdisks", "xenkiln/repositories", "xenkiln/stages")  # fmt: skip
"""What decides an image's content besides its recipe; a change here rebuilds."""


class Stage(Protocol):
    """A module of xenkiln/stages.

    It gets its slice of the recipe and nothing else, and that slice is its rebuild key: it cannot
    read a setting that would not rebuild it.
    """

    SUMMARY: str
    NEEDS: tuple[str, ...]

    def slice_recipe(self, loaded: LoadedImage) -> Any | None:
        """The part of the recipe that this stage reads; None when the recipe has no use for it."""

    def make_steps(self, inputs: Any, paths: Paths) -> list[Step]:
        """What is to be done, decided from the slice alone."""

    def list_outputs(self, inputs: Any, paths: Paths) -> list[Path]:
        """The files it leaves."""

    def list_references(self, inputs: Any, paths: Paths) -> list[Path]:
        """Files of the user whose content matters."""

    def find_problems(self, inputs: Any, paths: Paths) -> list[XenkilnError]:
        """What would make it fail and can be known now."""


def load_stage(name: str) -> Stage:
    """The stage module of that name."""
    return cast(Stage, importlib.import_module(f"xenkiln.stages.{name}"))


def paths_for(loaded: LoadedImage) -> Paths:
    """Where this recipe's files lie."""
    return paths_of(loaded.name)


def paths_of(name: str) -> Paths:
    """Where the files of the recipe of that name lie."""
    return Paths(name, build_folder(), recipe_folder())


def slices(loaded: LoadedImage) -> dict[str, Any]:
    """Stage name -> slice, for the stages that this recipe has."""
    found = {name: load_stage(name).slice_recipe(loaded) for name in CHAIN}
    return {name: inputs for name, inputs in found.items() if inputs is not None}


@cache
def code_digest() -> str:
    """SHA-256 over the code and templates that decide what goes into an image."""
    digest = hashlib.sha256()
    for folder in CODE_FOLDERS:
        for path in sorted((PROJECT / folder).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                digest.update(f"{path.relative_to(PROJECT)}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def encode(value: object) -> object:
    """A slice as JSON types."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if is_dataclass(value) and not isinstance(value, type):
        return {name: encode(item) for name, item in vars(value).items()}
    if isinstance(value, tuple | list):
        return [encode(item) for item in value]
    if isinstance(value, dict):
        return {key: encode(item) for key, item in value.items()}
    return str(value) if isinstance(value, Path) else value


def read_record(paths: Paths, stage: str) -> Record | None:
    """A stage's record, None when it never finished."""
    try:
        return parse_record(paths.record(stage).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


def compute_key(name: str, inputs: Any, paths: Paths) -> str | None:
    """SHA-256 over all that the stage reads; None while an earlier stage has no record."""
    stage = load_stage(name)
    earlier = {}
    for need in stage.NEEDS:
        record = read_record(paths, need)
        if record:
            earlier[need] = select_identity(name, record)
        elif need != "repository":
            return None
    references = {}
    for path in stage.list_references(inputs, paths):
        references[path.name] = hash_file(path) if path.is_file() else "missing"
    parts = [name, encode(inputs), earlier, references, code_digest()]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def select_identity(name: str, record: Record) -> str:
    """What stage `name` compares of an earlier stage: its whole result, or the part made for it."""
    return record.values.get(f"identity_for_{name}", record.identity)


def is_current(name: str, loaded: LoadedImage) -> bool:
    """Whether the stage's files are there and were made from just these inputs."""
    paths = paths_for(loaded)
    record = read_record(paths, name)
    if record is None:
        return False
    inputs = load_stage(name).slice_recipe(loaded)
    return record.key == compute_key(name, inputs, paths) and record.files == stat_files(
        load_stage(name).list_outputs(inputs, paths)
    )


def stat_files(files: Sequence[Path]) -> dict[str, tuple[int, int]]:
    """Size and mtime of each file that is there."""
    found = {}
    for path in files:
        if path.exists():
            stat = path.stat()
            found[path.name] = (stat.st_size, stat.st_mtime_ns)
    return found


def run_stage(name: str, loaded: LoadedImage, tell: Callable[[str], None]) -> Record:
    """Run one stage to its record; a failure leaves only what is finished."""
    paths = paths_for(loaded)
    with hold_lock(paths.work / "lock", f"the build of {loaded.name}"), fixed_umask():
        return _run_locked(name, loaded, paths, tell)


def _run_locked(name: str, loaded: LoadedImage, paths: Paths, tell: Callable[[str], None]) -> Record:
    stage = load_stage(name)
    inputs = stage.slice_recipe(loaded)
    outputs = stage.list_outputs(inputs, paths)
    # Without its record the stage counts as not done, whatever a kill leaves half replaced.
    paths.record(name).unlink(missing_ok=True)
    for path in outputs:
        partial_path(path).unlink(missing_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
    key = compute_key(name, inputs, paths)
    if key is None:
        raise BuildError(f"{name} needs {', '.join(stage.NEEDS)} to be built first", place=loaded.name,
                         next_step=f"doit build:{loaded.name}")  # fmt: skip
    context = make_context(name, paths, tell)
    started = time.time()
    times = run_steps(stage.make_steps(inputs, paths), context)
    record = Record(
        kind=name,
        name=loaded.name,
        key=key,
        identity=context.identity or f"{key}-{started:.6f}",
        started=round(started, 3),
        steps=times,
        files=stat_files(outputs),
        values=context.values,
        result=context.summary or "done",
    )
    write_finished(paths.record(name), dump_record(record))
    return record


def make_context(name: str, paths: Paths, tell: Callable[[str], None]) -> Context:
    """A fresh log and the facts of the earlier stages, the date of the build among them."""
    values: dict[str, str] = {}
    for earlier in CHAIN[: CHAIN.index(name)] if name in CHAIN else CHAIN:
        record = read_record(paths, earlier)
        values |= {} if record is None else record.values
    log = paths.log(name)
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("")
    for folder in (paths.home, paths.scratch):
        folder.mkdir(parents=True, exist_ok=True)
    env = {"HOME": str(paths.home), "TMPDIR": str(paths.scratch)}
    if "epoch" in values:
        # e2fsprogs up to 1.47.0 knows only its own name for the date.
        env |= {"SOURCE_DATE_EPOCH": values["epoch"], "E2FSPROGS_FAKE_TIME": values["epoch"]}
    return Context(paths, Runner(log, env), tell, values)


def find_problems(loaded: LoadedImage) -> list[XenkilnError]:
    """Everything that would stop a build and can be known before its first change."""
    paths = paths_for(loaded)
    stale: dict[str, Any] = {}
    for name, inputs in slices(loaded).items():
        if set(load_stage(name).NEEDS) & set(stale) or not is_current(name, loaded):
            stale[name] = inputs
    problems: list[XenkilnError] = []
    tools: set[str] = set()
    root = False
    for name, inputs in stale.items():
        steps = load_stage(name).make_steps(inputs, paths)
        tools |= list_tools(steps)
        root = root or needs_root(steps)
        problems += load_stage(name).find_problems(inputs, paths)
    missing = find_missing(tools)
    if missing:
        problems.append(missing_tools_error(missing))
    if root and os.geteuid() != 0:
        problems.append(HostError("building an image needs root: it mounts a filesystem and installs into it",
                                  next_step="run it again with sudo; `doit plan` needs no root"))  # fmt: skip
    return problems


def clean_stage(name: str, loaded: LoadedImage) -> None:
    """Remove what a stage left, and its record."""
    paths = paths_for(loaded)
    inputs = load_stage(name).slice_recipe(loaded)
    for path in [*load_stage(name).list_outputs(inputs, paths), paths.record(name)]:
        path.unlink(missing_ok=True)
