"""What starts with a CentOS or Rocky Linux guest: a login on the console, modules, first-boot tasks."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path

from xenkiln.errors import BuildError
from xenkiln.families.contract import Guest
from xenkiln.families.first_boot import FirstBootTask, list_tasks
from xenkiln.families.redhat_releases import RedhatRelease
from xenkiln.system.execution import Context
from xenkiln.system.files import resolve_in_root
from xenkiln.system.steps import Do, Run, Step, Write
from xenkiln.system.templates import render_template

LAST_SECURETTY = 7
"""From Enterprise Linux 8 on root may log in everywhere, and making the file would change that."""

START_ORDER = {"xenkiln-grow-root": 2, "xenkiln-meta-data": 12}
"""Among the links of rc3.d: `network` is 10, and sshd 55 comes after the keys have been fetched."""

GETTY = "co:2345:respawn:/sbin/agetty {console} 9600 vt100-nav"
"""The line that the installer of CentOS 5 writes into a Xen guest's inittab."""


def make_console_steps(guest: Guest, release: RedhatRelease, root: Path) -> list[Step]:
    """A getty on the console, where root may log in."""
    console = guest.console
    steps: list[Step] = []
    if release.major <= LAST_SECURETTY:
        steps.append(Do(f"let root log in on {console}", partial(_edit_file, root, "/etc/securetty", console, console),
                        writes=(root / "etc/securetty",)))  # fmt: skip
    if release.init == "sysvinit":
        edit = partial(_edit_file, root, "/etc/inittab", "co:", GETTY.format(console=console))
        steps.append(Do(f"start a getty on {console}", edit, writes=(root / "etc/inittab",)))
    elif release.init == "upstart":
        steps.append(Write(f"/etc/init/{console}.conf", render_template("redhat/getty.conf.j2", {"console": console}),
                           root=root))  # fmt: skip
    else:
        steps.append(_enable(f"serial-getty@{console}.service", root))
    return steps


def _edit_file(root: Path, path: str, prefix: str, line: str, context: Context) -> None:
    """Put one line at the end of a file that packages brought, in place of those that start with `prefix`."""
    target = resolve_in_root(root, path)
    if not target.is_file():
        raise BuildError("the installed packages did not bring this file", place=path,
                         next_step="install the distribution's base packages")  # fmt: skip
    lines = target.read_text(encoding="utf-8").splitlines()
    kept = [old for old in lines if not old.startswith(prefix)]
    target.write_text(_join([*kept, line]), encoding="utf-8")


def make_module_steps(guest: Guest, release: RedhatRelease, root: Path) -> list[Step]:
    """Modules that are loaded at boot."""
    modules = guest.configure.load_modules
    if not modules:
        return []
    if release.init == "systemd":
        return [Write("/etc/modules-load.d/xenkiln.conf", _join(modules), root=root)]
    # rc.sysinit runs what is executable there.
    text = _join(["#!/bin/sh", *(f"modprobe {module}" for module in modules)])
    return [Write("/etc/sysconfig/modules/xenkiln.modules", text, 0o755, root=root)]


def make_task_steps(guest: Guest, release: RedhatRelease, root: Path) -> list[Step]:
    """First-boot tasks; the ssh host keys are made by the distribution's own sshd service."""
    steps: list[Step] = []
    for task in list_tasks(guest, ssh_keys=False):
        steps.append(Write(task.path, task.read_script(), 0o755, root=root))
        steps += _make_unit_steps(task, root) if release.init == "systemd" else _make_script_steps(task, root)
    return steps


def _make_unit_steps(task: FirstBootTask, root: Path) -> list[Step]:
    values = {"what": task.what, "command": task.path, "unit": task.unit, "service": task.service}
    text = render_template("debian/task.service", values)
    return [Write(f"/etc/systemd/system/{task.name}.service", text, root=root), _enable(f"{task.name}.service", root)]


def _make_script_steps(task: FirstBootTask, root: Path) -> list[Step]:
    """Upstart of CentOS 6 runs these as well, so both old releases have the same."""
    values = {"what": task.what, "command": task.path, "order": START_ORDER[task.name]}
    text = render_template("redhat/task.init.j2", values)
    return [Write(f"/etc/rc.d/init.d/{task.name}", text, 0o755, root=root),
            Run(f"enable {task.name}", ("chkconfig", "--add", task.name), root=root)]  # fmt: skip


def _enable(unit: str, root: Path) -> Step:
    return Run(f"enable {unit}", ("systemctl", "enable", unit), root=root)


def _join(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)
