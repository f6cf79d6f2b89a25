"""A network looking at one picture: its graph traced once, its values computed once.

What :func:`eyeshot.see`, :func:`eyeshot.explain` and :func:`eyeshot.receptive_field` work out again
at every call is kept here, so that a click is answered at once with the same numbers.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence

import torch
from torch import Tensor, nn

from eyeshot.errors import Unsupported
from eyeshot.explanation import UnitTrace
from eyeshot.explanation.capture import seen_among
from eyeshot.explanation.units import explain_seen
from eyeshot.features.computation import compute_by_graph
from eyeshot.graph import Graph, Node
from eyeshot.interpreter import sources_of, values
from eyeshot.untouched import untouched
from eyeshot.web_studio.edits import NO_EDITS, Edits


class Cancelled(Exception):
    """Nobody waits for the answer any more."""


Check = Callable[[], None]
"""Called between steps of a long computation; raises :class:`Cancelled` to end it."""


def never() -> None:
    """A computation that nobody cancels."""


class Look:
    """One network, one input, and the changes made to the network for trying out.

    Args:
        net: the network, in eval mode; it is left as it was.
        x: (1, C, H, W) as it takes it.
        room: the most bytes of values that are kept; those asked for longest ago go first.
        edits: channels muted and kernels changed.
        graph: of the network for ``x``, where it is there already.

    Raises:
        BadValue: the network refuses ``x``.
        Unsupported: the network cannot be traced.
    """

    def __init__(
        self,
        net: nn.Module,
        x: Tensor,
        *,
        room: int,
        edits: Edits = NO_EDITS,
        graph: Graph | None = None,
    ) -> None:
        self.net, self.x, self.edits, self._room = net, x, edits, room
        self._lock = threading.Lock()
        self._values: OrderedDict[str, Tensor] = OrderedDict()
        self.traced = graph if graph is not None else self._trace()
        self.graph = edits.applied(self.traced)

    def edited(self, edits: Edits) -> Look:
        """The same with other changes; nothing is traced again."""
        return Look(self.net, self.x, room=self._room, edits=edits, graph=self.traced)

    def forget(self) -> None:
        """Let go of all values: the network's weights are others now."""
        with self._lock:
            self._values.clear()

    def value(self, layer: str, check: Check = never) -> Tensor:
        """The value of one layer, (1, C, …)."""
        name = self.graph[layer].name
        return self.values([name], check)[name]

    def values(self, names: Collection[str], check: Check = never) -> Mapping[str, Tensor]:
        """The values of nodes, those that are not kept computed in one pass."""
        with self._lock:
            wanted = {name: self._kept(name) for name in names}
            if any(value is None for value in wanted.values()):
                wanted |= self._computed([n for n, value in wanted.items() if value is None], check)
        return {name: value for name, value in wanted.items() if value is not None}

    def explain(self, layer: str, unit: Sequence[int], check: Check = never) -> UnitTrace:
        """As :func:`eyeshot.explain`, of this network and input."""
        node = self.graph[layer]
        known = self.values([node.name, *sources_of(node)], check)
        return explain_seen(seen_among(self.graph, self.net, known, node.name), unit)

    def _trace(self) -> Graph:
        """The network's graph; its values are held against the network's own on the way."""
        graphs: list[Graph] = []

        def choose(graph: Graph) -> Collection[str]:
            graphs.append(graph)
            return list(graph.nodes) if self._all_fit(graph) else list(graph.outputs)

        def keep(node: Node, value: Tensor) -> None:
            self._values[node.name] = value

        reason = compute_by_graph(self.net, [self.x], choose, keep, full=True)
        if reason:
            raise Unsupported(reason, cure="give a network that torch.export can trace")
        return graphs[0]

    def _kept(self, name: str) -> Tensor | None:
        if name in self._values:
            self._values.move_to_end(name)
        return self._values.get(name)

    def _computed(self, names: Sequence[str], check: Check) -> dict[str, Tensor]:
        """Compute nodes; where there is room for all of the network's, all are kept."""
        keep_all = self._all_fit(self.graph)
        wanted = [n.name for n in self.graph if n.call is not None or n.is_input]
        found: dict[str, Tensor] = {}
        with untouched(self.net), torch.no_grad():
            for node, value in values(self.graph, [self.x], wanted if keep_all else names):
                check()
                if node.name in names:
                    found[node.name] = value
                if keep_all or node.name in names:
                    self._values[node.name] = value
        self._let_go(len(names))
        return found

    def _all_fit(self, graph: Graph) -> bool:
        """Whether the values of all nodes can be kept at once."""
        return sum(_bytes(node) for node in graph) <= self._room

    def _let_go(self, kept: int) -> None:
        """Make room, the values asked for longest ago first."""
        held = sum(one.nbytes for one in self._values.values())
        while held > self._room and len(self._values) > kept:
            held -= self._values.popitem(last=False)[1].nbytes


def _bytes(node: Node) -> int:
    count = 1
    for n in node.shape:
        count *= n
    return count * torch.empty(0, dtype=getattr(torch, node.dtype)).element_size()
