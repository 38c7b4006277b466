"""What a run says: one line for what was done, one when there was nothing to do, the whole story of a failure."""

from __future__ import annotations

import io
from dataclasses import dataclass, field

import pytest

from xenkiln import pipeline
from xenkiln.model.records import Record, StepTime, dump_record
from xenkiln.reporter import KilnReporter
from xenkiln.system.files import write_finished


@dataclass
class Task:
    name: str
    title_text: str = field(default="")


@dataclass
class Failure:
    text: str

    def get_msg(self) -> str:
        return self.text


class Run:
    """A reporter and what it has written."""

    def __init__(self, *selected: str) -> None:
        self.stream = io.StringIO()
        self.reporter = KilnReporter(self.stream, {"show_out": True, "failure_verbosity": 0})
        self.reporter.initialize({}, list(selected))

    def end(self) -> str:
        self.reporter.complete_run()
        return self.stream.getvalue()


@pytest.fixture(autouse=True)
def records(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XENKILN_BUILD", str(tmp_path))
    steps = (StepTime("a", 1.25), StepTime("b", 2.5))
    record = Record("seal", "tiny", "k", "i", 1.0, steps=steps, result="root.img takes 21 of 96 MiB")
    write_finished(pipeline.paths_of("tiny").record("seal"), dump_record(record))


def test_a_stage_that_ran_gets_one_quiet_line() -> None:
    run = Run("build:tiny")
    for name in ("_check:tiny", "seal:tiny"):
        run.reporter.execute_task(Task(name))
        run.reporter.add_success(Task(name))
    assert run.end() == "seal:tiny                   3.8 s  root.img takes 21 of 96 MiB\n"


def test_a_build_with_nothing_to_do_says_so_once() -> None:
    run = Run("build")
    for name in ("seal:tiny", "domain:tiny", "seal:small"):
        run.reporter.skip_uptodate(Task(name))
    assert run.end() == "small, tiny: up to date\n"


def test_a_verb_that_is_no_build_is_not_up_to_date() -> None:
    run = Run("verify:tiny")
    run.reporter.skip_uptodate(Task("seal:tiny"))
    assert run.end() == ""


def test_what_is_partly_done_says_what_was_done() -> None:
    run = Run("build")
    run.reporter.skip_uptodate(Task("bootstrap:tiny"))
    run.reporter.add_success(Task("seal:tiny"))
    assert "up to date" not in run.end()


def test_a_failure_is_told_whole_and_once() -> None:
    run = Run("build")
    run.reporter.skip_uptodate(Task("bootstrap:tiny"))
    run.reporter.add_failure(Task("seal:tiny"), Failure("exit code 1: false\n  next: read the log\n"))
    assert run.end() == "\nseal:tiny failed\nexit code 1: false\n  next: read the log\n"


def test_a_task_after_a_failed_one_needs_no_words() -> None:
    run = Run("build")
    run.reporter.add_failure(Task("domain:tiny"), Failure("  \n"))
    assert run.end() == ""


def test_a_missing_record_is_no_reason_to_fail() -> None:
    run = Run("build")
    run.reporter.add_success(Task("domain:tiny"))
    assert run.end() == ""


def test_a_reader_that_left_is_no_reason_to_fail() -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    reporter = KilnReporter(Closed(), {"show_out": True, "failure_verbosity": 0})
    reporter.add_failure(Task("seal:tiny"), Failure("text"))
