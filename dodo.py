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
    """show every command and every file of a build, without running anything or being root"""
    return tasks.make_command_tasks("plan", tasks.doc_of(task_plan))


def task_lock() -> Iterator[Task]:
    """pin exact package versions, checksums and the date, in a file beside the recipe"""
    return tasks.make_command_tasks("lock", tasks.doc_of(task_lock))


def task_verify() -> Iterator[Task]:
    """build again in another folder, filesystem, clock, locale and umask, and compare every byte"""
    return tasks.make_command_tasks("verify", tasks.doc_of(task_verify), after_build=True)


def task_diff() -> Iterator[Task]:
    """diff:A:B shows the packages and files that differ between two built images"""
    return tasks.make_pair_tasks("diff", tasks.doc_of(task_diff))


def task_shell() -> Iterator[Task]:
    """open a shell inside a built image; what you change there is thrown away"""
    return tasks.make_command_tasks("shell", tasks.doc_of(task_shell))


def task_deploy() -> Iterator[Task]:
    """take a built image to the recipe's Xen host over ssh and start it there"""
    return tasks.make_command_tasks("deploy", tasks.doc_of(task_deploy), after_build=True)


def task_doctor() -> Task:
    """tell what this host has and lacks: tools, root, loop devices, space, old binaries"""
    return tasks.make_host_task("doctor", tasks.doc_of(task_doctor))


def task_sweep() -> Task:
    """list what killed runs left: loop devices, mounts, partial files; --remove removes them"""
    remove = {"name": "remove", "long": "remove", "type": bool, "default": False, "help": "remove what is listed"}
    return tasks.make_host_task("sweep", tasks.doc_of(task_sweep), remove)
