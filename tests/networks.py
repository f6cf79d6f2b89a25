"""Random networks for property tests: chains, residual, crossed and U-shaped branches, over every
axis map, on 1, 2 or 3 spatial axes. One generator serves the geometry and the engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from hypothesis import assume, settings
from hypothesis import strategies as st
from torch import nn

from eyeshot.errors import Unsupported
from eyeshot.frontends.torch import graph_of
from eyeshot.graph import Graph

CHANNELS = 2


def examples(few: int, **options: Any) -> settings:
    """Settings of a slow property: a few examples in ``make test``, five times that in ``fuzz``."""
    usual = settings.get_profile("eyeshot").max_examples
    return settings(max_examples=few * settings().max_examples // usual, **options)


_CONV: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_TRANSPOSED: dict[int, Any] = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_MAX: dict[int, Any] = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}
_AVERAGE: dict[int, Any] = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}
_NORM: dict[int, Any] = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_LINEAR_MODE = {1: "linear", 2: "bilinear", 3: "trilinear"}


class Resized(nn.Module):
    """F.interpolate as a layer, by a factor or to a size worked out from the input's."""

    def __init__(
        self, mode: str, factor: float, align: bool = False, by_size: bool = False
    ) -> None:
        super().__init__()
        self.mode, self.factor, self.align, self.by_size = mode, factor, align, by_size

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        options: dict[str, Any] = {} if "nearest" in self.mode else {"align_corners": self.align}
        if self.by_size:
            size = [max(1, int(n * self.factor)) for n in x.shape[2:]]
            return F.interpolate(x, size=size, mode=self.mode, **options)
        return F.interpolate(x, scale_factor=self.factor, mode=self.mode, **options)

    def extra_repr(self) -> str:
        return f"{self.mode}, {self.factor}, align={self.align}, by_size={self.by_size}"


class Padded(nn.Module):
    """F.pad as a layer; negative amounts crop."""

    def __init__(self, amounts: list[int], mode: str, value: float = 0.0) -> None:
        super().__init__()
        self.amounts, self.mode, self.value = amounts, mode, value

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.mode == "constant":
            return F.pad(x, self.amounts, value=self.value)
        return F.pad(x, self.amounts, mode=self.mode)

    def extra_repr(self) -> str:
        return f"{self.amounts}, {self.mode}, {self.value}"


class Sliced(nn.Module):
    """Every step-th position from a start, along one axis."""

    def __init__(self, dim: int, start: int, step: int) -> None:
        super().__init__()
        self.dim, self.start, self.step = dim, start, step

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        index = [slice(None)] * x.ndim
        index[self.dim] = slice(self.start, None, self.step)
        return x[tuple(index)]

    def extra_repr(self) -> str:
        return f"dim={self.dim}, {self.start}::{self.step}"


class Shuffled(nn.Module):
    """Depth to space after enough channels, then back to CHANNELS."""

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.widen = nn.Conv2d(CHANNELS, CHANNELS * factor**2, 1)
        self.shuffle = nn.PixelShuffle(factor)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.shuffle(self.widen(x))
        return y


