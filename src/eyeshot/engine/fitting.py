"""Images of a size that the network does not take: why, which sizes it takes, and padding to one.

In this file:

- why a network does not take an image, in its own words, and the sizes that it does take;
- a picture padded to a size that the network takes, and the answer cropped again.
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
from eyeshot.findings.shapes import built_for, of_mismatch
from eyeshot.findings.wording import branches
from eyeshot.frontends.repair import trace
from eyeshot.frontends.trials import runs_on_shapes
from eyeshot.geometry import Fields
from eyeshot.geometry.sizes import nearest_sizes
from eyeshot.graph import Graph
from eyeshot.images import Source
from eyeshot.operators.repaired import Mismatch, Problem


def misfit(
    traced: Traced, name: str, shape: Sequence[int], error: EyeshotError, layout: str = ""
) -> EyeshotError:
    """What to say of an image at whose size the network could not be traced.

    Args:
        traced: the network, of one input.
        name: of the image.
        shape: (C, H, W) of it.
        error: what tracing it said; it is given back where neither size nor channels are the
            cause.
        layout: how the image's axes were understood, where that was a question.
    """
    try:
        graph, mismatches = trace(traced.module, shape)
    except EyeshotError:
        return error
    if not mismatches:
        return error
    wanted = _channels_wanted(graph, mismatches[0])
    if wanted is not None:
        read = f" ({layout})" if layout else ""
        cure = "give another image" + (", or say how its axes lie with --layout" if layout else "")
        return BadValue(
            f"{name} has {shape[0]} channels{read} and the network's first layer takes {wanted}",
            cure=cure,
        )
    told = f"{name} is {_by(shape[1:])}"
    if mismatches[0].problem is Problem.STOPPED:  # nothing is known of what lies behind
        near = mismatches[0].options.get("takes", ())
        taken = [size for size in near if takes(traced, (shape[0], *size))]
        if not taken:
            return error
        told += f": {error.fact}"
        cure = ""
    else:
        finding = of_mismatch(graph, mismatches[0])
        taken = [size for size in nearest_sizes(graph) if takes(traced, (shape[0], *size))]
        told += f": {finding.title}: {finding.cause}"
        cure = finding.cure
    if taken:
        cure = f"the nearest it takes: {' or '.join(map(_by, taken))}"
    return BadValue(told, cure=cure)


def _channels_wanted(graph: Graph, mismatch: Mismatch) -> int | None:
    """What a layer takes that reads the input itself, where other channels are what is wrong."""
    if mismatch.problem is not Problem.CHANNELS:
        return None
    node = graph.nodes[mismatch.node]
    parts = branches(graph, node)
    return built_for(node, mismatch) if [part.name for part in parts] == [*graph.inputs] else None


def takes(traced: Traced, shape: Sequence[int]) -> bool:
    """Whether it can be traced at a shape (C, H, W) that its maps or its run on shapes allow."""
    try:
        traced.graph(shape)
    except EyeshotError:
        return False
    return True


def _by(size: Sequence[int]) -> str:
    return "x".join(str(n) for n in size)


MODES = {"reflect": "reflect", "edge": "replicate", "zero": "constant"}
"""What fills the added rows and columns, with torch's name for it."""
_MOST_GROWTH = 512
"""How many positions an axis may grow by."""
_STEPS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


@dataclass(frozen=True)
class Padding:
    """What was added to a picture, below and at the right of it.

    Attributes:
        before: its size along each axis of space.
        after: the size that the network is given.
        mode: one of :data:`MODES`.
    """

    before: tuple[int, ...]
    after: tuple[int, ...]
    mode: str

    def __str__(self) -> str:
        """What was done, for people."""
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
    """A network of one input behind a pad at the far sides, its answers cropped.

    Args:
        net: the network; it is not changed.
        padding: what to add to the picture.
        crops: for each tensor that the network returns, the length to keep of some dimensions.
    """

    def __init__(self, net: nn.Module, padding: Padding, crops: Sequence[dict[int, int]]) -> None:
        super().__init__()
        self.net = net
        self.training = net.training
        self._mode = MODES[padding.mode]
        self._amounts = [n for amount in reversed(padding.amounts) for n in (0, amount)]
        self._crops = tuple(crops)

    def forward(self, x: torch.Tensor) -> Any:
        """(N, C, …) of the picture -> what the network returns, cropped."""
        crops = iter(self._crops)
        answer = self.net(F.pad(x, self._amounts, mode=self._mode))
        return _each_tensor(answer, lambda tensor: _cropped(tensor, next(crops)))


def pad_to_taken(net: Network, sources: Sequence[Source], mode: str) -> tuple[Traced, Padding]:
    """The network with its input padded to the nearest larger size that it takes.

    Args:
        net: a network of one input.
        sources: its picture.
        mode: ``reflect``, ``edge`` or ``zero``.

    Returns:
        A network that takes the picture as it is, and what it adds to it: nothing, where no size
        up to 512 positions more is taken, so that the refusal has the network's own reason.

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
    padding = Padding(tuple(before), _size_taken(traced.module, source), mode)
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


def _size_taken(net: nn.Module, source: Source) -> tuple[int, ...]:
    """The nearest size at which the network runs, none of whose sides is smaller."""
    runs, (channels, *size) = runs_on_shapes(net), source.shape
    tried = [tuple(size)]
    tried += [tuple(-(-n // step) * step for n in size) for step in _STEPS]
    tried += [tuple(n + more for n in size) for more in range(1, _MOST_GROWTH + 1)]
    near = sorted(dict.fromkeys(tried), key=math.prod)
    growth = {one: max(b - a for a, b in zip(size, one, strict=True)) for one in near}
    taken = (one for one in near if growth[one] <= _MOST_GROWTH and runs((1, channels, *one)))
    return next(taken, tuple(size))


def _crops(graph: Graph, padding: Padding) -> list[dict[int, int]]:
    """For each output, how many positions of each dimension answer to the picture itself."""
    fields = Fields(graph)
    crops = []
    for name in graph.outputs:
        node = graph.nodes[name]
        kept = {}
        for axis, (dim, amount) in enumerate(zip(node.dims, padding.amounts, strict=True)):
            if dim is not None and amount:
                layer = fields.layer(name)
                stride = layer[axis].stride if layer else None
                share = 1 / stride if stride else node.shape[dim] / padding.after[axis]
                kept[dim] = node.shape[dim] - math.floor(amount * share)
        crops.append(kept)
    return crops


def _cropped(tensor: torch.Tensor, lengths: dict[int, int]) -> torch.Tensor:
    for dim, length in lengths.items():
        tensor = tensor.narrow(dim, 0, length)
    return tensor


def _each_tensor(answer: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """An answer with each of its tensors changed: a tensor, or lists, tuples and dicts of them."""
    if isinstance(answer, torch.Tensor):
        return change(answer)
    if isinstance(answer, dict):
        return {key: _each_tensor(value, change) for key, value in answer.items()}
    if isinstance(answer, list | tuple):
        return [_each_tensor(value, change) for value in answer]
    return answer


def _sides(sides: Sequence[int]) -> str:
    return "×".join(map(str, sides))
