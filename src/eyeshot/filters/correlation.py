"""Apply a kernel to a picture, by the method of its route, with OpenCV and SciPy.

Everything here takes float pictures of (H, W) or (H, W, C) with C from 2 to 4 (OpenCV drops an axis
of one channel and writes the border of four channels at most) and returns float pictures of the
same type. OpenCV's ``filter2D`` and related functions compute cross-correlation, as we need.

Rows are processed in bands, so that intermediate results stay in the processor's cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import cv2
import numpy as np
import scipy.fft

from eyeshot.filters.analysis import Method, Route, anchor, find_route
from eyeshot.filters.kernels import Array, Weights

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


def correlate(picture: Array, weights: Weights, route: Route, padding: str) -> Array:
    """Cross-correlate a float picture with one kernel.

    Args:
        picture: (H, W) or (H, W, C), float32 or float64, C-contiguous.
        weights: (kh, kw); for ``"valid"`` no larger than (H, W).
        route: the route of these weights, from :func:`eyeshot.filters.analysis.find_route`.
        padding: one of :data:`eyeshot.filters.kernels.PADDINGS`.

    Returns:
        (H, W[, C]), or (H − kh + 1, W − kw + 1[, C]) for ``"valid"``.
    """
    if route.method in (Method.BOX, Method.FFT) and not _is_finite(picture):
        # Running sums and transforms would spread one NaN over the whole picture.
        route = find_route(weights, picture.itemsize, local=True)
    if route.method is Method.FFT:
        return _by_fft(pad(picture, weights.shape, padding), weights)
    if len(route.pieces) > 1 or (route.method is Method.DIRECT and not route.pieces):
        return _by_pieces(pad(picture, weights.shape, padding), weights, route)
    if padding == "circular":
        picture, padding = pad(picture, weights.shape, padding), "valid"
    out = _CALLS[route.method](picture, weights, route, _BORDERS[padding])
    return crop(out, weights.shape) if padding == "valid" else out


def magnitude(
    picture: Array, kernels: Sequence[Weights], routes: Sequence[Route], padding: str
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
            correlate(picture[low:high], weights, route, padding)[first - low : last - low]
            for weights, route in zip(kernels, routes, strict=True)
        )
        cv2.magnitude(x, y, joined[first:last])
    return joined


def _is_finite(picture: Array) -> bool:
    """Whether all values are finite. The sum of squares shows it in half the time."""
    if np.isfinite(np.vdot(picture, picture)):
        return True
    return bool(np.isfinite(picture).all())  # the squares of large values may overflow


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
