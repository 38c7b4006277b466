"""Stages and recipes as doit tasks. Besides dodo.py, actions and the reporter the only module that knows doit."""

from __future__ import annotations

import errno
import inspect
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import cache
from itertools import permutations
from typing import Any, NoReturn

from doit.exceptions import InvalidTask
from doit.runner import MRunner
from doit.task import Task

from xenkiln import pipeline
from xenkiln.actions import (
    check_before,
    check_command,
    claim_build,
    clean_stage,
    guard,
    guard_options,
    is_current,
    refuse,
    run_command,
    run_stage,
)
from xenkiln.errors import HostError, RecipeError
from xenkiln.model.loader import LoadedImage
from xenkiln.model.wording import suggest
from xenkiln.system.causes import explain_os_error
from xenkiln.system.layout import Paths, recipe_folder
from xenkiln.system.workers import WatchedQueue

STAGES = pipeline.CHAIN
LAB_HOST = "lab-dom0"
"""The recipe of the lab's own Xen host."""
COMPONENTS = ("kernel", "ramdisk", "root")
NO_DEFAULT = "no recipe says `default: true`"
NOT_STARTED = 3
"""doit's own exit code for what is wrong before the first task."""


class JobQueue(WatchedQueue):
    """The queues of `doit -n`: InvalidTask is what doit reports in words, after it has told its workers to end."""

    failure = InvalidTask


MRunner.Queue = staticmethod(JobQueue)

Images = tuple[dict[str, LoadedImage], dict[str, RecipeError]]


@cache
def images() -> Images:
    """Every image recipe: the good ones, and what is wrong with the others; without any the run ends."""
    try:
        good, broken = pipeline.load_recipes()
        if not good and not broken:
            raise FileNotFoundError(errno.ENOENT, "there are no recipes here", str(recipe_folder()))
    except OSError as error:
        print(explain_os_error(error), file=sys.stderr)
        raise SystemExit(NOT_STARTED) from error
    return good, broken


def refuse_unknown_names(
    words: Sequence[str],
    verbs: Collection[str],
    names_of: Callable[[str], Collection[str]],
    pairs: Collection[str] = (),
    parts: Collection[str] = (),
) -> None:
    """End with a suggestion where a word of the command line is VERB:NAME and no recipe has that name.

    names_of: verb -> the names that it takes. Of the verbs, `pairs` are about two images: VERB:A:B, and `parts`
    may name a component: VERB:A:kernel.
    """
    for word in words:
        verb, *names = word.split(":")
        if verb not in verbs or not names:
            continue
        known = list(names_of(verb))
        if verb in parts and len(names) == 2 and names[0] in known:
            if names[1] not in COMPONENTS:
                end_run(f"{word}: there is no component {names[1]}{suggest(names[1], list(COMPONENTS))}")
            names.pop()
        taken = known if verb in pairs else [*known, "all"]
        strange = [name for name in names if name not in taken]
        if strange:
            end_run(f"{word}: there is no recipe {strange[0]}{suggest(strange[0], known)}")
        wanted, form = (2, f"two images are wanted, doit {verb}:A:B") if verb in pairs else (1, "one name is wanted")
        if len(names) != wanted or len(set(names)) != wanted:
            end_run(f"{word}: {form}; known: {', '.join(known)}")


def end_run(text: str) -> NoReturn:
    """Say what is wrong with the command line, and end."""
    print(text, file=sys.stderr)
    raise SystemExit(NOT_STARTED)


def make_group(verb: str, doc: str, subtasks: list[Task], default: list[str], lack: str = NO_DEFAULT) -> Iterator[Task]:
    """A verb's tasks: VERB runs the default recipes, VERB:NAME one, VERB:all every one.

    doit's own groups would run all recipes for the bare verb. lack: why there is nothing that it stands for.
    """
    names = [task.name for task in subtasks]
    known = ", ".join(name.partition(":")[2] for name in names) or "(no recipes)"
    nothing = HostError(lack, place=f"doit {verb}", next_step=f"doit {verb}:NAME, with one of {known}")
    group = Task(verb, None if default else [(guard, [refuse, nothing])], task_dep=default, has_subtask=True,
                 verbosity=2)  # fmt: skip
    group.doc = Description(f"{doc.strip()}\n\n{list_forms(verb, names, default)}")
    yield group
    for task in subtasks:
        task.subtask_of = verb
        yield task
    if names:
        yield Task(f"{verb}:all", None, task_dep=names, has_subtask=True, subtask_of=verb, doc="every recipe")


class Description(str):
    """A task's text: `doit list` formats it and gets the first line, `doit help` prints all of it."""

    __slots__ = ()

    def __format__(self, form: str) -> str:
        return format(str(self).partition("\n")[0], form)


