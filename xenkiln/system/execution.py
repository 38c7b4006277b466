"""Doing steps: one stage, one ExitStack, one log; mounts released in reverse whatever happens."""

from __future__ import annotations

import os
import re
import shlex
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from xenkiln.errors import BuildError, CommandError
from xenkiln.model.records import StepTime
from xenkiln.system import mounts
from xenkiln.system.commands import Runner
from xenkiln.system.files import finish_file, resolve_in_root, write_finished
from xenkiln.system.guest_root import GUEST_ENVIRONMENT, enter_root, mount_guest
from xenkiln.system.layout import Paths
from xenkiln.system.read_ahead import read_ahead
from xenkiln.system.steps import Argument, Do, Finish, Mount, Release, Run, Step, Value, Write, show_argument


@dataclass
class Context:
    """What a running stage may use: paths, a runner, facts of earlier stages, and a place for its own."""

    paths: Paths
    runner: Runner
    tell: Callable[[str], None]
    values: dict[str, str] = field(default_factory=dict)
    """Facts of earlier stages, and what this stage adds for later ones."""
    identity: str = ""
    """Set by a stage whose result is known by its content; else every run counts as new."""
    summary: str = ""
    """A few words for the line that the user sees when the stage is done."""

    @property
    def epoch(self) -> int:
        """SOURCE_DATE_EPOCH of this build, in seconds."""
        return int(self.values["epoch"])

    def fill(self, argument: Argument) -> str:
        """An argument with its value in place."""
        if not isinstance(argument, Value):
            return str(argument)
        return argument.form.format(self.values[argument.name])

    def run(self, argv: Sequence[Argument], **options: object) -> int:
        """Run a command of the host."""
        return self.runner.run([self.fill(argument) for argument in argv], **options)  # type: ignore[arg-type]

    def read(self, argv: Sequence[Argument], *, root: Path | None = None) -> str:
        """Run a command of the host, or inside `root`, and return its stdout."""
        words = [self.fill(argument) for argument in argv]
        return self.runner.read(enter_root(root, words, self.guest_environment()) if root else words)

    def guest_environment(self, extra: Iterable[tuple[str, str]] = ()) -> dict[str, str]:
        """What a program inside the guest's root sees: nothing of this host, the same on any."""
        date = {name: value for name, value in self.runner.env.items() if name == "SOURCE_DATE_EPOCH"}
        return GUEST_ENVIRONMENT | date | dict(extra)


def run_steps(steps: list[Step], context: Context) -> tuple[StepTime, ...]:
    """Do the steps in order; returns the seconds that each took."""
    times = []
    with ExitStack() as stack:
        for step in steps:
            name = describe_step(step)
            context.runner.note(f"== {name}")
            context.tell(name)
            started = time.monotonic()
            _do_step(step, context, stack)
            times.append(StepTime(name, round(time.monotonic() - started, 3)))
    return tuple(times)


def describe_step(step: Step) -> str:
    """A step in a few words."""
    match step:
        case Run() | Do():
            return step.why
        case Write():
            return f"write {step.path}"
        case Mount():
            return f"mount {step.kind} on {step.where.name}"
        case Finish():
            return f"finish {step.path.name}"
        case Release():
            return "unmount"


def _do_step(step: Step, context: Context, stack: ExitStack) -> None:
    match step:
        case Run():
            _run_command(step, context)
        case Write():
            write_file(step)
        case Mount():
            stack.enter_context(open_mount(step, context.runner))
        case Release():
            stack.close()
        case Do():
            step.function(context)
        case Finish():
            finish_file(step.path)


