"""The sample type: what it refuses, and what it makes of counters and levels."""

from __future__ import annotations

import math
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenkiln.metrics.sample import Sample

NUMBERS = st.floats(0, 1e9, allow_nan=False)
STEPS = st.lists(st.tuples(st.floats(0.01, 1e4), NUMBERS), min_size=1, max_size=20)
"""Seconds to the next time, and a number to go with it."""


def make_sample(times: tuple[float, ...], values: tuple[float, ...]) -> Sample:
    return Sample("cpu_seconds", "s", {"domain": "tiny", "host": "root@xen"}, times, values)


@pytest.mark.parametrize(
    ("times", "values", "fact"),
    [
        ((1.0, 2.0), (1.0,), "2 times, 1 values"),
        ((), (), "no values"),
        ((1.0, 1.0), (1.0, 2.0), "its times do not increase"),
        ((2.0, 1.0), (1.0, 2.0), "its times do not increase"),
        ((1.0, math.nan), (1.0, 2.0), "a time or a value is not finite"),
        ((1.0, 2.0), (1.0, math.inf), "a time or a value is not finite"),
    ],
)
def test_nonsense_is_refused_by_name(times: tuple[float, ...], values: tuple[float, ...], fact: str) -> None:
    with pytest.raises(ValueError, match=rf"^cpu_seconds \(domain=tiny, host=root@xen\): {fact}$"):
        make_sample(times, values)


def test_a_rate_is_growth_per_second() -> None:
    assert make_sample((100.0, 110.0, 120.0), (5.0, 6.0, 15.0)).rate() == 0.5


def test_a_counter_that_falls_has_begun_again_at_zero() -> None:
    assert make_sample((0.0, 10.0, 20.0), (100.0, 104.0, 6.0)).rate() == 0.5


def test_one_value_has_no_rate_but_an_average() -> None:
    sample = make_sample((1.0,), (7.0,))
    assert sample.average() == sample.last == 7
    with pytest.raises(ValueError, match="a rate takes two values or more"):
        sample.rate()


def test_an_average_weighs_values_by_their_time() -> None:
    assert make_sample((0.0, 8.0, 10.0), (100.0, 100.0, 200.0)).average() == 110


def test_a_part_has_both_its_ends() -> None:
    sample = make_sample((1.0, 2.0, 3.0, 4.0), (1.0, 5.0, 7.0, 90.0))
    part = sample.between(2, 3)
    assert (part.times, part.values) == ((2.0, 3.0), (5.0, 7.0))
    assert (part.metric, part.unit, part.labels) == (sample.metric, sample.unit, sample.labels)
    with pytest.raises(ValueError, match="no values"):
        sample.between(5, 6)


@given(STEPS, NUMBERS)
def test_a_counters_rate_lies_between_its_slowest_and_fastest(steps: list[tuple[float, float]], start: float) -> None:
    times = tuple(accumulate((seconds for seconds, _ in steps), initial=0.0))
    values = tuple(accumulate((seconds * rate for seconds, rate in steps), initial=start))
    rates = [rate for _, rate in steps]
    spare = 1e-6 * (1 + max(values)) / min(seconds for seconds, _ in steps)
    assert min(rates) - spare <= make_sample(times, values).rate() <= max(rates) + spare


@given(STEPS)
def test_an_average_lies_between_the_values(steps: list[tuple[float, float]]) -> None:
    times = tuple(accumulate(seconds for seconds, _ in steps))
    values = tuple(value for _, value in steps)
    average = make_sample(times, values).average()
    assert min(values) * (1 - 1e-9) <= average <= max(values) * (1 + 1e-9)
