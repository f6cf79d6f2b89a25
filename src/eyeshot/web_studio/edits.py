"""Changes to try out: channels muted, kernels replaced. The network itself stays as it is."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from eyeshot.errors import BadValue, shorten
from eyeshot.graph import Call, Family, Graph, Node

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
