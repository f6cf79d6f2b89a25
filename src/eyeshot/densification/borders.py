"""Where a dense form differs from its classifier: a crop has padding where a page goes on."""

from __future__ import annotations

from eyeshot.densification.form import Geometry
from eyeshot.graph import Graph, Kind, Node


def padding_notes(graph: Graph, geometry: Geometry) -> tuple[str, ...]:
    """One sentence where the classifier pads; none where it does not."""
    padded = [node.name for node in graph if _pads(graph, node)]
    if not padded:
        return ()
    seen = ", ".join(
        f"[{side.lo}, {side.hi}) for a crop of [0, {n})"
        for side, n in zip(geometry.field, geometry.crop, strict=True)
    )
    verb = "pads" if len(padded) == 1 else "pad"
    return (
        f"{', '.join(padded)} {verb}: around its crop the classifier sees padding where the dense "
        f"form sees the page, so that their values differ; a position sees "
        f"the pixels {seen}; without padding it would be exact",
    )


def _pads(graph: Graph, node: Node) -> bool:
    if node.kind is Kind.UNSUPPORTED:  # it converts by its values alone, and its edges map nothing
        return False
    for edge in node.edges:
        source = graph.nodes[edge.source]
        if any(axis.pads(n) for axis, n in zip(edge.axes, source.extents, strict=True)):
            return True
    return False
