"""Interpolation. Torch has several kernels, and they differ in which pixels they read."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F

from eyeshot.axes import (
    Arithmetic,
    AxisMap,
    Identity,
    Interval,
    Resize,
)
from eyeshot.axes.resize import ResizeMode
from eyeshot.graph import Family, Node, ResizeParams
from eyeshot.operators.call import (
    Described,
    NoRule,
    Site,
    Tensors,
    along,
)
from eyeshot.operators.record import Operator, Work
from eyeshot.operators.tile import (
    Box,
    Computation,
    Tile,
    cut,
)

_MODES: dict[str, ResizeMode] = {
    "nearest_exact": "nearest-exact",
    "nearest": "nearest",
    "bicubic": "cubic",
    "linear": "linear",
}


_SMALL = 128
"""Up to this sum of height and width of the output, torch always uses its channels-last kernel."""


_FEW_CHANNELS = 3
"""Up to this number of channels, the memory layout alone never makes torch use that kernel."""


def resize_geometry(site: Site) -> Described:
    """The ``upsample_*`` family, by factor and by size."""
    source = site.node("input")
    mode = _mode(site.operator)
    align = bool(site.arguments.get("align_corners", False))
    factors, sizes = site.arguments["scale_factors"], site.arguments["output_size"]
    axes = len(factors if factors is not None else sizes)
    first = len(source.shape) - axes
    how = Arithmetic(double=site.dtype == "float64", fused=_torch_fuses())
    maps: dict[int, AxisMap] = {}
    for i in range(first, len(source.shape)):
        factor = None if factors is None else float(factors[i - first])
        size = None if sizes is None else int(sizes[i - first])
        axis = _axis_along(mode, source.shape[i], factor, size, align)
        maps[i] = axis if isinstance(axis, Identity) else _as_computed(axis, how, site, axes, i)
    params = ResizeParams(
        mode=mode,
        align_corners=align,
        factor=None if factors is None else tuple(float(one) for one in factors),
        size=None if sizes is None else tuple(int(one) for one in sizes),
    )
    return Described((along(source, maps),), source.dims, params=params)


def _mode(operator: str) -> ResizeMode:
    for word, mode in _MODES.items():
        if word in operator:
            return mode
    raise NoRule("an unknown kind of interpolation")


def _axis_along(
    mode: ResizeMode, n: int, factor: float | None, size: int | None, align: bool
) -> Resize | Identity:
    """The map of one axis. A size that is an integer multiple of the input's becomes a factor."""
    if factor is None:
        whole = bool(n) and size is not None and size % n == 0
        axis = Resize(
            mode,
            factor=(size or 0) / n if whole else None,
            size=None if whole else size,
            align_corners=align,
        )
    else:
        axis = Resize(mode, factor=factor, align_corners=align)
    # Linear modes copy an axis whose size does not change, whatever the factor.
    return Identity() if mode == "linear" and axis.output_size(n) == n else axis


def _as_computed(
    axis: Resize, how: Arithmetic, site: Site, axes: int, dim: int
) -> Resize | Identity:
    """The axis map for the kernel that torch uses for this input.

    The channels-last kernel is recorded only if it reads other pixels than the usual kernel.
    """
    n = site.node("input").shape[dim]
    plain = replace(axis, how=how)
    if axis.mode in ("nearest", "nearest-exact") and _packs_channels(site, axes):
        packed = replace(axis, how=replace(how, packed=True))
        outputs = np.arange(axis.output_size(n), dtype=np.int64)
        if (plain.weights(outputs, n)[0] != packed.weights(outputs, n)[0]).any():
            plain = packed
            if axis.mode == "nearest" and len(outputs) == n:  # (pytorch/pytorch#70559)
                return Identity()
            if axis.mode == "nearest" and len(outputs) == 2 * n:
                plain = Resize("nearest", factor=2.0, how=how)
    return replace(plain, even=plain.follows_its_pattern(n))


def _packs_channels(site: Site, axes: int) -> bool:
    """Whether torch uses its channels-last kernel (torch's ``_use_vectorized_kernel_cond``)."""
    shape = site.node("input").shape
    by_layout = axes > 1 and site.channels_last and shape[1] > _FEW_CHANNELS
    return by_layout or (axes == 2 and sum(site.shape[-2:]) <= _SMALL)


@lru_cache(maxsize=1)
def _torch_fuses() -> bool:
    """Whether this build of torch uses fused multiply-add, which rounds once, on this processor."""
    n, factor = 1000, 1.25
    outputs = np.arange(int(n * factor), dtype=np.int64)
    ramp = torch.zeros(2, 1, n)
    ramp[0, 0, ::2], ramp[1, 0, 1::2] = 1, 1  # so each weight comes out as it is
    even = F.interpolate(ramp, scale_factor=factor, mode="linear")[0, 0].numpy()
    inputs, weights = Resize("linear", factor=factor).weights(outputs, n)
    return bool((np.where(inputs % 2 == 0, weights, 0).sum(1) == even).all())