class Unshuffled(nn.Module):
    """Space to depth on the part that divides, then back to CHANNELS."""

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.narrow = nn.Conv2d(CHANNELS * factor**2, CHANNELS, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h, w = (n // self.factor * self.factor for n in x.shape[2:])
        y: torch.Tensor = self.narrow(F.pixel_unshuffle(x[:, :, :h, :w], self.factor))
        return y


def common_crop(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Both cut to the smaller size along every axis, from the start."""
    for dim, (a, b) in enumerate(zip(x.shape, y.shape, strict=True)):
        x, y = x.narrow(dim, 0, min(a, b)), y.narrow(dim, 0, min(a, b))
    return x, y


class Joined(nn.Module):
    """Two branches of one input, cut to a common size, then added or concatenated and mixed."""

    def __init__(self, one: nn.Module, other: nn.Module, join: str, axes: int) -> None:
        super().__init__()
        self.one, self.other, self.join = one, other, join
        self.mix = _CONV[axes](2 * CHANNELS, CHANNELS, 1) if join == "cat" else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a, b = common_crop(self.one(x), self.other(x))
        y: torch.Tensor = self.mix(torch.cat([a, b], 1)) if self.join == "cat" else a + b
        return y


class Channelwise(nn.Module):
    """A layer norm over channels, by way of channels last."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Linear(CHANNELS, CHANNELS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.scale(x.movedim(1, -1)).movedim(-1, 1)
        return y


def _per_axis(draw: st.DrawFn, axes: int, low: int, high: int) -> tuple[int, ...]:
    return tuple(draw(st.integers(low, high)) for _ in range(axes))


@st.composite
def convolutions(draw: st.DrawFn, axes: int) -> nn.Module:
    kernel = _per_axis(draw, axes, 1, 4)
    stride, dilation = _per_axis(draw, axes, 1, 3), _per_axis(draw, axes, 1, 2)
    mode = draw(st.sampled_from(["zeros", "zeros", "zeros", "reflect", "replicate", "circular"]))
    padding: Any = tuple(draw(st.integers(0, k)) for k in kernel)
    if mode != "zeros":
        padding = tuple(min(p, 1) for p in padding)
    elif draw(st.booleans()):
        padding, stride = "same", (1,) * axes
    groups = draw(st.sampled_from([1, CHANNELS]))
    bias = draw(st.booleans())
    convolution: nn.Module = _CONV[axes](
        CHANNELS, CHANNELS, kernel, stride, padding, dilation, groups, bias, mode
    )
    return convolution


@st.composite
def transposed(draw: st.DrawFn, axes: int) -> nn.Module:
    kernel, stride = _per_axis(draw, axes, 1, 4), _per_axis(draw, axes, 1, 3)
    dilation = draw(st.sampled_from([1, 1, 2]))
    padding = tuple(draw(st.integers(0, k - 1)) for k in kernel)
    extra = tuple(draw(st.integers(0, max(s, dilation) - 1)) for s in stride)
    groups = draw(st.sampled_from([1, CHANNELS]))
    layer: nn.Module = _TRANSPOSED[axes](
        CHANNELS, CHANNELS, kernel, stride, padding, extra, groups, dilation=dilation
    )
    return layer


@st.composite
def poolings(draw: st.DrawFn, axes: int) -> nn.Module:
    kernel, stride = _per_axis(draw, axes, 1, 4), _per_axis(draw, axes, 1, 3)
    padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
    ceil = draw(st.booleans())
    layer: nn.Module
    if draw(st.booleans()):
        dilation = draw(st.sampled_from([1, 1, 2]))
        layer = _MAX[axes](kernel, stride, padding, dilation, ceil_mode=ceil)
    else:
        layer = _AVERAGE[axes](kernel, stride, padding, ceil, draw(st.booleans()))
    return layer


@st.composite
def resizings(draw: st.DrawFn, axes: int) -> nn.Module:
    modes = ["nearest", "nearest-exact", _LINEAR_MODE[axes], _LINEAR_MODE[axes]]
    mode = draw(st.sampled_from([*modes, "bicubic"] if axes == 2 else modes))
    align = "nearest" not in mode and draw(st.booleans())
    factor = draw(st.sampled_from([2.0, 2.0, 3.0, 1.5, 0.5]))
    return Resized(mode, factor, align, by_size=draw(st.booleans()))


@st.composite
def borders(draw: st.DrawFn, axes: int) -> nn.Module:
    mode = draw(st.sampled_from(["constant", "reflect", "replicate", "circular"]))
    low = -1 if mode == "constant" else 0
    return Padded(list(_per_axis(draw, 2 * axes, low, 2)), mode, draw(st.sampled_from([0.0, 0.5])))


@st.composite
def pointwise(draw: st.DrawFn, axes: int) -> nn.Module:
    choices: list[Callable[[], nn.Module]] = [
        nn.ReLU,
        lambda: nn.ReLU(inplace=True),
        nn.Sigmoid,
        lambda: _NORM[axes](CHANNELS),
        nn.Dropout,
        Channelwise,
    ]
    return draw(st.sampled_from(choices))()


@st.composite
def layers(draw: st.DrawFn, axes: int) -> nn.Module:
    kinds = [convolutions, convolutions, poolings, transposed, resizings, borders, pointwise]
    extra: list[Callable[[], nn.Module]] = [
        lambda: Sliced(2 + draw(st.integers(0, axes - 1)), draw(st.integers(0, 2)), 2)
    ]
    if axes == 2:
        extra += [lambda: Shuffled(2), lambda: Unshuffled(2)]
    pick = draw(st.integers(0, len(kinds) + len(extra) - 1))
    return draw(kinds[pick](axes)) if pick < len(kinds) else extra[pick - len(kinds)]()


@st.composite
def branches(draw: st.DrawFn, axes: int) -> nn.Module:
    """Residual, crossed (1 x k beside k x 1) or U-shaped."""
    join = draw(st.sampled_from(["add", "cat"]))
    kind = draw(st.sampled_from(["residual", "crossed", "u"]))
    if kind == "crossed" and axes == 2:
        one = nn.Conv2d(CHANNELS, CHANNELS, (1, 5), padding=(0, 2))
        return Joined(one, nn.Conv2d(CHANNELS, CHANNELS, (3, 1), padding=(1, 0)), join, axes)
    if kind == "u":
        down = _MAX[axes](2) if draw(st.booleans()) else _CONV[axes](CHANNELS, CHANNELS, 2, 2)
        up = Resized("nearest", 2.0) if draw(st.booleans()) else draw(transposed(axes))
        inner = draw(layers(axes))
        return Joined(nn.Identity(), nn.Sequential(down, inner, up), join, axes)
    return Joined(nn.Identity(), draw(chains(axes, 1, 2)), join, axes)


@st.composite
def chains(draw: st.DrawFn, axes: int, shortest: int = 1, longest: int = 4) -> nn.Module:
    count = draw(st.integers(shortest, longest))
    return nn.Sequential(*(draw(layers(axes)) for _ in range(count)))


@st.composite
def networks(draw: st.DrawFn, axes: int, longest: int = 4) -> nn.Module:
    """A random network from CHANNELS to CHANNELS channels, in eval mode, with noise for weights."""
    count = draw(st.integers(1, longest))
    parts = [draw(branches(axes) if draw(st.booleans()) else layers(axes)) for _ in range(count)]
    net = nn.Sequential(*parts).eval()
    randomize(net, draw(st.integers(0, 2**16)))
    return net


def randomize(net: nn.Module, seed: int) -> None:
    """White noise for every weight and statistic (variances stay positive)."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in [*net.named_parameters(), *net.named_buffers()]:
        if tensor.is_floating_point():
            noise = torch.randn(tensor.shape, generator=generator)
            tensor.data.copy_(noise.abs() + 0.5 if "var" in name else noise * 0.7)


def make_positive(net: nn.Module) -> None:
    """Weights between 0.5 and 1.5, so that nothing cancels and a poke is never lost."""
    for name, tensor in [*net.named_parameters(), *net.named_buffers()]:
        if tensor.is_floating_point() and "running_mean" not in name:
            tensor.data.abs_().remainder_(1.0).add_(0.5)
        elif tensor.is_floating_point():
            tensor.data.zero_()


def runs_at(net: nn.Module, x: torch.Tensor) -> torch.Tensor | None:
    """``net(x)``, or None where torch finds the input too small for it."""
    try:
        with torch.no_grad():
            y: torch.Tensor = net(x.clone())
    except (RuntimeError, ValueError):
        return None
    return y if y.numel() and max(y.shape[2:]) < 200 else None


def graph_or_reject(
    net: nn.Module, *sizes: tuple[int, ...], dtype: torch.dtype = torch.float32
) -> Graph:
    """The network's graph; an example that writes in place through a view is not a fair one."""
    try:
        return graph_of(net, *sizes, dtype=dtype)
    except Unsupported as refused:
        assume("writes in place" not in str(refused))
        raise
