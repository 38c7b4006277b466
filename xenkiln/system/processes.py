"""One process of another program: how it starts, how its output is taken, and that nothing of it stays."""

from __future__ import annotations

import codecs
import ctypes
import io
import os
import selectors
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import IO

from xenkiln.system.interrupts import forget_signals
from xenkiln.system.tools import find_tool, missing_tools_error, search_path

STOP_SECONDS = 2
READ_BYTES = 1 << 20
LONGEST_LINE = 1 << 16
PR_SET_PDEATHSIG = 1  # linux/prctl.h
CAP_SYS_ADMIN = 21  # linux/capability.h

PROXIES = ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY",
           "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")  # fmt: skip
"""How this host reaches a mirror. For programs that fetch; one that installs would hand them to scripts."""
PASSED_ON = ("GNUPGHOME", "LD_PRELOAD", "FAKETIME", "FAKETIME_SHARED", "NO_FAKE_STAT",
             "FAKETIME_DONT_FAKE_MONOTONIC", "DONT_FAKE_MONOTONIC")  # fmt: skip
"""Nothing else of the caller's environment reaches a build, but for PATH, by which tools are found."""

_libc = ctypes.CDLL(None, use_errno=True)

Taker = Callable[[bytes], None]


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent dies: nothing survives a killed build."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def begin_child() -> None:
    """Between fork and exec of what ends with us."""
    forget_signals()
    die_with_parent()


def build_environment(extra: Mapping[str, str], *, proxies: bool = True) -> dict[str, str]:
    """The same environment whoever calls: locale and time zone fixed, the way to the mirror where it is needed."""
    names = (*PASSED_ON, *(PROXIES if proxies else ()))
    environment = {name: os.environ[name] for name in names if name in os.environ}
    environment |= {"PATH": search_path(), "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", "TZ": "UTC", "HOME": "/root",
                    "TERM": "dumb"}  # fmt: skip
    return environment | dict(extra)


PROPAGATION = ("--propagation", "unchanged")
"""For `unshare --mount`: our own namespace is a slave already, and in a chroot unshare could not change `/`."""


@cache
def can_contain() -> bool:
    """Whether this process may make PID namespaces (capabilities(7): CAP_SYS_ADMIN)."""
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    effective = next((line.split()[1] for line in status.splitlines() if line.startswith("CapEff:")), "0")
    return bool(int(effective, 16) >> CAP_SYS_ADMIN & 1) and find_tool("unshare") is not None


def contain(argv: Sequence[str]) -> list[str]:
    """The command in a PID namespace of its own, which the kernel empties when we or the command end.

    Killing a process group would miss a daemon that the command starts, and a SIGKILL of ours would
    miss its children.
    """
    if argv[0] == "unshare" or not can_contain():
        return list(argv)
    return ["unshare", "--pid", "--fork", "--kill-child", "--", *argv]


def start_process(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path | None = None,
    stderr: int = subprocess.STDOUT,
    input_text: str | None = None,
    proxies: bool = True,
) -> subprocess.Popen[bytes]:
    """Start a command, its output in pipes; raises HostError naming its package when the host lacks it."""
    if find_tool(argv[0]) is None:
        raise missing_tools_error([argv[0]])
    with _open_input(input_text) as stdin:
        return subprocess.Popen(
            contain(argv),
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=build_environment(env, proxies=proxies),
            cwd=cwd,
            # Terminal signals reach us alone; we end our children in order, from ended_process.
            start_new_session=True,
            preexec_fn=begin_child,
        )


@contextmanager
def _open_input(text: str | None) -> Iterator[int]:
    """Stdin as a descriptor: in memory, so that no password is on a disk and no full pipe blocks us."""
    if text is None:
        yield subprocess.DEVNULL
        return
    with os.fdopen(os.memfd_create("input"), "wb+") as stream:
        stream.write(text.encode())
        stream.seek(0)
        yield stream.fileno()


@contextmanager
def ended_process(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Whatever interrupts the wait, the process is gone and its pipes are closed when we leave."""
    try:
        yield
    finally:
        if process.poll() is None:
            _stop_group(process)
        for pipe in (process.stdout, process.stderr):
            if pipe:
                pipe.close()


def _stop_group(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
            return
    process.wait()


def take_output(process: subprocess.Popen[bytes], takers: Sequence[tuple[IO[bytes] | None, Taker]]) -> int:
    """Hand over what comes until the process has ended, and return its exit code.

    Not until its pipes are closed: something that it left in the background may hold them for ever.
    """
    watched = os.pidfd_open(process.pid)
    with selectors.DefaultSelector() as selector, os.fdopen(watched, "rb"):
        selector.register(watched, selectors.EVENT_READ)
        pipes = {pipe: taker for pipe, taker in takers if pipe}
        for pipe in pipes:
            os.set_blocking(pipe.fileno(), False)
            selector.register(pipe, selectors.EVENT_READ)
        ended = False
        while not ended:
            for key, _ in selector.select():
                if key.fd == watched:
                    ended = True
                elif not _pass_on(key.fileobj, pipes):  # type: ignore[arg-type]  # no integers were registered but one
                    selector.unregister(key.fileobj)
        for pipe in pipes:
            _pass_on(pipe, pipes)
        # Before the wait, while the group's number is still ours.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    return process.wait()


def _pass_on(pipe: IO[bytes], pipes: Mapping[IO[bytes], Taker]) -> bool:
    """Pass on what a pipe holds now; False at its end."""
    try:
        data = os.read(pipe.fileno(), READ_BYTES)
    except BlockingIOError:
        return True
    if data:
        pipes[pipe](data)
    return bool(data)


class LineSplitter:
    """From bytes as they come to lines of text: any newline ends one, a carriage return too."""

    def __init__(self, take: Callable[[str], None]) -> None:
        self.take = take
        self.rest = ""
        self.decoder = io.IncrementalNewlineDecoder(
            codecs.getincrementaldecoder("utf-8")("replace"), translate=True
        )

    def feed(self, data: bytes, *, final: bool = False) -> None:
        """Take bytes; with `final` also what has no newline yet."""
        *lines, self.rest = (self.rest + self.decoder.decode(data, final=final)).split("\n")
        if self.rest and (final or len(self.rest) > LONGEST_LINE):
            lines.append(self.rest)
            self.rest = ""
        for line in lines:
            self.take(line)


def decode_text(data: bytes) -> str:
    """A program's whole output as text, newlines as here."""
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder("utf-8")("replace"), translate=True)
    return decoder.decode(data, final=True)
