"""Half-open intervals of whole numbers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Interval:
    """The whole numbers from ``lo`` up to, and not including, ``hi``; empty when ``hi <= lo``."""

    lo: int
    hi: int

    def __len__(self) -> int:
        return max(0, self.hi - self.lo)

    def __contains__(self, index: int) -> bool:
        return self.lo <= index < self.hi

    def __str__(self) -> str:
        return f"[{self.lo}, {self.hi})"

    def intersect(self, other: Interval) -> Interval:
        """What both hold."""
        lo, hi = max(self.lo, other.lo), min(self.hi, other.hi)
        return Interval(lo, hi) if lo < hi else EMPTY

    def hull(self, other: Interval) -> Interval:
        """The smallest interval that holds both."""
        if not self:
            return other
        if not other:
            return self
        return Interval(min(self.lo, other.lo), max(self.hi, other.hi))

    def within(self, n: int) -> Interval:
        """The part inside ``[0, n)``."""
        return self.intersect(Interval(0, n))

    def shifted(self, by: int) -> Interval:
        """The same interval ``by`` places to the right."""
        return Interval(self.lo + by, self.hi + by)

    def covers(self, other: Interval) -> bool:
        """Whether every number of ``other`` is in this one."""
        return not other or (self.lo <= other.lo and other.hi <= self.hi)


EMPTY = Interval(0, 0)
