"""The one door to other programs: argument lists, a built environment, a log, errors that help."""

from __future__ import annotations

import ctypes
import os
import shlex
import signal
import subprocess
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO

from xenkiln.errors import CommandError
from xenkiln.system.causes import find_cause
from xenkiln.system.tools import missing_tools_error, search_path

LAST_LINES = 12
STOP_SECONDS = 10
PR_SET_PDEATHSIG = 1  # linux/prctl.h

# What a package manager on the host needs to reach its mirror; nothing else of the caller's
# environment reaches a build.
PASSED_ON = ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY",
             "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "TERM",
             "GNUPGHOME", "LD_PRELOAD", "FAKETIME", "FAKETIME_SHARED", "NO_FAKE_STAT",
             "FAKETIME_DONT_FAKE_MONOTONIC", "DONT_FAKE_MONOTONIC")  # fmt: skip

_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent dies: nothing survives a killed build."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def build_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """The same environment whoever calls: locale, time zone and PATH fixed, proxies passed on."""
    environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    environment |= {"PATH": search_path(), "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", "TZ": "UTC", "HOME": "/root"}
    return environment | dict(extra)


def describe_ending(code: int) -> str:
    """An exit code in words."""
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    if code > 128 and code - 128 in set(signal.Signals):
        return f"exit code {code} ({signal.Signals(code - 128).name})"
    return f"exit code {code}"


class Runner:
    """Runs commands for one stage: output goes to its log, the last lines into the error."""

    def __init__(self, log: Path | None = None, env: Mapping[str, str] | None = None) -> None:
        self.log = log
        self.env = dict(env or {})
        self.on_command: Callable[[Sequence[str]], None] | None = None

    def note(self, line: str) -> None:
        """Add a line to the log."""
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
    ) -> int:
        """Run to the end, stdout and stderr to the log; the exit code, one of `accept`, is returned.

        Raises CommandError with the last lines and a likely cause, HostError when the tool is missing.
        """
        tail: deque[str] = deque(maxlen=LAST_LINES)
        process = self._start(argv, env, cwd, subprocess.STDOUT, input_text is not None)
        with self._ending(process):
            _feed(process, input_text)
            assert process.stdout is not None  # noqa: S101  # for mypy: stdout=PIPE above
            for line in process.stdout:
                text = line.rstrip("\n")
                tail.append(text)
                self.note(text)
                if on_line:
                    on_line(text)
            code = process.wait()
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
        process = self._start(argv, env, None, subprocess.PIPE, input_text is not None)
        with self._ending(process):
            out, err = process.communicate(input_text)
        lines = err.splitlines()
        for line in lines:
            self.note(line)
        if process.returncode not in set(accept):
            raise self._failure(argv, process.returncode, (lines or out.splitlines())[-LAST_LINES:])
        return out

    def _start(
        self, argv: Sequence[str], env: Mapping[str, str] | None, cwd: Path | None, stderr: int, has_input: bool
    ) -> subprocess.Popen[str]:
        self.note(f"$ {shlex.join(argv)}")
        if self.on_command:
            self.on_command(argv)
        try:
            return subprocess.Popen(
                list(argv),
                stdin=subprocess.PIPE if has_input else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=build_environment({**self.env, **(env or {})}),
                cwd=cwd,
                text=True,
                errors="replace",
                # Terminal signals reach us alone; we end our children in order, from _ending.
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        except FileNotFoundError as error:
            raise missing_tools_error([argv[0]]) from error

    def _ending(self, process: subprocess.Popen[str]) -> _Ending:
        return _Ending(process)

    def _failure(self, argv: Sequence[str], code: int, tail: list[str]) -> CommandError:
        return CommandError(
            shlex.join(argv),
            describe_ending(code),
            last_lines=tail,
            log=str(self.log or ""),
            next_step=find_cause("\n".join(tail), code),
        )


class _Ending:
    """Whatever interrupts the wait, the process is gone and its pipes are closed when we leave."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            _stop_group(self.process)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            _close(pipe)


def _stop_group(process: subprocess.Popen[str]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        try:
            process.wait(STOP_SECONDS)
            return
        except subprocess.TimeoutExpired:
            continue
    process.wait()


def _close(pipe: IO[str] | None) -> None:
    if pipe and not pipe.closed:
        try:
            pipe.close()
        except BrokenPipeError:
            return  # the process left without reading all its input


def _feed(process: subprocess.Popen[str], text: str | None) -> None:
    if process.stdin is None:
        return
    try:
        process.stdin.write(text or "")
        process.stdin.close()
    except BrokenPipeError:
        return  # its exit code says more than the pipe does


def run_interactive(argv: Sequence[str], env: Mapping[str, str] | None = None) -> int:
    """Run a program on the user's own terminal; its exit code."""
    return subprocess.call(list(argv), env=build_environment(env or {}), preexec_fn=die_with_parent)  # noqa: PLW1509
