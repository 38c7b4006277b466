"""What doit's tasks do: stages and verbs, with known errors as words and no traceback."""

from __future__ import annotations

import importlib
import multiprocessing
import sys
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path
from typing import Any

from doit import get_initial_workdir
from doit.exceptions import TaskFailed

from xenkiln import pipeline
from xenkiln.errors import XenkilnError
from xenkiln.model.loader import LoadedImage
from xenkiln.system.causes import explain_lack, explain_os_error
from xenkiln.system.interrupts import stop_on_signals
from xenkiln.system.processes import die_with_parent
from xenkiln.system.progress import show_progress


def guard(function: Callable[..., None], *args: object) -> TaskFailed | None:
    """Run one action; a known error becomes its text, so that no traceback hides it."""
    if multiprocessing.parent_process() is not None:
        # A worker of `doit -n` must not go on alone when the run itself was killed.
        die_with_parent()
        stop_on_signals()
    try:
        function(*args)
        # Workers of `doit -n` keep what they print, and the next task's would come before it.
        sys.stdout.flush()
    except XenkilnError as error:
        return TaskFailed(str(error), report=True)
    except BrokenPipeError:
        return None  # the reader of a plan has seen enough
    except (OSError, MemoryError) as error:
        return TaskFailed(str(explain_lack(error)), report=True)
    return None


def run_stage(name: str, loaded: LoadedImage) -> None:
    """The action of every stage task."""
    with show_progress(f"{name}:{loaded.name}") as tell:
        pipeline.run_stage(name, loaded, tell)


def clean_stage(name: str, loaded: LoadedImage) -> None:
    """The action of `doit clean`; what cannot be removed is said, and the rest goes on, but not beside a run."""
    try:
        pipeline.clean_stage(name, loaded)
    except XenkilnError as error:
        # doit takes a failed action of `clean` for a good one, and drops what one that exits has printed.
        raise SystemExit(str(error)) from error
    except OSError as error:
        print(explain_os_error(error), file=sys.stderr)


def check_before(loaded: LoadedImage) -> None:
    """Refuse before the first change, with every problem at once."""
    problems = pipeline.find_problems(loaded)
    if len(problems) == 1:
        raise problems[0]
    if problems:
        raise XenkilnError(f"{loaded.name} cannot be built here:\n" + "\n".join(f"- {problem}" for problem in problems))


def refuse(error: XenkilnError) -> None:
    """The action of a task that cannot be done, of a broken recipe for one."""
    raise error


def is_current(name: str, loaded: LoadedImage) -> bool:
    """doit asks this just before it would run the task, when everything before it is done."""
    return pipeline.is_current(name, loaded)


def claim_build(loaded: LoadedImage) -> bool:
    """doit asks this in its main process, which outlives the workers of `doit -n`; never up to date."""
    pipeline.claim_build(loaded)
    return False


def load_command(verb: str) -> Any:
    """The module of xenkiln/commands for a verb."""
    return importlib.import_module(f"xenkiln.commands.{verb.replace('-', '_')}")


def run_command(verb: str, *about: object) -> None:
    """The action of a verb's tasks; `about` are recipes, and what of them is meant."""
    load_command(verb).run(*about)


def check_command(verb: str, *about: object) -> None:
    """What a verb needs, before anything is built for it."""
    load_command(verb).check(*about)


def guard_given(verb: str, *about: object, **options: object) -> TaskFailed | None:
    """As guard, for a verb about recipes that has options of its own."""
    return guard(lambda: load_command(verb).run(*about, **options))


def find_from_user(text: str) -> str:
    """A path of the command line, as seen from where the user is."""
    return str(Path(get_initial_workdir(), text))


def guard_options(verb: str, *about: object, **options: object) -> TaskFailed | None:
    """As guard, for a verb with options of its own; paths in them are seen from where the user is."""

    def run() -> None:
        with chdir(get_initial_workdir()):
            load_command(verb).run(*about, **options)

    return guard(run)
