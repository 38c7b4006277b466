"""From a recipe and a stage to work done once: keys, records, checks. doit comes in tasks.py only."""

from __future__ import annotations

import hashlib
import importlib
import json
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Protocol, cast

from xenkiln.errors import BuildError, RecipeError, XenkilnError
from xenkiln.families.contract import load_family
from xenkiln.model.encoding import UNKNOWN, encode_value, list_leaves
from xenkiln.model.image import ImageRecipe
from xenkiln.model.loader import LoadedImage, list_missing_keys, load_folder, problem_at
from xenkiln.model.records import Record, dump_record, parse_record
from xenkiln.system.causes import explain_os_error
from xenkiln.system.commands import Runner
from xenkiln.system.execution import Context, run_steps
from xenkiln.system.files import fixed_umask, hash_file, partial_path, remove_path, write_finished
from xenkiln.system.layout import Paths, build_folder, recipe_folder
from xenkiln.system.locks import claim_lock, find_lock_problem, hold_lock, join_claim
from xenkiln.system.own_code import code_digest
from xenkiln.system.preflight import find_host_problems, find_space_problem
from xenkiln.system.steps import Step

CHAIN = ("repository", "packages", "filesystem", "bootstrap", "configure", "ramdisk", "seal", "domain")
"""The stages of `build`, in order."""

REASONS = 4
"""As many changes are named; more would not be read."""


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


def load_recipes() -> tuple[dict[str, LoadedImage], dict[str, RecipeError]]:
    """Every image recipe by name: those that can be built, and what is wrong with the others."""
    good, broken = load_folder(recipe_folder(), ImageRecipe)
    for name, loaded in list(good.items()):
        problems = load_family(loaded.recipe.family).find_recipe_problems(loaded.recipe)
        if problems:
            del good[name]
            found = [problem_at(loaded, path, fact) for path, fact in problems]
            broken[name] = RecipeError(sorted(found, key=lambda problem: problem.line))
    return good, broken


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


def read_record(paths: Paths, stage: str) -> Record | None:
    """A stage's record, None when it never finished or something else lies in its place."""
    try:
        return parse_record(paths.record(stage).read_text(encoding="utf-8", errors="replace"))
    except (FileNotFoundError, IsADirectoryError):
        return None


def list_parts(name: str, inputs: Any, paths: Paths) -> dict[str, str] | None:
    """All that the stage reads, each with its SHA-256; None while an earlier stage has no record.

    The names are those that a user knows: fields of the recipe, files, stages.
    """
    stage = load_stage(name)
    parts = {"xenkiln itself": code_digest()}
    for need in stage.NEEDS:
        record = read_record(paths, need)
        if record:
            parts[f"what {need} made"] = select_identity(name, record)
        elif need != "repository":
            return None
    for number, path in enumerate(stage.list_references(inputs, paths)):
        # A checkout may lie anywhere; where in it a file lies counts.
        place = path.relative_to(paths.recipes) if path.is_relative_to(paths.recipes) else path
        link = f"link to {path.readlink()} " if path.is_symlink() else ""
        parts[f"file {number} ({place})"] = link + (hash_file(path) if path.is_file() else "")
    for field, text in list_leaves(encode_value(inputs)).items():
        known = json.loads(text) != UNKNOWN
        label = field.removeprefix("guest.").removeprefix("selection.")
        parts[label] = hashlib.sha256(text.encode()).hexdigest() if known else UNKNOWN
    return parts


def combine_parts(name: str, parts: dict[str, str]) -> str:
    """The key of a stage that reads these parts."""
    return hashlib.sha256(json.dumps([name, parts], sort_keys=True).encode()).hexdigest()


