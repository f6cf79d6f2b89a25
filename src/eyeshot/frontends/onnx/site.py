"""One ONNX node as the functions in ``operators/`` see it: its inputs and attributes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[Any]
Shape = tuple[int, ...]
T = TypeVar("T")


class Refusal(Exception):
    """A node cannot be computed exactly here. The front end always catches this."""

    def __init__(self, fact: str, cure: str = "") -> None:
        super().__init__(fact)
        self.cure = cure


class Value:
    """One value in a network: a tensor, a number known while tracing, or both.

    Each form is computed when it is first read. Shapes, and values computed from shapes, are
    known; maps are tensors; weights are both, because a scale or a list of axes may be stored.

    Args:
        tensor: computes the tensor; None to make it from ``known``.
        known: computes the numbers; None if they depend on the image.
        weight: True if it is computed from the network's own tensors.
        fixed: True if its numbers are in the file, so that they are the same at every size.
    """

    def __init__(
        self,
        tensor: Callable[[], Tensor] | None = None,
        known: Callable[[], Array] | None = None,
        *,
        weight: bool = False,
        fixed: bool = False,
    ) -> None:
        self._make_tensor, self._make_known = tensor, known
        self.is_weight, self.is_fixed = weight, fixed

    @property
    def is_known(self) -> bool:
        """Whether its numbers do not depend on the image."""
        return self._make_known is not None

    @cached_property
    def tensor(self) -> Tensor:
        """The value as a tensor."""
        if self._make_tensor is not None:
            return self._make_tensor()
        return torch.tensor(self.known)

    @cached_property
    def known(self) -> Array:
        """The value as a NumPy array.

        Raises:
            Refusal: they depend on the image.
        """
        if self._make_known is None:
            raise Refusal("its settings are computed from the image's values")
        return np.asarray(self._make_known())

    @property
    def shape(self) -> Shape:
        """Its shape."""
        if self._make_tensor is None:
            return tuple(int(n) for n in self.known.shape)
        return tuple(int(n) for n in self.tensor.shape)


@dataclass(frozen=True, eq=False)
class OnnxOp:
    """One node of a file, as plain data.

    Attributes:
        name: its name in the file, or one made from its operator and its index.
        kind: its operator, such as ``Conv``.
        version: the opset version that defines its operator.
        inputs: the names of its inputs; "" for an optional input that is left out.
        outputs: the names of its outputs; "" for one that no node reads.
        attributes: numbers, strings, lists and arrays by name.
        sized_pads: True if its ``pads`` may be what ``same`` gave at the size that the file was
            exported for.
    """

    name: str
    kind: str
    version: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    sized_pads: bool = False


@dataclass(frozen=True, eq=False)
class Site:
    """One node with the values of its inputs.

    Attributes:
        op: the node.
        values: its inputs; None for one that is left out.
        original: the shapes of its inputs at the size that the file was exported for; None if the
            file leaves its size open, or if this is that size.
        asked: the shape that a ``Reshape`` was asked for at that size.
    """

    op: OnnxOp
    values: tuple[Value | None, ...]
    original: tuple[Shape | None, ...] | None = None
    asked: Shape | None = None

    @property
    def version(self) -> int:
        """The opset version that defines the node's operator."""
        return self.op.version

    def has(self, place: int) -> bool:
        """Whether it has an input with this index."""
        return place < len(self.values) and self.values[place] is not None

    def value(self, place: int) -> Value:
        """The input with this index.

        Raises:
            Refusal: the input is left out.
        """
        value = self.values[place] if place < len(self.values) else None
        if value is None:
            raise Refusal(f"has no input {place}")
        return value

    def tensor(self, place: int) -> Tensor:
        """An input as a tensor."""
        return self.value(place).tensor

    def maybe(self, place: int) -> Tensor | None:
        """An input as a tensor; None if it is left out."""
        return self.tensor(place) if self.has(place) else None

    def known(self, place: int) -> Array | None:
        """An input as a NumPy array; None if it is left out.

        Raises:
            Refusal: they depend on the image.
        """
        return self.value(place).known if self.has(place) else None

    def whole(self, place: int) -> tuple[int, ...] | None:
        """An input as integers; None if it is left out."""
        known = self.known(place)
        return None if known is None else tuple(int(n) for n in known.reshape(-1))

    def number(self, place: int, default: float) -> float:
        """An input as one number; ``default`` if it is left out."""
        known = self.known(place)
        if known is None or known.size == 0:
            return default
        return known.reshape(-1)[0].item()  # type: ignore[no-any-return]

    def attribute(self, name: str, default: T) -> T:
        """An attribute; ``default`` if the node does not have it."""
        value = self.op.attributes.get(name, default)
        return tuple(value) if isinstance(value, list) else value  # type: ignore[return-value]

    def numbers(self, name: str, default: Sequence[int]) -> tuple[int, ...]:
        """An attribute that is a list of integers."""
        return tuple(int(one) for one in self.attribute(name, tuple(default)))

    def listed(self, name: str, place: int) -> tuple[int, ...] | None:
        """Integers that are an attribute in old opsets and an input in new ones."""
        if name in self.op.attributes:
            return self.numbers(name, ())
        return self.whole(place)


Result = Tensor | Array | tuple[Tensor, ...]
Compute = Callable[[Site], Result]
"""Computes a node's output: a tensor, or an array if it is known while tracing."""


def axis_of(axis: int, rank: int) -> int:
    """The axis as a non-negative index.

    Raises:
        Refusal: there is no axis with that number.
    """
    if not -rank <= axis < max(rank, 1):
        raise Refusal(f"names axis {axis} of a value with {rank} dimensions")
    return axis % max(rank, 1)
