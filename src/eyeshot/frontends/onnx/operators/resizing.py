"""``Resize`` and ``Upsample``: by torch's interpolation where it gives the same, else by picking.

Torch has five interpolations and ONNX some hundred. For the size at hand the inputs and weights of
every output are worked out by both; torch's is used where they are the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from eyeshot.axes import Arithmetic, Resize
from eyeshot.axes.resize import ResizeMode
from eyeshot.frontends.onnx.coordinates import AxisResize, Resizing
from eyeshot.frontends.onnx.site import Compute, Refusal, Site, axis_of

_SAME = 1e-6
"""Of numbers around 1: what the rounding of weights may make of them."""
_MODES: Mapping[str, tuple[tuple[ResizeMode, bool], ...]] = {
    "nearest": (("nearest", False), ("nearest-exact", False)),
    "linear": (("linear", False), ("linear", True)),
    "cubic": (("cubic", False), ("cubic", True)),
}
_TORCH = {
    **{("nearest", n): "nearest" for n in (1, 2, 3)},
    **{("nearest-exact", n): "nearest-exact" for n in (1, 2, 3)},
    **{("linear", 1): "linear", ("linear", 2): "bilinear", ("linear", 3): "trilinear"},
    ("cubic", 2): "bicubic",
}


def upsample(site: Site) -> Tensor:
    """``Upsample``, which ``Resize`` has taken the place of."""
    stored: tuple[float, ...] = site.attribute("scales", ())
    scales = stored or _floats(site, 1) or ()
    return _resized(site, _old(site), _by_scales(site, scales, range(len(scales))))


def resize(site: Site) -> Tensor:
    """``Resize`` of every version."""
    if site.version < 11:
        return upsample(site)
    if site.attribute("antialias", 0):
        raise Refusal("resizes with antialias", "export it with antialias off, or blur before it")
    rank = len(site.value(0).shape)
    axes = [axis_of(axis, rank) for axis in site.numbers("axes", tuple(range(rank)))]
    scales, sizes = _floats(site, 2), site.whole(3)
    resized = _by_scales(site, scales, axes) if scales else _by_sizes(site, sizes or (), axes)
    transform = site.attribute("coordinate_transformation_mode", "half_pixel")
    crops = transform == "tf_crop_and_resize"
    how = Resizing(
        site.attribute("mode", "nearest"),
        transform,
        site.attribute("nearest_mode", "round_prefer_floor"),
        site.attribute("cubic_coeff_a", -0.75),
        bool(site.attribute("exclude_outside", 0)),
        site.attribute("extrapolation_value", 0.0) if crops else None,
    )
    if crops and (scales or how.inside_only or any(one.n == one.m for one in resized.values())):
        _check_crop(resized, how, _floats(site, 1) or (), by_scales=bool(scales))
    if crops:
        roi = _floats(site, 1) or ()
        resized = {
            axis: replace(one, crop=(roi[place], roi[place + len(axes)]))
            for place, (axis, one) in enumerate(resized.items())
        }
    return _resized(site, how, resized)


def _check_crop(
    axes: Mapping[int, AxisResize], how: Resizing, roi: Sequence[float], *, by_scales: bool
) -> None:
    """Refuse crops of which ONNX and onnxruntime make different things."""
    whole = [(roi[place], roi[place + len(axes)]) == (0.0, 1.0) for place in range(len(axes))]
    kept = [one.n == one.m for one in axes.values()]
    if by_scales or how.inside_only or any(k and not w for k, w in zip(kept, whole, strict=True)):
        raise Refusal(
            "crops and resizes by scales, without what is outside or to as many positions, on "
            "which ONNX and onnxruntime disagree",
            "crop it by Slice, and resize to sizes",
        )


def _old(site: Site) -> Resizing:
    """Before version 11 there was one way only."""
    mode = site.attribute("mode", "nearest")
    return Resizing("linear" if "linear" in mode else mode, "asymmetric", "simple")


def _floats(site: Site, place: int) -> tuple[float, ...] | None:
    known = site.known(place)
    if known is None or known.size == 0:
        return None
    return tuple(float(one) for one in known.reshape(-1))


def _by_scales(site: Site, scales: Sequence[float], axes: Sequence[int]) -> dict[int, AxisResize]:
    shape, found = site.value(0).shape, {}
    for axis, scale in zip(axes, scales, strict=True):
        n, factor = shape[axis], float(np.float32(scale))
        if not 0 < factor < math.inf:
            raise Refusal(f"resizes by {factor}")
        found[axis] = AxisResize(n, int(np.float32(n) * np.float32(scale)), factor)
    return found


def _by_sizes(site: Site, sizes: Sequence[int], axes: Sequence[int]) -> dict[int, AxisResize]:
    shape = site.value(0).shape
    before = site.original[0] if site.original is not None else None
    if site.value(3).is_fixed and before is not None and before != shape:
        written = "x".join(map(str, sizes))
        raise Refusal(
            f"has the size {written} written into it, for another image",
            "export the network with dynamic axes, or resize by scales",
        )
    policy = site.attribute("keep_aspect_ratio_policy", "stretch")
    if policy != "stretch":
        choose = min if policy == "not_larger" else max
        scale = choose(m / shape[axis] for axis, m in zip(axes, sizes, strict=True))
        return {
            axis: AxisResize(
                shape[axis], math.floor(scale * shape[axis] + 0.5), scale, by_size=True
            )
            for axis in axes
        }
    return {
        axis: AxisResize(shape[axis], m, m / shape[axis], by_size=True)
        for axis, m in zip(axes, sizes, strict=True)
    }


def _resized(site: Site, how: Resizing, axes: Mapping[int, AxisResize]) -> Tensor:
    x = site.tensor(0)
    changed = {
        axis: one
        for axis, one in axes.items()
        if how.fill is not None or one.n != one.m or one.scale != 1.0
    }
    if not changed:
        return x
    if how.mode not in _MODES:
        raise Refusal(f"resizes by mode {how.mode}", "use nearest, linear or cubic")
    if any(one.m < 1 for one in changed.values()):
        raise Refusal("resizes to no positions", "give a larger image")
    result = _by_torch(x, how, changed)
    if result is None:
        for axis, one in changed.items():
            result = _picked(x if result is None else result, axis, one, how)
    assert result is not None
    return result if how.fill is None else _filled(result, how, changed)


def _by_torch(x: Tensor, how: Resizing, axes: Mapping[int, AxisResize]) -> Tensor | None:
    """By torch's interpolation of all axes of space; None where it has none that is the same."""
    count = x.ndim - 2
    if min(axes) < 2 or not x.is_floating_point():
        return None
    if how.mode == "cubic" and (how.cubic != -0.75 or how.inside_only):
        return None
    space = range(2, x.ndim)
    each = [
        axes.get(axis) or AxisResize(int(x.shape[axis]), int(x.shape[axis]), 1.0) for axis in space
    ]
    for (mode, align), by_factor in _candidates(how.mode):
        torch_mode = _TORCH.get((mode, count))
        if torch_mode is None or (align and by_factor):
            continue
        if all(_is_same(one, how, mode, align, by_factor) for one in each):
            options = {"align_corners": align} if mode in ("linear", "cubic") else {}
            if by_factor:
                factors = [one.scale for one in each]
                return F.interpolate(x, scale_factor=factors, mode=torch_mode, **options)
            return F.interpolate(x, [one.m for one in each], mode=torch_mode, **options)
    return None