def explain(name: str, loaded: LoadedImage) -> str:
    """Why a stage would run, in a few words."""
    paths = paths_for(loaded)
    record = read_record(paths, name)
    if record is None:
        return "never finished"
    parts = list_parts(name, load_stage(name).slice_recipe(loaded), paths) or {}
    changed = sorted(part for part in record.parts.keys() | parts.keys() if record.parts.get(part) != parts.get(part))
    if changed:
        more = f" and {len(changed) - REASONS} more" if len(changed) > REASONS else ""
        return f"changed: {', '.join(changed[:REASONS])}{more}"
    return "its files are not as it left them"


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
    parts = list_parts(name, inputs, paths) or {}
    # A password that is not given now is taken to be the one that the image was built with.
    seen = {part: record.parts.get(part, text) if text == UNKNOWN else text for part, text in parts.items()}
    return record.key == combine_parts(name, seen) and record.files == stat_files(
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
    with join_claim(paths.lock_file, f"the build of {loaded.name}"), fixed_umask():
        return _run_locked(name, loaded, paths, tell)


def claim_build(loaded: LoadedImage) -> None:
    """Keep other runs away from this recipe until this process ends, between its stages too.

    Where that fails `find_problems` says so.
    """
    with suppress(OSError):
        claim_lock(paths_for(loaded).lock_file)


def _run_locked(name: str, loaded: LoadedImage, paths: Paths, tell: Callable[[str], None]) -> Record:
    stage = load_stage(name)
    inputs = stage.slice_recipe(loaded)
    outputs = stage.list_outputs(inputs, paths)
    # Without its record the stage counts as not done, whatever a kill leaves half replaced.
    remove_path(paths.record(name))
    remove_path(paths.scratch(name))
    for path in outputs:
        partial_path(path).unlink(missing_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
    parts = list_parts(name, inputs, paths)
    if parts is None:
        raise BuildError(f"{name} needs {', '.join(stage.NEEDS)} to be built first", place=loaded.name,
                         next_step=f"doit build:{loaded.name}")  # fmt: skip
    context = make_context(name, paths, tell)
    started = time.time()
    times = run_steps(stage.make_steps(inputs, paths), context)
    remove_path(paths.scratch(name))
    key = combine_parts(name, parts)
    record = Record(
        kind=name,
        name=loaded.name,
        key=key,
        identity=context.identity or f"{key}-{started:.6f}",
        started=round(started, 3),
        steps=times,
        files=stat_files(outputs),
        values=context.values,
        parts=parts,
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
    for folder in (paths.home, paths.scratch(name)):
        folder.mkdir(parents=True, exist_ok=True)
    env = {"HOME": str(paths.home), "TMPDIR": str(paths.scratch(name))}
    if "epoch" in values:
        # e2fsprogs up to 1.47.0 knows only its own name for the date.
        env |= {"SOURCE_DATE_EPOCH": values["epoch"], "E2FSPROGS_FAKE_TIME": values["epoch"]}
    return Context(paths, Runner(log, env), tell, values)


def find_problems(loaded: LoadedImage) -> list[XenkilnError]:
    """Everything that would stop a build and can be known before its first change."""
    paths = paths_for(loaded)
    stale: dict[str, Any] = {}
    problems: list[XenkilnError] = []
    steps: list[Step] = []
    for name, inputs in slices(loaded).items():
        stage = load_stage(name)
        found: list[XenkilnError] = []
        try:
            if not set(stage.NEEDS) & set(stale) and is_current(name, loaded):
                continue
            stale[name] = inputs
            found = stage.find_problems(inputs, paths)
            steps += stage.make_steps(inputs, paths)
        except (XenkilnError, OSError) as error:
            # Of what the stage has already put into words nothing is said twice.
            found = found or [explain_os_error(error) if isinstance(error, OSError) else error]
        problems += found
    if "packages" in stale and (missing_keys := list_missing_keys(loaded)):
        problems.append(RecipeError(missing_keys))
    if {"repository", "packages"} & set(stale) and (problem := find_space_problem(paths.build)):
        problems.append(problem)
    if stale:
        problems += find_host_problems(steps)
        held = find_lock_problem(paths.lock_file, f"the build of {loaded.name}")
        problems += [held] if held else []
    return list({str(problem): problem for problem in problems}.values())


def clean_stage(name: str, loaded: LoadedImage) -> None:
    """Remove what a stage left, and its record; raises HostError while a run works with it."""
    paths = paths_for(loaded)
    outputs = load_stage(name).list_outputs(load_stage(name).slice_recipe(loaded), paths)
    locks = {paths.lock_file: f"the build of {loaded.name}"}
    for path in outputs:
        if path.is_relative_to(paths.build / "repositories"):
            repository = path.relative_to(paths.build / "repositories").parts[0]
            locks[paths.repository_lock(repository)] = f"the repository {repository}"
    with ExitStack() as stack:
        for lock, what in locks.items():
            # Where nothing was ever built, cleaning makes no folders.
            if lock.parent.is_dir():
                stack.enter_context(hold_lock(lock, what))
        for path in [*outputs, paths.record(name)]:
            remove_path(path)
