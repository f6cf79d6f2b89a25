"""Paired, interleaved timing: every contender runs in every round, so that noise hits all alike.

A shared machine slows down and speeds up by the minute. Times of two programs taken one after the
other are then not comparable, but the ratio of two neighbors within one round is, and the median
of many such ratios is steady.
"""

from __future__ import annotations

import os
import random
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Timings:
    """Seconds of each contender, one number a round, in the same order of rounds."""

    seconds: Mapping[str, tuple[float, ...]]

    def median(self, name: str) -> float:
        """Median seconds of one contender."""
        return statistics.median(self.seconds[name])

    def ratios(self, name: str, base: str) -> list[float]:
        """Of each round, time(``name``) / time(``base``), in ascending order."""
        pairs = zip(self.seconds[name], self.seconds[base], strict=True)
        return sorted(one / other for one, other in pairs)

    def ratio(self, name: str, base: str) -> float:
        """Median over the rounds of time(``name``) / time(``base``)."""
        return statistics.median(self.ratios(name, base))

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


class Neighbors:
    """Which share of the processors' time other programs take, from when this is made."""

    QUIET = 0.03
    """A share that no figure suffers from."""

    def __init__(self) -> None:
        self._before = self._read()

    def share(self) -> float | None:
        """Since then, 0 to 1; None where it is not known: this needs Linux.

        Children count as this program as soon as they have ended.
        """
        now = self._read()
        if now is None or self._before is None:
            return None
        total, busy, own = (one - other for one, other in zip(now, self._before, strict=True))
        return max(0.0, busy - own) / total if total > 0 else 0.0

    @staticmethod
    def _read() -> tuple[float, float, float] | None:
        """Seconds of all processors so far: all of them, those at work, those for this program."""
        try:
            fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
        except OSError:
            return None
        user, nice, system, idle, waiting, *others = (float(field) for field in fields)
        busy, scale = user + nice + system + sum(others), os.sysconf("SC_CLK_TCK")
        times = os.times()
        own = times.user + times.system + times.children_user + times.children_system
        return (busy + idle + waiting) / scale, busy / scale, own
