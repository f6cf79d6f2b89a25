"""Rules for interpolation: by which kernel torch computes it decides which pixels are read."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F

from eyeshot.axes import Arithmetic, AxisMap, Identity, Resize
from eyeshot.axes.resize import ResizeMode
from eyeshot.frontends.sites import Described, NoRule, Rule, Site, along

_MODES: dict[str, ResizeMode] = {
    "nearest_exact": "nearest-exact",
    "nearest": "nearest",
    "bicubic": "cubic",
    "linear": "linear",
}
_SMALL = 128
"""Up to this sum of both sides of its output torch takes the channels-last kernel for any map."""
_FEW_CHANNELS = 3
"""Up to these it never takes that kernel for the layout alone."""


def resizing(site: Site) -> Described:
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
        axis = _along(mode, source.shape[i], factor, size, align)
        maps[i] = axis if isinstance(axis, Identity) else _as_computed(axis, how, site, axes, i)
    attributes: dict[str, object] = {
        "mode": mode,
        "align_corners": align,
        "factor": None if factors is None else tuple(float(one) for one in factors),
        "size": None if sizes is None else tuple(int(one) for one in sizes),
    }
    return Described((along(source, maps),), source.dims, attributes=attributes)


def _mode(operator: str) -> ResizeMode:
    for word, mode in _MODES.items():
        if word in operator:
            return mode
    raise NoRule("an unknown kind of interpolation")


def _along(
    mode: ResizeMode, n: int, factor: float | None, size: int | None, align: bool
) -> Resize | Identity:
    """One axis; a whole factor repeats from place to place, so a size that is one becomes one."""
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
    # Linear modes copy an axis whose size stays, whatever the factor.
    return Identity() if mode == "linear" and axis.extent(n) == n else axis


def _as_computed(
    axis: Resize, how: Arithmetic, site: Site, axes: int, dim: int
) -> Resize | Identity:
    """The axis in the arithmetic of the kernel that torch takes for this map.

    The kernel for packed channels is noted only where it reads other pixels than the other one.
    """
    n = site.node("input").shape[dim]
    plain = replace(axis, how=how)
    if axis.mode in ("nearest", "nearest-exact") and _packs_channels(site, axes):
        packed = replace(axis, how=replace(how, packed=True))
        outputs = np.arange(axis.extent(n), dtype=np.int64)
        if (plain.weights(outputs, n)[0] != packed.weights(outputs, n)[0]).any():
            plain = packed
            if axis.mode == "nearest" and len(outputs) == n:  # (pytorch/pytorch#70559)
                return Identity()
            if axis.mode == "nearest" and len(outputs) == 2 * n:
                plain = Resize("nearest", factor=2.0, how=how)
    return replace(plain, even=plain.follows_its_pattern(n))


def _packs_channels(site: Site, axes: int) -> bool:
    """Whether torch takes its channels-last kernel (``_use_vectorized_kernel_cond`` there)."""
    shape = site.node("input").shape
    by_layout = axes > 1 and site.channels_last and shape[1] > _FEW_CHANNELS
    return by_layout or (axes == 2 and sum(site.shape[-2:]) <= _SMALL)


@lru_cache(maxsize=1)
def _torch_fuses() -> bool:
    """Whether torch, as it was built for this processor, rounds a product and a sum at once."""
    n, factor = 1000, 1.25
    outputs = np.arange(int(n * factor), dtype=np.int64)
    ramp = torch.zeros(2, 1, n)
    ramp[0, 0, ::2], ramp[1, 0, 1::2] = 1, 1  # so each weight comes out as it is
    even = F.interpolate(ramp, scale_factor=factor, mode="linear")[0, 0].numpy()
    inputs, weights = Resize("linear", factor=factor).weights(outputs, n)
    return bool((np.where(inputs % 2 == 0, weights, 0).sum(1) == even).all())


RULES: dict[str, Rule] = {
    **{f"upsample_nearest{n}d": resizing for n in (1, 2, 3)},
    **{f"_upsample_nearest_exact{n}d": resizing for n in (1, 2, 3)},
    "upsample_linear1d": resizing,
    "upsample_bilinear2d": resizing,
    "upsample_trilinear3d": resizing,
    "upsample_bicubic2d": resizing,
}
