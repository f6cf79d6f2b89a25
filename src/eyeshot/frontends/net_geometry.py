"""What a network's outputs see and which sizes it takes, asked of the network itself, once."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

from torch import nn

from eyeshot.errors import BadValue
from eyeshot.frontends.refusals import check_module
from eyeshot.frontends.torch import traced
from eyeshot.frontends.trials import axes_taken, channels_to_try, runs_on_shapes
from eyeshot.geometry.sizes import OutputGeometry, by_neighborhood
from eyeshot.graph import Graph
from eyeshot.untouched import untouched

_FARTHEST = 512
"""Pixels up and down within which a size is looked for."""
_STARTS = (64, 256, 1024, 4096)
"""Where a size that the network takes is looked for: in a sixteenth of it, or 64, from there on."""
_NEAR_STARTS = 64
_STEPS = (1, 2, 3, 77)
"""A network that takes these sizes more than another one takes every larger size."""


class InputSizes:
    """Which heights and widths a network over images takes; of volumes and signals, which sides.

    The network is run on tensors that have shapes and no memory, and each answer is kept.

    Args:
        net: any module of one image (N, C, H, W); it is left as it was found.
        channels: C; None for what its first convolution takes.
    """

    def __init__(self, net: nn.Module, channels: int | None = None) -> None:
        self.dims = axes_taken(net) or 2
        self.channels = channels or next(iter(channels_to_try(net)), 1)
        self._runs = runs_on_shapes(net)
        self._answers: dict[tuple[int, ...], bool] = {}
        self._least: dict[int, int] = {}

    def takes(self, *size: int) -> bool:
        """Whether an image of this size (height, width) is taken."""
        if min(size) < 1:
            return False
        if size not in self._answers:
            self._answers[size] = self._runs((1, self.channels, *size))
        return self._answers[size]

    def takes_side(self, n: int, axis: int = 0) -> bool:
        """Whether so many rows (axis 0) or columns (axis 1) are taken, beside a usual size."""
        if self.every and n >= self._least.get(axis, self.usual):
            return True
        taken = self.takes(*(n if one == axis else self.usual for one in range(self.dims)))
        if taken and self.every:
            self._least[axis] = n
        return taken

    @cached_property
    def usual(self) -> int:
        """A side at which the network takes square images.

        Raises:
            BadValue: none was found.
        """
        near = (range(start, start + max(_NEAR_STARTS, start // 16)) for start in _STARTS)
        found = next((n for sides in near for n in sides if self.takes(*(n,) * self.dims)), None)
        if found is None:
            raise BadValue(
                f"no square image of {_STARTS[0]} to {_STARTS[-1]} pixels with {self.channels} "
                "channels was taken by the network",
                cure="check that its forward takes one tensor (N, C, H, W)",
            )
        return found

    @cached_property
    def every(self) -> bool:
        """Whether every size from :attr:`usual` on is taken."""
        return all(self.takes(*(self.usual + more,) * self.dims) for more in _STEPS)

    def nearest(self, n: int, axis: int = 0) -> tuple[int | None, int | None]:
        """The largest side up to ``n`` and the smallest above it; None where none is near."""
        below = range(n, max(0, n - _FARTHEST), -1)
        above = range(n + 1, max(n, self.usual) + _FARTHEST)
        return self._first(iter(below), axis), self._first(iter(above), axis)

    def _first(self, sides: Iterator[int], axis: int) -> int | None:
        return next((side for side in sides if self.takes_side(side, axis)), None)


class NetGeometry:
    """Of one network over images: what its outputs see (traced once), and the sizes it takes.

    Args:
        net: the network, which is left as it was found; on the meta device it costs no memory.
        channels: of its images; None for what its first convolution takes.
        whole_fields: nothing is learned from an output whose field a crop does not hold. A network
            of many layers has fields larger than any crop, at whose ends hardly anything matters.

    Attributes:
        sizes: which heights and widths it takes.
    """

    def __init__(
        self, net: nn.Module, channels: int | None = None, *, whole_fields: bool = True
    ) -> None:
        self.sizes = InputSizes(net, channels)
        self.whole_fields = whole_fields
        self._net = net

    @cached_property
    def output(self) -> OutputGeometry:
        """What its (first) output sees, and on which grid; :attr:`statistics` aside.

        Raises:
            Unsupported: it cannot be traced, or no bounded patch decides an output's value even if
                all statistics are known.
            BadValue: no size was found that it takes.
        """
        return OutputGeometry.of(by_neighborhood(self._graph)) if self.statistics else self.exact

    @cached_property
    def exact(self) -> OutputGeometry:
        """As :attr:`output`, of a network that gathers no statistics.

        Raises:
            Unsupported: it cannot be traced, or no bounded patch decides an output's value.
            BadValue: no size was found that it takes.
        """
        return OutputGeometry.of(self._graph)

    @cached_property
    def statistics(self) -> tuple[str, ...]:
        """Its layers whose outputs depend on all positions, or on how many there are."""
        by = by_neighborhood(self._graph)
        return tuple(node.name for node in self._graph if by.nodes[node.name] != node)

    @cached_property
    def _graph(self) -> Graph:
        side = self.sizes.usual
        with untouched(self._net, computes=False):
            self._net.eval()  # batch norm sees the whole batch while it trains
            size = (self.sizes.channels, *(side,) * self.sizes.dims)
            return traced(self._net, [size])


def output_geometry(net: nn.Module, channels: int | None = None) -> OutputGeometry:
    """What an output of a network sees and on which grid: the figures for crops and tiles.

    Args:
        net: a network over images that answers with a map: (N, C, H, W) in and out.
        channels: C of its input; None for what its first convolution takes.

    Returns:
        Plain data, the same for every size of image.

    Raises:
        Unsupported: it cannot be traced, or no bounded patch decides an output's value.
        BadValue: no size was found that it takes.
    """
    check_module(net)
    return NetGeometry(net, channels).exact
