"""Images of a size that the network does not take: why, which sizes it takes, and padding to one.

In this file:

- why a network does not take an image, in the network's own words, and which sizes it takes;
- padding a picture to a size that the network takes, and cropping the result.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from eyeshot.engine.networks import Network, Traced, as_traced, refuse_left_out
from eyeshot.errors import BadValue, EyeshotError, UnknownName
from eyeshot.findings.finding import branches
from eyeshot.findings.shapes import built_for, of_mismatch
from eyeshot.frontends.repair import trace
from eyeshot.frontends.trials import runs_on_shapes
from eyeshot.geometry import Fields
from eyeshot.geometry.sizes import nearest_sizes
from eyeshot.graph import Graph
from eyeshot.images import Source
from eyeshot.language import ntr, tr
from eyeshot.operators.repaired import Mismatch, Problem


def misfit(
    traced: Traced, name: str, shape: Sequence[int], error: EyeshotError, layout: str = ""
) -> EyeshotError:
    """The error for an image at whose size the network could not be traced.

    Args:
        traced: a network with one input.
        name: the name of the image.
        shape: (C, H, W) of the image.
        error: the error of the trace; it is returned if neither size nor channels are the cause.
        layout: how the image's axes were interpreted, if that was a guess.
    """
    try:
        graph, mismatches = trace(traced.module, shape)
    except EyeshotError:
        return error
    if not mismatches:
        return error
    expected = _expected_channels(graph, mismatches[0])
    if expected is not None:
        read = f" ({layout})" if layout else ""
        fact = ntr(
            "{name} has {n} channel{read} and the network's first layer takes {expected}",
            "{name} has {n} channels{read} and the network's first layer takes {expected}",
            shape[0],
            name=name,
            read=read,
            expected=expected,
        )
        cure = tr("give another image, or say how its axes lie with --layout")
        return BadValue(fact, cure=cure if layout else tr("give another image"))
    fact = f"{name} is {_by(shape[1:])}"
    if mismatches[0].problem is Problem.STOPPED:  # the layers after it are unknown
        near = mismatches[0].options.get("takes", ())
        accepted = [size for size in near if takes(traced, (shape[0], *size))]
        if not accepted:
            return error
        fact += f": {error.fact}"
        cure = ""
    else:
        finding = of_mismatch(graph, mismatches[0])
        accepted = [size for size in nearest_sizes(graph) if takes(traced, (shape[0], *size))]
        fact += f": {finding.title}: {finding.cause}"
        cure = finding.cure
    if accepted:
        cure = f"the nearest it takes: {' or '.join(map(_by, accepted))}"
    return BadValue(fact, cure=cure)


def _expected_channels(graph: Graph, mismatch: Mismatch) -> int | None:
    """The channels of the layer that reads the input, if the image's channels are the mismatch."""
    if mismatch.problem is not Problem.CHANNELS:
        return None
    node = graph.nodes[mismatch.node]
    parts = branches(graph, node)
    return built_for(node, mismatch) if [part.name for part in parts] == [*graph.inputs] else None


def takes(traced: Traced, shape: Sequence[int]) -> bool:
    """Whether the network can be traced at a shape (C, H, W)."""
    try:
        traced.graph(shape)
    except EyeshotError:
        return False
    return True


def _by(size: Sequence[int]) -> str:
    return "x".join(str(n) for n in size)


MODES = {"reflect": "reflect", "edge": "replicate", "zero": "constant"}
"""The padding modes, with torch's name for each."""
_MOST_GROWTH = 512
"""The most positions that padding may add to an axis."""
_STEPS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


@dataclass(frozen=True)
class Padding:
    """The rows and columns that are added to a picture, below it and at its right.

    Attributes:
        before: the picture's size along each spatial axis.
        after: the size after padding.
        mode: one of :data:`MODES`.
    """

    before: tuple[int, ...]
    after: tuple[int, ...]
    mode: str

    def __str__(self) -> str:
        """The padding in words."""
        if self.before == self.after:
            return f"the network takes {_sides(self.before)}: nothing is padded"
        return (
            f"padded from {_sides(self.before)} to {_sides(self.after)} ({self.mode}) "
            "at the far sides; the answer is cropped"
        )

    @property
    def amounts(self) -> tuple[int, ...]:
        """Positions added along each axis."""
        return tuple(b - a for a, b in zip(self.before, self.after, strict=True))