_TORCH_MODES = {
    ("nearest", 1): "nearest",
    ("nearest", 2): "nearest",
    ("nearest", 3): "nearest",
    ("linear", 1): "linear",
    ("linear", 2): "bilinear",
    ("linear", 3): "trilinear",
}


def resize_on_tile(node: Node, tensors: Tensors) -> Computation:
    """The ``upsample_*`` family on a tile."""

    def compute(inputs: list[Tile], box: Box, room: torch.Tensor | None = None) -> torch.Tensor:
        tile = inputs[0]
        factor = _shared_factor(tile)
        if factor is not None:
            return _by_torch(tile, box, factor)
        value = tile.value
        for place, axis in enumerate(tile.axes):
            dim = tile.dims[place]
            if dim is not None and isinstance(axis, Resize):
                available, n = tile.box[place], tile.extents[place]
                value = _along(value, dim, axis, box[place], available, n)
        return value

    return compute


def _shared_factor(tile: Tile) -> int | None:
    """The integer factor, if torch's own kernel gives the same numbers on a tile; else None.

    The factor must be a power of two. Its inverse is then exact in binary, so a shift by whole
    inputs changes no coordinate.
    """
    factors = set()
    for axis, dim in zip(tile.axes, tile.dims, strict=True):
        if not isinstance(axis, Resize) or axis.factor is None or axis.align_corners:
            return None
        if dim is None or (axis.mode, len(tile.axes)) not in _TORCH_MODES:
            return None
        factors.add(axis.factor)
    factor = int(factors.pop()) if len(factors) == 1 else 0
    if factor < 1 or any(axis.factor != factor for axis in tile.axes if isinstance(axis, Resize)):
        return None
    exact = factor & (factor - 1) == 0
    return factor if exact and tile.value.numel() else None


def _by_torch(tile: Tile, box: Box, factor: int) -> torch.Tensor:
    axis = tile.axes[0]
    mode = _TORCH_MODES[(axis.mode, len(tile.axes))] if isinstance(axis, Resize) else "nearest"
    options = {} if mode == "nearest" else {"align_corners": False}
    value = F.interpolate(tile.value, scale_factor=factor, mode=mode, **options)
    reached = tuple(Interval(side.lo * factor, side.hi * factor) for side in tile.box)
    return cut(value, tile.dims, reached, box)


def _along(
    value: torch.Tensor, dim: int, axis: Resize, side: Interval, available: Interval, n: int
) -> torch.Tensor:
    """Resize one axis: a weighted sum of one, two or four inputs for each output."""
    outputs = np.arange(side.lo, side.hi, dtype=np.int64)
    inputs, weights = axis.weights(outputs, n)
    places = torch.from_numpy(inputs - available.lo).to(value.device)
    if inputs.shape[1] == 1:
        return value.index_select(dim, places[:, 0])
    shape = [1] * value.ndim
    shape[dim] = len(outputs)
    scales = torch.from_numpy(weights).to(value.device, value.dtype)

    def part(tap: int) -> torch.Tensor:
        scale = scales[:, tap].reshape(shape)
        return value.index_select(dim, places[:, tap]).mul_(scale)

    total = part(0)
    for tap in range(1, inputs.shape[1]):
        total += part(tap)  # one at a time: each is as large as what is given
    return total


def resize_scratch(work: Work) -> int:
    """Scratch bytes: one tap of the last axis, the sum, and the earlier axes; or torch's own."""
    axes = [axis for axis in work.node.edges[0].axes if isinstance(axis, Resize)]
    if not axes:
        return 0
    last = axes[-1]
    factor = last.factor or 1
    before = int(work.gives / max(1, factor)) + work.read
    reached = int(work.read * math.prod(axis.factor or 1 for axis in axes))
    return max(work.gives + before, reached - work.gives + work.read)


def tap_operations(node: Node, read: int, gives: int) -> int:
    """Operations: one for each input in the weighted sum of an output."""
    taps = {"linear": 2, "cubic": 4}.get(node.params.mode, 1)
    return int(gives * taps ** len(node.params.factor or node.params.size or ()))


OPERATORS = (
    Operator(
        """
        upsample_nearest1d upsample_nearest2d upsample_nearest3d
        _upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d
        upsample_linear1d upsample_bilinear2d upsample_trilinear3d upsample_bicubic2d
        """,
        Family.RESIZE,
        resize_geometry,
        resize_on_tile,
        slides=True,
        other_operations=tap_operations,
        scratch=resize_scratch,
    ),
)
