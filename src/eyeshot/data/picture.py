"""Convert a user's picture to the form of a network's training pictures, and list each step."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from eyeshot.data import pixels
from eyeshot.data.ink import FIELD, extract_digit, is_light
from eyeshot.errors import BadValue

_FLAT = 8  # levels: a picture whose values lie no further apart shows nothing


def prepare_picture(
    picture: NDArray[Any],
    *,
    channels: int,
    size: tuple[int, int],
    digit: bool,
    alpha: bool = True,
) -> tuple[pixels.Samples, list[str]]:
    """``picture`` as a network was trained, and what was done to it, a phrase a step.

    For a network trained on ``digits`` or ``mnist`` (``digit``), a photo becomes what MNIST holds:
    light on dark, the light evened, cropped to the ink, scaled to 20×20 and centred by mass in
    28×28. A picture that is 28×28 and light on dark already is taken to be just that, and is left
    as it is. For any other network a picture is made grey or colour and stretched to ``size``, as
    the pictures of a folder are for training.

    Args:
        picture: (H, W) or (H, W, C), C from 1 to 4; uint8, uint16, or floats 0…1.
        channels: of the network, 1 or 3.
        size: (height, width) that the network takes.
        digit: whether the network reads handwritten digits as MNIST holds them.
        alpha: the last of 2 or 4 channels is opacity.

    Returns:
        (channels, height, width), uint16 where the picture has more than 8 bits and is no digit,
        else uint8; and the notes.

    Raises:
        BadValue: not a picture, or a blank page where a digit should be.
    """
    notes: list[str] = []
    plain = pixels.to_samples(picture, alpha=alpha)
    if picture.dtype.kind == "f" and not digit:
        notes.append(f"{picture.dtype} rounded to 16 bits")
    if picture.ndim == 3 and picture.shape[2] in (2, 4):
        notes.append("transparent pixels made white")
    if digit:
        plain = _prepare_digit(_make_bytes(picture, plain, notes), notes)
    elif plain.ndim == 2 and channels == pixels.COLOUR:
        notes.append("grey repeated in three channels")
    elif plain.ndim == 3 and channels == pixels.GREY:
        notes.append("made grey")
    brought = pixels.to_channels(plain, channels)
    if brought.shape[:2] != pixels.check_size(size):
        height, width = brought.shape[:2]
        notes.append(f"stretched from {height}×{width} to {size[0]}×{size[1]}")
    resized = pixels.resize(brought, size)
    return np.ascontiguousarray(resized.transpose(2, 0, 1)), notes


def _make_bytes(picture: NDArray[Any], plain: pixels.Samples, notes: list[str]) -> pixels.Bytes:
    if picture.dtype != np.uint8:
        notes.insert(0, f"{picture.dtype} reduced to 8 bits")
    return pixels.reduce(plain)


def _prepare_digit(plain: pixels.Bytes, notes: list[str]) -> pixels.Bytes:
    if plain.ndim == 3:
        notes.append("made grey")
    grey = pixels.reduce(pixels.to_channels(plain, pixels.GREY)[..., 0])
    if int(grey.max()) - int(grey.min()) <= _FLAT:
        raise BadValue(
            "the page is blank: all of it is of one shade", cure="use a picture of a digit"
        )
    if grey.shape == (FIELD, FIELD) and not is_light((grey / 255).astype(np.float32)):
        return grey
    digit, steps = extract_digit(grey)
    notes += steps
    return digit
