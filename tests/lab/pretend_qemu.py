"""Stands in for qemu: says on the console what a dom0 that comes up says, answers on its monitor, ends when told to."""

from __future__ import annotations

import json
import socket
import sys
import time
from pathlib import Path

CONSOLE = ("Xen version 4.17", "Xen is about to get started...", "lab: 3.10 ready", "lab: 4.20 ssh")
USERNET = "VLAN -1 (net0):\n TCP[HOST_FORWARD]  12  127.0.0.1  40001  10.0.2.15  22\n"
ANSWERS = {
    "qmp_capabilities": {},
    "query-status": {"status": "running", "running": True},
    "human-monitor-command": USERNET,
    "quit": {},
}
LIFE_SECONDS = 120


def answer(connection: socket.socket) -> None:
    with connection:
        greeting = {"version": {"qemu": {"major": 7, "minor": 2, "micro": 0}, "package": ""}, "capabilities": []}
        connection.sendall(json.dumps({"QMP": greeting}).encode() + b"\r\n")
        text = ""
        while data := connection.recv(65536):
            text += data.decode()
            # The client ends its orders with no line break.
            try:
                asked = json.loads(text)
            except ValueError:
                continue
            text = ""
            named = {"id": asked["id"]} if "id" in asked else {}
            connection.sendall(json.dumps({"return": ANSWERS[asked["execute"]], **named}).encode() + b"\r\n")
            if asked["execute"] == "quit":
                sys.exit()


def main() -> None:
    assert {"-qmp", "-kernel", "-initrd"} <= set(sys.argv)
    monitor = socket.socket(socket.AF_UNIX)
    monitor.bind("monitor")
    monitor.listen()
    monitor.settimeout(LIFE_SECONDS)
    Path("console.log").write_text("".join(f"{line}\n" for line in CONSOLE))
    deadline = time.monotonic() + LIFE_SECONDS
    while time.monotonic() < deadline:
        answer(monitor.accept()[0])


if __name__ == "__main__":
    main()
