"""One input size tried: on the axis maps, or by running the network on shapes alone."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from eyeshot.geometry.sizes import certainly_takes
from eyeshot.graph import Graph


@dataclass(slots=True)
class Trial:
    """Tries sizes along one axis, each once.

    What the maps refuse first is tried on the network too: one that pads where it must is traced
    without its padding where it need not, and then its maps are not believed.
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


def runs_on_shapes(net: nn.Module) -> Callable[[Sequence[int]], bool]:
    """Whether the network runs on an input of some shape (N, C, …), tried without memory."""
    tensors = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    bare = {name: tensor.detach().to("meta") for name, tensor in tensors.items()}
    like = next((p for p in net.parameters() if p.is_floating_point()), torch.empty(0))

    def run(shape: Sequence[int]) -> bool:
        with torch.no_grad(), torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it was warned of when the network was traced
            try:
                tried = torch.empty(tuple(shape), dtype=like.dtype)
                torch.func.functional_call(net, bare, (tried,))
            except Exception:  # a stranger's code, which says in its own way what it does not take
                return False
        return True

    return run
