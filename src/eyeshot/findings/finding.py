"""One mistake or smell of a network: where, why in numbers, and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from eyeshot.language import mark, tr


class Severity(StrEnum):
    """How much a finding matters. Findings are listed in this order."""

    ERROR = mark("error")
    """The network does not run at this size."""
    WARNING = mark("warning")
    """The network runs, but something is silently lost or wrong."""
    NOTE = mark("note")
    """A fact to know, which may be intended."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding.

    Attributes:
        severity: error, warning or note.
        layer: name of the node that it concerns; the first name if there are several.
        title: a few words, in English; :meth:`__str__` translates them.
        cause: the reason, in numbers, in the language spoken.
        cure: what to do, in the language spoken.
        layers: all nodes that it concerns.
    """

    severity: Severity
    layer: str
    title: str
    cause: str
    cure: str
    layers: tuple[str, ...] = ()

    def __str__(self) -> str:
        words = {"title": tr(self.title), "cause": self.cause, "cure": self.cure}
        severity = tr(str(self.severity))
        if not self.layer:
            return tr("{severity}: {title}: {cause}; {cure}", severity=severity, **words)
        text = mark("{severity}: {layer}: {title}: {cause}; {cure}")
        return tr(text, severity=severity, layer=self.layer, **words)

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
