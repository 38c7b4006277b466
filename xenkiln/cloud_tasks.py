"""Verbs about clouds as doit tasks: those of an image at a cloud, and those of a cloud itself."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, TypeVar

from doit import get_var
from doit.task import Task

from xenkiln.actions import check_command, guard, guard_given, guard_options, refuse, run_command
from xenkiln.errors import Problem, RecipeError
from xenkiln.model.cloud import CloudRecipe
from xenkiln.model.fields import Section
from xenkiln.model.loader import Loaded, LoadedCloud, LoadedImage, LoadedPrebuilt, load_folder, problem_at
from xenkiln.model.prebuilt import PrebuiltRecipe
from xenkiln.model.wording import suggest
from xenkiln.publishing.subject import Subject, make_subject
from xenkiln.system.layout import kind_folder
from xenkiln.tasks import (
    LAB_HOST,
    Description,
    end_run,
    images,
    list_builds,
    list_defaults,
    make_broken_tasks,
    make_group,
)

CLOUD = "cloud"
"""The variable of the command line that chooses a cloud: doit publish:tiny cloud=NAME."""
DEFAULT_CLOUD = "lab"
CLOUD_VERBS = frozenset({"keypair", "cloud", "prune"})
STEPS = ("bundle", "upload", "register")
PUBLISH_VERBS = frozenset({"bundle", "upload", "register", "publish", "launch", "console", "terminate", "deregister",
                           "userdata"})  # fmt: skip

Publishable = LoadedImage | LoadedPrebuilt
R = TypeVar("R", bound=Section)


@cache
def clouds() -> tuple[dict[str, LoadedCloud], dict[str, RecipeError]]:
    """Every cloud recipe: the good ones, and what is wrong with the others."""
    return _refuse_taken(*load_folder(kind_folder("clouds"), CloudRecipe), {"an image": images()})


@cache
def publishables() -> tuple[dict[str, Publishable], dict[str, RecipeError]]:
    """Every image recipe that can be published, those of images made elsewhere among them."""
    good, broken = images()
    others, broken_others = _refuse_taken(*load_folder(kind_folder("prebuilt"), PrebuiltRecipe),
                                          {"an image": (good, broken), "a cloud": clouds()})  # fmt: skip
    return {**good, **others}, {**broken, **broken_others}


def _refuse_taken(
    good: dict[str, Loaded[R]],
    broken: dict[str, RecipeError],
    others: Mapping[str, tuple[Mapping[str, object], Mapping[str, object]]],
) -> tuple[dict[str, Loaded[R]], dict[str, RecipeError]]:
    """Names are unique over all kinds of recipes, because the tasks' names are. others: a kind -> good and broken."""
    taken = {name: kind for kind, known in others.items() for names in known for name in names if name in good}
    wrong = {name: RecipeError([Problem(good[name].file, 0, "", f"{kind} is called {name} too: rename one")])
             for name, kind in taken.items()}  # fmt: skip
    return {name: loaded for name, loaded in good.items() if name not in taken}, {**broken, **wrong}


def refuse_unknown_words(words: Sequence[str]) -> None:
    """End with a suggestion where the command line sets a variable that nobody reads, or names an unknown cloud."""
    for word in words:
        name, mark, value = word.partition("=")
        # doit takes every such word for a variable, wherever it stands.
        if not mark or word.startswith("-"):
            continue
        if name != CLOUD:
            end_run(f"{word}: the only variable is {CLOUD}=NAME")
        good, broken = clouds()
        if value not in good and value not in broken:
            end_run(f"{word}: there is no cloud {value}{suggest(value, [*good, *broken])}")


def list_names(verb: str) -> list[str]:
    """The names that a verb takes: those of images, of clouds, or of images made elsewhere too."""
    found = clouds() if verb in CLOUD_VERBS else publishables() if verb in PUBLISH_VERBS else images()
    return [name for known in found for name in known]


def choose_cloud(loaded: Publishable) -> LoadedCloud | RecipeError:
    """The cloud of the command line, else of the recipe; or what is wrong with it."""
    good, broken = clouds()
    chosen = get_var(CLOUD) or loaded.recipe.publish.cloud
    if chosen in good:
        return good[chosen]
    if chosen in broken:
        return broken[chosen]
    fact = f"there is no cloud {chosen}{suggest(chosen, [*good, *broken])}"
    return RecipeError([problem_at(loaded, ("publish", "cloud"), fact)])


def list_published(verb: str, subtasks: list[Task]) -> Iterator[tuple[Publishable, LoadedCloud]]:
    """Each image with its cloud; for those whose recipe or cloud is wrong `subtasks` gets one that says so."""
    good, broken = publishables()
    for loaded in good.values():
        if loaded.name == LAB_HOST:
            continue
        cloud = choose_cloud(loaded)
        if isinstance(cloud, RecipeError):
            subtasks.append(Task(f"{verb}:{loaded.name}", [(guard, [refuse, cloud])], verbosity=2,
                                 doc="its cloud's recipe has errors"))  # fmt: skip
            continue
        yield loaded, cloud
    subtasks += make_broken_tasks(verb, broken)


