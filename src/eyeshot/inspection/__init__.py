"""Know a network before running it: its table, its reach, its sizes and its cost."""

from eyeshot.inspection.inspecting import (
    Inspection,
    UnitField,
    checked_sizes,
    inspect,
    inspect_graph,
    receptive_field,
    unit_field,
)

__all__ = [
    "Inspection",
    "UnitField",
    "checked_sizes",
    "inspect",
    "inspect_graph",
    "receptive_field",
    "unit_field",
]
