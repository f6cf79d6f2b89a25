"""What an explanation of one unit holds: plain data, for the terminal, a page, or JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rich.console import RenderableType

from eyeshot.explanation.notation import as_number, as_rows
from eyeshot.explanation.walks import Rule
from eyeshot.reference.windows import Array


@dataclass(frozen=True, eq=False)
class Part:
    """What one input channel gives to the unit.

    Attributes:
        channel: its number in the layer's input.
        patch: the cells read, shaped as the window; a number alone for a linear layer.
        outside: where the window meets no input cell: padding, or a zero inserted.
        kernel: the weight of each cell; None for pooling.
        sum: the partial sum, or what a pool makes of the patch.
    """

    channel: int
    patch: Array
    outside: Array
    kernel: Array | None
    sum: float


@dataclass(frozen=True, eq=False)
class UnitTrace:
    """Where one number in a network comes from.

    Attributes:
        layer: the dotted name of the layer.
        operator: the layer in writing, as PyTorch prints it.
        unit: (channel, row, column), or as many numbers as the layer's output has axes.
        shape: the shape of the layer's output, without the batch.
        rule: how a part is made: ``sum`` of products, ``max``, or ``mean`` of cells.
        divisor: what a mean is divided by; 1 otherwise.
        parts: one for every input channel that the unit sees.
        bias: added to the parts; None where the layer has none.
        total: the parts and the bias added up.
        network_value: what the network computed, equal to ``total`` to 1e-5 of the largest part.
    """

    layer: str
    operator: str
    unit: tuple[int, ...]
    shape: tuple[int, ...]
    rule: Rule
    divisor: float
    parts: tuple[Part, ...]
    bias: float | None
    total: float
    network_value: float

    def __rich__(self) -> RenderableType:
        from eyeshot.explanation.drawing import draw_trace

        return draw_trace(self)

    def __repr__(self) -> str:
        unit = ", ".join(map(str, self.unit))
        return (
            f"UnitTrace({self.layer!r}, unit ({unit}), {len(self.parts)} parts, "
            f"total {self.total:.6g}, network {self.network_value:.6g})"
        )

    def _repr_html_(self) -> str:
        from eyeshot.explanation.pieces import trace_piece

        return trace_piece(self)

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers, for JSON; what is not finite is None."""
        return {
            "layer": self.layer,
            "operator": self.operator,
            "unit": list(self.unit),
            "shape": list(self.shape),
            "rule": self.rule,
            "divisor": self.divisor,
            "parts": [
                {
                    "channel": part.channel,
                    "patch": as_rows(part.patch),
                    "outside": part.outside.tolist(),
                    "kernel": None if part.kernel is None else as_rows(part.kernel),
                    "sum": as_number(part.sum),
                }
                for part in self.parts
            ],
            "bias": None if self.bias is None else as_number(self.bias),
            "total": as_number(self.total),
            "network_value": as_number(self.network_value),
        }