class PaddedNetwork(nn.Module):
    """A network with one input that pads the input at the far sides and crops the outputs.

    Args:
        net: the network; it is not changed.
        padding: the padding of the picture.
        crops: for each tensor that the network returns, the lengths of the dimensions to crop.
    """

    def __init__(self, net: nn.Module, padding: Padding, crops: Sequence[dict[int, int]]) -> None:
        super().__init__()
        self.net = net
        self.training = net.training
        self._mode = MODES[padding.mode]
        self._amounts = [n for amount in reversed(padding.amounts) for n in (0, amount)]
        self._crops = tuple(crops)

    def forward(self, x: torch.Tensor) -> Any:
        """The picture (N, C, …) -> the network's outputs, cropped."""
        crops = iter(self._crops)
        answer = self.net(F.pad(x, self._amounts, mode=self._mode))
        return _each_tensor(answer, lambda tensor: _cropped(tensor, next(crops)))


def pad_to_accepted(net: Network, sources: Sequence[Source], mode: str) -> tuple[Traced, Padding]:
    """The network with its input padded to the nearest larger size that it takes.

    Args:
        net: a network with one input.
        sources: a single picture.
        mode: ``reflect``, ``edge`` or ``zero``.

    Returns:
        A network that takes the picture, and its padding. If the network takes no size with up to
        512 more positions, nothing is padded, and the run fails with the network's own reason.

    Raises:
        UnknownName: no such mode.
        BadValue: several pictures, or one that is too small to be reflected.
        Unsupported: the network cannot be traced.
    """
    if mode not in MODES:
        raise UnknownName("pad", mode, tuple(MODES))
    if len(sources) != 1:
        raise BadValue(f"--pad with {len(sources)} images", cure="pad them before the run")
    (source,), traced = sources, as_traced(net)
    channels, *before = source.shape
    padding = Padding(tuple(before), _accepted_size(traced.module, source), mode)
    if padding.before == padding.after:
        return traced, padding
    if mode == "reflect" and any(a >= n for a, n in zip(padding.amounts, before, strict=True)):
        raise BadValue(
            f"{source.name} is {_sides(before)}, too small to be reflected "
            f"to {_sides(padding.after)}",
            cure="use --pad edge",
        )
    graph = traced.graph((channels, *padding.after))
    refuse_left_out(graph)
    crops = _crops(graph, padding)
    wrapped = PaddedNetwork(traced.module, padding, crops)
    return traced.around(wrapped, "pad"), padding


def _accepted_size(net: nn.Module, source: Source) -> tuple[int, ...]:
    """The nearest size, at least as large along each axis, at which the network runs."""
    runs, (channels, *size) = runs_on_shapes(net), source.shape
    tried = [tuple(size)]
    tried += [tuple(-(-n // step) * step for n in size) for step in _STEPS]
    tried += [tuple(n + more for n in size) for more in range(1, _MOST_GROWTH + 1)]
    near = sorted(dict.fromkeys(tried), key=math.prod)
    growth = {one: max(b - a for a, b in zip(size, one, strict=True)) for one in near}
    accepted = (one for one in near if growth[one] <= _MOST_GROWTH and runs((1, channels, *one)))
    return next(accepted, tuple(size))


def _crops(graph: Graph, padding: Padding) -> list[dict[int, int]]:
    """For each output, the length of each dimension without the positions of the padding."""
    fields = Fields(graph)
    crops = []
    for name in graph.outputs:
        node = graph.nodes[name]
        sizes = {}
        for axis, (dim, amount) in enumerate(zip(node.dims, padding.amounts, strict=True)):
            if dim is not None and amount:
                layer = fields.layer(name)
                stride = layer[axis].stride if layer else None
                share = 1 / stride if stride else node.shape[dim] / padding.after[axis]
                sizes[dim] = node.shape[dim] - math.floor(amount * share)
        crops.append(sizes)
    return crops


def _cropped(tensor: torch.Tensor, lengths: dict[int, int]) -> torch.Tensor:
    for dim, length in lengths.items():
        tensor = tensor.narrow(dim, 0, length)
    return tensor


def _each_tensor(answer: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """Apply ``change`` to each tensor of a result: a tensor, or lists, tuples and dicts of them."""
    if isinstance(answer, torch.Tensor):
        return change(answer)
    if isinstance(answer, dict):
        return {key: _each_tensor(value, change) for key, value in answer.items()}
    if isinstance(answer, list | tuple):
        return [_each_tensor(value, change) for value in answer]
    return answer


def _sides(sides: Sequence[int]) -> str:
    return "×".join(map(str, sides))
