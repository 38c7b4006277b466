"""Programs one behind the other: what goes through, who is to blame, and that none is left."""

from __future__ import annotations

import threading

import pytest
from processes import is_alive

from xenkiln.errors import CommandError, HostError
from xenkiln.system.pipelines import open_pipeline


def test_what_goes_in_comes_out() -> None:
    data = bytes(range(256)) * 20000
    with open_pipeline(["gzip", "-c"], ["cat"], ["gzip", "-dc"]) as pipeline:
        writer = threading.Thread(target=lambda: (pipeline.input.write(data), pipeline.input.close()))
        writer.start()
        assert pipeline.output.read() == data
        writer.join()
        pipeline.finish()


@pytest.mark.parametrize(
    ("commands", "ending", "said"),
    [
        ([["sh", "-c", "echo first >&2; exit 3"], ["cat"]], "exit code 3", ("first",)),
        ([["cat"], ["sh", "-c", "cat; echo second >&2; exit 4"]], "exit code 4", ("second",)),
        ([["sh", "-c", "kill -9 $$"], ["sh", "-c", "exit 5"]], "killed by SIGKILL", ()),
    ],
)
def test_the_first_that_fails_is_named_and_its_arguments_are_not(
    commands: list[list[str]], ending: str, said: tuple[str, ...]
) -> None:
    with open_pipeline(*commands) as pipeline:
        pipeline.input.close()
        pipeline.output.read()
        with pytest.raises(CommandError) as caught:
            pipeline.finish()
    assert (caught.value.command, caught.value.fact, caught.value.last_lines) == ("sh", ending, said)
    assert "-c" not in str(caught.value)


def test_none_is_left_and_nobody_is_stuck() -> None:
    with open_pipeline(["cat"], ["sleep", "600"]) as pipeline:
        processes = [process for _, process, _ in pipeline.programs]
        pipeline.input.write(b"unread")
    assert not any(is_alive(process.pid) for process in processes)


def test_one_that_hangs_up_lets_the_others_end() -> None:
    with open_pipeline(["yes"], ["head", "-c", "10"]) as pipeline:
        pipeline.input.close()
        assert pipeline.output.read() == b"y\ny\ny\ny\ny\n"
        with pytest.raises(CommandError, match="SIGPIPE"):
            pipeline.finish()


def test_a_program_that_is_not_there_is_named_before_any_is_started() -> None:
    with pytest.raises(HostError, match="no-such-program"), open_pipeline(["cat"], ["no-such-program"]):
        pytest.fail("it was opened")
