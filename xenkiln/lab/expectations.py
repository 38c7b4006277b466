"""What is waited for: each expectation is met, or says what it still lacks."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import uuid4

from xenkiln.errors import CommandError, HostError
from xenkiln.lab.console import LOGIN, Console
from xenkiln.model.boot import Boot
from xenkiln.model.domain import Deploy

if TYPE_CHECKING:
    from xenkiln.system.ssh import Remote

META_DATA_FOLDER = "/run/xenkiln"
"""Where the guest's meta-data client leaves what it fetched."""
COMMAND_SECONDS = 60
"""A command that takes longer is given up, and tried again while there is time."""
FACTS = (
    ("hypervisor", "cat /sys/hypervisor/type"),
    ("guest_type", "cat /sys/hypervisor/guest_type"),
    ("kernel", "uname -r"),
    ("memory_kib", "sed -n 's/^MemTotal: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo"),
    # A Debian of minbase has no ip, and busybox no hostname -I.
    ("addresses", ("if command -v ip >/dev/null; then ip -o addr show scope global | awk '{print $4}';"
                  " else hostname -I; fi")),
)


@dataclass(frozen=True)
class Expectation:
    """One of them; `kind` is console, login, ssh, command, metadata or paravirtualised."""

    kind: str
    name: str
    text: str = ""
    run: str = ""


@dataclass(frozen=True)
class View:
    """What can be seen of a running guest: its console, where its ssh answers, what it was told."""

    console: Console
    ssh: Deploy | None
    meta_data: Mapping[str, str]
    guest_type: str
    deadline: float = math.inf

    def count_seconds(self) -> float:
        """How long something inside may take: what time is left, one second at least."""
        return min(COMMAND_SECONDS, max(1.0, self.deadline - time.monotonic()))


def list_expectations(boot: Boot, guest_type: str) -> list[Expectation]:
    """All of a recipe, and that the guest really is what its domain says: PV or PVH."""
    found = [Expectation("paravirtualised", f"it is a {guest_type} guest of Xen")]
    found += [Expectation("console", f"console says {text!r}", text) for text in boot.console]
    found += [Expectation("login", "a login prompt on the console")] if boot.login else []
    found += [Expectation("ssh", "ssh lets us in")] if boot.needs_ssh else []
    found += [Expectation("command", f"`{command.run}` succeeds" + (f" and prints {command.output!r}" if command.output
                                                                    else ""), command.output, command.run)
              for command in boot.commands]  # fmt: skip
    return [*found, *([Expectation("metadata", "the meta-data is fetched")] if boot.metadata else [])]


def find_lack_on_console(expectation: Expectation, view: View) -> str:
    """What a console expectation lacks, "" when it is met."""
    if expectation.kind == "login":
        return "" if LOGIN.search(view.console.text) else "no login prompt has come"
    return "" if expectation.text in view.console.text else "the text has not come"


def find_lack_over_ssh(expectation: Expectation, view: View, remote: Remote, facts: dict[str, str]) -> str:
    """What an expectation lacks that is looked for inside the guest, "" when it is met."""
    match expectation.kind:
        case "ssh":
            return ""
        case "command":
            return find_lack_of_command(expectation, remote, view.count_seconds())
        case "metadata":
            return find_lack_of_meta_data(view.meta_data, remote, view.count_seconds())
        case _:
            facts.update(read_facts(remote, view.count_seconds()))
            return find_lack_of_xen(facts, view.guest_type)


def find_lack_of_command(expectation: Expectation, remote: Remote, seconds: float) -> str:
    """Exit code and output of a command, within so many seconds."""
    try:
        answer = remote.run(["sh", "-c", expectation.run], accept=range(256), limit_seconds=seconds)
    except CommandError as error:
        return error.fact
    if answer.code:
        return f"exit code {answer.code}: {(answer.err or answer.out).strip()[-300:]}"
    return "" if expectation.text in answer.out else f"it prints {answer.out.strip()[-300:]!r}"


def find_lack_of_meta_data(wanted: Mapping[str, str], remote: Remote, seconds: float) -> str:
    """Every value that the service told, as the guest's client has kept it."""
    files = {path: body for path, body in wanted.items() if not path.endswith("/index")}
    mark = uuid4().hex  # no value has this line
    script = f"cd {META_DATA_FOLDER} && for path; do echo \"$path\"; cat \"$path\" 2>/dev/null; echo; echo {mark}; done"
    answer = remote.run(["sh", "-c", script, "sh", *files], accept=range(256), limit_seconds=seconds)
    if answer.code:
        return f"there is no {META_DATA_FOLDER}: configure.fetch_metadata brings the client"
    kept = dict(part.split("\n", 1) for part in answer.out.split(f"\n{mark}\n") if "\n" in part)
    wrong = [path for path, body in files.items() if kept.get(path, "").strip() != body.strip()]
    return f"not fetched: {', '.join(wrong)}" if wrong else ""


def read_facts(remote: Remote, seconds: float) -> dict[str, str]:
    """What the guest says of itself; what an old kernel does not have is left out."""
    script = "\n".join(f"printf '%s ' {name}; echo $({{ {command}; }} 2>/dev/null)" for name, command in FACTS)
    lines = remote.run(["sh", "-c", script], limit_seconds=seconds).out.splitlines()
    pairs = (line.partition(" ") for line in lines)
    return {name: value.strip() for name, _, value in pairs if value.strip()}


def find_lack_of_xen(facts: Mapping[str, str], guest_type: str) -> str:
    """sysfs of the guest: booting in qemu directly would not show this. Kernels before 4.13 have no guest_type."""
    if facts.get("hypervisor") != "xen":
        return f"/sys/hypervisor/type says {facts.get('hypervisor') or 'nothing'}"
    kind = facts.get("guest_type", guest_type)
    return "" if kind == guest_type else f"/sys/hypervisor/guest_type says {kind}"


def find_lack_of_kind(kind: str, guest_type: str) -> str:
    """Where nobody logs in: what Xen itself says of the domain that speaks on this console, pv or pvh."""
    return "" if kind.upper() == guest_type else f"xl list says {kind or 'nothing of it'}"


def describe_error(error: HostError | CommandError) -> str:
    """The fact of an error in one line."""
    return next(iter(str(error).splitlines()), "")
