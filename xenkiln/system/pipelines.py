"""Programs one behind the other with bytes going through, as a shell's `a | b`, and every one's exit code looked at."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import IO

from xenkiln.errors import CommandError
from xenkiln.system.commands import LAST_LINES, describe_ending, make_printable
from xenkiln.system.processes import begin_child, build_environment, decode_text
from xenkiln.system.tools import find_missing, missing_tools_error

MOST_SAID = 1 << 16


@dataclass(frozen=True)
class Pipeline:
    """What is written to `input` comes out of `output`; programs: each one's name, process and complaints."""

    input: IO[bytes]
    output: IO[bytes]
    programs: tuple[tuple[str, subprocess.Popen[bytes], IO[bytes]], ...]

    def finish(self) -> None:
        """Wait for the end of all; raises CommandError for the first that failed.

        A program's arguments are not told: a key may be among them.
        """
        codes = [process.wait() for _, process, _ in self.programs]
        for (name, _, errors), code in zip(self.programs, codes, strict=True):
            if code:
                errors.seek(0)
                said = decode_text(errors.read(MOST_SAID)).splitlines()[-LAST_LINES:]
                raise CommandError(name, describe_ending(code), last_lines=[make_printable(line) for line in said])


@contextmanager
def open_pipeline(*commands: Sequence[str]) -> Iterator[Pipeline]:
    """Start them all; raises HostError for programs that this host lacks. None is left when the block is.

    They end with the thread that has started them, so that thread must outlive the block.
    """
    if missing := find_missing({command[0] for command in commands}):
        raise missing_tools_error(missing)
    with ExitStack() as stack:
        programs: list[tuple[str, subprocess.Popen[bytes], IO[bytes]]] = []
        source: int | IO[bytes] = subprocess.PIPE
        for command in commands:
            errors = stack.enter_context(tempfile.TemporaryFile())
            process = subprocess.Popen(
                list(command), stdin=source, stdout=subprocess.PIPE, stderr=errors, env=build_environment({}),
                start_new_session=True, preexec_fn=begin_child,
            )  # fmt: skip
            stack.callback(_end, process)
            if not isinstance(source, int):
                source.close()  # the next program alone may hold it, or the one before never sees it hang up
            programs.append((command[0], process, errors))
            source = _pipe(process.stdout)
        yield Pipeline(_pipe(programs[0][1].stdin), _pipe(programs[-1][1].stdout), tuple(programs))


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None  # noqa: S101  # as it was started
    return stream


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for stream in (process.stdout, process.stdin):
        with suppress(BrokenPipeError):  # what was still to be written is nobody's any more
            if stream:
                stream.close()
