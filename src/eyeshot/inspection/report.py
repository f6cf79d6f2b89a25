"""Everything that is known of a network before it runs, as plain data that prints itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eyeshot.cost import Cost
from eyeshot.files import write_aside
from eyeshot.findings import Finding
from eyeshot.geometry import Fields
from eyeshot.graph import Graph
from eyeshot.inspection.acceptance import AcceptedSizes
from eyeshot.inspection.reach import OperatorCount, Reach
from eyeshot.inspection.rows import Row
from eyeshot.inspection.units import UnitField, unit_field


@dataclass(frozen=True)
class Inspection:
    """What :func:`eyeshot.inspect` returns.

    Attributes:
        network: name of the network's class.
        sizes: of each input, without the batch: (C, H, W).
        rows: one a layer, in execution order.
        total: all rows added up.
        unused: trained tensors that no operator reads, with their numbers of parameters.
        reaches: how far each output sees.
        accepted: the sizes accepted along each axis; empty where that cannot be told.
        operators: by kind: local, statistic, nonlocal, unsupported.
        findings: mistakes and smells.
        graph: the network as Eyeshot sees it.
        fields: every receptive field.
    """

    network: str
    sizes: tuple[tuple[int, ...], ...]
    rows: tuple[Row, ...]
    total: Cost
    unused: dict[str, int]
    reaches: tuple[Reach, ...]
    accepted: tuple[AcceptedSizes, ...]
    operators: tuple[OperatorCount, ...]
    findings: tuple[Finding, ...]
    graph: Graph = field(repr=False)
    fields: Fields = field(repr=False)

    def field(self, layer: str | None = None, unit: Sequence[int] | None = None) -> UnitField:
        """What one unit sees; see :func:`eyeshot.receptive_field`."""
        return unit_field(self.fields, layer, unit)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {
            "network": self.network,
            "sizes": [list(size) for size in self.sizes],
            "layers": [row.to_dict() for row in self.rows],
            "total": self.total.to_dict(),
            "unused_parameters": self.unused,
            "outputs": [reach.to_dict() for reach in self.reaches],
            "accepted_sizes": [one.to_dict() for one in self.accepted],
            "operators": [one.to_dict() for one in self.operators],
            "findings": [finding.to_dict() for finding in self.findings],
        }

    def save(self, path: str | Path) -> Path:
        """Write it as one self-contained HTML page.

        Raises:
            BadFile: the folder does not exist or may not be written to.
            Failure: the disk is full.
        """
        from eyeshot.inspection.page import page

        target = Path(path)
        with write_aside(target) as aside:
            aside.write_text(page(self), encoding="utf-8", errors="replace")
        return target

    def __str__(self) -> str:
        from eyeshot.inspection.text import plain_text

        return plain_text(self)

    def _repr_html_(self) -> str:
        from eyeshot.inspection.page import fragment

        return fragment(self)
