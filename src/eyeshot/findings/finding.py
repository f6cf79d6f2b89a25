"""One mistake or smell of a network: where, why in numbers, and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Severity(StrEnum):
    """How much a finding matters. Findings are listed in this order."""

    ERROR = "error"
    """The network does not run at this size."""
    WARNING = "warning"
    """The network runs, but something is silently lost or wrong."""
    NOTE = "note"
    """A fact to know, which may be intended."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding.

    Attributes:
        severity: error, warning or note.
        layer: name of the node that it concerns; the first name if there are several.
        title: a few words.
        cause: the reason, in numbers.
        cure: what to do.
        layers: all nodes that it concerns.
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
