"""A call whose shapes do not fit, as the front end met it: facts, not yet words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

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
    """A normalisation built for other channels."""
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
