"""xenkiln's front door: one task function per verb. `doit list` shows them, `doit help VERB` explains one."""

from __future__ import annotations

from collections.abc import Iterator

from doit.task import Task

from xenkiln import tasks
from xenkiln.reporter import KilnReporter

tasks.stop_on_signals()

DOIT_CONFIG = {
    "default_tasks": ["build"],
    "backend": "sqlite3",
    "dep_file": tasks.prepare_build_folder(),
    "reporter": KilnReporter,
    "sort": "definition",
    "verbosity": 2,
}


def task_build() -> Iterator[Task]:
    """Build an image, all stages."""
    return tasks.make_build_tasks()


def task_stages() -> Iterator[Task]:
    """The stages of a build, in order."""
    for name in tasks.STAGES:
        yield from tasks.make_stage_tasks(name)


def task_check() -> Iterator[Task]:
    """Refuse before the first change."""
    return tasks.make_check_tasks()


def task_plan() -> Iterator[Task]:
    """Show what would run and what would be written."""
    return tasks.make_command_tasks("plan")


def task_lock() -> Iterator[Task]:
    """Pin package versions and the date."""
    return tasks.make_command_tasks("lock")


def task_verify() -> Iterator[Task]:
    """Build again elsewhere and compare."""
    return tasks.make_command_tasks("verify")


def task_diff() -> Iterator[Task]:
    """Compare two images."""
    return tasks.make_pair_tasks("diff")


def task_shell() -> Iterator[Task]:
    """Look around in an image."""
    return tasks.make_command_tasks("shell")


def task_deploy() -> Iterator[Task]:
    """Take an image to a Xen host and start it there."""
    return tasks.make_command_tasks("deploy")


def task_doctor() -> Task:
    """What this host has and lacks."""
    return tasks.make_host_task("doctor")


def task_sweep() -> Task:
    """What earlier runs left behind."""
    return tasks.make_host_task("sweep")
