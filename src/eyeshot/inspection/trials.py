"""One input size tried: on the axis maps, or by running the network on shapes alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from torch import nn

from eyeshot.frontends.trials import runs_on_shapes
from eyeshot.geometry.sizes import certainly_takes
from eyeshot.graph import Graph


@dataclass(slots=True)
class Trial:
    """Tries sizes along one axis, each once.

    What the maps refuse first is tried on the network too: one that pads where it must is traced
    without its padding where it need not, and then its maps are not believed. Nor are they where
    ``forward`` refuses in words what its layers could take (:meth:`agrees`).

    Attributes:
        graph: the network at the size traced.
        axis: along which sizes are tried.
        run: runs the network with so many positions there; None for an exported program.
        answers: what was found of each size.
        ran: how many sizes the network itself was run at.
        believed: whether the maps are; None where nothing has been said against them.
    """

    graph: Graph
    axis: int
    run: Callable[[int], bool] | None
    answers: dict[int, bool] = field(default_factory=dict)
    ran: int = 0
    believed: bool | None = None

    @property
    def asked(self) -> int:
        """The size that the graph was traced at."""
        return self.graph.nodes[self.graph.inputs[0]].extents[self.axis]

    def accepts(self, n: int) -> bool:
        """Whether the network takes n positions along this axis."""
        if n < 1:
            return False
        if n not in self.answers:
            told = self._by_maps(n)
            if told is None:
                self.ran += 1
                told = self.run is not None and self.run(n)
            self.answers[n] = told
        return self.answers[n]

    def agrees(self, sizes: Iterable[int]) -> bool:
        """Whether the network itself takes just those of these sizes that the maps accept.

        If it does not, the maps are not believed from then on, and nothing is known.
        """
        if self.run is None or self.believed is False or not self.run(self.asked):
            return True
        for n in sorted(set(sizes)):
            self.ran += 1
            if n > 0 and self.run(n) != self.accepts(n):
                self.believed = False
                self.answers.clear()
                return False
        return True

    def _by_maps(self, n: int) -> bool | None:
        if self.believed is False:
            return None
        told = certainly_takes(self.graph, self.axis, n)
        if told is False and self.believed is None and self.run is not None:
            self.believed = not self.run(n)
        return told if self.believed is not False else None


def runner(graph: Graph, net: nn.Module | None, axis: int) -> Callable[[int], bool] | None:
    """Runs the network with so many positions along ``axis``, on tensors without memory."""
    if net is None:
        return None
    shape = graph.nodes[graph.inputs[0]].shape
    place = graph.nodes[graph.inputs[0]].dims[axis] or 0
    runs = runs_on_shapes(net)
    return lambda n: runs([n if dim == place else extent for dim, extent in enumerate(shape)])
