"""``eyeshot.filter``: check a kernel, plan it over a picture, then apply it by OpenCV and SciPy.

Inside, pictures are floats of (H, W) or (H, W, C) with C from 2 to 4: OpenCV drops an axis of one
channel and writes the border of four channels at most. ``filter2D`` and related functions of OpenCV
compute cross-correlation, as needed here. Rows are processed in bands, so that intermediate results
stay in the cache of the processor. The result is converted to the sample type of the picture.
"""

from __future__ import annotations

import math
import os
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import scipy.fft
from numpy.typing import ArrayLike, DTypeLike

from eyeshot.array_likes import as_array, is_pillow, not_turned
from eyeshot.errors import BadFile, BadValue
from eyeshot.files import explain_os_error
from eyeshot.filters.kernels import (
    ALPHAS,
    PADDINGS,
    RANGES,
    Alpha,
    Array,
    DType,
    Kernels,
    Method,
    Padding,
    Range,
    Route,
    Weights,
    anchor,
    build,
    check_option,
    find_route,
    freeze,
)

if TYPE_CHECKING:
    from PIL import Image

_BAND_BYTES = 2 * 2**20


def cut_bands(picture: Array, rows: int, kernel_rows: int) -> Iterator[tuple[int, int]]:
    """Cut ``rows`` output rows into bands [first, last) of about two megabytes of ``picture``.

    A band is never less than four kernels high: its neighbors' rows are read again.
    """
    row_bytes = max(1, picture[0].nbytes)
    step = max(_BAND_BYTES // row_bytes, 4 * kernel_rows)
    for first in range(0, rows, step):
        yield first, min(rows, first + step)


# What OpenCV does at the border by itself; "valid" takes any of them and cuts the rim off.
_BORDERS = {
    "same": cv2.BORDER_CONSTANT,
    "valid": cv2.BORDER_REPLICATE,
    "reflect": cv2.BORDER_REFLECT_101,
    "replicate": cv2.BORDER_REPLICATE,
}
_PAD_MODES = {"same": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def correlate(
    picture: Array, weights: Weights, route: Route, padding: str, *, whole: bool = False
) -> Array:
    """Cross-correlate a float picture with one kernel.

    Args:
        picture: (H, W) or (H, W, C), float32 or float64, C-contiguous.
        weights: (kh, kw); for ``"valid"`` no larger than (H, W).
        route: the route of these weights, from :func:`eyeshot.filters.kernels.find_route`.
        padding: one of :data:`eyeshot.filters.kernels.PADDINGS`.
        whole: the values are those of an 8-bit (float32) or 16-bit (float64) picture, and the
            weights are neither huge nor tiny: no value or sum is so much larger than another that a
            search for such values is needed.

    Returns:
        (H, W[, C]), or (H − kh + 1, W − kw + 1[, C]) for ``"valid"``.
    """
    work = picture.dtype
    if route.method in (Method.BOX, Method.FFT) and not whole:
        exact = _global_type(picture, weights, route.method)
        if exact is None:
            route = find_route(weights, picture.itemsize, local=True)
        else:
            work = exact
    if route.method is Method.FFT:
        padded = pad(picture, weights.shape, padding).astype(work, copy=False)
        return _by_fft(padded, weights).astype(picture.dtype, copy=False)
    if len(route.pieces) > 1 or (route.method is Method.DIRECT and not route.pieces):
        return _by_pieces(pad(picture, weights.shape, padding), weights, route)
    if padding == "circular":
        picture, padding = pad(picture, weights.shape, padding), "valid"
    out = _CALLS[route.method](picture, weights, route, _BORDERS[padding])
    return crop(out, weights.shape) if padding == "valid" else out


def magnitude(
    picture: Array,
    kernels: Sequence[Weights],
    routes: Sequence[Route],
    padding: str,
    *,
    whole: bool = False,
) -> Array:
    """sqrt(x² + y²) of the responses of :func:`correlate` to two kernels of the same shape.

    It is computed in bands of rows. A band includes a kernel's height of extra rows on both sides,
    so that a border inside the picture does not affect the rows that are kept.
    """
    shape = kernels[0].shape
    if padding == "circular":
        picture, padding = pad(picture, shape, padding), "valid"
    cut = (shape[0] - 1, shape[1] - 1) if padding == "valid" else (0, 0)
    height, width = picture.shape[0] - cut[0], picture.shape[1] - cut[1]
    joined = np.empty((height, width, *picture.shape[2:]), picture.dtype)
    for first, last in cut_bands(picture, height, shape[0]):
        low, high = max(0, first - shape[0]), min(picture.shape[0], last + cut[0] + shape[0])
        x, y = (
            correlate(picture[low:high], weights, route, padding, whole=whole)[
                first - low : last - low
            ]
            for weights, route in zip(kernels, routes, strict=True)
        )
        band = joined[first:last]
        cv2.magnitude(x, y, band)
        if not whole:
            _repair(band, x, y)
    return joined


def _repair(band: Array, x: Array, y: Array) -> None:
    """Compute magnitudes again whose squares overflow, or lose digits below the normal numbers."""
    kind = np.finfo(band.dtype)
    least = np.sqrt(kind.tiny / kind.eps)
    if least < band.min() and band.max() < np.inf:
        return
    lost = ~((band > least) & (band < np.inf)) & ((x != 0) | (y != 0))
    if lost.any():
        band[lost] = np.hypot(x[lost], y[lost])


# The smallest share of the largest value that the largest of a patch may be, for each type.
_SINGLE, _DOUBLE = np.dtype(np.float32), np.dtype(np.float64)
_OF_SINGLES, _OF_DOUBLES = 2.0**-12, {4: 2.0**-30, 8: 2.0**-20}


def _global_type(picture: Array, weights: Weights, method: Method) -> DType | None:
    """The float type in which running sums or a transform are right for a picture; None if none is.

    Both spread the rounding of the largest value over the whole picture, and NaN and infinity too:
    where a patch holds far smaller values, such as those beside a "no data" of -3.4e38, nothing
    would be left of them. Sums inside may leave the range of the type. Running sums are always
    float64.
    """
    blocks = _largest_of_blocks(picture, weights.shape)
    largest = blocks.max((0, 1))  # of each channel
    if not np.isfinite(largest).all():
        return None
    sides = zip(picture.shape[:2], weights.shape, strict=True)
    most = math.prod(length + more for length, more in sides)
    most = float(largest.max()) * most * max(1.0, float(np.abs(weights).sum()))
    shares = np.divide(blocks, largest, out=np.ones_like(blocks), where=blocks > 0)
    share = float(shares.min())
    if method is Method.FFT and picture.dtype == _SINGLE:
        least, limit = _safe_range(_SINGLE)
        in_range = least < float(largest.min()) and most < limit
        if share >= _OF_SINGLES and in_range and blocks.all():  # zeros stay zeros, nearly
            return _SINGLE
    right = share >= _OF_DOUBLES[picture.itemsize] and most < _safe_range(_DOUBLE)[1]
    return _DOUBLE if right else None


def _safe_range(kind: DType) -> tuple[float, float]:
    """Above the first of these numbers no digit is lost; the second is the largest of a type."""
    limits = np.finfo(kind)
    return float(limits.tiny) / float(limits.eps), float(limits.max)


def _largest_of_blocks(picture: Array, shape: tuple[int, ...]) -> Array:
    """The largest magnitudes in blocks of a picture: each patch of ``shape`` holds a whole block.

    A maximum of several rows at once takes a tenth of the time of ``np.maximum.reduceat``.
    """
    rows, columns = ((length + 1) // 2 for length in shape)
    bands = (picture[first : first + rows] for first in range(0, picture.shape[0], rows))
    largest = np.stack([np.maximum(band.max(0), -band.min(0)) for band in bands])
    return np.maximum.reduceat(largest, np.arange(0, picture.shape[1], columns), 1)


def pad(picture: Array, shape: tuple[int, ...], padding: str) -> Array:
    """Pad a picture as ``padding`` says, for a kernel of ``shape``.

    Returns:
        (H + kh − 1, W + kw − 1[, C]), so that the kernel fits H × W times; for ``"valid"`` the
        picture itself.
    """
    if padding == "valid":
        return picture
    top, left = anchor((shape[0], shape[1]))
    rim = [(top, shape[0] - 1 - top), (left, shape[1] - 1 - left), (0, 0)][: picture.ndim]
    mode: Callable[..., Array] = np.pad
    return mode(picture, rim, mode=_PAD_MODES[padding])


def crop(picture: Array, shape: tuple[int, ...]) -> Array:
    """The part of a picture where a kernel of ``shape`` is completely inside; a view."""
    top, left = anchor((shape[0], shape[1]))
    height, width = picture.shape[0] - shape[0] + 1, picture.shape[1] - shape[1] + 1
    return picture[top : top + height, left : left + width]


def _direct(picture: Array, weights: Weights, _route: Route, border: int) -> Array:
    row, column = anchor((weights.shape[0], weights.shape[1]))
    return cv2.filter2D(picture, -1, weights, anchor=(column, row), borderType=border)


def _separable(picture: Array, weights: Weights, route: Route, border: int) -> Array:
    row, column = anchor((weights.shape[0], weights.shape[1]))
    return cv2.sepFilter2D(
        picture,
        -1,
        np.array(route.row),
        np.array(route.column),
        anchor=(column, row),
        borderType=border,
    )


def _box(picture: Array, weights: Weights, _route: Route, border: int) -> Array:
    row, column = anchor((weights.shape[0], weights.shape[1]))
    size, total = (weights.shape[1], weights.shape[0]), float(weights.sum())
    mean = cv2.blur(picture, size, anchor=(column, row), borderType=border)
    if abs(total - 1) > 2**-50:
        np.multiply(mean, total, out=mean)
    return mean


_CALLS = {
    Method.DIRECT: _direct,
    Method.SEPARABLE: _separable,
    Method.BOX: _box,
}


def _by_pieces(padded: Array, weights: Weights, route: Route) -> Array:
    """Sum of the direct results of the kernel's pieces, each on its own window of the picture."""
    height, width = padded.shape[0] - weights.shape[0] + 1, padded.shape[1] - weights.shape[1] + 1
    total = np.zeros((height, width, *padded.shape[2:]), padded.dtype)
    for first, last in cut_bands(padded, height, weights.shape[0]):
        for top, left, rows, columns in route.pieces:
            window = padded[first + top : last + top + rows - 1, left : left + width + columns - 1]
            part = weights[top : top + rows, left : left + columns]
            result = cv2.filter2D(window, -1, part, anchor=(0, 0), borderType=cv2.BORDER_CONSTANT)
            total[first:last] += result[: last - first, :width]
    return total


def _by_fft(padded: Array, weights: Weights) -> Array:
    """Cross-correlation as a product of spectra: one of them conjugate (the theorem of Wiener).

    The transform is as large as the padded picture, so nothing wraps around into the result.
    """
    height, width = padded.shape[0] - weights.shape[0] + 1, padded.shape[1] - weights.shape[1] + 1
    size = [scipy.fft.next_fast_len(length, real=True) for length in padded.shape[:2]]
    kernel = np.conj(scipy.fft.rfft2(weights.astype(padded.dtype), size))
    if padded.ndim == 3:
        kernel = kernel[..., np.newaxis]
    spectrum = scipy.fft.rfft2(padded, size, axes=(0, 1), workers=-1)
    spectrum *= kernel
    picture = scipy.fft.irfft2(spectrum, size, axes=(0, 1), workers=-1)
    return np.ascontiguousarray(picture[:height, :width])


_LARGEST_FILE = 16 * 2**20
_SUFFIXES = {".txt", ".csv", ".tsv", ".kernel"}


@dataclass(frozen=True, eq=False)
class KernelSet:
    """What is to be laid on the picture. Two kernels are joined as a magnitude."""

    name: str
    kernels: Kernels

    @property
    def shape(self) -> tuple[int, int]:
        """(kh, kw), which all kernels of a set share."""
        height, width = self.kernels[0].shape
        return height, width

    def turned(self) -> KernelSet:
        """Each kernel turned by 180°: cross-correlation with these is true convolution."""
        return KernelSet(self.name, tuple(freeze(kernel[::-1, ::-1]) for kernel in self.kernels))


KernelSource = str | os.PathLike[str] | ArrayLike | KernelSet


def resolve(source: KernelSource) -> KernelSet:
    """The kernels of a name (``"sobel"``, ``"mean:5"``), a text file, rows, or a (kh, kw) array.

    A string is rows if it has several numbers, with `` / `` between two rows
    (``"1 2 1 / 0 0 0 / -1 -2 -1"``), and a file if it looks like a path (it contains a folder, or a
    suffix such as ``.txt``).

    Raises:
        UnknownName: no kernel has that name.
        BadValue: a size or an array that cannot be a kernel.
        BadFile: a text file that is missing or does not contain a table of numbers.
    """
    if isinstance(source, KernelSet):
        return source
    if isinstance(source, os.PathLike):
        return KernelSet(Path(source).name, (read_kernel(Path(source)),))
    if isinstance(source, str):
        if re.fullmatch(_ROWS, source):
            return KernelSet("kernel", (_table(re.split(r"\s/\s", source), repr(source), "row"),))
        if _looks_like_path(source):
            return KernelSet(Path(source).name, (read_kernel(Path(source)),))
        return KernelSet(source, build(*_split_size(source)))
    return KernelSet("array", (check_kernel(source),))


def check_kernel(values: ArrayLike) -> Weights:
    """``values`` as a read-only (kh, kw) float64 array.

    Raises:
        BadValue: not two axes, no weights, or a weight that is not a finite real number.
    """
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise BadValue("the kernel's rows differ in length", cure="give a full table") from error
    if array.dtype.kind not in "buif":
        raise BadValue(f"the kernel holds {array.dtype}, not numbers", cure="give real numbers")
    if array.ndim != 2:
        cure = "give rows and columns, such as numpy.reshape(kernel, (1, -1)) for one row"
        raise BadValue(f"the kernel has {array.ndim} axes, shape {array.shape}", cure=cure)
    if array.size == 0:
        raise BadValue(f"the kernel is empty, shape {array.shape}", cure="give at least one weight")
    if not np.isfinite(array).all():
        raise BadValue("the kernel holds NaN or infinity", cure="give finite weights")
    return freeze(array)


def read_kernel(path: Path) -> Weights:
    """Read a (kh, kw) kernel from a text file.

    One row a line; weights separated by blanks or commas, written as ``0.5``, ``-1``, ``2e-3`` or
    ``1/9``; ``#`` starts a comment.

    Raises:
        BadFile: missing, not text, not a table of finite numbers.
    """
    return _table(_read_text(path).splitlines(), str(path), "line")


_ROWS = r"[-+.,/\de\s]*[\d.][\s,]+[-+.\d/][-+.,/\de\s]*"
"""Two numbers at least, and nothing but numbers."""


def _table(lines: Sequence[str], where: str, one: str) -> Weights:
    """The weights in lines of text; messages name a line by ``where`` and ``one``."""
    rows = []
    for number, line in enumerate(lines, start=1):
        words = line.partition("#")[0].replace(",", " ").split()
        if words:
            rows.append([_number(word, f"{where}, {one} {number}") for word in words])
            if len(rows[-1]) != len(rows[0]):
                fact = f"{where}, {one} {number}: {len(rows[-1])} weights where the first row has "
                raise BadFile(fact + str(len(rows[0])), cure="give each row as many weights")
    if not rows:
        raise BadFile(f"{where}: holds no weights", cure="write one row of numbers a line")
    return freeze(rows)


def _looks_like_path(text: str) -> bool:
    return any(mark in text for mark in "/\\") or Path(text).suffix.lower() in _SUFFIXES


def _split_size(text: str) -> tuple[str, int | None]:
    name, colon, size = text.partition(":")
    if not colon:
        return name, None
    if not re.fullmatch(r"[0-9]{1,9}", size):
        raise BadValue(f"kernel size {size!r} in {text!r}", cure="write NAME:SIZE, such as mean:5")
    return name, int(size)


def _read_text(path: Path) -> str:
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise BadFile(f"{path}: too large for a kernel", cure="name a text file of numbers")
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadFile(f"{path}: is not text", cure="name a text file of numbers") from error
    except OSError as error:
        raise explain_os_error(error, path) from error


def _number(word: str, place: str) -> float:
    above, slash, below = word.partition("/")
    try:
        value = float(above) / float(below) if slash else float(word)
    except (ValueError, ZeroDivisionError) as error:
        raise BadFile(f"{place}: {word!r} is not a number", cure="write 0.5, -1 or 1/9") from error
    if not np.isfinite(value):
        raise BadFile(f"{place}: {word!r} is not finite", cure="write 0.5, -1 or 1/9")
    return value


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
        return work_type(self.dtype)

    @property
    def result(self) -> DType:
        """The type of the result."""
        return result_type(self.dtype, self.range)

    def __str__(self) -> str:
        operation = "convolution" if self.convolve else "cross-correlation"
        routes = " and ".join(dict.fromkeys(str(route) for route in self.routes))
        joined = "magnitude of two: " if len(self.routes) > 1 else ""
        channels = f"{self.channels} channels, each by itself" if self.channels > 1 else "gray"
        alpha = ", alpha kept as it is" if self.alpha else ""
        top = f"{top_of(self.dtype):g}"
        range_words = {
            "clip": f"clipped to 0…{top}",
            "rescale": f"stretched to 0…{top}",
            "keep": "values left as they are",
        }[self.range]
        types = f"{self.dtype} computed in {self.work}"
        rounded = ", rounded to the nearest" if self.result.kind == "u" else ""
        return (
            f"{self.kernels.name}: {joined}{routes}; {operation}, {_OUTSIDE[self.padding]}; "
            f"{channels}{alpha}; {types}{rounded}, {range_words}"
        )


_ORIENTATION = 0x0112
"""The EXIF tag that says how a viewer must rotate a picture."""


def filter(
    array: ArrayLike | Image.Image,
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
        array: (H, W) or (H, W, C) picture of uint8, uint16 or floats; or a Pillow image, of which
            a palette and inks become colors. Each channel is filtered separately. The array is
            never changed.
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
    picture = np.asarray(as_array(array))
    if is_pillow(array):
        turn = int(array.getexif().get(_ORIENTATION, 1))
        if turn != 1:
            warnings.warn(not_turned(turn), stacklevel=2)
    plan = make_plan(picture, kernel, padding=padding, range=range, convolve=convolve, alpha=alpha)
    return carry_out(plan, picture)


def route(kernel: KernelSource, dtype: DTypeLike = np.float32) -> tuple[Route, ...]:
    """How a kernel would be computed on a picture of ``dtype``: one route a kernel.

    Two kernels, such as Sobel's, are joined as a magnitude. Raises as :func:`filter` does.
    """
    work = work_type(np.dtype(dtype))
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
    work = work_type(picture.dtype)
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
    out = fit(_respond(plan, color), plan.dtype, plan.range)
    if not plan.alpha:
        return out
    last = picture[..., plan.channels :]
    alpha = crop(last, plan.kernels.shape) if plan.padding == "valid" else last
    return np.concatenate([out, alpha.astype(plan.result)], axis=2)


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
    whole = plan.dtype.kind == "u" and all(map(_is_usual, kernels))
    if len(kernels) == 1:
        return correlate(color, kernels[0], plan.routes[0], plan.padding, whole=whole)
    return magnitude(color, kernels, plan.routes, plan.padding, whole=whole)


def _is_usual(kernel: Weights) -> bool:
    """Whether sums over a picture of whole numbers, and their squares, stay in a type's range."""
    exponent = math.frexp(float(np.abs(kernel).sum()))[1]
    return abs(exponent) < _USUAL_WEIGHTS


_USUAL_WEIGHTS = 40


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


# 8-bit sums are exact in float32 up to 2^24; 16-bit ones need the wider type.
_WORK_TYPES: dict[DType, DType] = {
    np.dtype(np.uint8): np.dtype(np.float32),
    np.dtype(np.uint16): np.dtype(np.float64),
    np.dtype(np.float16): np.dtype(np.float32),
    np.dtype(np.float32): np.dtype(np.float32),
    np.dtype(np.float64): np.dtype(np.float64),
}


def work_type(dtype: DType) -> DType:
    """The float type in which a picture of ``dtype`` is filtered.

    Raises:
        BadValue: not an 8- or 16-bit or float picture.
    """
    wide = _WORK_TYPES.get(dtype.newbyteorder("="))
    if wide is None:
        cure = "convert it with .astype to uint8, uint16 or float32"
        raise BadValue(f"a picture of {dtype} cannot be filtered", cure=cure)
    return wide


def top_of(dtype: DType) -> float:
    """The value of white: 255, 65535, or 1 for floats."""
    return float(np.iinfo(dtype).max) if dtype.kind == "u" else 1.0


def result_type(dtype: DType, policy: str) -> DType:
    """The type of the result: the picture's type, or float32 for whole numbers with ``keep``."""
    if policy == "keep" and dtype.kind == "u":
        return np.dtype(np.float32)
    return dtype.newbyteorder("=")


def fit(values: Array, dtype: DType, policy: str) -> Array:
    """Bring filtered ``values`` into the range of a picture of ``dtype``; may overwrite them.

    ``clip`` cuts off below 0 and above white. ``rescale`` stretches all channels alike, so that
    the smallest value becomes 0 and the largest white; a flat picture is clipped instead, having
    nothing to stretch. ``keep`` changes nothing. Whole numbers are rounded to the nearest, ties to
    the even one.

    Raises:
        BadValue: rescaling a picture with NaN or infinity in it.
    """
    target = result_type(dtype, policy)
    if policy != "keep":
        if policy == "rescale":
            _stretch(values, top_of(dtype))
        if target.kind == "u":
            np.rint(values, out=values)
        np.clip(values, 0, top_of(dtype), out=values)
    return values.astype(target, copy=False)


_USUAL_EXPONENT = 64


def _stretch(values: Array, top: float) -> None:
    low, high = float(values.min()), float(values.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        cure = "replace them first with numpy.nan_to_num, or use range='keep'"
        raise BadValue("the filtered picture holds NaN or infinity: no range to rescale", cure=cure)
    exponent = math.frexp(max(-low, high))[1]
    if abs(exponent) > _USUAL_EXPONENT:  # else the difference or its inverse may overflow
        np.ldexp(values, -exponent, out=values)
        low, high = float(values.min()), float(values.max())
    if high > low:
        values -= low
        values *= top / (high - low)
