"""What a run says: a quiet line per finished step, and on failure what happened, why and what next."""

from __future__ import annotations

import contextlib
from typing import Any

from doit.reporter import ConsoleReporter

from xenkiln import pipeline


class KilnReporter(ConsoleReporter):  # type: ignore[misc]  # doit ships no types
    """Nothing for what is up to date; one line for a stage that ran; errors without a traceback."""

    desc = "one line per finished step"

    def __init__(self, outstream: Any, options: dict[str, Any]) -> None:
        super().__init__(outstream, options)
        self.done = 0
        self.current: list[str] = []
        self.building = False

    def write(self, text: str) -> None:
        """Write, unless the reader has gone (`doit plan | head`)."""
        with contextlib.suppress(BrokenPipeError):
            super().write(text)

    def initialize(self, _tasks: Any, selected_tasks: list[str]) -> None:
        """Whether a build was asked for, so that there is something to be up to date."""
        verbs = {name.partition(":")[0] for name in selected_tasks}
        self.building = bool(verbs & {"build", *pipeline.CHAIN})

    def execute_task(self, task: Any) -> None:
        """Progress lines say what runs."""

    def skip_uptodate(self, task: Any) -> None:
        """Counted for the closing line."""
        self.current.append(task.name)

    def add_success(self, task: Any) -> None:
        """The line of a finished stage, from its record."""
        stage, _, recipe = task.name.partition(":")
        if stage not in pipeline.CHAIN or not recipe:
            return
        self.done += 1
        record = pipeline.read_record(pipeline.paths_of(recipe), stage)
        if record:
            self.write(f"{stage + ':' + recipe:<24} {record.seconds:6.1f} s  {record.result}\n")

    def add_failure(self, task: Any, fail: Any) -> None:
        """The whole story at once; nothing is repeated at the end."""
        self.failures.append({"task": task, "exception": fail})
        message = fail.get_msg().strip()
        if message:
            self.write(f"\n{task.name.replace('_check', 'build')} failed\n{message}\n")

    def complete_run(self) -> None:
        """Whether there was anything to do at all."""
        if self.runtime_errors:
            self.write("\n".join(self.runtime_errors) + "\n")
        elif self.building and self.current and not self.done and not self.failures:
            recipes = sorted({name.partition(":")[2] for name in self.current})
            self.write(f"{', '.join(recipes)}: up to date\n")
