"""Tasks that a guest does when it boots: each a POSIX script of scripts/guest, hooked in by its family."""

from __future__ import annotations

from dataclasses import dataclass

from xenkiln.families.contract import Guest
from xenkiln.system.layout import PROJECT


@dataclass(frozen=True)
class FirstBootTask:
    """One task; unit and service are lines for systemd, start_on a line for upstart."""

    name: str
    what: str
    script: str
    path: str
    unit: tuple[str, ...] = ()
    service: tuple[str, ...] = ()
    start_on: str = "stopped rc RUNLEVEL=[2345]"

    def read_script(self) -> str:
        """The script's text."""
        return (PROJECT / "scripts" / "guest" / self.script).read_text(encoding="utf-8")


SSH_KEYS = FirstBootTask(
    "xenkiln-ssh-keys", "Make the ssh host keys that are missing", "ssh-keys", "/usr/sbin/xenkiln-ssh-keys",
    ("Before=ssh.service sshd.service ssh.socket", "ConditionPathExists=/usr/bin/ssh-keygen"),
    start_on="starting ssh",
)  # fmt: skip
GROW_ROOT = FirstBootTask(
    "xenkiln-grow-root", "Grow the root filesystem to its disk", "grow-root", "/usr/sbin/xenkiln-grow-root",
    ("DefaultDependencies=no", "After=systemd-remount-fs.service", "Before=sysinit.target"),
    start_on="mounted MOUNTPOINT=/",
)  # fmt: skip
META_DATA = FirstBootTask(
    "xenkiln-meta-data", "Fetch the instance's meta-data and ssh key", "meta-data", "/usr/sbin/xenkiln-meta-data",
    ("Wants=network-online.target", "After=network-online.target"),
    ("StandardOutput=journal+console",),
)  # fmt: skip


def list_tasks(guest: Guest, *, ssh_keys: bool) -> list[FirstBootTask]:
    """The tasks that this guest needs; ssh_keys where its own sshd does not make them."""
    return [*([GROW_ROOT] if guest.disks.root.grow else []), *([SSH_KEYS] if ssh_keys else []),
            *([META_DATA] if guest.configure.fetch_metadata else [])]  # fmt: skip