def _candidates(mode: str) -> Iterator[tuple[tuple[ResizeMode, bool], bool]]:
    for by_factor in (True, False):
        for one in _MODES[mode]:
            yield one, by_factor


def _is_same(
    axis: AxisResize, how: Resizing, mode: ResizeMode, align: bool, by_factor: bool
) -> bool:
    """Whether torch's interpolation of an axis reads the same inputs by the same weights."""
    if by_factor and math.floor(axis.n * axis.scale) != axis.m:
        return False
    outputs = np.arange(axis.m, dtype=np.int64)
    size = {"factor": axis.scale} if by_factor else {"size": axis.m}
    if how.mode == "nearest":
        asked = axis.nearest(how)
        return all(
            (Resize(mode, **size, how=kernel).weights(outputs, axis.n)[0][:, 0] == asked).all()
            for kernel in (Arithmetic(), Arithmetic(packed=True))
        )
    exact = Arithmetic(double=True)
    own = Resize(mode, **size, align_corners=align, how=exact).weights(outputs, axis.n)
    numbers = np.random.default_rng(0).random((2, axis.n))
    apart = _applied(numbers, *own) - _applied(numbers, *axis.mix(how))
    return bool(np.abs(apart).max() < _SAME)


def _applied(numbers: np.ndarray, places: np.ndarray, weights: np.ndarray) -> np.ndarray:
    found: np.ndarray = (numbers[:, places] * weights).sum(2)
    return found


def _picked(x: Tensor, axis: int, one: AxisResize, how: Resizing) -> Tensor:
    """One axis as a sum of picked inputs by their weights."""
    if how.mode == "nearest":
        return x.index_select(axis, torch.tensor(one.nearest(how)))
    places, weights = one.mix(how)
    shape = [1] * x.ndim
    shape[axis] = one.m
    total: Tensor | None = None
    for tap in range(places.shape[1]):
        scale = torch.tensor(weights[:, tap]).to(x.dtype).reshape(shape)
        part = x.index_select(axis, torch.tensor(places[:, tap])) * scale
        total = part if total is None else total + part
    assert total is not None
    return total


def _filled(x: Tensor, how: Resizing, axes: Mapping[int, AxisResize]) -> Tensor:
    """What lies outside of the image has one value."""
    for axis, one in axes.items():
        outside = one.outside(how)
        if outside.any():
            shape = [1] * x.ndim
            shape[axis] = one.m
            x = x.masked_fill(torch.tensor(outside).reshape(shape), how.fill or 0.0)
    return x


COMPUTE: dict[str, Compute] = {"Resize": resize, "Upsample": upsample}