def _run_command(step: Run, context: Context) -> None:
    argv = [context.fill(argument) for argument in step.argv]

    def show_progress(line: str) -> None:
        text = step.progress(line) if step.progress else None
        if text:
            context.tell(f"{step.why}: {text}")

    words = enter_root(step.root, argv, context.guest_environment(step.env)) if step.root else argv
    try:
        with read_ahead(step.reads) if step.reads else nullcontext():
            context.runner.run(
                words,
                env={} if step.root else dict(step.env),
                input_text=step.input_text,
                on_line=show_progress,
                accept=step.accept,
                proxies=False,  # what a step runs was fetched before, by a Do
            )
    except CommandError as error:
        if step.root is None:
            raise
        raise explain_inside(step.why, argv, error) from error


def explain_inside(why: str, argv: list[str], error: CommandError) -> CommandError:
    """The failure of a program inside the guest's root, without the words by which it was taken there."""
    tail = "\n".join(error.last_lines)
    advice = error.next_step
    if "No such file or directory" in tail and "chroot: failed to run" in tail:
        advice = "the image has no such program, or not the interpreter that its first line names: packages.install"
    elif re.search(r"resolve|Name or service|Network is unreachable|Connection", tail):
        advice = "nothing in an image is given a network: put what it fetches into packages.install or configure.files"
    return CommandError(shlex.join(argv), f"{why}: {error.fact}", last_lines=list(error.last_lines), log=error.log,
                        next_step=advice)  # fmt: skip


def write_file(step: Write) -> None:
    """Write one file; inside a root its parents are made and its owner set."""
    if step.root is None:
        write_finished(Path(step.path), step.content, step.mode)
        return
    target = resolve_in_root(step.root, str(step.path))
    if target.is_dir():
        raise BuildError("is a folder in the image, a file was to be written there", place=str(step.path))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise BuildError("a file of the image is where its folder should be", place=str(step.path)) from error
    # Never written through: what lies there may be a fifo, or share its bytes with another name.
    target.unlink(missing_ok=True)
    data = step.content.encode() if isinstance(step.content, str) else step.content
    target.write_bytes(data)
    os.chown(target, step.owner, step.group)
    target.chmod(step.mode)


@contextmanager
def open_mount(step: Mount, runner: Runner) -> Iterator[None]:
    """Do a Mount step; what it mounted is unmounted on leaving."""
    with ExitStack() as stack:
        if step.kind == "guest":
            stack.enter_context(mount_guest(step.where, runner))
        elif step.kind == "tmpfs":
            stack.enter_context(mounts.mount_plain(runner, "tmpfs", step.where, step.options or "mode=0755"))
        elif step.kind == "overlay":
            stack.enter_context(mounts.mount_overlay(runner, list(step.lower), step.source, step.where))
        elif step.source is None:
            raise BuildError("a mount of this kind needs a source", place=show_argument(step.where))
        elif step.kind == "bind":
            stack.enter_context(mounts.bind_folder(runner, step.source, step.where))
        else:
            stack.enter_context(
                mounts.mount_image(
                    runner, step.source, step.where, read_only=step.read_only, options=step.options
                )
            )
        yield


def show_step(step: Step) -> Iterator[str]:
    """A step as lines of a plan."""
    from shlex import quote

    match step:
        case Run():
            words = " ".join(quote(show_argument(argument)) if not isinstance(argument, Value)
                             else show_argument(argument) for argument in step.argv)  # fmt: skip
            yield f"# {step.why}" + (f" (inside {step.root})" if step.root else "")
            yield f"$ {words}"
        case Write():
            place = f"{step.root}{step.path}" if step.root else str(step.path)
            yield f"> {place}  mode {step.mode:04o} owner {step.owner}:{step.group}"
            text = step.content if isinstance(step.content, str) else f"({len(step.content)} bytes)"
            yield from (f"  | {line}" for line in text.splitlines())
        case Mount():
            yield f"# mount {step.kind} {step.source or ''} on {step.where}".replace("  ", " ")
        case Do():
            yield f"# {step.why}" + (f" (runs {', '.join(step.uses)})" if step.uses else "")
            yield from (f"> {path}" for path in step.writes)
        case Finish():
            yield f"> {step.path}"
        case Release():
            yield "# unmount all"