def make_publish_tasks(
    verb: str,
    doc: str,
    *options: dict[str, Any],
    after: str = "",
    is_checked: bool = False,
    on_host: bool = False,
) -> Iterator[Task]:
    """A verb about an image at a cloud.

    after: the verb that is done before for the same image. on_host: the lab's own cloud needs its Xen host for it.
    """
    subtasks: list[Task] = []
    for loaded, cloud in list_published(verb, subtasks):
        subject = make_subject(loaded)
        if is_checked:
            yield Task(f"_{verb}:{loaded.name}", [(guard, [check_command, verb, subject, cloud])], verbosity=2)
        before = [f"_{verb}:{loaded.name}"] if is_checked else []
        before += [f"build:{loaded.name}"] if after == "build" and subject.is_built else []
        before += list_builds(LAB_HOST) if on_host and cloud.recipe.embedded else []
        before += list_named_before(verb, loaded.name)
        action = (guard_given, [verb, subject, cloud])
        subtasks.append(Task(f"{verb}:{loaded.name}", [action], params=options, task_dep=before,
                             doc=loaded.recipe.summary, verbosity=2, io={"capture": False}))  # fmt: skip
    yield from make_group(verb, doc, subtasks, list_defaults(subtasks))


def make_component_tasks(verb: str, doc: str, *, after: str) -> Iterator[Task]:
    """A verb about each component of an image: VERB:NAME stands for all, VERB:NAME:kernel for one."""
    subtasks: list[Task] = []
    for loaded, cloud in list_published(verb, subtasks):
        subject = make_subject(loaded)
        yield Task(f"_{verb}:{loaded.name}", [(guard, [check_command, verb, subject, cloud])], verbosity=2)
        parts = list(_make_parts(verb, subject, cloud, after))
        yield from parts
        subtasks.append(Task(f"{verb}:{loaded.name}", None, task_dep=[part.name for part in parts], has_subtask=True,
                             doc=loaded.recipe.summary))  # fmt: skip
    yield from make_group(verb, doc, subtasks, list_defaults(subtasks))


def _make_parts(verb: str, subject: Subject, cloud: LoadedCloud, after: str) -> Iterator[Task]:
    earlier: list[str] = []
    for role in subject.files:
        before = [f"_{verb}:{subject.name}", *list_named_before(verb, subject.name)]
        if after != "build":
            before.append(f"{after}:{subject.name}:{role}")
        elif subject.is_built:
            before.append(f"build:{subject.name}")
        # A root filesystem names the ids of the other two.
        before += earlier if role == "root" else []
        part = Task(f"{verb}:{subject.name}:{role}", [(guard, [run_command, verb, subject, cloud, role])],
                    task_dep=before, doc=f"the {role} alone", verbosity=2, io={"capture": False},
                    subtask_of=f"{verb}:{subject.name}")  # fmt: skip
        earlier.append(part.name)
        yield part


def list_named_before(verb: str, name: str) -> list[str]:
    """Tasks of the same image that stand before this one on the command line: `doit -n 2` keeps to their order too."""
    found = [_read_word(word, name) for word in sys.argv[1:]]
    if verb not in found:
        return []
    # What this one's own components wait for cannot wait for it.
    later = STEPS[STEPS.index(verb) :] if verb in STEPS else ()
    before = dict.fromkeys(other for other in found[: found.index(verb)] if other and other not in later)
    return [f"{other}:{name}" for other in before]


def _read_word(word: str, name: str) -> str:
    """The verb of a word of the command line that is about this image: VERB:NAME, VERB:all, or VERB by default."""
    verb, mark, about = word.partition(":")
    if about == name:
        return verb
    loaded = images()[0].get(name)
    is_default = loaded is not None and loaded.recipe.default
    return verb if verb in PUBLISH_VERBS and (about == "all" or (not mark and is_default)) else ""


def make_cloud_tasks(verb: str, doc: str) -> Iterator[Task]:
    """A verb about a cloud: VERB:NAME, the bare one for the cloud of the command line or the lab's."""
    good, broken = clouds()
    subtasks = [Task(f"{verb}:{loaded.name}", [(guard, [run_command, verb, loaded])], doc=loaded.recipe.summary,
                     verbosity=2, io={"capture": False}) for loaded in good.values()]  # fmt: skip
    subtasks += make_broken_tasks(verb, broken)
    chosen = f"{verb}:{get_var(CLOUD) or DEFAULT_CLOUD}"
    default = [task.name for task in subtasks if task.name == chosen]
    yield from make_group(verb, doc, subtasks, default, f"there is no recipe of a cloud {DEFAULT_CLOUD}")


def make_listing_task(verb: str, doc: str) -> Task:
    """A verb about what the user has at the cloud of the command line, or the lab's."""
    return make_plain_task(verb, doc, get_var(CLOUD) or DEFAULT_CLOUD)


def make_unbundle_task(verb: str, doc: str, *options: dict[str, Any]) -> Task:
    """A verb about files, with the user's key of the cloud of the command line where there is one."""
    return make_plain_task(verb, doc, get_var(CLOUD), *options)


def make_plain_task(verb: str, doc: str, chosen: str | None, *options: dict[str, Any]) -> Task:
    """A verb without names, about that cloud or about none."""
    good, broken = clouds()
    lack = RecipeError([Problem("recipes/clouds", 0, "", f"there is no cloud {chosen}")])
    action = ((guard, [refuse, broken.get(chosen, lack)]) if chosen and chosen not in good
              else (guard_options, [verb, *([good[chosen]] if chosen else [])]))  # fmt: skip
    task = Task(verb, [action], verbosity=2, io={"capture": False}, params=options)
    task.doc = Description(doc)
    return task
