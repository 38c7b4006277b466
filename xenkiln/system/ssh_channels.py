"""What goes over a connection piece by piece: files that are written, output that is read while it comes."""

from __future__ import annotations

import time
from collections.abc import Sequence

import paramiko

from xenkiln.errors import CommandError

BLOCK = 32768
"""The largest write that every SFTP server takes (draft-ietf-secsh-filexfer-02, 3)."""
WAIT_SECONDS = 0.02


class RemoteFile:
    """A file that is written block by block, in answers' time rather than one round trip each."""

    def __init__(self, handle: paramiko.SFTPFile) -> None:
        self._handle = handle

    def write_blocks(self, blocks: Sequence[tuple[int, bytes]]) -> None:
        """Write (offset, at most BLOCK bytes) pairs and return when the host has confirmed every one."""
        for number, (offset, data) in enumerate(blocks, start=1):
            # The last write waits for the answers of all: paramiko drops those that come between.
            self._handle.set_pipelined(number < len(blocks))
            self._handle.seek(offset)
            self._handle.write(data)

    def truncate(self, size: int) -> None:
        """Set the size in bytes; new space is a hole."""
        self._handle.truncate(size)


class Stream:
    """A command's output as it comes; `errors` is what it has said on stderr so far."""

    def __init__(self, channel: paramiko.Channel) -> None:
        self._channel = channel
        self.errors = ""

    @property
    def is_over(self) -> bool:
        """Whether the command has ended, and all of it has been read."""
        return self._channel.exit_status_ready() and not self._channel.recv_ready()

    def read(self, seconds: float) -> bytes:
        """What has come, waiting at most so long for anything; b"" for nothing."""
        self._channel.settimeout(seconds)
        try:
            data = self._channel.recv(BLOCK)
        except TimeoutError:
            data = b""
        while self._channel.recv_ready():
            data += self._channel.recv(BLOCK)
        while self._channel.recv_stderr_ready():
            self.errors += self._channel.recv_stderr(BLOCK).decode(errors="replace")
        return data


def wait_for_end(channel: paramiko.Channel, seconds: float, command: str) -> None:
    """Return when the command has ended; what it prints meanwhile stays to be read, up to the channel's window."""
    deadline = time.monotonic() + seconds
    while not channel.exit_status_ready():
        if time.monotonic() > deadline:
            channel.close()
            raise CommandError(command, f"has not ended within {seconds:.0f} s, or prints without end")
        time.sleep(WAIT_SECONDS)
