"""Paired, interleaved timing: every contender runs in every round, so that noise hits all alike.

A shared machine slows down and speeds up by the minute. Times of two programs taken one after the
other are then not comparable, but the ratio of two neighbors within one round is, and the median
of many such ratios is steady.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Timings:
    """Seconds of each contender, one number a round, in the same order of rounds."""

    seconds: Mapping[str, tuple[float, ...]]

    def median(self, name: str) -> float:
        """Median seconds of one contender."""
        return statistics.median(self.seconds[name])

    def ratio(self, name: str, base: str) -> float:
        """Median over the rounds of time(``name``) / time(``base``)."""
        pairs = zip(self.seconds[name], self.seconds[base], strict=True)
        return statistics.median(one / other for one, other in pairs)

    def fastest(self, names: list[str]) -> str:
        """The contender with the smallest median among ``names``."""
        return min(names, key=self.median)


def time_interleaved(
    calls: Mapping[str, Callable[[], object]], *, rounds: int = 21, warm_up: int = 3
) -> Timings:
    """Time ``calls`` in turn, ``rounds`` times, after ``warm_up`` rounds that are not counted.

    The order is drawn again each round, from a fixed seed: none always follows the same neighbor,
    whose threads may still spin and whose data lie in the cache.
    """
    names = list(calls)
    order = random.Random(0)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(warm_up + rounds):
        for name in order.sample(names, len(names)):
            start = time.perf_counter()
            calls[name]()
            elapsed = time.perf_counter() - start
            if turn >= warm_up:
                seconds[name].append(elapsed)
    return Timings({name: tuple(values) for name, values in seconds.items()})
