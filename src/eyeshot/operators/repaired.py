"""Repairs for calls whose shapes do not match, so that a trace can go on to the next layers.

Each repair returns a :class:`Repaired`: what does not match, and the result of a corrected call. If
the user's cure is another weight (``in_channels=64``), the weight is replaced, so that the rest of
the graph is that of the corrected network. If the cure is elsewhere (a size, a view), the values
are cropped or padded with zeros.

:class:`Mismatch` records such a call as data; ``findings`` makes the text from it.
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
    """Why a call's shapes do not match."""

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
    """A view or reshape to a shape with another number of elements."""
    SHUFFLE = "shuffle"
    """A number of channels that a pixel shuffle's r² does not divide."""
    TOO_SMALL = "too small"
    """A window larger than the map it slides over."""
    ONE_VALUE = "one value"
    """A batch norm in training mode that sees one value per channel."""
    STOPPED = "stopped"
    """A failure that could not be repaired: the trace ends there."""


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One call whose shapes do not match.

    Attributes:
        problem: why they do not match.
        node: the repaired call's node in the graph; if the trace stopped, the last node before it.
        layer: dotted path of the module that makes the call.
        operator: the called operator, such as ``conv2d``.
        inputs: the shapes of its inputs.
        weight: the shape of its weight before the repair, if it has one.
        options: its other settings that matter: groups, the requested shape, the kernel.
        error: torch's error, one line.
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
    """The stride that gives ``small`` positions from ``large``; 1 if there is none."""
    stride = round(large / small) if small else 1
    return stride if stride > 1 and -(-large // stride) == small else 1


Arguments = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Repaired:
    """A repaired call: what did not match, and the call's new result."""

    problem: Problem
    inputs: tuple[Shape, ...]
    result: Any
    weight: Shape | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Repair:
    """How to repair calls of a torch function.

    Attributes:
        arguments: the names of its positional arguments, separated by spaces. A name that begins
            with a star takes all that are left, or one list of them.
        make: makes the repaired call; it returns None if it cannot.
        also: other names of the function, in addition to those of the operator.
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
            values = tuple(rest[0]) if whole else tuple(kwargs.get(last, rest))
            kwargs = {**kwargs, last: values}
        return {**dict(zip(names, args, strict=False)), **kwargs}


def at_least(x: torch.Tensor, sizes: tuple[int, ...]) -> torch.Tensor:
    """The map (N, C, *sizes), padded at its end with zeros to at least these sizes."""
    missing = [max(0, want - have) for want, have in zip(sizes, x.shape[2:], strict=True)]
    if not any(missing):
        return x
    return F.pad(x, [n for extra in reversed(missing) for n in (0, extra)])


def of_length(tensors: Arguments, length: int) -> Arguments:
    """The arguments, each tensor replaced by zeros of shape (length,); None stays None."""
    return {
        name: None if value is None else value.new_zeros(length) for name, value in tensors.items()
    }


def with_channels(x: torch.Tensor, channels: int) -> torch.Tensor:
    """The map (N, C, …), cropped or padded with zeros to this number of channels."""
    return resized(x, 1, channels)


def cropped(x: torch.Tensor, sizes: list[int], skip: int) -> torch.Tensor:
    """The tensor with every dimension except ``skip`` cropped to its size in ``sizes``."""
    for dim, size in enumerate(sizes):
        if dim != skip:
            x = cut_to(x, dim, size)
    return x


def cut_to(x: torch.Tensor, dim: int, size: int) -> torch.Tensor:
    """One dimension reduced to ``size``: by a stride if one is missing, else by cropping."""
    step = missing_stride(x.shape[dim], size)
    if step > 1:
        return x[(slice(None),) * dim + (slice(None, None, step),)]
    return x.narrow(dim, 0, size) if x.shape[dim] > size else x


def resized(x: torch.Tensor, dim: int, size: int) -> torch.Tensor:
    """One dimension cropped or padded with zeros to ``size``; 1 stays, since it broadcasts."""
    if x.shape[dim] > size:
        return x.narrow(dim, 0, size)
    if x.shape[dim] < size and x.shape[dim] != 1:
        return F.pad(x, [0, 0] * (x.dim() - 1 - dim) + [0, size - x.shape[dim]])
    return x


def shape_of(x: torch.Tensor) -> Shape:
    """The shape as a tuple of int."""
    return tuple(int(n) for n in x.shape)
