"""One unit of one layer: the inputs that it sees, and how that depends on where it stands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from eyeshot.axes import Interval
from eyeshot.geometry import Fields, LayerField, Phases, ReceptiveField
from eyeshot.pages import render_piece
from eyeshot.pages.parts import Fact, Section, Table


@dataclass(frozen=True, slots=True)
class UnitField:
    """The receptive field of one unit, and those of its whole layer in short.

    Attributes:
        seen: the unit's own field: its box, the part inside the picture, and the status.
        phase: the unit's place on the stride grid, along each axis; None where fields do not
            repeat.
        layer_fields: along each axis the smallest and the largest field of the layer, its
            stride, padding and centre.
        phases: along each axis the field of every phase, relative to the start of its period.
    """

    seen: ReceptiveField
    phase: tuple[int | None, ...]
    layer_fields: tuple[LayerField, ...]
    phases: tuple[Phases | None, ...]

    @property
    def layer(self) -> str:
        """Name of the layer."""
        return self.seen.layer

    @property
    def unit(self) -> tuple[int, ...]:
        """Its position along each spatial axis."""
        return self.seen.unit

    @property
    def box(self) -> tuple[Interval, ...] | None:
        """The inputs in its field; may reach outside the picture. None where unsupported."""
        return self.seen.box

    @property
    def inside(self) -> tuple[Interval, ...] | None:
        """The part inside the picture that it really depends on."""
        return self.seen.inside

    @property
    def status(self) -> str:
        """``exact``, ``whole image``, or ``unsupported: <operator> at <layer>``."""
        return self.seen.status

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        phases = [None if one is None else _phases_as_list(one) for one in self.phases]
        ranges = [[field.smallest, field.largest] for field in self.layer_fields]
        return {
            **self.seen.to_dict(),
            "phase": list(self.phase),
            "layer_range": ranges,
            "layer_phases": phases,
        }

    def __str__(self) -> str:
        place = f"{self.layer}, unit {self.unit}"
        if self.box is None or self.inside is None:
            return f"{place}: {self.status}"
        box = " × ".join(str(side) for side in self.box)
        inside = " × ".join(str(side) for side in self.inside)
        within = "" if self.box == self.inside else f", of which {inside} lies in the picture"
        return f"{place} sees {box}{within} ({self.status})"

    def _repr_html_(self) -> str:
        sizes = "×".join(map(str, self.seen.sizes)) or "unknown"
        sides = zip(self.unit, self.box or (), self.inside or (), strict=self.box is not None)
        rows = [[str(axis), *map(str, side)] for axis, side in enumerate(sides)]
        table = Table(["axis", "unit", "inputs seen", "of these inside the image"], rows)
        return render_piece(
            f"Layer {self.layer}, unit {self.unit}",
            facts=[Fact(sizes, "receptive field"), Fact(self.status, "status")],
            sections=[Section("field", "", "", [table] if rows else [])],
        )


def _phases_as_list(phases: Phases) -> list[list[int]]:
    return [list(phases.one(unit)) for unit in range(phases.outputs)]


def unit_field(
    fields: Fields, layer: str | None = None, unit: Sequence[int] | None = None
) -> UnitField:
    """What one unit sees: of the network's first output by default, the unit in its middle."""
    if layer is None:  # a trace that a mistake ended has no outputs: its last layer, then
        layer = next(iter(fields.graph.outputs), list(fields.graph.nodes)[-1])
    seen = fields.field(layer, unit)
    phases = fields.phases(seen.layer)
    phase = tuple(
        None if one is None else place % one.outputs
        for one, place in zip(phases, seen.unit, strict=bool(phases))
    )
    return UnitField(seen, phase, fields.layer(seen.layer), phases)
