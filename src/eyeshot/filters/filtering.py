"""``eyeshot.filter``: one kernel over a picture, planned first, then carried out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from eyeshot.errors import BadValue
from eyeshot.filters import ranges
from eyeshot.filters.analysis import Route, find_route
from eyeshot.filters.correlation import correlate, crop, magnitude
from eyeshot.filters.options import (
    ALPHAS,
    PADDINGS,
    RANGES,
    Alpha,
    Array,
    DType,
    Padding,
    Range,
    check_option,
)
from eyeshot.filters.sources import KernelSet, KernelSource, resolve

# OpenCV writes the border of at most four channels at once.
_CHANNELS_AT_ONCE = 4

_OUTSIDE = {
    "same": "zeros outside the picture",
    "valid": "only where the whole kernel fits",
    "reflect": "the picture mirrored outside",
    "replicate": "the outermost pixels repeated outside",
    "circular": "the picture's other side outside",
}


@dataclass(frozen=True, eq=False)
class Plan:
    """The plan of a filter operation: plain data. ``str(plan)`` is one line.

    Attributes:
        kernels: the kernels, already turned for a true convolution.
        routes: a route for each kernel.
        padding: the values outside the picture.
        range: ``clip``, ``rescale`` or ``keep``.
        convolve: whether the kernels were turned by 180°.
        dtype: the picture's type; ``work`` is the float type of the computation, ``result`` the
            type of the result.
        channels: the number of filtered channels; 0 for a picture without a channel axis.
        alpha: whether there is one more channel, the last, that does not change.
    """

    kernels: KernelSet
    routes: tuple[Route, ...]
    padding: str
    range: str
    convolve: bool
    dtype: DType
    channels: int
    alpha: bool

    @property
    def work(self) -> DType:
        """The float type computed in."""
        return ranges.work_type(self.dtype)

    @property
    def result(self) -> DType:
        """The type of the result."""
        return ranges.result_type(self.dtype, self.range)

    def __str__(self) -> str:
        operation = "convolution" if self.convolve else "cross-correlation"
        routes = " and ".join(dict.fromkeys(str(route) for route in self.routes))
        joined = "magnitude of two: " if len(self.routes) > 1 else ""
        channels = f"{self.channels} channels, each by itself" if self.channels > 1 else "grey"
        alpha = ", alpha kept as it is" if self.alpha else ""
        top = f"{ranges.top_of(self.dtype):g}"
        done = {
            "clip": f"clipped to 0…{top}",
            "rescale": f"stretched to 0…{top}",
            "keep": "values left as they are",
        }[self.range]
        types = f"{self.dtype} computed in {self.work}"
        rounded = ", rounded to the nearest" if self.result.kind == "u" else ""
        return (
            f"{self.kernels.name}: {joined}{routes}; {operation}, {_OUTSIDE[self.padding]}; "
            f"{channels}{alpha}; {types}{rounded}, {done}"
        )


def filter(
    array: ArrayLike,
    kernel: KernelSource,
    *,
    padding: Padding = "same",
    range: Range | None = None,
    convolve: bool = False,
    alpha: Alpha = "keep",
) -> Array:
    """Apply a kernel to every position of a picture: each output is the weighted sum of a patch.

    This is cross-correlation, as in a convolutional network: the kernel is not turned.
    ``convolve=True`` turns it by 180° first: true convolution.

    Args:
        array: (H, W) or (H, W, C) picture of uint8, uint16 or floats. Each channel is filtered
            separately. The array is never changed.
        kernel: a name (``"sobel"``, ``"mean:5"``: see :data:`eyeshot.filters.NAMES`), the path of a
            text file, or a (kh, kw) array. For an even size, the weight before the middle is on
            the output's pixel.
        padding: the values outside the picture. ``"same"``: zeros; ``"reflect"``: the picture
            mirrored about its outermost pixels; ``"replicate"``: those pixels repeated;
            ``"circular"``: the picture's opposite side. These return (H, W). ``"valid"``: only
            patches completely inside: (H − kh + 1, W − kw + 1).
        range: treatment of results outside 0…255, 0…65535, or 0…1 for floats. ``"clip"``: clip
            them; ``"rescale"``: stretch all results to the range; ``"keep"``: no change (float32
            for 8- and 16-bit pictures). The default is clip for whole numbers, keep for floats.
        convolve: turn the kernel by 180°.
        alpha: ``"keep"`` does not change the last of 2 or 4 channels; ``"filter"`` filters it like
            a color.

    Returns:
        A new picture of the same dtype, except for whole numbers with ``range="keep"``. 8-bit
        pictures and floats up to 32 bits are computed in float32, others in float64; whole numbers
        are rounded to the nearest, ties to even. A NaN affects only outputs whose kernel covers it.

    Raises:
        UnknownName: a kernel, padding, range or alpha that does not exist.
        BadValue: an empty picture, other axes or types, a kernel that is larger than a ``valid``
            picture or not a table of finite numbers.
        BadFile: a kernel's text file cannot be read.
    """
    picture = np.asarray(array)
    plan = make_plan(picture, kernel, padding=padding, range=range, convolve=convolve, alpha=alpha)
    return carry_out(plan, picture)


def route(kernel: KernelSource, dtype: DTypeLike = np.float32) -> tuple[Route, ...]:
    """How a kernel would be computed on a picture of ``dtype``: one route a kernel.

    Two kernels, such as Sobel's, are joined as a magnitude. Raises as :func:`filter` does.
    """
    work = ranges.work_type(np.dtype(dtype))
    return tuple(find_route(weights, work.itemsize) for weights in resolve(kernel).kernels)


def make_plan(
    picture: Array,
    kernel: KernelSource,
    *,
    padding: Padding = "same",
    range: Range | None = None,
    convolve: bool = False,
    alpha: Alpha = "keep",
) -> Plan:
    """Decide everything about :func:`filter` without doing it; the arguments are the same."""
    check_option("padding", padding, PADDINGS)
    check_option("alpha", alpha, ALPHAS)
    if range is not None:
        check_option("range", range, RANGES)
    _check_picture(picture)
    work = ranges.work_type(picture.dtype)
    kernels = resolve(kernel)
    kernels = kernels.turned() if convolve else kernels
    _check_fit(picture, kernels, padding)
    has_alpha = alpha == "keep" and picture.ndim == 3 and picture.shape[2] in (2, 4)
    return Plan(
        kernels=kernels,
        routes=tuple(find_route(weights, work.itemsize) for weights in kernels.kernels),
        padding=padding,
        range=range or ("clip" if picture.dtype.kind == "u" else "keep"),
        convolve=convolve,
        dtype=picture.dtype,
        channels=picture.shape[2] - has_alpha if picture.ndim == 3 else 0,
        alpha=has_alpha,
    )


def carry_out(plan: Plan, picture: Array) -> Array:
    """Apply ``plan`` to the picture that it was made for."""
    color = picture[..., : plan.channels] if plan.alpha else picture
    out = ranges.fit(_respond(plan, color), plan.dtype, plan.range)
    if not plan.alpha:
        return out
    last = picture[..., plan.channels :]
    kept = crop(last, plan.kernels.shape) if plan.padding == "valid" else last
    return np.concatenate([out, kept.astype(plan.result)], axis=2)


def _respond(plan: Plan, color: Array) -> Array:
    """The response in the work type: of one kernel, or the magnitude of two."""
    if color.ndim == 3 and color.shape[2] == 1:
        return _respond(plan, color[..., 0])[..., np.newaxis]
    color = np.ascontiguousarray(color, dtype=plan.work)
    if color.ndim == 2 or color.shape[2] <= _CHANNELS_AT_ONCE:
        return _respond_at_once(plan, color)
    cuts = np.arange(_CHANNELS_AT_ONCE, color.shape[2], _CHANNELS_AT_ONCE)
    groups = np.split(color, cuts, axis=2)
    return np.concatenate([_respond(plan, group) for group in groups], axis=2)


def _respond_at_once(plan: Plan, color: Array) -> Array:
    kernels = plan.kernels.kernels
    if len(kernels) == 1:
        return correlate(color, kernels[0], plan.routes[0], plan.padding)
    return magnitude(color, kernels, plan.routes, plan.padding)


def _check_picture(picture: Array) -> None:
    if picture.ndim not in (2, 3):
        cure = "give (H, W) or (H, W, C)"
        raise BadValue(f"the picture has {picture.ndim} axes, shape {picture.shape}", cure=cure)
    if picture.size == 0:
        raise BadValue(f"the picture is empty, shape {picture.shape}", cure="give at least a pixel")


def _check_fit(picture: Array, kernels: KernelSet, padding: str) -> None:
    (kh, kw), (height, width) = kernels.shape, picture.shape[:2]
    if padding == "valid" and (kh > height or kw > width):
        fact = f"kernel {kernels.name!r} of {kh}×{kw} does not fit into a {height}×{width} picture"
        raise BadValue(fact, cure="use padding 'same' or a smaller kernel")
