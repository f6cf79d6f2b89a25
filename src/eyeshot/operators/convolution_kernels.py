"""The convolution kernels, behind one small interface: padded values in, a value out.

A convolution with one small filter for each of a few channels uses OpenCV, which is 50 to 80 times
faster than ``conv2d`` there. All others use oneDNN or torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from eyeshot.graph import Node
from eyeshot.operators import compiled_layers, compiled_signals, pointwise, winograd
from eyeshot.operators.packed import Options, PackedWeight
from eyeshot.operators.tile import Padded
from eyeshot.operators.winograd_compiled import is_compiled


@dataclass(frozen=True)
class Activation:
    """What is done to a convolution's sum, in its memory; nothing without a name."""

    name: str | None = None
    scalars: tuple[float, ...] = ()

    def __call__(self, value: torch.Tensor) -> torch.Tensor:
        """The value, changed."""
        if self.name is None:
            return value
        return _ACTIVATIONS[self.name](value, *self.scalars)


def _gate(value: torch.Tensor) -> torch.Tensor:
    first, second = value.chunk(2, 1)
    return first.tanh_().mul_(second.sigmoid_())


_ACTIVATIONS: dict[str, Callable[..., torch.Tensor]] = {
    "relu": torch.relu_,
    "hardtanh": F.hardtanh_,
    "leaky_relu": F.leaky_relu_,
    pointwise.GATE: _gate,
}

_MOST_CHANNELS = 4
_MOST_WEIGHTS = 121
"""From 130 weights on OpenCV goes by way of a Fourier transform, which rounds otherwise."""


def suits_opencv(weights: Sequence[torch.Tensor], options: Options) -> bool:
    """Whether a convolution is a small filter on each of a few channels, one for one."""
    weight, (stride, dilation, groups) = weights[0], options
    return (
        len(weights) == 1
        and weight.device.type == "cpu"
        and weight.dtype in (torch.float32, torch.float64)
        and weight.ndim == 4
        and weight.shape[1] == 1
        and weight.shape[0] == groups <= _MOST_CHANNELS
        and weight.shape[2] * weight.shape[3] <= _MOST_WEIGHTS
        and set(stride) == set(dilation) == {1}
    )


