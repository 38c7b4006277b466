"""Programs that run beside us for a while: as long as we live, or until somebody ends them."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from xenkiln.system.interrupts import forget_signals
from xenkiln.system.processes import begin_child, build_environment
from xenkiln.system.tools import find_tool, missing_tools_error

STOP_SECONDS = 5

Service = subprocess.Popen[bytes]


def start_service(
    argv: Sequence[str], folder: Path, output: Path, *, stays: bool, keep_open: Sequence[int] = ()
) -> Service:
    """Start a program in `folder`, its output in a file; raises HostError where this host lacks it.

    With `stays` it outlives us, else the kernel ends it when we end, however that happens. It inherits the
    descriptors of `keep_open`: a lock among them is held as long as it runs.
    """
    if find_tool(argv[0]) is None:
        raise missing_tools_error([argv[0]])
    with output.open("wb") as stream:
        return subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            env=build_environment({}, proxies=False),
            cwd=folder,
            start_new_session=True,
            preexec_fn=forget_signals if stays else begin_child,
            pass_fds=tuple(keep_open),
        )


@contextmanager
def ended_service(process: Service) -> Iterator[Service]:
    """Whatever happens in between, the program is gone when we leave."""
    try:
        yield process
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            if process.poll() is None:
                with suppress(ProcessLookupError):
                    os.kill(process.pid, number)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(STOP_SECONDS)
