"""What a network's outputs see, and which sizes it takes; found on the network and cached."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

from torch import nn

from eyeshot.errors import BadValue
from eyeshot.frontends.refusals import check_module
from eyeshot.frontends.torch import traced
from eyeshot.frontends.trials import accepted_axes, channels_to_try, runs_on_shapes
from eyeshot.geometry.sizes import OutputGeometry, by_neighborhood
from eyeshot.graph import Graph
from eyeshot.untouched import untouched

_FARTHEST = 512
"""The farthest distance, in pixels, at which :meth:`InputSizes.nearest` looks for a size."""
_STARTS = (64, 256, 1024, 4096)
"""Sides from which the search starts; from each, it tries the next start/16 sides, 64 at least."""
_NEAR_STARTS = 64
_STEPS = (1, 2, 3, 77)
"""A network that takes its usual side plus each of these is taken to accept all larger sides."""


class InputSizes:
    """The sizes of images, volumes or signals that a network takes.

    The network is run on tensors that have shapes but no memory, and each answer is cached.

    Args:
        net: any module that takes one tensor (N, C, H, W); it does not change.
        channels: C; None for what its first convolution takes.
    """

    def __init__(self, net: nn.Module, channels: int | None = None) -> None:
        self.dims = accepted_axes(net) or 2
        self.channels = channels or next(iter(channels_to_try(net)), 1)
        self._runs = runs_on_shapes(net)
        self._answers: dict[tuple[int, ...], bool] = {}
        self._least: dict[int, int] = {}

    def takes(self, *size: int) -> bool:
        """Whether the network takes an image of this size (height, width)."""
        if min(size) < 1:
            return False
        if size not in self._answers:
            self._answers[size] = self._runs((1, self.channels, *size))
        return self._answers[size]

    def takes_side(self, n: int, axis: int = 0) -> bool:
        """Whether it takes n rows (axis 0) or columns (axis 1), with the other axes usual."""
        if self.every and n >= self._least.get(axis, self.usual):
            return True
        accepted = self.takes(*(n if one == axis else self.usual for one in range(self.dims)))
        if accepted and self.every:
            self._least[axis] = n
        return accepted

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
                f"the network runs on no square image of {_STARTS[0]} to {_STARTS[-1]} pixels with "
                f"{self.channels} channels",
                cure="check that its forward takes one tensor (N, C, H, W)",
            )
        return found

    @cached_property
    def every(self) -> bool:
        """Whether it takes every size from :attr:`usual` on, judged by four of them."""
        return all(self.takes(*(self.usual + more,) * self.dims) for more in _STEPS)

    def nearest(self, n: int, axis: int = 0) -> tuple[int | None, int | None]:
        """The largest side up to ``n`` and the smallest above ``n``; None if none is near."""
        below = range(n, max(0, n - _FARTHEST), -1)
        above = range(n + 1, max(n, self.usual) + _FARTHEST)
        return self._first(iter(below), axis), self._first(iter(above), axis)

    def _first(self, sides: Iterator[int], axis: int) -> int | None:
        return next((side for side in sides if self.takes_side(side, axis)), None)


class NetGeometry:
    """What the outputs of a network over images see, and the sizes that it takes.

    Args:
        net: the network; it does not change. It may be on the meta device, without memory.
        channels: of its images; None for the number that its first convolution takes.
        whole_fields: True to train only on outputs whose receptive field lies inside the crop.
            False for deep networks, whose fields exceed any crop, but hardly depend on their edges.

    Attributes:
        sizes: the heights and widths that it takes.
    """

    def __init__(
        self, net: nn.Module, channels: int | None = None, *, whole_fields: bool = True
    ) -> None:
        self.sizes = InputSizes(net, channels)
        self.whole_fields = whole_fields
        self._net = net

    @cached_property
    def output(self) -> OutputGeometry:
        """What its first output sees, and on which grid, if all :attr:`statistics` are known.

        Raises:
            Unsupported: it cannot be traced, or no bounded patch decides an output's value even if
                all statistics are known.
            BadValue: no size was found that it takes.
        """
        return OutputGeometry.of(by_neighborhood(self._graph)) if self.statistics else self.exact

    @cached_property
    def exact(self) -> OutputGeometry:
        """As :attr:`output`, but refuses a network with :attr:`statistics`.

        Raises:
            Unsupported: it cannot be traced, or no bounded patch decides an output's value.
            BadValue: no size was found that it takes.
        """
        return OutputGeometry.of(self._graph)

    @cached_property
    def statistics(self) -> tuple[str, ...]:
        """The layers whose outputs depend on all positions, or on the number of positions."""
        by = by_neighborhood(self._graph)
        return tuple(node.name for node in self._graph if by.nodes[node.name] != node)

    @cached_property
    def _graph(self) -> Graph:
        side = self.sizes.usual
        with untouched(self._net, computes=False):
            self._net.eval()  # in training mode, batch norm depends on the whole batch
            size = (self.sizes.channels, *(side,) * self.sizes.dims)
            return traced(self._net, [size])


def output_geometry(net: nn.Module, channels: int | None = None) -> OutputGeometry:
    """What one output position of a network sees, and on which grid: the basis of crops and tiles.

    Args:
        net: a network over images whose output is a map: (N, C, H, W) in and out.
        channels: C of its input; None for the number that its first convolution takes.

    Returns:
        Field, halo, stride and margin as plain data, the same for every size of image.

    Raises:
        Unsupported: it cannot be traced, or no bounded patch decides an output's value.
        BadValue: no size was found that it takes.
    """
    check_module(net)
    return NetGeometry(net, channels).exact
