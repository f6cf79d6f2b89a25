"""``Resize`` and ``Upsample``, by torch's interpolation if it gives the same, else by gathering.

Torch has five kinds of interpolation, and ONNX about a hundred. For the given size, the inputs and
weights of every output are computed for both (:class:`AxisResize`), and torch's interpolation is
used if they are equal.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from eyeshot.axes import Arithmetic, Resize
from eyeshot.axes.resize import ResizeMode
from eyeshot.frontends.onnx.site import Compute, Refusal, Site, axis_of

_ROUNDING = 1e-6
"""The relative rounding error of coordinates, by which implementations differ."""
Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Resizing:
    """The settings of a resize, the same for every axis.

    Attributes:
        mode: nearest, linear or cubic.
        transform: how coordinates are computed, such as ``half_pixel``.
        rounding: the rounding of ``nearest``, such as ``floor``.
        cubic: the coefficient of the cubic kernel.
        inside_only: whether cubic weights outside the image are left out.
        fill: the value outside the image; None to repeat the border.
    """

    mode: str
    transform: str
    rounding: str = "round_prefer_floor"
    cubic: float = -0.75
    inside_only: bool = False
    fill: float | None = None


@dataclass(frozen=True)
class AxisResize:
    """One axis: from ``n`` inputs to ``m`` outputs by ``scale``; ``crop`` is its part, if any.

    ``by_size`` is True if the file gives m, from which the scale is computed.
    """

    n: int
    m: int
    scale: float
    crop: tuple[float, float] = (0.0, 1.0)
    by_size: bool = False

    def source(self, how: Resizing, real: type[np.floating[Any]]) -> Floats:
        """The input coordinate of each output, (m,)."""
        x = np.arange(self.m).astype(real)
        scale, half = real(np.float32(self.scale)), real(0.5)
        n, m = real(self.n), real(self.m)
        found: Floats
        match how.transform:
            case "tf_crop_and_resize":
                start, end = map(real, self.crop)
                if self.m == 1:
                    return np.array([half * (start + end) * (n - 1)])
                found = start * (n - 1) + (x * (end - start) * (n - 1)) / (m - 1)
            case _ if scale == 1 and self.n == self.m:
                return x
            case "asymmetric":
                found = x / scale
            case "half_pixel":
                found = (x + half) / scale - half
            case "pytorch_half_pixel":
                found = (x + half) / scale - half if self.m > 1 else np.zeros_like(x)
            case "tf_half_pixel_for_nn":
                found = (x + half) / scale
            case "align_corners":
                if self.scale * self.n != self.m and self.m > 1 and not self.by_size:
                    raise Refusal(
                        "finds places by align_corners for a size that is no whole number, and "
                        "ONNX and onnxruntime disagree on them",
                        "resize to sizes, or by a scale that gives a whole number",
                    )
                found = x * (n - 1) / (m - 1) if self.m > 1 else np.zeros_like(x)
            case "half_pixel_symmetric":
                shift = n / 2 * (1 - m / (scale * n))
                found = shift + (x + half) / scale - half
            case other:
                raise Refusal(f"finds places by {other}", "use half_pixel or asymmetric")
        return found

    def nearest(self, how: Resizing) -> Ints:
        """The index of the input that each output copies, (m,).

        Raises:
            Refusal: for some output, it depends on rounding which of two inputs it is.
        """
        x = self.source(how, np.float64)
        found = self._copied(how, self.source(how, np.float32))
        others = [self._copied(how, x)]
        exact = float(np.float32(self.scale)) == self.scale
        if (self.by_size and not exact) or how.transform == "half_pixel_symmetric":
            least = _ROUNDING * (1 + np.abs(x))
            others += [self._copied(how, x - least), self._copied(how, x + least)]
        if any((found != one).any() for one in others):
            raise Refusal(
                f"resizes {self.n} positions to {self.m}, where rounding decides between two of "
                "them, and programs disagree",
                "give an image of another size",
            )
        return found

    def _copied(self, how: Resizing, x: Floats) -> Ints:
        match how.rounding:
            case "round_prefer_floor":
                away = np.sign(x) * np.floor(np.abs(x) + 0.5)
                found = np.where(x == np.trunc(x) + 0.5, np.floor(x), away)
            case "round_prefer_ceil":
                found = np.sign(x) * np.floor(np.abs(x) + 0.5)
            case "floor":
                found = np.floor(x)
            case "ceil":
                found = np.ceil(x)
            case "simple":  # before version 11
                found = np.ceil(x) if self.scale < 1 else np.trunc(x)
            case other:
                raise Refusal(f"rounds by {other}", "use floor or round_prefer_floor")
        return np.clip(found, 0, self.n - 1).astype(np.int64)

    def mix(self, how: Resizing) -> tuple[Ints, Floats]:
        """The indices and the weights of each output's inputs, both (m, taps)."""
        x = self.source(how, np.float64)
        below = np.floor(x)
        part = (x - below)[:, None]
        if how.mode == "linear":
            taps, weights = np.array([0, 1]), np.concatenate([1 - part, part], 1)
        else:
            taps = np.array([-1, 0, 1, 2])
            weights = _cubic(np.abs(part - taps), how.cubic)
        places = below[:, None].astype(np.int64) + taps
        if how.inside_only and how.mode == "cubic":
            weights = np.where((places >= 0) & (places < self.n), weights, 0.0)
            weights = weights / weights.sum(1, keepdims=True)
        return np.clip(places, 0, self.n - 1), weights

    def outside(self, how: Resizing) -> NDArray[np.bool_]:
        """A mask of the outputs that are outside the image, (m,)."""
        x = self.source(how, np.float32)
        return (x < 0) | (x > self.n - 1)


def _cubic(distance: Floats, a: float) -> Floats:
    """The kernel of Keys (1981) with its coefficient."""
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    found: Floats = np.where(distance <= 1, near, np.where(distance < 2, far, 0.0))
    return found


_SAME = 1e-6
"""The largest difference between weights that counts as rounding."""
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
    """``Upsample``, the old operator that ``Resize`` has replaced."""
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
    """Refuse crops for which ONNX and onnxruntime give different results."""
    whole = [(roi[place], roi[place + len(axes)]) == (0.0, 1.0) for place in range(len(axes))]
    unscaled = [one.n == one.m for one in axes.values()]
    if (
        by_scales
        or how.inside_only
        or any(k and not w for k, w in zip(unscaled, whole, strict=True))
    ):
        raise Refusal(
            "crops and resizes by scales, without what is outside or to as many positions, on "
            "which ONNX and onnxruntime disagree",
            "crop it by Slice, and resize to sizes",
        )


def _old(site: Site) -> Resizing:
    """The settings before version 11, which had a single way to compute coordinates."""
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
    """Torch's interpolation of all spatial axes; None if it has no equal one."""
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
    """Whether torch's interpolation of an axis has the same inputs and weights."""
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
    """One axis resized as a weighted sum of gathered inputs."""
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
    """The outputs outside the image replaced by the fill value."""
    for axis, one in axes.items():
        outside = one.outside(how)
        if outside.any():
            shape = [1] * x.ndim
            shape[axis] = one.m
            x = x.masked_fill(torch.tensor(outside).reshape(shape), how.fill or 0.0)
    return x


COMPUTE: dict[str, Compute] = {"Resize": resize, "Upsample": upsample}
