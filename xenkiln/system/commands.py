"""The one door to other programs: argument lists, a built environment, a log, errors that help."""

from __future__ import annotations

import shlex
import signal
import subprocess
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from xenkiln.errors import CommandError
from xenkiln.system.causes import find_cause
from xenkiln.system.processes import (
    LineSplitter,
    build_environment,
    decode_text,
    die_with_parent,
    ended_process,
    start_process,
    take_output,
)

LAST_LINES = 12
SHOWN_CHARACTERS = 400


def describe_ending(code: int) -> str:
    """An exit code in words."""
    known = {int(number): number.name for number in signal.Signals}
    if code < 0:
        return f"killed by {known.get(-code, f'signal {-code}')}"
    return f"exit code {code} ({known[code - 128]})" if code - 128 in known else f"exit code {code}"


def make_printable(line: str) -> str:
    """A line as it can be shown: a program's escape sequences must not reach the user's terminal."""
    plain = "".join(letter if letter.isprintable() or letter == "\t" else "\ufffd" for letter in line)
    return plain if len(plain) <= SHOWN_CHARACTERS else plain[:SHOWN_CHARACTERS] + "..."


class Runner:
    """Runs commands for one stage: output goes to its log, the last lines into the error."""

    def __init__(self, log: Path | None = None, env: Mapping[str, str] | None = None) -> None:
        self.log = log
        self.env = dict(env or {})
        self.on_command: Callable[[Sequence[str]], None] | None = None

    def note(self, line: str) -> None:
        """Add a line to the log."""
        # A disk too full for the log must not keep us from unmounting; what matters fails by itself.
        with suppress(OSError):
            if self.log:
                with self.log.open("a", encoding="utf-8", errors="replace") as log:
                    log.write(line + "\n")

    def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        input_text: str | None = None,
        on_line: Callable[[str], None] | None = None,
        cwd: Path | None = None,
        accept: Iterable[int] = (0,),
        proxies: bool = True,
    ) -> int:
        """Run to the end, stdout and stderr to the log; the exit code, one of `accept`, is returned.

        Without `proxies` the command does not see how this host reaches its mirrors.
        Raises CommandError with the last lines and a likely cause, HostError when the tool is missing.
        """
        tail: deque[str] = deque(maxlen=LAST_LINES)

        def take(line: str) -> None:
            tail.append(line)
            self.note(line)
            if on_line:
                on_line(line)

        lines = LineSplitter(take)
        process = self._start(argv, env, cwd, subprocess.STDOUT, input_text, proxies=proxies)
        with ended_process(process):
            code = take_output(process, [(process.stdout, lines.feed)])
            lines.feed(b"", final=True)
        if code not in set(accept):
            raise self._failure(argv, code, list(tail))
        return code

    def read(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        input_text: str | None = None,
        accept: Iterable[int] = (0,),
    ) -> str:
        """Run to the end and return stdout; stderr goes to the log and into the error."""
        output, errors = bytearray(), bytearray()
        process = self._start(argv, env, None, subprocess.PIPE, input_text)
        with ended_process(process):
            code = take_output(process, [(process.stdout, output.extend), (process.stderr, errors.extend)])
        text, lines = decode_text(bytes(output)), decode_text(bytes(errors)).splitlines()
        for line in lines:
            self.note(line)
        if code not in set(accept):
            raise self._failure(argv, code, (lines or text.splitlines())[-LAST_LINES:])
        return text

    def _start(
        self,
        argv: Sequence[str],
        env: Mapping[str, str] | None,
        cwd: Path | None,
        stderr: int,
        text: str | None,
        *,
        proxies: bool = True,
    ) -> subprocess.Popen[bytes]:
        self.note(f"$ {shlex.join(argv)}")
        if self.on_command:
            self.on_command(argv)
        environment = {**self.env, **(env or {})}
        return start_process(argv, env=environment, cwd=cwd, stderr=stderr, input_text=text, proxies=proxies)

    def _failure(self, argv: Sequence[str], code: int, tail: list[str]) -> CommandError:
        return CommandError(
            shlex.join(argv),
            describe_ending(code),
            last_lines=[make_printable(line) for line in tail],
            log=str(self.log or ""),
            next_step=find_cause("\n".join(tail), code),
        )


def run_interactive(argv: Sequence[str], env: Mapping[str, str] | None = None) -> int:
    """Run a program on the user's own terminal; its exit code. Ctrl-C is that program's own."""
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        return subprocess.call(list(argv), env=build_environment(env or {}), preexec_fn=die_with_parent)
    finally:
        signal.signal(signal.SIGINT, before)
