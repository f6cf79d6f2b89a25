"""Both ends of a run: samples prepared for the network, and its output in the requested form.

Inside the engine, an output is (C, rows, columns, …): all features first, then the axes of the
input. The written array has the dimensions of the network's own output in its own order, and
requested regions refer to these.

In this file:

- the axes of an output: those of ``net(x)``, without the batch;
- the form of an output: it is reduced band by band, so the scores never exist as a whole;
- the preparation of samples: type, scale, normalization, memory layout.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from eyeshot.axes import Interval
from eyeshot.errors import BadValue, UnknownName
from eyeshot.geometry import Region
from eyeshot.graph import Graph, Node
from eyeshot.images import Arrangement
from eyeshot.images.whole import check_scale, unit_of
from eyeshot.language import tr
from eyeshot.operators import gives_probabilities

FORMS = ("scores", "float32", "probabilities", "argmax", "threshold:T", "uint8")


@dataclass(frozen=True, slots=True)
class Form:
    """How scores become samples.

    Attributes:
        name: as the caller wrote it.
        channels: of the output.
        dtype: of its samples.
        reduce: scores (C, …) -> samples (channels, …).
        copies: the temporary memory of ``reduce``, as a multiple of the scores' memory.
        whole: whether the network's own output is of integers.
    """

    name: str
    channels: int
    dtype: np.dtype[Any]
    reduce: Callable[[torch.Tensor], torch.Tensor]
    copies: int = 0
    whole: bool = False

    @property
    def labels(self) -> bool:
        """Whether samples are class numbers or a mask, which must not be averaged."""
        return self.whole or (self.dtype.kind not in "fc" and self.name != "uint8")

    @property
    def span(self) -> tuple[int, int] | None:
        """The least and the largest possible sample, where the form says it; None for scores."""
        return {"uint8": (0, 255), "probabilities": (0, 1)}.get(self.name)

    def memory(self, positions: int, channels: int, itemsize: int) -> int:
        """The bytes to reduce and write the scores of ``positions``, without the scores themselves.

        The samples are in memory twice: as computed, and in the order of the output.
        """
        samples = positions * self.channels * self.dtype.itemsize
        return self.copies * positions * channels * itemsize + 2 * samples

    def __call__(self, scores: torch.Tensor) -> NDArray[Any]:
        """Samples of some rows, contiguous, from their scores (C, rows, …)."""
        if scores.dtype == torch.bfloat16:  # NumPy has no such type
            scores = scores.float()
        samples: NDArray[Any] = np.ascontiguousarray(self.reduce(scores).cpu().numpy(), self.dtype)
        return samples


def form_of(name: str, channels: int, dtype: str = "float32", *, probable: bool = False) -> Form:
    """The form called ``name`` for an output with ``channels`` channels of type ``dtype``.

    - ``scores``: the network's values in its own type (bfloat16, which NumPy lacks, as float32).
    - ``float32``, ``float64``: the same values in that type.
    - ``probabilities``: softmax over channels; for one channel the sigmoid. The values themselves
      if they are ``probable``, because the network ends in a sigmoid or a softmax.
    - ``argmax``: the number of the largest channel, 8 or 16 bits.
    - ``threshold:T``: 255 where the probability (of the last of two classes) is above T, else 0.
    - ``uint8``: 0 … 1 as 0 … 255, rounded; other values are clipped.

    Raises:
        UnknownName: no such form.
        BadValue: the form has no meaning for this many channels.
    """
    kind, _, argument = name.partition(":")
    if dtype.startswith("complex") and kind != "scores":
        raise BadValue(
            f"output_format {name!r} of complex numbers",
            cure="use scores, or let forward return .abs(), .real or torch.view_as_real of them",
        )
    whole = not dtype.startswith(("float", "bfloat", "complex"))
    if kind == "scores":
        own = np.dtype("float32" if dtype == "bfloat16" else dtype)
        return Form(name, channels, own, lambda scores: scores, whole=whole)
    if kind in ("float32", "float64"):
        return Form(name, channels, np.dtype(kind), lambda scores: scores, whole=whole)
    if kind == "probabilities":
        reduce = _unchanged if probable else _probabilities
        return Form(name, channels, np.dtype(np.float32), reduce, copies=1)
    if kind == "argmax":
        return _argmax(name, channels)
    if kind == "threshold":
        return _threshold(name, argument, channels, probable)
    if kind == "uint8":
        return Form(name, channels, np.dtype(np.uint8), _bytes, copies=1)
    raise UnknownName("output format", name, FORMS)


def _probabilities(scores: torch.Tensor) -> torch.Tensor:
    return scores.sigmoid() if scores.shape[0] == 1 else scores.softmax(0)


def _unchanged(scores: torch.Tensor) -> torch.Tensor:
    return scores


_CLIPPED_RIGHT = 8.0e6
"""OpenCV makes 0, not 255, of a score whose 255-fold is beyond 31 bits."""


def _bytes(scores: torch.Tensor) -> torch.Tensor:
    plain = scores.device.type == "cpu" and scores.dtype == torch.float32 and scores.numel()
    rows = scores.reshape(-1, scores.shape[-1]).numpy() if plain else None
    if rows is None or not rows.max() <= _CLIPPED_RIGHT:  # or NaN, beside such a score
        return scores.clamp(0, 1).mul_(255).round_().to(torch.uint8)
    # OpenCV scales, rounds half to even and clips in one pass: equal bytes, five times as fast.
    samples = cv2.addWeighted(rows, 255.0, rows, 0.0, 0.0, dtype=cv2.CV_8U)
    return torch.from_numpy(samples).reshape(scores.shape)


def _argmax(name: str, channels: int) -> Form:
    if channels < 2:
        raise BadValue("argmax of one channel", cure="use threshold:0.5")
    kind = np.min_scalar_type(channels - 1)
    as_torch = torch.uint8 if kind == np.uint8 else torch.int32

    def reduce(scores: torch.Tensor) -> torch.Tensor:
        return scores.argmax(0, keepdim=True).to(as_torch)

    return Form(name, 1, kind, reduce, copies=2)  # indices take 8 bytes


def _threshold(name: str, argument: str, channels: int, probable: bool) -> Form:
    try:
        level = float(argument)
    except ValueError:
        level = float("nan")
    if not 0 <= level <= 1:
        raise BadValue(f"output_format {name!r}", cure="give a probability, such as threshold:0.5")
    if channels > 2:
        raise BadValue(f"a threshold on {channels} classes", cure="use argmax")

    def reduce(scores: torch.Tensor) -> torch.Tensor:
        shares = scores if probable else _probabilities(scores)
        return (shares[-1:] > level).to(torch.uint8) * 255

    return Form(name, 1, np.dtype(np.uint8), reduce, copies=2)


_OF_CLASSES = ("argmax", "probabilities", "threshold")
_NAMES = {0: (), 1: ("positions",), 2: ("rows", "columns"), 3: ("planes", "rows", "columns")}


def arrangement_of(graph: Graph, name: str) -> Arrangement:
    """The dimensions of an output, without the batch."""
    node = graph.nodes[name]
    batch = graph.batch.get(name, 0)
    dims = [dim for dim in range(len(node.shape)) if dim != batch]
    axes = tuple(node.dims.index(dim) if dim in node.dims else None for dim in dims)
    return Arrangement(tuple(node.shape[dim] for dim in dims), axes)


def form_for(form: str, graph: Graph, name: str) -> Form:
    """The form called ``form`` for the output ``name``.

    Raises:
        UnknownName: no such form.
        BadValue: the form has no meaning for this output.
    """
    features = [size for size in arrangement_of(graph, name).features if size > 1]
    if len(features) > 1 and form.partition(":")[0] in _OF_CLASSES:
        raise BadValue(
            f"output_format {form!r} of output {name}: {graph.nodes[name].shape} has more than one "
            "dimension of features, and none is known to be that of classes",
            cure="use float32",
        )
    node, probable = graph.nodes[name], gives_probabilities(graph, name)
    return form_of(form, node.channels, node.dtype, probable=probable)


def regions_of(graph: Graph, asked: Sequence[tuple[int, int]] | None) -> dict[str, Region]:
    """The requested region of every output: see :func:`region_of`.

    Raises:
        BadValue: no output has positions, or the region does not fit an output; an output is
            empty, or a layer reads an empty map as a whole.
    """
    _refuse_empty(graph)
    if asked is not None and not any(arrangement_of(graph, name).space for name in graph.outputs):
        raise BadValue(
            f"a region of {len(asked)} axes, and no output has positions left",
            cure="leave the region out",
        )
    return {name: region_of(graph, name, asked) for name in graph.outputs}


def _refuse_empty(graph: Graph) -> None:
    """Refuse outputs without numbers, and layers that read all of a map without numbers."""
    for node in graph.nodes.values():
        if node.name in graph.outputs and 0 in node.shape:
            raise BadValue(
                f"output {node.name} is empty at this size: {tuple(node.shape)}",
                cure="leave it out of what forward returns, or give a larger image",
            )
        for edge in node.edges:
            source = graph.nodes[edge.source]
            everything = any(axis is not None and axis.is_global for axis in edge.axes)
            if everything and 0 in source.extents:
                raise BadValue(
                    f"{node.name} reads {source.name}, which is empty at this size: "
                    f"{tuple(source.shape)}",
                    cure="give a larger image, or leave the layer out",
                )


def region_of(graph: Graph, name: str, asked: Sequence[tuple[int, int]] | None) -> Region:
    """The requested region of an output, for each axis of the input.

    Args:
        graph: the network at the size of the picture.
        name: the name of the output.
        asked: (lo, hi) for each axis of the output, in its own order; None for all of it. An output
            without positions is always returned whole.

    Raises:
        BadValue: the region is outside the output, is empty, or has another number of axes.
    """
    node, axes = graph.nodes[name], arrangement_of(graph, name).space
    box = [Interval(0, n) for n in node.extents]
    if asked is None or not axes:
        return tuple(box)
    if len(asked) != len(axes):
        raise BadValue(f"a region of {len(asked)} axes", cure=f"give {len(axes)}")
    for axis, (lo, hi) in zip(axes, asked, strict=True):
        box[axis], n = Interval(lo, hi), node.extents[axis]
        if hi <= lo:
            raise BadValue(
                f"region {lo}:{hi} is empty", cure="give the first, then one past the last"
            )
        if lo < 0 or hi > n:
            raise BadValue(f"region {lo}:{hi} of an output of {n}", cure="stay inside it")
    return tuple(box)


def with_constants(graph: Graph, results: Mapping[str, Any]) -> list[Any]:
    """What a run gives, in the order in which ``forward`` returns it.

    Args:
        graph: as it was run.
        results: the array or the path of each output; one may be given twice.

    Returns:
        These, and the returned tensors that do not depend on the input, as arrays.
    """
    outputs, count = iter(graph.outputs), len(graph.outputs) + len(graph.constants)
    return [
        _array(graph.constants[n]) if n in graph.constants else results[next(outputs)]
        for n in range(count)
    ]


def _array(value: torch.Tensor) -> NDArray[Any]:
    """A copy of a weight; NumPy has no bfloat16."""
    value = value.detach().cpu()
    found: NDArray[Any] = (
        value.float() if value.dtype == torch.bfloat16 else value.clone()
    ).numpy()
    return found


def features_first(node: Node, value: torch.Tensor) -> torch.Tensor:
    """(C, rows, …) from a value with axes in any order; missing axes get the size 1."""
    spatial = [dim for dim in node.dims if dim is not None]
    rest = [dim for dim in range(value.ndim) if dim not in spatial]
    sizes = [1 if dim is None else value.shape[dim] for dim in node.dims]
    return value.permute((*rest, *spatial)).reshape(-1, *sizes)


def layout_of(graph: Graph, name: str) -> str:
    """The dimensions of an output in words, without the batch."""
    names = _NAMES[graph.spatial_axes]
    axes = arrangement_of(graph, name).axes
    words = ["features" if axis is None else names[axis] for axis in axes]
    return ", ".join(words) or "one number"


_RAW = ", or take whole numbers as they are with --raw"

_WIDER: dict[str, np.dtype[Any]] = {
    "u2": np.dtype(np.int32),
    "u4": np.dtype(np.int64),
    "u8": np.dtype(np.float64),
}
"""Types of samples that torch does not support, and a larger type for each."""


@dataclass(frozen=True, slots=True)
class Preparation:
    """How samples are converted to the network's input.

    Whole-number samples are scaled to 0 … 1 (divided by the largest value of their type) unless
    ``raw``; floating-point samples are not scaled. Then the mean is subtracted, and the result is
    divided by the standard deviation, if there are any.

    Attributes:
        dtype: the type of the network's input.
        device: the device of the network.
        raw: do not scale whole numbers.
        mean: subtracted, per channel; empty for none.
        std: the divisor, per channel.
        unit: whether the network was trained on samples in 0 … 1, so that floats far outside are a
            mistake; False: on floats of a scale of their own, so that whole numbers are; None:
            unknown.
        white: the whole-number sample that counts as 1; None for the largest of its type.
    """

    dtype: torch.dtype
    device: torch.device
    raw: bool = False
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    unit: bool | None = None
    white: float | None = None

    def __call__(
        self,
        samples: NDArray[Any],
        name: str = "the rows",
        corner: tuple[int, ...] = (),
        room: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Samples (C, rows, …) -> values (1, C, rows, …).

        Args:
            samples: a window of the image.
            name: the image's name, for messages.
            corner: where the window begins, for messages; empty for the image's first position.
            room: memory of the values' shape, which they are written to where no other type is
                needed on the way.

        Raises:
            BadValue: samples of an unsupported type, a sample that is not finite, or samples of
                another scale than those of the training pictures.
        """
        self.check(samples, name)
        if samples.dtype.kind == "f" and samples.size:
            self._check_finite(samples, name, corner)
        writable = samples if samples.flags.writeable else samples.copy()
        value = torch.from_numpy(_whole_numbers(writable))[None]
        scale = self.scale(samples.dtype)
        # In float32 at least until the end: 65535 is infinity in float16, and a difference from
        # the mean loses its digits in bfloat16.
        wide = torch.promote_types(self.dtype, torch.float32) if self._scales(scale) else self.dtype
        if room is not None and not self.mean and room.dtype == wide == self.dtype:
            room.copy_(value)
            return room if scale == 1.0 else room.div_(scale)
        value = value.to(self.device, wide)
        if scale != 1.0:
            value.div_(scale)  # in place: the conversion made a copy
        if self.mean:
            shape = (1, -1, *(1 for _ in value.shape[2:]))
            mean = torch.tensor(self.mean, dtype=wide, device=self.device).reshape(shape)
            std = torch.tensor(self.std, dtype=wide, device=self.device).reshape(shape)
            value = (value - mean).div_(std)
        value = value.to(self.dtype)
        if value.ndim == 4:
            return value.contiguous(memory_format=torch.channels_last)
        return value.contiguous()

    def _scales(self, scale: float) -> bool:
        """Whether samples are computed with before the network gets them."""
        return scale != 1.0 or bool(self.mean)

    def memory(self, dtype: np.dtype[Any], numbers: int, channels: int) -> int:
        """The bytes to prepare ``numbers`` samples, without the samples themselves.

        Unsupported types are converted to a larger one first. Subtracting a mean makes a copy, and
        so does changing the layout to channels last.
        """
        own = numbers * self.dtype.itemsize
        scaled = numbers * 4 if self.dtype.itemsize < 4 and self._scales(self.scale(dtype)) else 0
        copied = own if self.mean or channels > 1 else 0
        wider = _WIDER.get(dtype.str[1:])
        return own + scaled + max(copied, numbers * wider.itemsize if wider is not None else 0)

    def check(self, samples: NDArray[Any], name: str) -> None:
        """Refuse samples of another scale than those of the training pictures.

        Raises:
            BadValue: they surely have one, and neither ``raw`` nor ``white`` is set.
        """
        if not self.raw and (self.white is None or samples.dtype.kind == "f"):
            check_scale(samples, name, self.unit, cure=_RAW)

    def _check_finite(self, samples: NDArray[Any], name: str, corner: tuple[int, ...]) -> None:
        """Refuse floats that are not finite.

        A convolution fused with a ReLU turns NaN into 0, and PyTorch's own ReLU does not: the
        result would look right, but differ from the network's.
        """
        low, high = float(samples.min()), float(samples.max())
        if not (math.isfinite(low) and math.isfinite(high)):
            first = np.argwhere(~np.isfinite(samples))[0]
            starts = corner or (0,) * (samples.ndim - 1)
            place = tuple(int(i) + lo for i, lo in zip(first[1:], starts, strict=True))
            raise BadValue(
                f"{name}: the sample of channel {first[0]} at {place} is {samples[tuple(first)]}",
                cure="fill such samples first, for example by numpy.nan_to_num",
            )

    def scale(self, dtype: np.dtype[Any]) -> float:
        """The number by which samples of a type are divided."""
        if self.raw or dtype.kind not in "ui":
            return 1.0
        return unit_of(dtype) if self.white is None else self.white

    def stated(self, dtype: np.dtype[Any]) -> str:
        """The conversion in words."""
        scale = self.scale(dtype)
        if scale == 1.0:
            scaling = tr("{type} samples as they are", type=dtype)
        else:
            scaling = tr("{type} samples divided by {scale:g}", type=dtype, scale=scale)
        if self.mean:
            scaling += tr(", mean {mean}, std {std}", mean=_short(self.mean), std=_short(self.std))
        return scaling


def _short(numbers: Sequence[float]) -> str:
    return ", ".join(f"{number:.4g}" for number in numbers)


def _whole_numbers(samples: NDArray[Any]) -> NDArray[Any]:
    """Samples in a type, byte order and memory layout that torch supports."""
    samples = samples.astype(samples.dtype.newbyteorder("="), copy=False)
    if any(stride < 0 for stride in samples.strides):
        samples = np.ascontiguousarray(samples)
    key = samples.dtype.str[1:]
    if key in _WIDER:
        return samples.astype(_WIDER[key])
    if samples.dtype.kind not in "buif" or samples.dtype.itemsize > 8:
        raise BadValue(f"samples of type {samples.dtype}", cure="use whole or real numbers")
    return samples.astype(np.float32) if samples.dtype.kind == "b" else samples
