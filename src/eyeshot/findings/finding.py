"""One mistake or smell of a network: where, why in numbers, and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Severity(StrEnum):
    """How much it matters. Their order is that of the list."""

    ERROR = "error"
    """The network does not run at this size."""
    WARNING = "warning"
    """It runs, and something is lost or wrong without a word."""
    NOTE = "note"
    """A fact to know, which may be meant."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding.

    Attributes:
        severity: error, warning or note.
        layer: name of the node it is about; the first, where it is about several.
        title: what it is, in a few words.
        cause: why, in numbers.
        cure: what to do.
        layers: all nodes it is about.
    """

    severity: Severity
    layer: str
    title: str
    cause: str
    cure: str
    layers: tuple[str, ...] = ()

    def __str__(self) -> str:
        where = f"{self.layer}: " if self.layer else ""
        return f"{self.severity}: {where}{self.title}: {self.cause}; {self.cure}"

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {
            "severity": str(self.severity),
            "layer": self.layer,
            "title": self.title,
            "cause": self.cause,
            "cure": self.cure,
            "layers": list(self.layers or (self.layer,)),
        }
