"""Interactive programs on another machine, on this terminal: a domain's console."""

from __future__ import annotations

import shlex
import subprocess
import tempfile
from collections.abc import Sequence

from xenkiln.model.domain import Deploy
from xenkiln.system.ssh import PREPARE, connect
from xenkiln.system.ssh_trust import name_known_host


def open_terminal(target: Deploy, argv: Sequence[str]) -> int:
    """Run a command there by the system's ssh, against the host key that we verified; its exit code."""
    with connect(target, lambda _: None) as remote, tempfile.NamedTemporaryFile("w") as known:
        known.write(f"{name_known_host(target)} {remote.get_host_key()}\n")
        known.flush()
        options = ["-o", "StrictHostKeyChecking=yes", "-o", f"UserKnownHostsFile={known.name}"]
        options += ["-p", str(target.port)]
        options += ["-i", target.key_file] if target.key_file else []
        return subprocess.call(["ssh", "-t", *options, remote.name, "--", PREPARE + shlex.join(argv)])
