"""A guest's console: kept in a file up to a limit, searched while it comes, told apart into phases."""

from __future__ import annotations

import re
from pathlib import Path

KEPT_BYTES = 4 << 20
FLOOD_BYTES = 32 << 20
"""A guest that writes more than this within its time does nothing else."""
TAIL_BYTES = 16 << 10
LAST_LINES = 12
PHASES = ("guest kernel", "guest init", "services")
"""What a guest is at, in order."""
SERVICES = PHASES[-1]
STARTS = (
    ("services", re.compile(r"(?m)systemd\[1\]: (Hostname|Set hostname|Detected)|INIT: version|^tiny: |Welcome to "
                            r"|login: ?$|re-mounted|Started |^init: ")),
    ("guest init", re.compile(r"Run \S+ as init process|Freeing unused kernel|systemd\[1\]|ramdisk: ")),
)  # fmt: skip
"""What on the console shows that a phase has begun, the last one first: a quiet kernel says nothing of the others."""
LOGIN = re.compile(r"(?m)^(?!Last )[\w.-]+ login:")
KERNEL_START = re.compile(r"Linux version \d")
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[()][A-Za-z0-9]|\x1b[=>78c]")


class Console:
    """What has come so far: `text` without escape sequences, the file with every byte up to a limit."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self._kept = b""
        self._tail = b""
        self._text: str | None = ""
        path.write_bytes(b"")

    def feed(self, data: bytes) -> None:
        """Take what came."""
        kept = data[: max(0, KEPT_BYTES - self.size)]
        self.size += len(data)
        self._tail = (self._tail + data)[-TAIL_BYTES:]
        if kept:
            with self.path.open("ab") as stream:
                stream.write(kept)
            self._kept += kept
            self._text = None

    @property
    def text(self) -> str:
        """All that is kept, plain."""
        if self._text is None:
            self._text = make_plain(self._kept)
        return self._text

    @property
    def is_flooded(self) -> bool:
        """Whether more came than any guest has to say."""
        return self.size > FLOOD_BYTES

    @property
    def starts(self) -> int:
        """How many times a kernel has begun."""
        return len(KERNEL_START.findall(self.text))

    def list_last_lines(self) -> list[str]:
        """The last lines that say something, as a terminal can show them."""
        lines = ["".join(filter(str.isprintable, line)).strip() for line in make_plain(self._tail).splitlines()]
        return [line for line in lines if line][-LAST_LINES:]

    def find_phase(self) -> str:
        """What the guest is at."""
        return next((phase for phase, start in STARTS if start.search(self.text)), PHASES[0])


def make_plain(data: bytes) -> str:
    """Text without escape sequences, with newlines as here."""
    return ESCAPES.sub("", data.decode(errors="replace")).replace("\r\n", "\n").replace("\r", "\n")
