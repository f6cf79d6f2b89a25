"""A network looking at one picture: its graph traced once, its values computed once.

What :func:`eyeshot.see`, :func:`eyeshot.explain` and :func:`eyeshot.receptive_field` work out again
at every call is kept here, so that a click is answered at once with the same numbers.

Changes to try out are made here too: muted channels and replaced kernels. They do not change the
network itself.
"""

from __future__ import annotations

import json
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from eyeshot.errors import BadValue, Unsupported, shorten
from eyeshot.explanation import UnitTrace
from eyeshot.explanation.capture import seen_among
from eyeshot.explanation.explaining import explain_seen
from eyeshot.features.computation import compute_by_graph
from eyeshot.graph import Call, Family, Graph, Node
from eyeshot.interpreter import sources_of, values
from eyeshot.untouched import untouched

_MOST = 256
"""Changes at a time."""


@dataclass(frozen=True)
class Edits:
    """What is changed.

    Attributes:
        muted: (layer, channel): the channel of what the layer gives is zero.
        kernels: (layer, output channel, input channel, numbers row by row): the kernel from that
            input channel to that output channel, or one row of a matrix where the layer has no
            window; input channels are counted within the group.
    """

    muted: tuple[tuple[str, int], ...] = ()
    kernels: tuple[tuple[str, int, int, tuple[float, ...]], ...] = ()

    @classmethod
    def read(cls, text: str) -> Edits:
        """Edits from JSON: ``{"mute": [["conv1", 3]], "set": [["conv1", 0, 0, [1, 0, -1]]]}``.

        Raises:
            BadValue: it is something else.
        """
        if not text:
            return NO_EDITS
        try:
            found = json.loads(text)
            muted = tuple((str(layer), int(channel)) for layer, channel in found.get("mute", ()))
            kernels = tuple(
                (str(layer), int(out), int(into), tuple(float(n) for n in numbers))
                for layer, out, into, numbers in found.get("set", ())
            )
        except (ValueError, TypeError, AttributeError, RecursionError):
            raise _unreadable(text) from None
        if len(muted) + len(kernels) > _MOST:
            raise BadValue(f"{len(muted) + len(kernels)} edits", cure=f"use at most {_MOST}")
        if not all(math.isfinite(n) for *_, numbers in kernels for n in numbers):
            raise BadValue("a kernel that holds NaN or infinity", cure="give finite numbers")
        return cls(muted, kernels)

    def applied(self, graph: Graph) -> Graph:
        """The graph with these changes, with tensors of its own where they are others.

        Raises:
            UnknownName: no such layer.
            BadValue: no such channel, or a kernel of another size.
        """
        nodes, tensors = dict(graph.nodes), dict(graph.tensors)
        for layer, out, into, numbers in self.kernels:
            name = kernel_of(graph, layer)
            tensors[name] = _with_kernel(graph[layer], tensors[name], out, into, numbers)
        channels: dict[str, list[int]] = {}
        for layer, channel in self.muted:
            node = graph[layer]
            if node.call is None or not 0 <= channel < (node.shape[1:] or (0,))[0]:
                raise BadValue(f"channel {channel} of {layer}", cure="name one that the layer has")
            channels.setdefault(node.name, []).append(channel)
        for name, muted in channels.items():
            node = nodes[name]
            assert node.call is not None
            nodes[name] = replace(node, call=_muting(node.call, muted))
        return replace(graph, nodes=nodes, tensors=tensors)


NO_EDITS = Edits()


def kernel_of(graph: Graph, layer: str) -> str:
    """The tensor that holds the kernels of a convolution, or the matrix of a linear layer.

    Raises:
        UnknownName: no such layer.
        BadValue: the layer has none.
    """
    node = graph[layer]
    weighted = [w for w in node.weights if graph.tensors[w].ndim > 1]
    if not weighted:
        raise BadValue(f"layer {layer} ({node.operator})", cure="name one that has kernels")
    return weighted[0]


def _with_kernel(
    node: Node, weight: Tensor, out: int, into: int, numbers: Sequence[float]
) -> Tensor:
    """The weight with one kernel exchanged."""
    transposed = node.family is Family.TRANSPOSED_CONVOLUTION
    first, second = (into, out) if transposed else (out, into)
    if not (0 <= first < weight.shape[0] and 0 <= second < weight.shape[1]):
        raise BadValue(
            f"kernel {out}, {into} of {node.name}", cure="name channels that the layer has"
        )
    changed = weight.detach().clone()
    window = changed[first, second]
    if len(numbers) != window.numel():
        raise BadValue(
            f"{len(numbers)} numbers for a kernel of {node.name}", cure=f"give {window.numel()}"
        )
    changed[first, second] = torch.tensor(numbers, dtype=weight.dtype).reshape(window.shape)
    return changed


def _muting(call: Call, channels: Sequence[int]) -> Call:
    """The same call, of whose value these channels become zero."""
    target = call.target

    def muted(*args: Any, **kwargs: Any) -> Any:
        value = target(*args, **kwargs)
        if isinstance(value, Tensor):
            value = value.clone()
            value[:, list(channels)] = 0
        return value

    muted.overloadpacket = getattr(target, "overloadpacket", None)  # type: ignore[attr-defined]
    muted.item = getattr(target, "item", 0)  # type: ignore[attr-defined]
    return replace(call, target=muted)


def _unreadable(text: str) -> BadValue:
    return BadValue(f"edits {shorten(text)}", cure='give {"mute": [["conv1", 3]], "set": []}')


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
