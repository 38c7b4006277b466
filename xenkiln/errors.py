"""What can go wrong, in the words the user reads: what happened, where, and what to do next."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


class XenkilnError(Exception):
    """Anything a user can cause or mend; shown without a traceback.

    `fact` says what happened, `place` where (a file and line, a command, a device) and `next_step`
    what to do about it.
    """

    def __init__(self, fact: str, *, place: str = "", next_step: str = "") -> None:
        super().__init__(fact, place, next_step)
        self.fact = fact
        self.place = place
        self.next_step = next_step

    def __str__(self) -> str:
        """One paragraph: `place: fact`, then the next step on its own line."""
        head = f"{self.place}: {self.fact}" if self.place else self.fact
        return f"{head}\n  next: {self.next_step}" if self.next_step else head

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
        """Tasks go to the workers of `doit -n` whole, with the error that one of them is to say."""
        return _make_again, (type(self), self.args), self.__dict__


def _make_again(kind: type[XenkilnError], args: tuple[Any, ...]) -> XenkilnError:
    """An error of that kind, without what its own __init__ asks for: everything it holds is set after this."""
    return kind.__new__(kind, *args)


class HostError(XenkilnError):
    """This machine lacks something: root, a tool, a loop device, free space."""


class BuildError(XenkilnError):
    """A stage could not make what it promises."""


class CloudError(XenkilnError):
    """A cloud refuses something, or does not answer; `code` is its own word for it, "" where there is none."""

    def __init__(self, fact: str, *, place: str = "", next_step: str = "", code: str = "") -> None:
        super().__init__(fact, place=place, next_step=next_step)
        self.code = code


@dataclass(frozen=True)
class Problem:
    """One thing wrong in a recipe; `line` counts from 1, 0 when the file as a whole is meant."""

    file: str
    line: int
    field: str
    fact: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.field}: {self.fact}" if self.field else f"{place}: {self.fact}"


class RecipeError(XenkilnError):
    """A recipe is wrong; carries every problem found in it, not just the first."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)


class CommandError(XenkilnError):
    """A command failed: the command as typed, how it ended, and its last lines."""

    def __init__(
        self,
        command: str,
        ending: str,
        *,
        last_lines: list[str] | None = None,
        log: str = "",
        next_step: str = "",
    ) -> None:
        super().__init__(ending, place=command, next_step=next_step)
        self.command = command
        self.last_lines = tuple(last_lines or ())
        self.log = log

    def __str__(self) -> str:
        """The command, how it ended, the tail of its output, the log, the next step."""
        lines = [f"{self.fact}: {self.command}", *(f"  | {line}" for line in self.last_lines)]
        if self.log:
            lines.append(f"  full output: {self.log}")
        if self.next_step:
            lines.append(f"  next: {self.next_step}")
        return "\n".join(lines)
