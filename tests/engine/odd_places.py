"""Operators in odd places: what they slide over holds positions, bands or channels, by turns."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

Function = Callable[[torch.Tensor], torch.Tensor]

_CONVOLUTIONS: tuple[Any, ...] = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED: tuple[Any, ...] = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_MAX: tuple[Any, ...] = (F.max_pool1d, F.max_pool2d, F.max_pool3d)
_AVERAGE: tuple[Any, ...] = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)
_LP: tuple[Any, ...] = (F.lp_pool1d, F.lp_pool2d, F.lp_pool3d)
_ADAPTIVE: tuple[tuple[Any, ...], ...] = (
    (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d),
    (F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d),
)
_LINEAR = ("linear", "bilinear", "trilinear")

OPERATORS = (
    *("convolution", "same", "transposed", "max_pool", "average_pool", "lp_pool"),
    *("adaptive", "pad", "resize", "shuffle"),
)


class Turned(nn.Module):
    """Splits channels in two, lays dimensions in an order, applies an operator, lays them back.

    The order is of (channels, bands, and the axes of space); where the operator takes a dimension
    less, channels and bands are one.
    """

    def __init__(self, order: list[int], split: bool, operator: Function) -> None:
        super().__init__()
        self.order, self.split, self.operator = order, split, operator

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.split:
            x = x.reshape(1, -1, 5, *x.shape[2:])
        forth = [0, *(place + 1 for place in self.order)]
        back = sorted(range(len(forth)), key=lambda place: forth[place])
        y = self.operator(x.permute(forth))
        y = (y.flatten(1, y.ndim - len(forth) + 1) if y.ndim > len(forth) else y).permute(back)
        return y.flatten(1, 2) if self.split else y


@dataclass(frozen=True)
class Case:
    """A network and the size of its image; ``in_words`` says what it is."""

    net: nn.Module
    size: tuple[int, ...]
    in_words: str


def case_of(seed: int, operator: str) -> Case:
    """A random one."""
    r = random.Random(seed)
    torch.manual_seed(seed)
    space = r.choice([1, 2, 2])
    split = r.random() < 0.5
    axes = space + split  # that the operator slides over
    size = tuple(r.randint(4, 9) for _ in range(space))
    order = list(range(axes + 1))
    r.shuffle(order)
    features = 5 if split else 6
    channels = 10 if split else 6
    sizes = [*([2, 5] if split else [features]), *size]
    options = [sizes[place] for place in order]
    function, in_words = _MAKERS[operator](r, axes, options)
    net = Turned(order, split, function).double().eval()
    return Case(net, (channels, *size), f"{in_words} over {order} of {sizes}, split {split}")


def _each(r: random.Random, axes: int, low: int, high: int) -> tuple[int, ...]:
    return tuple(r.randint(low, high) for _ in range(axes))


def _convolution(r: random.Random, axes: int, sizes: list[int]) -> tuple[Function, str]:
    options = {
        "kernel_size": _each(r, axes, 1, 3),
        "stride": _each(r, axes, 1, 3),
        "padding": _each(r, axes, 0, 3),
        "dilation": _each(r, axes, 1, 2),
        "padding_mode": r.choice(["zeros", "zeros", "reflect", "replicate", "circular"]),
    }
    # The same number comes out as went in, so that channels can be laid back.
    return _CONVOLUTIONS[axes - 1](sizes[0], sizes[0], **options), f"conv {options}"


def _same(r: random.Random, axes: int, sizes: list[int]) -> tuple[Function, str]:
    kernel = _each(r, axes, 1, 4)
    made = _CONVOLUTIONS[axes - 1](sizes[0], sizes[0], kernel, padding="same")
    return made, f"conv {kernel} same"


def _transposed(r: random.Random, axes: int, sizes: list[int]) -> tuple[Function, str]:
    stride = _each(r, axes, 1, 3)
    options = {
        "kernel_size": _each(r, axes, 1, 3),
        "stride": stride,
        "padding": _each(r, axes, 0, 1),
        "output_padding": tuple(r.randint(0, s - 1) for s in stride),
    }
    return _TRANSPOSED[axes - 1](sizes[0], sizes[0], **options), f"transposed {options}"


def _pooling(r: random.Random, axes: int) -> dict[str, Any]:
    kernel = _each(r, axes, 1, 4)
    return {
        "kernel_size": kernel,
        "stride": _each(r, axes, 1, 3),
        "padding": tuple(r.randint(0, k // 2) for k in kernel),
        "ceil_mode": r.random() < 0.5,
    }


def _max_pool(r: random.Random, axes: int, sizes: list[int]) -> tuple[Function, str]:
    options = {**_pooling(r, axes), "dilation": _each(r, axes, 1, 2)}
    return lambda x: _MAX[axes - 1](x, **options), f"max_pool {options}"


def _average_pool(r: random.Random, axes: int, sizes: list[int]) -> tuple[Function, str]:
    options = {**_pooling(r, axes), "count_include_pad": r.random() < 0.5}
    if axes > 1 and r.random() < 0.3:
        options["divisor_override"] = r.randint(1, 9)
    return lambda x: _AVERAGE[axes - 1](x, **options), f"avg_pool {options}"


def _lp_pool(r: random.Random, axes: int, sizes: list[int]) -> tuple[Function, str]:
    kernel = _each(r, axes, 1, 3)
    options = {"stride": _each(r, axes, 1, 3), "ceil_mode": r.random() < 0.5}
    if axes == 1:
        kernel, options["stride"] = kernel[0], options["stride"][0]  # type: ignore[assignment, index]
    return lambda x: _LP[axes - 1](x, 2, kernel, **options), f"lp_pool {kernel} {options}"


def _adaptive(r: random.Random, axes: int, sizes: list[int]) -> tuple[Function, str]:
    expected = [r.choice([1, 1, 2, 3, n]) for n in sizes[1:]]
    which = r.randint(0, 1)
    return lambda x: _ADAPTIVE[which][axes - 1](x, expected), f"adaptive {which} {expected}"


def _pad(r: random.Random, axes: int, sizes: list[int]) -> tuple[Function, str]:
    mode = r.choice(["constant", "reflect", "replicate", "circular"])
    lowest = -1 if mode == "constant" else 0
    amounts = [r.randint(lowest, 3) for _ in range(2 * (axes + (mode == "constant")))]
    value = 0.5 if mode == "constant" else None
    return lambda x: F.pad(x, amounts, mode, value), f"pad {amounts} {mode}"


def _resize(r: random.Random, axes: int, sizes: list[int]) -> tuple[Function, str]:
    modes = ["nearest", "nearest-exact", _LINEAR[axes - 1], *(["bicubic"] * (axes == 2))]
    options: dict[str, Any] = {"mode": r.choice(modes)}
    if "linear" in options["mode"] or "cubic" in options["mode"]:
        options["align_corners"] = r.random() < 0.5
    if r.random() < 0.5:
        options["size"] = tuple(r.choice([n, 2 * n, r.randint(1, 12)]) for n in sizes[1:])
    else:
        factors = [r.choice([0.5, 1.0, 1.02, 1.5, 2.0, 3.0]) for _ in range(axes)]
        options["scale_factor"] = tuple(factors)
    return lambda x: F.interpolate(x, **options), f"resize {options}"


def _shuffle(r: random.Random, axes: int, sizes: list[int]) -> tuple[Function, str]:
    which = r.randint(0, 1)

    def function(x: torch.Tensor) -> torch.Tensor:
        if axes == 1:
            x = x[:, :, None]
        if which:
            return F.pixel_shuffle(torch.cat([x] * 4, -3), 2)
        return F.pixel_unshuffle(torch.cat([x] * 2, -2)[..., : x.shape[-1] // 2 * 2], 2)

    return function, f"shuffle {which}"


_MAKERS: dict[str, Callable[[random.Random, int, list[int]], tuple[Function, str]]] = {
    "convolution": _convolution,
    "same": _same,
    "transposed": _transposed,
    "max_pool": _max_pool,
    "average_pool": _average_pool,
    "lp_pool": _lp_pool,
    "adaptive": _adaptive,
    "pad": _pad,
    "resize": _resize,
    "shuffle": _shuffle,
}