def list_forms(verb: str, names: Sequence[str], default: Sequence[str]) -> str:
    """The forms in which a verb can be called, with what they stand for."""
    recipes = [name.partition(":")[2] for name in names]
    bare = ", ".join(name.partition(":")[2] for name in default) or f"nothing: {NO_DEFAULT}"
    rows = [(f"doit {verb}", bare), (f"doit {verb}:NAME", f"one of {', '.join(recipes) or '(no recipes)'}"),
            (f"doit {verb}:all", "every recipe")]  # fmt: skip
    return "\n".join(f"  {form:<24}{meaning}" for form, meaning in rows)


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
                targets=list_targets(name, slices[name], pipeline.paths_for(loaded)),
                clean=[(clean_stage, [name, loaded])],
                doc=loaded.recipe.summary,
                verbosity=2,
            )
        )
    subtasks += make_broken_tasks(name, broken)
    defaults = list_defaults(subtasks)
    yield from make_group(name, stage.SUMMARY, subtasks, defaults)


def list_targets(name: str, inputs: Any, paths: Paths) -> list[str]:
    """The files that doit may know as this task's own: two recipes can share a repository made here."""
    outputs = pipeline.load_stage(name).list_outputs(inputs, paths)
    return [str(path) for path in outputs if path.is_relative_to(paths.images) or path.is_relative_to(paths.work)]


def list_defaults(subtasks: list[Task]) -> list[str]:
    """What the bare verb does; where no recipe can be the default, the broken ones, which say why."""
    good, broken = images()
    recipes = {task.name: task.name.partition(":")[2] for task in subtasks}
    return ([name for name, recipe in recipes.items() if recipe in good and good[recipe].recipe.default]
            or [name for name, recipe in recipes.items() if recipe in broken])  # fmt: skip


def make_broken_tasks(verb: str, broken: dict[str, RecipeError]) -> list[Task]:
    """Tasks that say what is wrong with a recipe."""
    return [
        Task(f"{verb}:{recipe}", [(guard, [refuse, error])], doc="this recipe has errors", verbosity=2)
        for recipe, error in broken.items()
    ]


def make_check_tasks() -> Iterator[Task]:
    """A hidden task per recipe that everything of it waits for."""
    good, _ = images()
    for loaded in good.values():
        yield Task(f"_check:{loaded.name}", [(guard, [check_before, loaded])], verbosity=2,
                   uptodate=[(claim_build, [loaded])], doc="refuse before the first change")  # fmt: skip


def make_build_tasks(doc: str) -> Iterator[Task]:
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
    subtasks += make_broken_tasks("build", broken)
    defaults = list_defaults(subtasks)
    yield from make_group("build", doc, subtasks, defaults)


def doc_of(function: Callable[..., object]) -> str:
    """A task function's own docstring: dodo.py is where the verbs are described."""
    return inspect.getdoc(function) or ""


def make_command_tasks(
    verb: str, doc: str, *, after_build: bool = False, check_first: bool = False, host: str = ""
) -> Iterator[Task]:
    """A verb of xenkiln/commands that does something with one recipe or image each time it is asked.

    check_first: what that verb needs here is asked for before anything is built for it. `host` is the recipe of the
    Xen host that it needs, which is built before and is no guest itself.
    """
    good, broken = images()
    hosts = list_builds(host)
    checks = [Task(f"_{verb}:{loaded.name}", [(guard, [check_command, verb, loaded])], verbosity=2)
              for loaded in good.values() if check_first]  # fmt: skip
    yield from checks
    subtasks = [
        Task(f"{verb}:{loaded.name}", [(guard, [run_command, verb, loaded])],
             task_dep=[*([f"_{verb}:{loaded.name}"] if check_first else []), f"build:{loaded.name}", *hosts]
             if after_build else [],
             doc=loaded.recipe.summary, verbosity=2, io={"capture": False})
        for loaded in good.values() if loaded.name != host
    ]  # fmt: skip
    subtasks += make_broken_tasks(verb, broken)
    defaults = list_defaults(subtasks)
    yield from make_group(verb, doc, subtasks, defaults)


def list_builds(name: str) -> list[str]:
    """The task that builds a recipe, where this folder of recipes has it."""
    good, broken = images()
    return [f"build:{name}"] if name in good or name in broken else []


def make_pair_tasks(verb: str, doc: str) -> Iterator[Task]:
    """A verb about two images: VERB:A:B. A pair with a broken recipe says what is wrong with that one."""
    good, broken = images()
    group = Task(verb, None, has_subtask=True)
    group.doc = Description(doc)
    yield group
    for first, second in permutations([*good, *broken], 2):
        wrong = broken.get(first) or broken.get(second)
        action = (guard, [refuse, wrong] if wrong else [run_command, verb, good[first], good[second]])
        yield Task(f"{verb}:{first}:{second}", [action], subtask_of=verb, verbosity=2, io={"capture": False},
                   doc="a recipe has errors" if wrong else f"{first} and {second}")  # fmt: skip


def make_host_task(verb: str, doc: str, *options: dict[str, Any], after: Sequence[str] = ()) -> Task:
    """A verb about this host, not about a recipe; `options` are doit's task parameters, `after` what it needs."""
    task = Task(verb, [(guard_options, [verb])], verbosity=2, io={"capture": False}, params=options,
                task_dep=list(after))  # fmt: skip
    task.doc = Description(doc)
    return task
