"""doit, with a signal sent to it at one exact step: struck_doit.py STAGE STEP before|during SIGNAL WORDS...

STEP counts the lines '== step' of the stage's log from 1. `before` strikes as the step begins, when
all before it is done; `during` a moment after its first command has started. From outside, a step of
a few milliseconds could not be hit.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

from doit.doit_cmd import DoitMain

from xenkiln.system.commands import Runner

SECONDS_INTO_COMMAND = 0.004


class Striker:
    """Sees every line that goes to a log, and strikes this very process once."""

    def __init__(self, stage: str, step: int, moment: str, number: signal.Signals) -> None:
        self.stage, self.step, self.moment, self.number = stage, step, moment, number
        self.seen = 0
        self.note = Runner.note

    def strike(self) -> None:
        os.kill(os.getpid(), self.number)

    def watch(self, runner: Runner, line: str) -> None:
        self.note(runner, line)
        if runner.log is None or runner.log.stem != self.stage:
            return
        self.seen += line.startswith("== ")
        if self.seen != self.step:
            return
        if self.moment == "before":
            self.step = 0
            self.strike()
        elif line.startswith("$ "):
            self.step = 0
            threading.Timer(SECONDS_INTO_COMMAND, self.strike).start()


if __name__ == "__main__":
    stage, step, moment, name, *words = sys.argv[1:]
    striker = Striker(stage, int(step), moment, signal.Signals[name])
    setattr(Runner, "note", lambda runner, line: striker.watch(runner, line))  # noqa: B010  # mypy: a method
    sys.argv = ["doit", *words]
    sys.exit(DoitMain().run(words))
