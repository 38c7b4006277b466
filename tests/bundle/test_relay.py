"""A stage that works ahead in a thread: what it gives, how far it goes, and that it always ends."""

from __future__ import annotations

import signal
import threading
from collections import deque
from collections.abc import Generator, Iterable

import pytest

from xenkiln.bundle.relay import run_ahead

LIMIT_SECONDS = 60


class Numbers:
    """Numbers without end, or to an error."""

    def __init__(self, error: Exception | None = None, last: int = 1 << 60) -> None:
        self.error, self.last = error, last
        self.made = 0
        self.is_closed = False
        self.has_moved = threading.Condition()

    def make(self) -> Generator[int]:
        try:
            while self.made < self.last:
                with self.has_moved:
                    self.made += 1
                    self.has_moved.notify_all()
                yield self.made
            if self.error is not None:
                raise self.error
        finally:
            self.is_closed = True

    def wait_for(self, count: int) -> None:
        with self.has_moved:
            assert self.has_moved.wait_for(lambda: self.made >= count, LIMIT_SECONDS)


def double(numbers: Iterable[int]) -> Generator[int]:
    for number in numbers:
        yield 2 * number


@pytest.mark.parametrize("depth", [1, 2, 7])
def test_all_come_in_order_through_two_stages(depth: int) -> None:
    numbers = Numbers(last=100)
    with run_ahead(numbers.make(), depth) as once, run_ahead(double(once), depth) as twice:
        assert list(twice) == [2 * number for number in range(1, 101)]


@pytest.mark.parametrize("depth", [1, 5])
def test_it_works_ahead_and_not_far(depth: int) -> None:
    numbers = Numbers()
    with run_ahead(numbers.make(), depth) as items:
        assert [next(items), next(items)] == [1, 2]
        numbers.wait_for(2 + depth + 1)
    assert numbers.made == 2 + depth + 1
    assert numbers.is_closed


def test_an_error_comes_after_what_was_made_before_it() -> None:
    numbers = Numbers(ValueError("third"), last=3)
    seen: list[int] = []
    with (
        pytest.raises(ValueError, match="third"),
        run_ahead(numbers.make(), 9) as once,
        run_ahead(double(once), 9) as twice,
    ):
        seen += twice
    assert seen == [2, 4, 6]


def test_an_error_of_the_taker_ends_both_stages() -> None:
    numbers = Numbers()
    with (  # noqa: PT012
        pytest.raises(OSError, match="full"),
        run_ahead(numbers.make(), 1) as once,
        run_ahead(double(once), 1) as twice,
    ):
        next(twice)
        raise OSError("full")
    assert numbers.is_closed


def test_an_interrupt_while_the_taker_waits_ends_both_stages() -> None:
    main = threading.get_ident()
    is_closed = []

    def interrupt() -> Generator[int]:
        try:
            signal.pthread_kill(main, signal.SIGINT)
            while True:
                yield 1
        finally:
            is_closed.append(True)

    with (
        pytest.raises(KeyboardInterrupt),
        run_ahead(interrupt(), 1) as once,
        run_ahead(double(once), 1) as twice,
    ):
        deque(twice, maxlen=0)
    assert is_closed == [True]