def opencv_convolver(
    weight: torch.Tensor, bias: torch.Tensor | None, last: Activation
) -> Callable[[Sequence[Padded], torch.Tensor | None], torch.Tensor]:
    """A filter for each channel, with zero beyond the border, cut to what was padded for."""
    kernels = [np.ascontiguousarray(kernel[0].detach().numpy()) for kernel in weight]
    shifts = [0.0] * len(kernels) if bias is None else bias.detach().tolist()
    height, width = weight.shape[2:]
    anchor = (width // 2, height // 2)
    native = (height - 1 - anchor[1], width - 1 - anchor[0])

    def compute(values: Sequence[Padded], room: torch.Tensor | None) -> torch.Tensor:
        ((value, padding),) = values
        # OpenCV pads to its anchor's shorter side at most; what is more is added beforehand.
        down, right = (max(0, p - most) for p, most in zip(padding, native, strict=True))
        if down or right:
            value = F.pad(value, (right, right, down, down))
        rows = _inside(value.shape[2], height, anchor[1], padding[0] - down)
        columns = _inside(value.shape[3], width, anchor[0], padding[1] - right)
        parts = [
            _filtered(image[i], kernel, shift, anchor)[rows, columns]
            for image in value  # of a batch that a layer has made of channels, too
            for i, (kernel, shift) in enumerate(zip(kernels, shifts, strict=True))
        ]
        joined = parts[0][None] if len(parts) == 1 else np.stack(parts)
        result = torch.from_numpy(joined).view(len(value), len(kernels), *joined.shape[1:])
        return last(result)

    return compute


def _inside(extent: int, kernel: int, anchor: int, padding: int) -> slice:
    """Where, in an output as large as the input, the outputs for so much padding lie."""
    return slice(anchor - padding, extent - (kernel - 1 - anchor) + padding)


def _filtered(
    channel: torch.Tensor, kernel: NDArray[Any], shift: float, anchor: tuple[int, int]
) -> NDArray[Any]:
    plane = channel.contiguous().numpy()
    filtered: NDArray[Any] = cv2.filter2D(
        plane, -1, kernel, anchor=anchor, delta=shift, borderType=cv2.BORDER_CONSTANT
    )
    return filtered


Convolver = Callable[[Sequence[Padded], torch.Tensor | None], torch.Tensor]
"""The sum of one convolution for each value, then the bias and the activation; in the memory
given, where the kernel can write there."""
AddingConvolver = Callable[
    [Sequence[Padded], torch.Tensor | None, torch.Tensor | None], torch.Tensor
]
"""The same, with a value that is added before the activation; None for nothing."""

_CONVOLUTIONS: dict[int, Callable[..., torch.Tensor]] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_SLACK = 1e-4
"""Of the largest value: two float32 kernels that are both right differ by less."""
COLUMNS = 8 << 20
"""Bytes of columns that are laid out at one time, for a convolution as a product of matrices."""


def convolver(
    node: Node, weights: Sequence[torch.Tensor], bias: torch.Tensor | None
) -> AddingConvolver:
    """The fastest kernel there is for this convolution, on the weights' device and type."""
    options = (
        list(node.params.stride),
        list(node.params.dilation),
        int(node.params.groups),
    )
    last, nothing = Activation(node.params.activation, node.params.scalars or ()), Activation()
    adds = bool(node.params.adds)
    inside = nothing if adds else last  # for kernels that cannot add
    if suits_opencv(weights, options):
        return _then(opencv_convolver(weights[0], bias, inside), last if adds else nothing)
    if compiled_layers.uses_it(node) and is_compiled():
        return compiled_layers.compiled_convolver(node, weights[0], bias)
    if compiled_signals.uses_it(node) and is_compiled():
        return compiled_signals.signal_convolver(node, weights[0], bias)
    make = _onednn if has_onednn(weights[0]) else _plain
    if winograd.is_winograd(node) and has_onednn(weights[0]):
        relu = inside.name == "relu"
        direct = _with_input(
            make(weights, bias, options, inside if relu else nothing), weights[0], options
        )
        compute = winograd.winograd_convolver(
            weights, bias, relu, _alone(direct), dilation=options[1][-1]
        )
        return _then(compute, nothing if relu else last)
    if options[0][-1] > 1 and any(w.shape[1] == 1 for w in weights):
        direct = _with_input(make(weights, bias, options, inside), weights[0], options)
        return _then(_two_columns(_alone(direct), weights[0], options), last if adds else nothing)
    return _with_input(make(weights, bias, options, last), weights[0], options)


def plain_convolver(
    weight: torch.Tensor, bias: torch.Tensor | None, last: Activation
) -> AddingConvolver:
    """oneDNN's sum of products over two axes, without stride, dilation and groups."""
    options: Options = ([1, 1], [1, 1], 1)
    return _with_input(_onednn([weight], bias, options, last), weight, options)


def _then(compute: Convolver, last: Activation) -> AddingConvolver:
    """Adds the value and applies the activation after a kernel that can do neither."""

    def adding(
        values: Sequence[Padded], room: torch.Tensor | None, added: torch.Tensor | None
    ) -> torch.Tensor:
        total = compute(values, room)
        return last(total if added is None else total.add_(added))

    return adding


def _alone(compute: AddingConvolver) -> Convolver:
    return lambda values, room: compute(values, room, None)


def _with_input(
    compute: AddingConvolver, weight: torch.Tensor, options: Options
) -> AddingConvolver:
    """Pads beforehand where some window would see padding alone.

    oneDNN 3.12 ends the process on such windows: in float32 for one column, dilated, with a bias;
    in bfloat16 for more. Torch's own convolution goes there too.
    """
    stride, dilation, _ = options
    blind: dict[tuple[int, ...], bool] = {}

    def padded(value: torch.Tensor, padding: list[int]) -> Padded:
        key = (*value.shape[2:], *padding)
        if key not in blind:
            sides = zip(value.shape[2:], weight.shape[2:], padding, stride, dilation, strict=True)
            blind[key] = any(_sees_padding_alone(*side) for side in sides)
        if not blind[key]:
            return value, padding
        return F.pad(value, [n for one in reversed(padding) for n in (one, one)]), [0] * len(
            padding
        )

    def seeing(
        values: Sequence[Padded], room: torch.Tensor | None, added: torch.Tensor | None
    ) -> torch.Tensor:
        return compute([padded(*one) for one in values], room, added)

    return seeing


def _sees_padding_alone(n: int, kernel: int, padding: int, stride: int, dilation: int) -> bool:
    """Whether some window of ``kernel`` cells over n positions holds none of them."""
    if n >= dilation and padding <= dilation * (kernel - 1):
        return False  # its cells are too close together to step over all positions
    outputs = (n + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
    cells = torch.arange(kernel) * dilation - padding
    windows = torch.arange(outputs)[:, None] * stride + cells
    return not bool(((windows >= 0) & (windows < n)).any(1).all())


def _two_columns(compute: Convolver, weight: torch.Tensor, options: Options) -> Convolver:
    """Never asks for a single column: another one beside it is computed, and dropped.

    oneDNN's kernels for AVX-512 read outside of the image where one channel, with a stride along
    the width alone, gives one column (3.12; garbage of up to 1e37). Torch's own convolution goes
    there too: in three axes, and where the channel lies last.
    """
    span, stride = options[1][-1] * (weight.shape[-1] - 1) + 1, options[0][-1]

    def apart(values: Sequence[Padded], room: torch.Tensor | None) -> torch.Tensor:
        value, padding = values[0]
        if value.shape[-1] + 2 * padding[-1] - span >= stride:
            return compute(values, room)
        wider = [(F.pad(value, (0, stride)), padding) for value, padding in values]
        return compute(wider, None).narrow(-1, 0, 1)

    return apart


def takes_columns(weight: torch.Tensor) -> bool:
    """Whether torch's own kernel lays out every output's window beside the others'."""
    return weight.device.type == "cpu" and not _onednn_takes(weight) and weight[0, 0].numel() > 1


def _plain(
    weights: Sequence[torch.Tensor],
    bias: torch.Tensor | None,
    options: Options,
    last: Activation,
) -> AddingConvolver:
    convolve = _kernel_of(weights[0])
    if weights[0].dtype == torch.bfloat16 and weights[0].device.type == "cpu":
        convolve = _with_care(convolve)
    stride, dilation, groups = options

    def compute(
        values: Sequence[Padded], room: torch.Tensor | None, added: torch.Tensor | None
    ) -> torch.Tensor:
        (first, padding), *others = values
        total = convolve(first, weights[0], bias, stride, padding, dilation, groups)
        for weight, (value, padding) in zip(weights[1:], others, strict=True):
            total += convolve(value, weight, None, stride, padding, dilation, groups)
        return last(total if added is None else total.add_(added))

    return compute


def _with_care(convolve: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """Torch's convolution in bfloat16; in float32 where oneDNN's AMX kernels are not to be trusted.

    Over three axes, over less than a kernel, and for one output column they give garbage or end the
    process (oneDNN 3.12), in torch itself too.
    """

    def careful(
        value: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        stride: list[int],
        padding: list[int],
        dilation: list[int],
        groups: int,
    ) -> torch.Tensor:
        spans = [d * (k - 1) + 1 for k, d in zip(weight.shape[2:], dilation, strict=True)]
        narrow = any(n < span for n, span in zip(value.shape[2:], spans, strict=True))
        one_column = value.shape[-1] + 2 * padding[-1] - spans[-1] < stride[-1]
        options = (stride, padding, dilation, groups)
        if not (narrow or one_column or weight.ndim == 5):
            return convolve(value, weight, bias, *options)
        wide = None if bias is None else bias.float()
        return convolve(value.float(), weight.float(), wide, *options).to(value.dtype)

    return careful


def _kernel_of(weight: torch.Tensor) -> Callable[..., torch.Tensor]:
    """torch's function for a weight, or one that keeps its memory within bounds."""
    axes = weight.ndim - 2
    if takes_columns(weight):
        return partial(_by_pieces, _CONVOLUTIONS[axes])
    if axes == 3 and _onednn_takes(weight) and weight[0, 0].numel() > 1:
        return _in_three_axes
    return _CONVOLUTIONS[axes]


def _in_three_axes(
    value: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
) -> torch.Tensor:
    """conv3d; by oneDNN where it would lay out more columns than ``COLUMNS``, as for a low band."""
    settings: tuple[Any, ...] = (padding, stride, dilation, groups)
    if value.shape[2:].numel() * weight[0].numel() * weight.element_size() > COLUMNS:
        result: torch.Tensor = torch.mkldnn_convolution(value, weight, bias, *settings)
        return result
    return F.conv3d(value, weight, bias, stride, padding, dilation, groups)


def _by_pieces(
    convolve: Callable[..., torch.Tensor],
    value: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
) -> torch.Tensor:
    """A convolution of a few rows at a time, so that their columns take ``COLUMNS`` bytes."""
    span = (weight.shape[2] - 1) * dilation[0] + 1
    rows = (value.shape[2] + 2 * padding[0] - span) // stride[0] + 1
    numbers = value.shape[3:].numel() * weight[0].numel()  # of one row's columns, or more
    step = max(1, COLUMNS // max(1, numbers * value.element_size()))
    if step >= rows:
        return convolve(value, weight, bias, stride, padding, dilation, groups)
    if padding[0]:
        value = F.pad(value, [0, 0] * (value.ndim - 3) + [padding[0]] * 2)
    total: torch.Tensor | None = None
    for first in range(0, rows, step):
        count = min(step, rows - first)
        part = value.narrow(2, first * stride[0], (count - 1) * stride[0] + span)
        piece = convolve(part, weight, bias, stride, [0, *padding[1:]], dilation, groups)
        if total is None:
            total = _of_rows(piece, rows)
        total.narrow(2, first, count).copy_(piece)
    return value if total is None else total


def _of_rows(like: torch.Tensor, rows: int) -> torch.Tensor:
    """An empty tensor of so many rows, in the layout of another."""
    last = like.ndim == 4 and like.is_contiguous(memory_format=torch.channels_last)
    return torch.empty(
        [*like.shape[:2], rows, *like.shape[3:]],
        dtype=like.dtype,
        device=like.device,
        memory_format=torch.channels_last if last else torch.contiguous_format,
    )


_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
"""The format with channels last in memory, by the number of dimensions."""


def has_onednn(weight: torch.Tensor) -> bool:
    """Whether oneDNN's convolution with an activation takes this weight."""
    return (
        weight.ndim in _LAST
        and _onednn_takes(weight)
        and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
        and hasattr(torch.ops.mkldnn, "_get_mkldnn_serialized_md")
    )


def _onednn_takes(weight: torch.Tensor) -> bool:
    onednn: bool = torch._C._has_mkldnn
    return weight.device.type == "cpu" and weight.dtype == torch.float32 and onednn


def _onednn(
    weights: Sequence[torch.Tensor],
    bias: torch.Tensor | None,
    options: Options,
    activation: Activation,
) -> AddingConvolver:
    """oneDNN's convolution with the activation, or the sum so far, in the same call."""
    convolve: Any = torch.ops.mkldnn._convolution_pointwise
    add: Any = torch.ops.mkldnn._convolution_pointwise_.binary
    packed = [_Packed(weight, options) for weight in weights]
    plain = _plain(weights, bias, options, activation)
    stride, dilation, groups = options
    format_ = _LAST[weights[0].ndim]

    def begun(room: torch.Tensor | None, added: torch.Tensor | None) -> torch.Tensor | None:
        """What the sum is added to; None for nothing."""
        fits = room is not None and room.is_contiguous(memory_format=format_)
        if added is not None:
            if room is not None and fits:
                return room.copy_(added)
            return added.clone(memory_format=format_)
        # oneDNN adds to what is there, so zeros there do the same as writing, without the copy.
        # A sum takes no other activation than a ReLU.
        simple = activation.name in (None, "relu")
        return room.zero_() if room is not None and fits and simple else None

    def compute(
        values: Sequence[Padded], room: torch.Tensor | None, added: torch.Tensor | None
    ) -> torch.Tensor:
        if not all(one.is_sound(*padded) for one, padded in zip(packed, values, strict=True)):
            return plain(values, room, added)
        total = begun(room, added)
        last = len(values) - 1
        for i, (value, padding) in enumerate(values):
            value = value.contiguous(memory_format=format_)
            weight = packed[i].laid_out(value, padding)
            unary = activation.name if i == last else None
            shift = bias if i == 0 else None
            settings = (padding, stride, dilation, groups)
            if total is None:
                scalars = list(activation.scalars) if unary else []
                total = convolve(value, weight, shift, *settings, unary or "none", scalars, "")
            elif unary in (None, "relu"):
                add(total, value, weight, shift, *settings, "add", 1.0, unary, [], "")
            else:
                add(total, value, weight, shift, *settings, "add", 1.0, None, [], "")
                activation(total)
        return torch.empty(0) if total is None else total

    return compute


class _Packed:
    """A weight in oneDNN's layouts, and for which sizes its convolution can be trusted."""

    def __init__(self, weight: torch.Tensor, options: Options) -> None:
        self._weight, self._options = weight, options
        self._packed = PackedWeight(lambda: weight, weight.shape, options)
        self._sound: dict[tuple[int, ...], bool] = {}

    def is_sound(self, value: torch.Tensor, padding: list[int]) -> bool:
        """Whether oneDNN may be asked for values of this shape.

        What it does to a single row or column depends on the processor, and was wrong on some (see
        :func:`_two_columns`). So these are tried on noise, once for each shape, against torch's own
        kernel. ``tools/check_kernels.py`` tries all other shapes.
        """
        key = (*value.shape, *padding)
        if key not in self._sound:
            self._sound[key] = 1 not in self._outputs(value, padding) or self._agrees(key, padding)
        return self._sound[key]

    def _outputs(self, value: torch.Tensor, padding: list[int]) -> list[int]:
        """The size of the output along each axis."""
        stride, dilation, _ = self._options
        sides = zip(value.shape[2:], self._weight.shape[2:], padding, stride, dilation, strict=True)
        return [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, p, s, d in sides]

    def _agrees(self, key: tuple[int, ...], padding: list[int]) -> bool:
        generator = torch.Generator().manual_seed(0)
        rank = self._weight.ndim
        noise = torch.randn(key[:rank], generator=generator)
        stride, dilation, groups = self._options
        convolve_plainly = _CONVOLUTIONS[rank - 2]
        truth = convolve_plainly(noise, self._weight, None, stride, padding, dilation, groups)
        noise = noise.contiguous(memory_format=_LAST[rank])
        weight, settings = self.laid_out(noise, padding), (padding, stride, dilation, groups)
        convolve: Any = torch.ops.mkldnn._convolution_pointwise
        found = convolve(noise, weight, None, *settings, "none", [], "")
        slack = _SLACK * float(truth.abs().max())
        return bool(((found - truth).abs() <= slack).all())

    def laid_out(self, value: torch.Tensor, padding: list[int]) -> torch.Tensor:
        """The weight for values of this shape."""
        return self._packed.laid_out(value.shape, padding)
