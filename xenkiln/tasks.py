"""Stages and recipes as doit tasks; the only module besides dodo.py and the reporter that knows doit."""

from __future__ import annotations

import importlib
import inspect
import os
import signal
from collections.abc import Callable, Iterator
from functools import cache
from types import FrameType
from typing import Any

from doit.exceptions import TaskFailed
from doit.task import Task

from xenkiln import pipeline
from xenkiln.errors import RecipeError, XenkilnError
from xenkiln.model.loader import LoadedImage, load_images
from xenkiln.system.layout import build_folder, recipe_folder
from xenkiln.system.progress import show_progress

STAGES = pipeline.CHAIN

Images = tuple[dict[str, LoadedImage], dict[str, RecipeError]]


def stop_on_signals() -> None:
    """SIGTERM and SIGHUP end a run as Ctrl-C does: what is mounted is unmounted, children are ended."""

    def interrupt(number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt(signal.Signals(number).name)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)


@cache
def images() -> Images:
    """Every image recipe: the good ones, and what is wrong with the others."""
    return load_images(recipe_folder())


def prepare_build_folder() -> str:
    """doit's database lies in the build folder, which must be there; the name of the database."""
    folder = build_folder()
    folder.mkdir(parents=True, exist_ok=True)
    # A run without root may come after one with it; its own database says nothing that is needed.
    return str(folder / (".doit.db" if os.access(folder, os.W_OK) else f"/tmp/xenkiln-{os.getuid()}.db"))  # noqa: S108


def guard(function: Callable[..., None], *args: object) -> TaskFailed | None:
    """Run one action; a known error becomes its text, so that no traceback hides it."""
    try:
        function(*args)
    except XenkilnError as error:
        return TaskFailed(str(error), report=True)
    except BrokenPipeError:
        return None  # the reader of a plan has seen enough
    except OSError as error:
        return TaskFailed(str(XenkilnError(error.strerror or str(error), place=str(error.filename or "this host"))))
    return None


def run_stage(name: str, loaded: LoadedImage) -> None:
    """The action of every stage task."""
    with show_progress(f"{name}:{loaded.name}") as tell:
        pipeline.run_stage(name, loaded, tell)


def check_before(loaded: LoadedImage) -> None:
    """Refuse before the first change, with every problem at once."""
    problems = pipeline.find_problems(loaded)
    if len(problems) == 1:
        raise problems[0]
    if problems:
        raise XenkilnError(f"{loaded.name} cannot be built here:\n" + "\n".join(f"- {problem}" for problem in problems))


def refuse_recipe(error: RecipeError) -> None:
    """The action of every task of a broken recipe."""
    raise error


def is_current(name: str, loaded: LoadedImage) -> bool:
    """doit asks this just before it would run the task, when everything before it is done."""
    return pipeline.is_current(name, loaded)


def make_group(verb: str, doc: str, subtasks: list[Task], default: list[str]) -> Iterator[Task]:
    """A verb's tasks: VERB runs the default recipes, VERB:NAME one, VERB:all every one.

    doit's own groups would run all recipes for the bare verb.
    """
    names = [task.name for task in subtasks]
    yield Task(verb, None, task_dep=default, has_subtask=True, doc=doc)
    for task in subtasks:
        task.subtask_of = verb
        yield task
    if names:
        yield Task(f"{verb}:all", None, task_dep=names, has_subtask=True, subtask_of=verb, doc=f"{verb} every recipe")


def make_stage_tasks(name: str) -> Iterator[Task]:
    """One task per recipe for a stage of the build."""
    stage = pipeline.load_stage(name)
    good, broken = images()
    subtasks = []
    for loaded in good.values():
        slices = pipeline.slices(loaded)
        if name not in slices:
            continue
        # In the order of the chain, also where a stage reads nothing of the one before it.
        earlier = [f"{other}:{loaded.name}" for other in list(slices)[: list(slices).index(name)]][-1:]
        subtasks.append(
            Task(
                f"{name}:{loaded.name}",
                [(guard, [run_stage, name, loaded])],
                task_dep=[f"_check:{loaded.name}", *earlier],
                uptodate=[(is_current, [name, loaded])],
                targets=list(map(str, stage.list_outputs(slices[name], pipeline.paths_for(loaded)))),
                clean=[(pipeline.clean_stage, [name, loaded])],
                doc=loaded.recipe.summary,
                verbosity=2,
            )
        )
    subtasks += _make_broken_tasks(name, broken)
    defaults = [task.name for task in subtasks if _is_default(task.name.partition(":")[2])]
    yield from make_group(name, stage.SUMMARY, subtasks, defaults)


