"""How a call with mismatched shapes is repaired, so that the rest of the network can be inspected.

Each repair returns a :class:`Repaired`: the mismatch, and the call as the cure would make it. Where
the cure is another weight (``in_channels=64``), the weight is replaced, so that the rest of the
graph is that of the cured network; elsewhere (a size, a view) the values are cropped or padded with
zeros.

The mismatch is recorded as facts; its wording comes later.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import torch
import torch.nn.functional as F

Shape = tuple[int, ...]


class Problem(StrEnum):
    """In what way a call's shapes do not fit."""

    CHANNELS = "channels"
    """A convolution, transposed convolution or PReLU built for other channels."""
    GROUPS = "groups"
    """A number of channels that the groups do not divide."""
    FEATURES = "features"
    """A linear layer built for another number of features."""
    NORM = "norm"
    """A normalization built for other channels."""
    BRANCHES = "branches"
    """Maps that are added or joined have different sizes."""
    VIEW = "view"
    """Numbers that cannot be laid out in the shape asked for."""
    SHUFFLE = "shuffle"
    """Channels that a pixel shuffle cannot share out."""
    TOO_SMALL = "too small"
    """A window larger than the map it slides over."""
    ONE_VALUE = "one value"
    """A batch norm in training mode that sees one value per channel."""
    STOPPED = "stopped"
    """A failure that could not be put right: the trace ends there."""


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One call that does not fit.

    Attributes:
        problem: in what way.
        node: the call in the graph, put right so that the trace could go on; where it stopped,
            the last node before it.
        layer: dotted path of the module that makes the call.
        operator: what was called, such as ``conv2d``.
        inputs: shapes of the values it was given.
        weight: shape of its weight as built, if it has one.
        options: its other numbers that matter: groups, the shape asked for, the kernel.
        error: what torch said, one line.
        line: file and line of the network's own code, ``unet.py:42``.
    """

    problem: Problem
    node: str
    layer: str
    operator: str
    inputs: tuple[Shape, ...]
    weight: Shape | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""
    line: str = ""


def missing_stride(large: int, small: int) -> int:
    """The stride that makes ``small`` positions of ``large``; 1 where there is none."""
    stride = round(large / small) if small else 1
    return stride if stride > 1 and -(-large // stride) == small else 1


Arguments = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Repaired:
    """A call put right: what did not fit, and what the call gives now."""

    problem: Problem
    inputs: tuple[Shape, ...]
    result: Any
    weight: Shape | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Repair:
    """How a torch function is put right.

    Attributes:
        arguments: what its positional arguments are called, separated by spaces; one that begins
            with a star takes all that are left, or one list of them.
        make: the call put right; None where it cannot be.
        also: further names of the function, beside those of the operator.
    """

    arguments: str
    make: Callable[[Callable[..., Any], Arguments], Repaired | None]
    also: str = ""

    def named(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Arguments:
        """A call's arguments by name."""
        names = self.arguments.split()
        last = names[-1].removeprefix("*")
        if last != names[-1]:
            *names, rest = *names[:-1], args[len(names) - 1 :]
            whole = len(rest) == 1 and isinstance(rest[0], (list, tuple))
            given = tuple(rest[0]) if whole else tuple(kwargs.get(last, rest))
            kwargs = {**kwargs, last: given}
        return {**dict(zip(names, args, strict=False)), **kwargs}


def at_least(x: torch.Tensor, sizes: tuple[int, ...]) -> torch.Tensor:
    """The map, with zeros behind its end up to these sizes."""
    missing = [max(0, want - have) for want, have in zip(sizes, x.shape[2:], strict=True)]
    if not any(missing):
        return x
    return F.pad(x, [n for extra in reversed(missing) for n in (0, extra)])


def of_length(tensors: Arguments, length: int) -> Arguments:
    """Tensors of zeros of one length in place of those that there are."""
    return {
        name: None if value is None else value.new_zeros(length) for name, value in tensors.items()
    }


def with_channels(x: torch.Tensor, channels: int) -> torch.Tensor:
    """The map cut, or filled with zeros, to so many channels."""
    return resized(x, 1, channels)


def cropped(x: torch.Tensor, sizes: list[int], skip: int) -> torch.Tensor:
    """Every dimension but one cut to its size."""
    for dim, size in enumerate(sizes):
        if dim != skip:
            x = cut_to(x, dim, size)
    return x


def cut_to(x: torch.Tensor, dim: int, size: int) -> torch.Tensor:
    """One dimension cut to ``size``: every second of twice as many, where a stride is missing."""
    step = missing_stride(x.shape[dim], size)
    if step > 1:
        return x[(slice(None),) * dim + (slice(None, None, step),)]
    return x.narrow(dim, 0, size) if x.shape[dim] > size else x


def resized(x: torch.Tensor, dim: int, size: int) -> torch.Tensor:
    """One dimension cut, or filled with zeros, to ``size``; one that is 1 is left to broadcast."""
    if x.shape[dim] > size:
        return x.narrow(dim, 0, size)
    if x.shape[dim] < size and x.shape[dim] != 1:
        return F.pad(x, [0, 0] * (x.dim() - 1 - dim) + [0, size - x.shape[dim]])
    return x


def shape_of(x: torch.Tensor) -> Shape:
    """The shape in plain numbers."""
    return tuple(int(n) for n in x.shape)
