"""What a stage is made of. A stage decides its steps from data; `doit plan` prints them, a run does them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from xenkiln.system.execution import Context


@dataclass(frozen=True)
class Value:
    """Part of a command that is known only while building (the kernel's version); shown as $NAME in a plan."""

    name: str
    form: str = "{}"


Argument = str | Path | Value


@dataclass(frozen=True)
class Run:
    """Run a command; with `root` inside that root, in a PID namespace of its own and without a network."""

    why: str
    argv: tuple[Argument, ...]
    root: Path | None = None
    env: tuple[tuple[str, str], ...] = ()
    input_text: str | None = None
    accept: tuple[int, ...] = (0,)
    progress: Callable[[str], str | None] | None = None
    """From a line of output to what to tell the user, or None."""
    reads: Path | None = None
    """A tree whose files the command reads all: the kernel is asked for them ahead."""


@dataclass(frozen=True)
class Write:
    """Write a file; with `root`, `path` is the guest's and links are followed inside that root only."""

    path: str | Path
    content: str | bytes
    mode: int = 0o644
    owner: int = 0
    group: int = 0
    root: Path | None = None


@dataclass(frozen=True)
class Mount:
    """Mount until the stage ends or a Release step comes.

    image: `source` is a filesystem image. overlay: `lower` (topmost first) with `source` a folder
    for the upper layer, None for read-only. guest: proc, sys, a minimal dev and run below `where`,
    for programs that run in the root there. bind: `source` shown read-only. tmpfs: an empty one.
    """

    kind: Literal["image", "overlay", "guest", "bind", "tmpfs"]
    where: Path
    source: Path | None = None
    lower: tuple[Path, ...] = ()
    read_only: bool = True
    options: str = ""


@dataclass(frozen=True)
class Release:
    """Unmount everything this stage mounted, in reverse."""


@dataclass(frozen=True)
class Do:
    """Work in this process; `uses` names the tools it runs, `writes` the files it makes."""

    why: str
    function: Callable[[Context], None]
    uses: tuple[str, ...] = ()
    writes: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Finish:
    """Give `PATH.partial` its name: synced, then renamed."""

    path: Path


Step = Run | Write | Mount | Release | Do | Finish


def show_argument(argument: Argument) -> str:
    """An argument as a plan shows it."""
    return argument.form.format(f"${argument.name}") if isinstance(argument, Value) else str(argument)


def list_tools(steps: list[Step]) -> set[str]:
    """The host's programs that these steps call, for the check before the first change."""
    tools: set[str] = set()
    for step in steps:
        if isinstance(step, Do):
            tools |= set(step.uses)
        elif isinstance(step, Run):
            tools |= {"unshare", "chroot"} if step.root else {show_argument(step.argv[0])}
        elif isinstance(step, Mount):
            tools |= {"mount", "umount"}
    return tools


def needs_loop(steps: list[Step]) -> bool:
    """Whether any step mounts an image file."""
    return any(isinstance(step, Mount) and step.kind == "image" for step in steps)


def needs_root(steps: list[Step]) -> bool:
    """Whether any step mounts, enters a root, or sets owners."""
    return any(
        isinstance(step, Mount | Release) or (isinstance(step, Run | Write) and step.root is not None)
        for step in steps
    )
