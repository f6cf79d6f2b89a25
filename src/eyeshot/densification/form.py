"""The dense form of a classifier: a list of steps whose layers keep the classifier's names.

It also records what each value of the classifier has become in the dense form.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from eyeshot.axes import Interval
from eyeshot.graph import Ref, Weight, substitute


@dataclass(frozen=True, slots=True)
class Step:
    """One value of the dense form: a layer or a plain function, called on earlier values.

    Attributes:
        name: the name of the value.
        target: the layer, or the function.
        args: the arguments, with Ref for earlier values and Weight for tensors.
        kwargs: the same by name.
    """

    name: str
    target: nn.Module | Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Geometry:
    """The grid of a dense form's positions on the page, along each spatial axis.

    Attributes:
        crop: the size in pixels of the classifier's pictures.
        stride: pixels from one position to the next.
        field: the pixels that position 0 sees, whose crop is [0, crop).
    """

    crop: tuple[int, ...]
    stride: tuple[int, ...]
    field: tuple[Interval, ...]


class DenseForm(nn.Module):
    """A classifier of crops as a network for pages: the result of :func:`eyeshot.dense`.

    (N, C, H, W) → (N, classes, rows, columns). Position (i, j) belongs to the crop whose first
    pixel is (i·stride, j·stride). There is a position for every crop that fits, and one more if the
    page lacks only pixels that the classifier does not read. It is a plain module: it can be saved,
    exported, trained and streamed.

    Attributes:
        crop: (height, width) of the classifier's pictures.
        stride: pixels from one position to the next, along each axis.
        field: the pixels that position 0 sees, along each axis. Smaller than the crop if the
            classifier's windows do not read some pixels, larger if it pads.
        notes: where and why the values differ from the classifier's; empty if they do not.
    """

    def __init__(
        self,
        steps: Sequence[Step],
        source: str,
        result: str,
        geometry: Geometry,
        notes: tuple[str, ...],
    ) -> None:
        super().__init__()
        self.crop, self.stride, self.field = geometry.crop, geometry.stride, geometry.field
        self.notes = notes
        self._source, self._result = source, result
        # (name, path of the layer or the function, args, kwargs): layers only by their path, so
        # that a copy of this module calls its own.
        self._steps: list[tuple[str, str | Callable[..., Any], tuple[Any, ...], dict[str, Any]]]
        self._steps = []
        for step in steps:
            target = step.target
            place = _plant(self, step.name, target) if isinstance(target, nn.Module) else target
            self._steps.append((step.name, place, step.args, step.kwargs))

    @property
    def exact(self) -> bool:
        """Whether every value is the classifier's on its crop, to rounding."""
        return not self.notes

    def forward(self, x: Tensor) -> Tensor:
        """Scores (N, classes, rows, columns) of all crops of the pages ``x`` (N, C, H, W)."""
        values: dict[str, Tensor] = {self._source: x}

        def put(value: Any) -> Any:
            return values[value.node] if isinstance(value, Ref) else value

        for name, place, args, kwargs in self._steps:
            target = self.get_submodule(place) if isinstance(place, str) else place
            values[name] = target(*substitute(args, put), **kwargs)
        return values[self._result]

    def extra_repr(self) -> str:
        """What ``print`` shows besides the layers."""
        return f"crop={self.crop}, stride={self.stride}"


class Weighted(nn.Module):
    """A function of a value and tensors of the network: ``x * scale``, ``x - mean``, ``prelu``."""

    def __init__(
        self, function: Callable[..., Any], args: Sequence[Any], tensors: dict[str, Tensor]
    ) -> None:
        super().__init__()
        self._function, self._args = function, tuple(args)
        self._names: dict[str, str] = {}
        for name, tensor in tensors.items():
            own = self._names[name] = name.rpartition(".")[2].replace("#", "_")
            if isinstance(tensor, nn.Parameter):
                self.register_parameter(own, tensor)
            else:
                self.register_buffer(own, tensor)

    def forward(self, *values: Tensor) -> Tensor:
        """The function, with the values and the tensors where they belong."""
        inputs = iter(values)

        def put(value: Any) -> Any:
            if isinstance(value, Ref):
                return next(inputs)
            return getattr(self, self._names[value.name]) if isinstance(value, Weight) else value

        result: Tensor = self._function(*map(put, self._args))
        return result


def _plant(root: nn.Module, name: str, module: nn.Module) -> str:
    """Put a module under a dotted name, or a similar one if that exists; return the name."""
    parent, path = root, []
    *parts, leaf = name.split(".")
    for part in parts:
        child = parent._modules.get(part)
        if child is None:
            child = nn.Module()
            part = _free(parent, part)
            parent.add_module(part, child)
        parent = child
        path.append(part)
    leaf = _free(parent, leaf)
    parent.add_module(leaf, module)
    return ".".join([*path, leaf])


def _free(parent: nn.Module, name: str) -> str:
    while hasattr(parent, name):
        name += "_"
    return name


@dataclass(frozen=True, slots=True)
class Value:
    """One value of the classifier, of one crop, and its map in the dense form.

    The dense form only ever holds maps (N, C, H, W). What the classifier does to the shape of its
    value (a flatten, a transposition) moves no number: it is followed here, on the places alone.

    Attributes:
        name: of the map in the dense form.
        shape: what one crop gives: (C, h, w).
        places: of the classifier's value without its batch: where each number lies in (C, h, w),
            counted through; of any shape.
        stride: pixels of the page from one position of the map to the next.
        step: positions of the map from one place of the same crop to the next: 1, but where strides
            are undone to have a position at every pixel.
        field: for each axis, the pixels that position 0 sees.
        affine: a scale and a shift of each number that is still to be applied, by the reader
            of the numbers, all at once.
    """

    name: str
    shape: tuple[int, ...]
    places: Tensor
    stride: tuple[int, ...]
    step: tuple[int, ...]
    field: tuple[Interval, ...]
    affine: tuple[Tensor, Tensor] | None = None

    @property
    def window(self) -> tuple[int, ...]:
        """Places of one crop along each axis: (h, w)."""
        return self.shape[1:]

    @property
    def is_map(self) -> bool:
        """Whether the classifier's value is a map too, (N, C, h, w)."""
        return self.places.shape == self.shape and self.in_order

    @property
    def is_point(self) -> bool:
        """Whether a crop gives a single place, with its channels in order, of any shape."""
        return math.prod(self.window) == 1 and self.in_order

    @property
    def in_order(self) -> bool:
        """Whether the numbers lie in the order of (C, h, w)."""
        return torch.equal(self.places.reshape(-1), torch.arange(self.places.numel()))

    def reshaped(self, shape: Sequence[int]) -> Value:
        """The same numbers in the same order, of another shape in the classifier."""
        return replace(self, places=self.places.reshape(tuple(shape)))

    def seen_through(self, taps: Sequence[Interval]) -> tuple[Interval, ...]:
        """The field of a position 0 that reads the places ``taps`` of this value."""
        spans = []
        for side, tap, stride, step in zip(self.field, taps, self.stride, self.step, strict=True):
            pixels = stride * step
            spans.append(Interval(side.lo + tap.lo * pixels, side.hi + (tap.hi - 1) * pixels))
        return tuple(spans)


def natural(shape: tuple[int, ...]) -> Tensor:
    """The places of a map (C, h, w) that is what it is."""
    return torch.arange(math.prod(shape)).reshape(shape)
