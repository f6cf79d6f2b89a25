"""The table: what was measured against what, how far it is to reach, and what was seen."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One line.

    Attributes:
        against: the contender.
        where: on what.
        what: of Eyeshot, speed or memory as a multiple of the contender's, or a share.
        least: the ratio to reach; a speed must be at least this.
        most: or the most a memory may be.
        aim: the ratio aimed at.
        seen: the ratio seen; None where the contender is not installed.
        spread: the smallest and largest of the rounds.
        difference: largest difference to ``net(x)``, of either; None where nothing is compared.
        note: what else is to be said.
    """

    against: str
    where: str
    what: str
    seen: float | None
    least: float | None = None
    most: float | None = None
    aim: float | None = None
    difference: float | None = None
    note: str = ""
    spread: tuple[float, float] | None = None

    @property
    def reach(self) -> str:
        """As in ``≥ 2.50`` or ``≤ 0.33``."""
        if self.least is not None:
            return f"≥ {self.least:.2f}"
        return "" if self.most is None else f"≤ {self.most:.2f}"

    @property
    def verdict(self) -> str:
        """Whether it was reached."""
        if self.seen is None:
            return "not run"
        low = self.least is not None and self.seen < self.least
        high = self.most is not None and self.seen > self.most
        if self.least is None and self.most is None:
            return ""
        return "missed" if low or high else "reached"

    def _seen(self) -> str:
        if self.seen is None:
            return "–"
        if self.spread is None:
            return f"{self.seen:.2f}"
        low, high = self.spread
        return f"{self.seen:.2f} ({low:.2f}–{high:.2f})"

    def cells(self) -> tuple[str, ...]:
        """As text, in the order of :data:`HEAD`."""
        return (
            self.against,
            self.where,
            self.what,
            self.reach,
            "" if self.aim is None else f"{self.aim:.2f}",
            self._seen(),
            self.verdict,
            "" if self.difference is None else f"{self.difference:.0e}",
            self.note,
        )


HEAD = ("against", "where", "measured", "reach", "aim", "seen", "", "max difference", "note")


def markdown(rows: list[Row]) -> str:
    """The table as a page shows it, columns in line."""
    lines = [HEAD, *(row.cells() for row in rows)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(HEAD))]
    rule = tuple("-" * width for width in widths)
    return "\n".join(
        "| "
        + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        + " |"
        for line in (lines[0], rule, *lines[1:])
    )
