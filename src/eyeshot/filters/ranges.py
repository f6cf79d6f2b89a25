"""From the floats that a filter computes back to the type that the picture had."""

from __future__ import annotations

import numpy as np

from eyeshot.errors import BadValue
from eyeshot.filters.options import Array, DType

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
    found = _WORK_TYPES.get(dtype.newbyteorder("="))
    if found is None:
        cure = "convert it with .astype to uint8, uint16 or float32"
        raise BadValue(f"a picture of {dtype} cannot be filtered", cure=cure)
    return found


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


def _stretch(values: Array, top: float) -> None:
    low, high = float(values.min()), float(values.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        cure = "replace them first with numpy.nan_to_num, or use range='keep'"
        raise BadValue("the filtered picture holds NaN or infinity: no range to rescale", cure=cure)
    if high > low:
        values -= low
        values *= top / (high - low)
