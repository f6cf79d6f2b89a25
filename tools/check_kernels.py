"""Hold the convolution kernels that the engine chooses against float64, on shapes at random.

    python -m tools.check_kernels --seconds 60 --seed 1

The engine takes oneDNN's private operator, an OpenCV filter or torch's own convolution. Each has
special cases by the size (one row, one column, one channel, a stride wider than the kernel) that
differ from processor to processor: run this on a new one. ``ONEDNN_MAX_CPU_ISA=AVX2`` (or
``AVX512_CORE``, ``SSE41``) makes oneDNN take the kernels of an older one.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from eyeshot.graph import ConvolutionParams, Kind, Node
from eyeshot.operators.convolution_kernels import convolver

SLACK = {torch.float32: 1e-4, torch.float64: 1e-11, torch.bfloat16: 6e-2}
_TYPES = (torch.float32, torch.float32, torch.float64, torch.bfloat16)
_LAYOUTS = ("rows of a buffer", "columns of a buffer", "channels last", "channels first")
_FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}
_CONVOLUTIONS: dict[int, Callable[..., torch.Tensor]] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


@dataclass(frozen=True, slots=True)
class Case:
    """One convolution, and how its input and its output lie in memory.

    ``channels`` are those of each part of the input; the convolution is over all parts, joined.
    """

    channels: tuple[int, ...]
    outputs: int
    groups: int
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: tuple[int, ...]
    size: tuple[int, ...]
    relu: bool
    layout: str
    room: bool
    dtype: torch.dtype
    seed: int
    adds: bool = False


class _Draw:
    """Whole numbers at random, the same ones for the same seed."""

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)

    def below(self, count: int) -> int:
        return int(torch.randint(count, (1,), generator=self._generator))

    def of(self, *values: int) -> int:
        return values[self.below(len(values))]

    def each(self, axes: int, most: int) -> tuple[int, ...]:
        return tuple(1 + self.below(most) for _ in range(axes))


def draw(seed: int) -> Case:
    """A convolution at random, most often a small and an odd one."""
    one = _Draw(seed)
    axes, groups = one.of(1, 2, 2, 2, 2, 3), one.of(1, 1, 1, 2, 3, 4)
    kernel = one.each(axes, 7 if axes < 3 else 5)
    stride = one.each(axes, 4) if one.below(2) else (1,) * axes
    dilation = one.each(axes, 3) if one.below(3) == 0 else (1,) * axes
    reach = [(k - 1) * d for k, d in zip(kernel, dilation, strict=True)]
    blind = one.of(0, 0, 0, 2)  # more padding than a window reaches over: it sees no input
    padding = tuple(one.below(r + 1 + blind) for r in reach) if one.below(2) else (0,) * axes
    fewest = [max(1, r + 1 - 2 * p) for r, p in zip(reach, padding, strict=True)]
    more = 13 if axes < 3 else 6
    parts = one.of(1, 1, 2) if groups == 1 else 1
    widest = one.of(1, 1, 4, 16, 33)
    return Case(
        channels=tuple(groups * (1 + one.below(widest)) for _ in range(parts)),
        outputs=groups * (1 + one.below(one.of(1, 1, 8, 16, 33))),
        groups=groups,
        kernel=kernel,
        stride=stride,
        dilation=dilation,
        padding=padding,
        size=tuple(n + (one.below(more) if one.below(3) else 0) for n in fewest),
        relu=bool(one.below(2)),
        layout=_LAYOUTS[one.below(4)],
        room=bool(one.below(2)),
        dtype=_TYPES[one.below(len(_TYPES))],
        seed=seed,
        adds=one.below(3) == 0,
    )


def error(case: Case) -> float:
    """The largest difference to the convolution in float64, as a share of its largest value."""
    generator = torch.Generator().manual_seed(case.seed)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator).to(case.dtype)

    values = [_laid(noise(1, count, *case.size), case.layout) for count in case.channels]
    weight = noise(case.outputs, sum(case.channels) // case.groups, *case.kernel)
    bias = noise(case.outputs)
    weights = (
        list(torch.split(weight, [*case.channels], dim=1)) if len(case.channels) > 1 else [weight]
    )
    options = (case.stride, case.padding, case.dilation, case.groups)
    exact = _CONVOLUTIONS[len(case.kernel)]
    truth = exact(torch.cat(values, 1).double(), weight.double(), bias.double(), *options)
    scale = float(truth.abs().max()) + 1e-3
    added = _laid(noise(*truth.shape), case.layout) if case.adds else None
    if added is not None:
        truth = truth + added.double()
    truth = truth.relu() if case.relu else truth
    compute = convolver(_node(case), [one.contiguous() for one in weights], bias)
    room = _room(truth, case.dtype) if case.room else None
    found = compute([(value, list(case.padding)) for value in values], room, added)
    if not found.isfinite().all():
        return float("inf")
    return float((found - truth).abs().max()) / scale


def _node(case: Case) -> Node:
    params = ConvolutionParams(
        kernel=case.kernel,
        stride=case.stride,
        padding=tuple((one, one) for one in case.padding),
        dilation=case.dilation,
        groups=case.groups,
        in_channels=sum(case.channels),
        out_channels=1,
        bias=True,
        activation="relu" if case.relu else None,
        adds=case.adds or None,
    )
    axes = tuple(range(2, 2 + len(case.kernel)))
    return Node("layer", "", "conv", Kind.LOCAL, (), (1,) * (2 + len(axes)), axes, params)


def _laid(value: torch.Tensor, layout: str) -> torch.Tensor:
    """The same numbers as a part of a larger map, or in another order in memory."""
    if layout == "channels first" or value.ndim == 3:
        return value
    shape, dim = list(value.shape), 2 if layout == "rows of a buffer" else 3
    part, start = value.shape[dim], 0 if layout == "channels last" else 3
    shape[dim] += start + (start > 0) * 2
    buffer = torch.empty(shape, dtype=value.dtype, memory_format=_FORMATS[value.ndim])
    held = buffer.fill_(1e9).narrow(dim, start, part)
    return held.copy_(value)


def _room(truth: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    shape = list(truth.shape)
    rows, shape[2] = shape[2], shape[2] + 4
    order = _FORMATS.get(truth.ndim, torch.contiguous_format)
    return torch.empty(shape, dtype=dtype, memory_format=order).fill_(1e9).narrow(2, 2, rows)


def wrong(first: int, count: int, seconds: float = float("inf")) -> tuple[int, list[Case]]:
    """How many cases from a seed on were tried, and those that are not right."""
    end, found, tried = time.monotonic() + seconds, [], 0
    for seed in range(first, first + count):
        if time.monotonic() > end:
            break
        case = draw(seed)
        tried += 1
        if not error(case) <= SLACK[case.dtype]:
            found.append(case)
    return tried, found


def main() -> int:
    """The command line; the number of wrong cases decides the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0, help="the first case")
    options = parser.parse_args()
    torch.set_num_threads(1)
    tried, found = wrong(options.seed, 1 << 40, options.seconds)
    for case in found:
        print(case, f"error {error(case):.2g}")
    print(f"{tried} convolutions, {len(found)} wrong")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
