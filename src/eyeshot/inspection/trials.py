"""One input size tried: on the axis maps, or by running the network on shapes alone."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from eyeshot.axes import AxisMap, Broadcast, Everything, Identity, Pad, Resize
from eyeshot.errors import EyeshotError
from eyeshot.graph import Graph, Kind, Node


@dataclass(slots=True)
class Trial:
    """Tries sizes along one axis, each once."""

    graph: Graph
    axis: int
    run: Callable[[int], bool] | None
    answers: dict[int, bool] = field(default_factory=dict)
    ran: int = 0

    @property
    def asked(self) -> int:
        """The size that the graph was traced at."""
        return self.graph.nodes[self.graph.inputs[0]].extents[self.axis]

    def accepts(self, n: int) -> bool:
        """Whether the network takes n positions along this axis."""
        if n < 1:
            return False
        if n not in self.answers:
            told = accepted_by_maps(self.graph, self.axis, n)
            if told is None:
                self.ran += 1
                told = self.run is not None and self.run(n)
            self.answers[n] = told
        return self.answers[n]


def accepted_by_maps(graph: Graph, axis: int, n: int) -> bool | None:
    """Whether every operator gives at least one output, and branches agree where they meet.

    None where an operator holds numbers of the size traced, so that the maps cannot tell.
    """
    if n == graph.nodes[graph.inputs[0]].extents[axis]:
        return True
    extents: dict[str, int] = {}
    for node in graph:
        if node.operator == "input":
            extents[node.name] = n if node.name == graph.inputs[0] else node.extents[axis]
            continue
        if node.kind is Kind.UNSUPPORTED:
            return None
        found = set()
        for edge in node.edges:
            before = extents[edge.source]
            then = graph.nodes[edge.source].extents[axis]
            after = _extent(node, edge.axes[axis], before, then)
            if after is None:
                return None
            found.add(after)
        found.discard(_ADOPTS)
        if len(found) > 1 or min(found, default=1) < 1:
            return False
        extents[node.name] = found.pop() if found else 1
    return True


_ADOPTS = 1 << 62  # one value for all: it takes whatever extent the other operand has
_OWN_SIZE = ("slice", "narrow", "chunk", "split", "split_with_sizes", "select", "unbind")
_LAID_OUT = ("view", "reshape", "flatten", "unflatten", "_unsafe_view")


def _extent(node: Node, axis: AxisMap, before: int, then: int) -> int | None:
    """What one edge gives for ``before`` inputs where ``then`` were traced; None: not told."""
    if node.operator in _LAID_OUT or node.kind is Kind.NEITHER:
        return axis.extent(before) if before == then == 1 else None
    if isinstance(axis, Identity):
        return before
    if isinstance(axis, Broadcast):
        return None if node.operator.startswith("expand") else _ADOPTS
    if isinstance(axis, Resize) and axis.factor is None:
        return None
    if isinstance(axis, Resize) and node.attributes.get("size"):
        return None
    if isinstance(axis, Pad) or node.operator in _OWN_SIZE:
        return None
    if node.operator.startswith("adaptive") and not isinstance(axis, Everything):
        return None
    return axis.extent(before)


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
            except (RuntimeError, ValueError, TypeError, IndexError, AssertionError):
                return False
            except EyeshotError:  # a network of ours that says itself which sizes it takes
                return False
        return True

    return run
