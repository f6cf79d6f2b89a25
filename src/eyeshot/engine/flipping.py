"""Test-time augmentation: the mean of a network's results for an image and for its flips.

Each result for a flip is flipped back before the mean is taken, so its positions must agree with
those of the plain result. After a stride this depends on the image's size, and is checked with the
geometry of the network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from torch import nn

from eyeshot.engine.networks import Traced
from eyeshot.errors import BadValue, UnknownName
from eyeshot.geometry import grids_of
from eyeshot.graph import Graph, Node

ALL = "all"
_NAMES = "dhw"
_WORDS = {"d": "depth", "h": "height", "w": "width"}
_PLANE = 2  # axes
_SHOWN = 8  # flips


@dataclass(frozen=True)
class Flips:
    """The flips whose results are averaged with the plain result.

    Attributes:
        names: the axes of each flip, such as ``("h", "w", "hw")``.
    """

    names: tuple[str, ...]

    def __str__(self) -> str:
        """The average in words."""
        shown = ", ".join(self.names[:_SHOWN]) + (", …" if len(self.names) > _SHOWN else "")
        passes = 1 + len(self.names)
        return f"the mean of {passes} passes: of the image, and of its flips along {shown}"


Dims = tuple[int, ...]


class FlippedNetwork(nn.Module):
    """The mean of a network's results for its inputs and for each flip of them, flipped back.

    Args:
        net: the network; it is not changed.
        input_dims: for each flip, the dimensions of each input to flip.
        output_dims: for each flip, the dimensions of each returned tensor to flip back.
    """

    def __init__(
        self,
        net: nn.Module,
        input_dims: Sequence[Sequence[Dims]],
        output_dims: Sequence[Sequence[Dims]],
    ) -> None:
        super().__init__()
        self.net = net
        self.training = net.training
        self._input_dims = tuple(tuple(one) for one in input_dims)
        self._output_dims = tuple(tuple(one) for one in output_dims)

    def forward(self, *inputs: torch.Tensor) -> Any:
        """Inputs (N, C, …) -> the network's outputs, averaged over the flips."""
        plain = self.net(*(x.clone() for x in inputs))  # forward may write into its input
        sums = _tensors(plain)
        for input_dims, output_dims in zip(self._input_dims, self._output_dims, strict=True):
            flipped = (x.flip(dims) for x, dims in zip(inputs, input_dims, strict=True))
            outputs = _tensors(self.net(*flipped))
            back = (_back(y, dims) for y, dims in zip(outputs, output_dims, strict=True))
            sums = [a + b for a, b in zip(sums, back, strict=True)]
        means = [total / (1 + len(self._input_dims)) for total in sums]
        return means[0] if isinstance(plain, torch.Tensor) else means


def _back(tensor: torch.Tensor, dims: Dims) -> torch.Tensor:
    return tensor.flip(dims) if dims else tensor


def _tensors(answer: Any) -> list[torch.Tensor]:
    """The tensors in what a network returns, in its order."""
    if isinstance(answer, torch.Tensor):
        return [answer]
    if not isinstance(answer, dict | list | tuple):
        return []  # a number or None is not an output
    parts = answer.values() if isinstance(answer, dict) else answer
    return [tensor for part in parts for tensor in _tensors(part)]


def average_flips(traced: Traced, graph: Graph, flips: str | Sequence[str]) -> tuple[Traced, Flips]:
    """The network that averages over flips, and which flips these are.

    Args:
        traced: the network.
        graph: the network's graph at the size of the images.
        flips: ``all`` for every flip of the plane; or a list of flips, each named by its axes out
            of d, h and w.

    Raises:
        UnknownName: an axis that the images do not have.
        BadValue: there is no flip, an output has no mean, or its positions do not agree after
            flipping back.
    """
    first = graph.nodes[graph.inputs[0]]
    axes = _axes(len(first.extents))
    chosen = _parsed(flips, axes)
    inputs = [graph.nodes[name] for name in graph.inputs]
    outputs = [graph.nodes[name] for name in graph.outputs]
    for name in graph.outputs:
        _check_mean(graph, name)
        for letter in dict.fromkeys("".join(chosen.names)):
            _check_place(graph, name, letter, axes[letter])
    flipped_axes = [[axes[letter] for letter in name] for name in chosen.names]
    wrapped = FlippedNetwork(
        traced.module,
        [[_dims(node, places) for node in inputs] for places in flipped_axes],
        [[_dims(node, places) for node in outputs] for places in flipped_axes],
    )
    return traced.around(wrapped, "flips"), chosen


