"""Convert any picture to a network's samples: 8 or 16 bits, gray or color, one size.

Training and prediction use the same steps, so that a network sees a picture in the same form in
both.
"""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from eyeshot.errors import BadValue

Bytes = NDArray[np.uint8]
Samples = NDArray[np.uint8 | np.uint16]
"""8 bits, or 16 for a picture with more, also from a camera with 10 or 12 bits."""

GRAY, COLOR = 1, 3

_MOST_PIXELS = 2**26  # of a training picture


def to_samples(picture: NDArray[Any], *, alpha: bool = True) -> Samples:
    """``picture`` without transparency: (H, W) where gray, (H, W, 3) where color.

    8 and 16 bits stay as they are; floats from 0…1 become 16 bits. Transparent pixels are blended
    with white.

    Args:
        picture: (H, W) or (H, W, C), C from 1 to 4, uint8, uint16 or float.
        alpha: the last of 2 or 4 channels is opacity.

    Raises:
        BadValue: another shape or type, a float outside 0…1, or 2 or 4 channels without opacity.
    """
    picture = np.asarray(picture)
    shape = picture.shape
    if picture.ndim == 2:
        picture = picture[..., None]
    if picture.ndim != 3 or not 1 <= picture.shape[2] <= 4 or picture.size == 0:
        raise BadValue(f"a picture of shape {shape}", cure="expected (H, W) or (H, W, C), C 1 to 4")
    scaled = _scale(picture)
    if scaled.shape[2] in (2, 4):
        if not alpha:
            raise BadValue(
                f"holds {scaled.shape[2]} bands, none of them opacity",
                cure="save it with 1 (gray) or 3 (red, green, blue)",
            )
        scaled = _lay_on_white(scaled)
    return scaled[..., 0] if scaled.shape[2] == 1 else scaled


def to_bytes(picture: NDArray[Any]) -> Bytes:
    """As :func:`to_samples`, in 8 bits: 16 are scaled by their full range (65535 becomes 255)."""
    return reduce(to_samples(picture))


def reduce(picture: Samples) -> Bytes:
    """``picture`` in 8 bits; 65535 becomes 255, rounded to the nearest."""
    if picture.dtype == np.uint16:
        return ((picture.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return picture.astype(np.uint8, copy=False)


def deepen(picture: Samples) -> NDArray[np.uint16]:
    """``picture`` in 16 bits; 255 becomes 65535, so that its share of the range stays the same."""
    if picture.dtype == np.uint8:
        return picture.astype(np.uint16) * np.uint16(257)
    return picture.astype(np.uint16, copy=False)


def to_channels(picture: Samples, channels: int) -> Samples:
    """``picture`` (H, W) or (H, W, 3) with 1 or 3 channels: (H, W, channels).

    Color becomes gray by ITU-R BT.601: 0.299 red + 0.587 green + 0.114 blue.

    Raises:
        BadValue: ``channels`` is neither 1 nor 3.
    """
    if channels not in (GRAY, COLOR):
        raise BadValue(f"channels is {channels}", cure="choose 1 (gray) or 3 (color)")
    if picture.ndim == 2:
        return np.repeat(picture[..., None], channels, axis=2)
    if channels == COLOR:
        return picture
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), picture.dtype)[..., None]


def resize(picture: Samples, size: tuple[int, int]) -> Samples:
    """``picture`` (H, W) or (H, W, C), stretched to ``size`` (height, width).

    An axis that shrinks is averaged over area, so that no detail is skipped; an axis that grows is
    interpolated linearly.

    Raises:
        BadValue: ``size`` is not positive.
    """
    height, width = check_size(size)
    if picture.shape[:2] == (height, width):
        return picture
    shape = (height, width, *picture.shape[2:])
    between = (min(picture.shape[1], width), min(picture.shape[0], height))
    smaller = cv2.resize(picture, between, interpolation=cv2.INTER_AREA)
    resized = cv2.resize(smaller, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(resized, picture.dtype).reshape(shape)  # OpenCV drops a single channel


def check_size(size: tuple[int, int]) -> tuple[int, int]:
    """Return ``size`` if both numbers are positive and a picture of it fits in memory.

    Raises:
        BadValue: a number is not positive, or there are more than 2²⁶ pixels (8192×8192).
    """
    height, width = size
    if height < 1 or width < 1:
        raise BadValue(f"size is {height}×{width}", cure="both must be at least 1")
    if height * width > _MOST_PIXELS:
        raise BadValue(f"size is {height}×{width}", cure=f"use at most {_MOST_PIXELS:,} pixels")
    return height, width


def _scale(picture: NDArray[Any]) -> Samples:
    if picture.dtype in (np.uint8, np.uint16):
        return np.ascontiguousarray(picture)
    if picture.dtype.kind != "f":
        raise BadValue(f"a picture of {picture.dtype}", cure="expected uint8, uint16 or float")
    low, high = float(picture.min()), float(picture.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        count = picture.size - int(np.isfinite(picture).sum())
        raise BadValue(
            f"a picture of floats, {count:,} of them NaN or infinite", cure="replace them first"
        )
    if not (low >= 0 and high <= 1):
        raise BadValue(
            f"a picture of floats from {low:g} to {high:g}", cure="scale them to 0…1 first"
        )
    return np.asarray(np.rint(picture * 65535.0), np.uint16)


def _lay_on_white(picture: Samples) -> Samples:
    """(H, W, C) without its last channel, the opacity."""
    top = np.uint64(np.iinfo(picture.dtype).max)
    color = picture[..., :-1].astype(np.uint64)
    opacity = picture[..., -1:].astype(np.uint64)
    blended = (color * opacity + top * (top - opacity) + top // np.uint64(2)) // top
    return blended.astype(picture.dtype)
