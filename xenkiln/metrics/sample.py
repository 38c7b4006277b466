"""The sample: one metric of one thing, at the times at which it was read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise


@dataclass(frozen=True)
class Sample:
    """A metric's values over time; `labels` say whose they are (domain, host, device).

    times: seconds since 1970 by the clock of what was measured, increasing. values: as many, in `unit`. A counter
    (seconds of cpu, bytes sent) grows from the start of what it counts; anything else is a level (MiB of memory).
    There is at least one value, and all are finite: what a source could not read is left out, its time with it.
    Raises ValueError for anything else.
    """

    metric: str
    unit: str
    labels: Mapping[str, str]
    times: tuple[float, ...]
    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.times) != len(self.values):
            raise self._error(f"{len(self.times)} times, {len(self.values)} values")
        if not self.times:
            raise self._error("no values")
        if not all(map(math.isfinite, (*self.times, *self.values))):
            raise self._error("a time or a value is not finite")
        if not all(before < after for before, after in pairwise(self.times)):
            raise self._error("its times do not increase")

    def _error(self, fact: str) -> ValueError:
        labels = ", ".join(f"{name}={value}" for name, value in self.labels.items())
        return ValueError(f"{self.metric} ({labels}): {fact}")

    @property
    def last(self) -> float:
        """The newest value."""
        return self.values[-1]

    def between(self, begin: float, end: float) -> Sample:
        """What was read from `begin` to `end`, both included; raises ValueError when nothing was."""
        kept = [(time, value) for time, value in zip(self.times, self.values, strict=True) if begin <= time <= end]
        return replace(self, times=tuple(time for time, _ in kept), values=tuple(value for _, value in kept))

    def rate(self) -> float:
        """A counter's growth per second, from the first time to the last; raises ValueError for a single value.

        A counter that falls has begun again at zero, as a domain's do when it is started anew.
        """
        if len(self.times) == 1:
            raise self._error("a rate takes two values or more")
        growth = math.fsum(after - before if after >= before else after for before, after in pairwise(self.values))
        return growth / (self.times[-1] - self.times[0])

    def average(self) -> float:
        """A level's average over the time from first to last, straight lines taken between the values."""
        if len(self.times) == 1:
            return self.values[0]
        points = pairwise(zip(self.times, self.values, strict=True))
        area = math.fsum((later - earlier) * (before + after) / 2 for (earlier, before), (later, after) in points)
        return area / (self.times[-1] - self.times[0])