def _axes(count: int) -> dict[str, int]:
    """The spatial axes by their letters: the last one is w."""
    return {letter: place for place, letter in enumerate(_NAMES[-count:])}


def _parsed(flips: str | Sequence[str], axes: Mapping[str, int]) -> Flips:
    names = flips.split(",") if isinstance(flips, str) else flips
    found: dict[frozenset[str], str] = {}
    for one in (name.strip() for name in names):
        for name in _of_plane(axes) if one == ALL else (one,):
            for letter in name:
                if letter not in axes:
                    raise UnknownName("axis of flips", letter, (*axes, ALL))
            if not name or len(set(name)) < len(name):
                raise BadValue(f"flips has {name!r}", cure="name axes once each, such as h,w,hw")
            found.setdefault(frozenset(name), name)
    if not found:
        raise BadValue("flips without a flip", cure="use all, or axes such as h,w,hw")
    return Flips(tuple(found.values()))


def _of_plane(axes: Mapping[str, int]) -> tuple[str, ...]:
    return ("h", "w", "hw") if len(axes) >= _PLANE else ("w",)


def _dims(node: Node, places: Sequence[int]) -> Dims:
    """The dimensions of some axes of a map; an axis that was reduced away has none."""
    found = (node.dims[place] for place in places)
    return tuple(dim for dim in found if dim is not None)


def _check_mean(graph: Graph, name: str) -> None:
    """Refuse an output of integers, such as class numbers and masks.

    Raises:
        BadValue: the output consists of integers.
    """
    dtype = graph.nodes[name].dtype
    if not getattr(torch, dtype).is_floating_point:
        raise BadValue(
            f"flips, and {name} is of {dtype}, which has no mean",
            cure="return scores from forward, and use --as argmax",
        )


def _check_place(graph: Graph, name: str, letter: str, axis: int) -> None:
    """Refuse an output whose positions do not agree with the plain result after flipping back.

    If there is one output per pixel, output i belongs to pixel i, even if the layers are not
    symmetric. Otherwise the output's grid decides: output i is at ``first + step * i``, and after
    flipping back at ``n - 1 - first - step * (m - 1 - i)``.

    Raises:
        BadValue: the positions differ, or are unknown.
    """
    node = graph.nodes[name]
    if node.dims[axis] is None:
        return
    known = False
    for source in graph.inputs:
        grid = grids_of(graph, name, source)[axis]
        if grid is None:
            continue
        known = True
        size, count = graph.nodes[source].extents[axis], node.extents[axis]
        if count == size and grid.step == 1:
            continue
        off = size - 1 - 2 * grid.first - grid.step * (count - 1)
        if off:
            raise _moved(name, letter, size, grid.step, off)
    if not known:
        raise BadValue(
            f"flips along {letter}, and the positions of {name} have no known place in the image",
            cure="leave this axis out of flips",
        )


def _moved(name: str, letter: str, size: int, step: Fraction, off: Fraction) -> BadValue:
    word = _WORDS[letter]
    better = size - int(off) if off.denominator == 1 else 0
    other = f"pad or crop the image to a {word} of {better}, or " if better > 0 else ""
    return BadValue(
        f"flips along {letter}: at a {word} of {size}, {name} has an output every {step} pixels, "
        f"and those of the flipped image lie {abs(off)} pixels beside those of the image",
        cure=f"{other}leave {letter} out of flips",
    )