def _is_default(recipe: str) -> bool:
    good, _ = images()
    return recipe in good and good[recipe].recipe.default


def _make_broken_tasks(verb: str, broken: dict[str, RecipeError]) -> list[Task]:
    return [
        Task(f"{verb}:{recipe}", [(guard, [refuse_recipe, error])], doc="this recipe has errors", verbosity=2)
        for recipe, error in broken.items()
    ]


def make_check_tasks() -> Iterator[Task]:
    """A hidden task per recipe that everything of it waits for."""
    good, _ = images()
    for loaded in good.values():
        yield Task(f"_check:{loaded.name}", [(guard, [check_before, loaded])], verbosity=2,
                   doc="refuse before the first change")  # fmt: skip


def make_build_tasks() -> Iterator[Task]:
    """build:NAME stands for the whole chain."""
    good, broken = images()
    subtasks = [
        Task(
            f"build:{loaded.name}",
            None,
            task_dep=[f"{name}:{loaded.name}" for name in pipeline.CHAIN if name in pipeline.slices(loaded)],
            doc=loaded.recipe.summary,
        )
        for loaded in good.values()
    ]
    subtasks += _make_broken_tasks("build", broken)
    defaults = [task.name for task in subtasks if _is_default(task.name.partition(":")[2])]
    yield from make_group("build", "build an image: root.img, vmlinuz, initrd.img, Xen configuration, checksums",
                          subtasks, defaults)  # fmt: skip


def doc_of(function: Callable[..., object]) -> str:
    """A task function's own docstring: dodo.py is where the verbs are described."""
    return inspect.getdoc(function) or ""


def make_command_tasks(verb: str, doc: str, *, after_build: bool = False) -> Iterator[Task]:
    """A verb of xenkiln/commands that does something with one recipe or image each time it is asked."""
    good, broken = images()
    subtasks = [
        Task(f"{verb}:{loaded.name}", [(guard, [run_command, verb, loaded])],
             task_dep=[f"build:{loaded.name}"] if after_build else [],
             doc=loaded.recipe.summary, verbosity=2, io={"capture": False})
        for loaded in good.values()
    ]  # fmt: skip
    subtasks += _make_broken_tasks(verb, broken)
    defaults = [task.name for task in subtasks if _is_default(task.name.partition(":")[2])]
    yield from make_group(verb, doc, subtasks, defaults)


def load_command(verb: str) -> Any:
    """The module of xenkiln/commands for a verb."""
    return importlib.import_module(f"xenkiln.commands.{verb}")


def run_command(verb: str, *loaded: LoadedImage) -> None:
    """The action of a verb's tasks."""
    load_command(verb).run(*loaded)


def make_pair_tasks(verb: str, doc: str) -> Iterator[Task]:
    """A verb about two images: VERB:A:B."""
    good, _ = images()
    yield Task(verb, None, has_subtask=True, doc=doc)
    for first in good.values():
        for second in good.values():
            if first.name != second.name:
                yield Task(f"{verb}:{first.name}:{second.name}", [(guard, [run_command, verb, first, second])],
                           subtask_of=verb, doc=f"{first.name} and {second.name}", verbosity=2,
                           io={"capture": False})  # fmt: skip


def make_host_task(verb: str, doc: str, *options: dict[str, Any]) -> Task:
    """A verb about this host, not about a recipe; `options` are doit's task parameters."""
    return Task(verb, [(guard_options, [verb])], doc=doc, verbosity=2, io={"capture": False}, params=options)


def guard_options(verb: str, **options: object) -> TaskFailed | None:
    """As guard, for a verb with options of its own."""
    return guard(lambda: load_command(verb).run(**options))
