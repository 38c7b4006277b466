"""Commands to a running qemu, over its own protocol (QMP) and a socket in the lab's folder. The only qemu.qmp."""

from __future__ import annotations

import asyncio
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from qemu.qmp import QMPClient, QMPError
from qemu.qmp.error import ProtocolError

from xenkiln.errors import HostError

logging.getLogger("qemu.qmp").addHandler(logging.NullHandler())  # its errors reach the user as ours
logging.getLogger("qemu.qmp").propagate = False

Order = tuple[str, Mapping[str, Any]]
"""A command of the QEMU QMP reference and its arguments."""
PATIENCE_SECONDS = 20
FORWARD = re.compile(r"TCP\[HOST_FORWARD\]\s+\d+\s+127\.0\.0\.1\s+(\d+)\s+(\S+)\s+(\d+)")
"""A line of HMP's `info usernet`: port here, address and port there."""


def order(socket: Path, *orders: Order) -> list[Any]:
    """Give commands in turn and return their answers; raises HostError for the first that fails."""
    try:
        with _short_path(socket) as path:
            return asyncio.run(asyncio.wait_for(_order(path, orders), PATIENCE_SECONDS))
    except (QMPError, ProtocolError, OSError, TimeoutError) as error:
        raise HostError(f"qemu does not do as it is told: {error}", place=str(socket),
                        next_step="`doit lab-stop`, and run this again") from error  # fmt: skip


@contextmanager
def _short_path(socket: Path) -> Iterator[Path]:
    """Another name of the same file: a socket's may have 107 bytes, unix(7), and build folders can have more."""
    folder = os.open(socket.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield Path(f"/proc/self/fd/{folder}") / socket.name
    finally:
        os.close(folder)


async def _order(socket: Path, orders: Sequence[Order]) -> list[Any]:
    client = QMPClient("xenkiln")
    await client.connect(str(socket))
    try:
        return [await client.execute(name, dict(arguments)) for name, arguments in orders]
    finally:
        with suppress(EOFError):  # it was told to quit, and did
            await client.disconnect()


def say(line: str) -> Order:
    """A line of the human monitor as a command: what QMP has no word for."""
    return "human-monitor-command", {"command-line": line}


def list_forwards(text: str) -> dict[tuple[str, int], int]:
    """(address, port) inside -> port on this host's loopback, from the answer to `info usernet`."""
    return {(match[2], int(match[3])): int(match[1]) for match in FORWARD.finditer(text)}
