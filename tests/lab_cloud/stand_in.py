"""Stands in for the program that runs a guest: its console tells what the guest would boot from."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

folder, how = Path(sys.argv[1]), sys.argv[2]
lock = os.open(folder / "instance.lock", os.O_RDWR | os.O_CREAT, 0o600)
fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
spec: dict[str, Any] = json.loads((folder / "spec.json").read_text())


def tell(state: str, **more: object) -> None:
    status = {"state": state, "reason": "", "address": "10.0.2.50", "ssh_port": None, "process": os.getpid(), **more}
    (folder / "status.partial").write_text(json.dumps(status))
    (folder / "status.partial").rename(folder / "status.json")


def end(*_: object) -> None:
    tell("ended", reason="asked to")
    sys.exit(0)


signal.signal(signal.SIGTERM, signal.SIG_IGN if how == "stubborn" else end)
digests = {name: hashlib.sha256(Path(spec[name]).read_bytes()).hexdigest() if spec[name] else None
           for name in ("kernel", "ramdisk", "root")}  # fmt: skip
(folder / "console.log").write_text(f"{json.dumps(digests)}\n{spec['arguments']}\n")
if how == "crashing":
    sys.exit(3)
if how == "failing":
    tell("failed", reason="no place on the host")
    sys.exit(1)
tell("running", ssh_port=2222)
if how == "leaving":
    tell("ended", reason="it has\nshut down")
    sys.exit(0)
while True:
    signal.pause()
