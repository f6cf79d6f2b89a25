"""Where a sliding window looks: the index arithmetic that convolution and pooling share.

Along one spatial axis a window has a *kernel* of k cells, ``dilation`` d apart, and moves by
``stride`` s. Its output number i meets, with its cell number j, the input cell ``s·i + d·j``.
Everything in this package follows from that one sum. N spatial axes are N such sums side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from numpy.typing import NDArray

from eyeshot.errors import BadValue

Array: TypeAlias = NDArray[Any]
PerAxis: TypeAlias = int | Sequence[int]
"""One whole number for every spatial axis, or one for all of them."""


@dataclass(frozen=True)
class Window:
    """How a window moves, one number for every spatial axis, and how channels are grouped."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int

    def outputs(self, sizes: Sequence[int]) -> tuple[int, ...]:
        """How many places it fits at on an image of ``sizes`` (already padded)."""
        return count_outputs(sizes, self.kernel, self.stride, self.dilation)


def span(kernel: int, dilation: int) -> int:
    """How many input cells a window covers from its first to its last: d·(k − 1) + 1."""
    return dilation * (kernel - 1) + 1


def count_outputs(
    sizes: Sequence[int], kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> tuple[int, ...]:
    """How many places a window fits at, on every axis: ⌊(n − d·(k − 1) − 1) / s⌋ + 1.

    Raises:
        BadValue: the window is larger than the (padded) image.
    """
    spans = [span(k, d) for k, d in zip(kernel, dilation, strict=True)]
    if any(wide > n for wide, n in zip(spans, sizes, strict=True)):
        raise BadValue(
            f"a window of {_by(spans)} is larger than the padded image of {_by(sizes)}",
            cure="use a smaller kernel or dilation, or more padding",
        )
    return tuple((n - wide) // s + 1 for n, wide, s in zip(sizes, spans, stride, strict=True))


def met_by(
    cell: Sequence[int], outputs: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> tuple[Any, ...]:
    """An index for the input cells that one kernel cell meets, one for every place.

    On an axis they are s·i + d·j for i = 0, 1, …, outputs − 1: a slice with step s.
    """
    steps = (
        slice(d * j, d * j + s * (count - 1) + 1, s)
        for j, count, s, d in zip(cell, outputs, stride, dilation, strict=True)
    )
    return (..., *steps)


def _by(sizes: Sequence[int]) -> str:
    return "×".join(str(size) for size in sizes)
