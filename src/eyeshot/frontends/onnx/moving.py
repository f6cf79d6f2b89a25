"""Operators that place numbers: padding, slices, transposes, reshapes, ``Resize`` and ``Upsample``.

A reshape has a shape that the file computes, or a shape that is fixed in it for one image size.

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
from eyeshot.frontends.onnx.site import Compute, Refusal, Shape, Site, axis_of
from eyeshot.operators.reshaping import groups

_PAD_MODES = {"reflect": "reflect", "edge": "replicate", "wrap": "circular"}
_NUMPY = {"reflect": "reflect", "edge": "edge", "wrap": "wrap"}


def pad(site: Site) -> Tensor:
    """``Pad`` in its four modes; negative amounts crop."""
    x, mode = site.tensor(0), site.attribute("mode", "constant")
    pads = site.listed("pads", 1) or ()
    axes = site.whole(3)
    named = range(x.ndim) if axes is None else [axis_of(axis, x.ndim) for axis in axes]
    pairs = [(0, 0)] * x.ndim
    for place, axis in enumerate(named):
        pairs[axis] = (pads[place], pads[place + len(named)])
    flat = [n for pair in reversed(pairs) for n in pair]
    while flat and flat[-2:] == [0, 0]:
        flat = flat[:-2]
    if not flat:
        return x
    if mode == "constant":
        value = site.attribute("value", 0.0) if site.version < 11 else site.number(2, 0)
        return F.pad(x, flat, value=value)
    if mode not in _PAD_MODES:
        raise Refusal(f"pads by mode {mode}", "use constant, reflect, edge or wrap")
    if _torch_pads(x, pairs, mode):
        axes_padded = x.ndim - 2 if x.ndim > 2 else 1
        return F.pad(x, (flat + [0] * (2 * axes_padded))[: 2 * axes_padded], mode=_PAD_MODES[mode])
    for axis, (before, after) in enumerate(pairs):
        x = _picked_border(x, axis, before, after, mode)
    return x


def _torch_pads(x: Tensor, pairs: Sequence[tuple[int, int]], mode: str) -> bool:
    """Whether ``F.pad`` can do it: only on the last axes, and not by more than their size."""
    most = {"reflect": -1, "edge": 1 << 60, "wrap": 0}[mode]
    return (
        3 <= x.ndim <= 5
        and x.is_floating_point()
        and all(pair == (0, 0) for pair in pairs[:2])
        and all(
            min(pair) >= 0 and max(pair) <= n + most for pair, n in zip(pairs, x.shape, strict=True)
        )
    )


def _picked_border(x: Tensor, axis: int, before: int, after: int, mode: str) -> Tensor:
    if (before, after) == (0, 0):
        return x
    n = int(x.shape[axis])
    places = np.arange(n)[max(0, -before) : n + min(0, after)]
    if max(before, after) > 0:
        places = np.pad(places, (max(0, before), max(0, after)), _NUMPY[mode])  # type: ignore[call-overload]
    return x.index_select(axis, torch.tensor(places))


def slices(site: Site) -> Tensor:
    """``Slice`` with steps of either sign."""
    x = site.tensor(0)
    starts, ends = site.listed("starts", 1) or (), site.listed("ends", 2) or ()
    axes = site.listed("axes", 3)
    steps = site.whole(4) or (1,) * len(starts)
    named = range(len(starts)) if axes is None else axes
    for start, end, axis, step in zip(starts, ends, named, steps, strict=True):
        x = sliced(x, axis_of(axis, x.ndim), start, end, step)
    return x


def sliced(x: Tensor, axis: int, start: int, end: int, step: int) -> Tensor:
    """One axis sliced as in Python, also with a negative step."""
    n = int(x.shape[axis])
    if step == 0:
        raise Refusal("has a step of 0")
    if step > 0:
        start, end, _ = slice(start, end, step).indices(n)
    else:
        start, end = _backwards(start, end, n)
        x, start, end, step = x.flip(axis), n - 1 - start, n - 1 - end, -step
    if (start, step) == (0, 1) and end >= n:
        return x
    index = [slice(None)] * axis + [slice(start, max(start, end), step)]
    return x[tuple(index)]


def _backwards(start: int, end: int, n: int) -> tuple[int, int]:
    start = min(max(start + n if start < 0 else start, 0), n - 1)
    end = min(max(end + n if end < 0 else end, -1), n - 1)
    return start, end


def concat(site: Site) -> Tensor:
    """``Concat``."""
    parts = [site.tensor(place) for place in range(len(site.values))]
    return torch.cat(parts, axis_of(site.attribute("axis", 1), parts[0].ndim))


def split(site: Site) -> tuple[Tensor, ...]:
    """``Split`` into parts of given sizes, or of equal sizes."""
    x = site.tensor(0)
    axis = axis_of(site.attribute("axis", 0), x.ndim)
    n, count = int(x.shape[axis]), len(site.op.outputs)
    sizes = site.listed("split", 1)
    if sizes is None:
        part = -(-n // count)
        sizes = tuple(min(part, max(0, n - part * place)) for place in range(count))
    return tuple(torch.split(x, list(sizes), axis))


def gather(site: Site) -> Tensor:
    """``Gather``: indices along one axis; a single known index becomes a plain selection."""
    x = site.tensor(0)
    axis = axis_of(site.attribute("axis", 0), x.ndim)
    n = int(x.shape[axis])
    if not site.value(1).is_known:
        index = site.tensor(1)
        index = torch.where(index < 0, index + n, index)
        shape = (*x.shape[:axis], *index.shape, *x.shape[axis + 1 :])
        return x.index_select(axis, index.reshape(-1)).reshape(shape)
    places = np.asarray(site.known(1))
    if places.size and (places.min() < -n or places.max() >= n):
        raise Refusal(f"reads place {places.max()} of {n}")
    places = np.where(places < 0, places + n, places)
    if places.ndim == 0:
        return x.select(axis, int(places))
    flat = places.reshape(-1)
    if flat.size and (np.diff(flat) == 1).all():
        found = sliced(x, axis, int(flat[0]), int(flat[-1]) + 1, 1)
    else:
        found = x.index_select(axis, torch.tensor(flat.astype(np.int64)))
    if places.ndim == 1:
        return found
    return found.reshape(*x.shape[:axis], *places.shape, *x.shape[axis + 1 :])


def gather_elements(site: Site) -> Tensor:
    """``GatherElements``."""
    x, index = site.tensor(0), site.tensor(1)
    axis = axis_of(site.attribute("axis", 0), x.ndim)
    index = torch.where(index < 0, index + x.shape[axis], index).to(torch.int64)
    return torch.gather(x, axis, index)


def transpose(site: Site) -> Tensor:
    """``Transpose``."""
    x = site.tensor(0)
    return x.permute(site.numbers("perm", tuple(range(x.ndim))[::-1]))


def tile(site: Site) -> Tensor:
    """``Tile``."""
    return site.tensor(0).repeat(site.whole(1) or ())


def depth_to_space(site: Site) -> Tensor:
    """``DepthToSpace`` in both modes, DCR and CRD."""
    x, block = site.tensor(0), site.attribute("blocksize", 1)
    if site.attribute("mode", "DCR") == "DCR":
        channels = int(x.shape[1])
        order = np.arange(channels).reshape(block * block, -1).T.reshape(-1)
        x = x.index_select(1, torch.tensor(order))
    return F.pixel_shuffle(x, block)


def space_to_depth(site: Site) -> Tensor:
    """``SpaceToDepth``, the inverse of ``DepthToSpace``."""
    block = site.attribute("blocksize", 1)
    x = F.pixel_unshuffle(site.tensor(0), block)
    if site.attribute("mode", "DCR") != "DCR":
        return x
    order = np.arange(int(x.shape[1])).reshape(-1, block * block).T.reshape(-1)
    return x.index_select(1, torch.tensor(order))


def triangle(site: Site) -> Tensor:
    """``Trilu``."""
    x, diagonal = site.tensor(0), int(site.number(1, 0))
    return torch.triu(x, diagonal) if site.attribute("upper", 1) else torch.tril(x, diagonal)


def running_sum(site: Site) -> Tensor:
    """``CumSum``."""
    x = site.tensor(0)
    axis = axis_of(int(site.number(1, 0)), x.ndim)
    flipped = bool(site.attribute("reverse", 0))
    x = x.flip(axis) if flipped else x
    total = torch.cumsum(x, axis, dtype=x.dtype)
    total = total - x if site.attribute("exclusive", 0) else total
    return total.flip(axis) if flipped else total


def reshape(site: Site) -> Tensor:
    """``Reshape``; a shape fixed for another image size is computed for this size if possible."""
    x, asked = site.tensor(0), site.whole(1) or ()
    copies = not site.attribute("allowzero", 0)
    have = tuple(int(n) for n in x.shape)
    before = site.original[0] if site.original is not None else None
    if before is None or before == have or len(before) != len(have):
        return x.reshape(resolved(have, asked, copies))
    if site.value(1).is_fixed:
        return x.reshape(rederived(before, have, resolved(before, asked, copies), asked))
    try:
        return x.reshape(resolved(have, asked, copies))
    except Refusal:  # a part of the computed shape may be a constant of the file
        shape = _partly_fixed(before, have, site.asked, asked, copies)
        if shape is None:
            raise
        return x.reshape(shape)


def _partly_fixed(
    old: Shape, new: Shape, once: Sequence[int] | None, asked: Sequence[int], copies: bool
) -> Shape | None:
    """A computed shape whose constants are derived again; None if more than constants is wrong.

    Args:
        old: the shape of the input at the size that the file was exported for.
        new: its shape now.
        once: the target that the file computed for ``old``.
        asked: the target that it computes for ``new``.
        copies: whether a 0 keeps the dimension.
    """
    if once is None or len(once) != len(asked):
        return None
    shape = rederived(old, new, resolved(old, once, copies), once)
    each = zip(shape, asked, once, strict=True)
    return shape if all(now in (n, -1, 0) or now == then for n, now, then in each) else None


def resolved(have: Shape, asked: Sequence[int], copies: bool) -> Shape:
    """The target shape, with 0 (keep the dimension) and -1 (infer it) replaced by numbers.

    Raises:
        Refusal: the target has another number of elements than the input.
    """
    shape = [have[i] if n == 0 and copies and i < len(have) else n for i, n in enumerate(asked)]
    known, total = math.prod(n for n in shape if n != -1), math.prod(have)
    if -1 in shape and known and total % known == 0:
        shape[shape.index(-1)] = total // known
    if math.prod(shape) != total or -1 in shape:
        raise Refusal(
            f"has the shape {_by(asked)} written into it, and {_by(have)} came",
            "export the network with dynamic axes, so that the shape is computed from the image's",
        )
    return tuple(shape)


def rederived(old: Shape, new: Shape, target: Shape, asked: Sequence[int]) -> Shape:
    """The shape that a Reshape gives at a new input size.

    Both shapes are split into the smallest groups of dimensions with equal products. A group whose
    input did not change stays. A group with a single target dimension beside ones gets the new
    product. In a group with a -1, that dimension is inferred.

    Raises:
        Refusal: the input of a group with several target dimensions and no -1 has changed.
    """
    shape = list(target)
    for left, right in groups(old, target):
        if all(old[i] == new[i] for i in left):
            continue
        total = math.prod(new[i] for i in left)
        free = [i for i in right if asked[i] == -1] or [i for i in right if target[i] != 1]
        free = right if len(right) == 1 else free
        rest = math.prod(shape[i] for i in right if i not in free)
        if len(free) != 1 or total % rest:
            raise Refusal(
                f"has the shape {_by(asked)} written into it, made of {_by(old)}, and {_by(new)} "
                "came",
                "export the network with dynamic axes, or write -1 for what changes with the size",
            )
        shape[free[0]] = total // rest
    return tuple(shape)


def _by(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "a number"


def flatten(site: Site) -> Tensor:
    """``Flatten`` to two dimensions."""
    x, axis = site.tensor(0), site.attribute("axis", 1)
    axis = axis + x.ndim if axis < 0 else axis
    if axis == 1 and x.ndim > 1:
        return x.flatten(1)
    return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


def squeeze(site: Site) -> Tensor:
    """``Squeeze``."""
    x, axes = site.tensor(0), site.listed("axes", 1)
    if axes is None:
        return x.squeeze()
    named = [axis_of(axis, x.ndim) for axis in axes]
    if any(x.shape[axis] != 1 for axis in named):
        raise Refusal(f"takes axes {axes} of {_by(x.shape)} away, which are not all 1")
    for axis in sorted(named, reverse=True):
        x = x.squeeze(axis)
    return x


def unsqueeze(site: Site) -> Tensor:
    """``Unsqueeze``."""
    x, axes = site.tensor(0), site.listed("axes", 1) or ()
    rank = x.ndim + len(axes)
    for axis in sorted(axis_of(axis, rank) for axis in axes):
        x = x.unsqueeze(axis)
    return x


def expand(site: Site) -> Tensor:
    """``Expand``: both shapes broadcast."""
    x, asked = site.tensor(0), site.whole(1) or ()
    shape = np.broadcast_shapes(tuple(x.shape), asked)
    return x if tuple(shape) == tuple(x.shape) else x.expand(shape)


MOVES: dict[str, Compute] = {
    "Concat": concat,
    "CumSum": running_sum,
    "DepthToSpace": depth_to_space,
    "Gather": gather,
    "GatherElements": gather_elements,
    "Pad": pad,
    "Slice": slices,
    "SpaceToDepth": space_to_depth,
    "Split": split,
    "Tile": tile,
    "Transpose": transpose,
    "Trilu": triangle,
}

SHAPES: dict[str, Compute] = {
    "Expand": expand,
    "Flatten": flatten,
    "Reshape": reshape,
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
}


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


RESIZES: dict[str, Compute] = {"Resize": resize, "Upsample": upsample}
