"""A picture in the form that a network takes: its bits, its colors, its size; photos of digits too.

Training and prediction use the same steps, so that a network sees a picture in the same form in
both.

A person's picture in the form of a network's training pictures, photos of digits above all.

The recipe is from MNIST's authors: a digit is scaled to fit a box of 20×20 without changing its
proportions, with anti-aliasing, and moved so that its center of mass is the center of 28×28
(LeCun, Cortes, Burges, http://yann.lecun.com/exdb/mnist/). They started with clean black and white
scans. The first steps here make such a scan from a photo with uneven light, margins and noise, and
with pens of any width.

In this file:

- convert a photo of a handwritten digit to MNIST's form: light ink on black, 20×20 inside 28×28;
- convert a user's picture to the form of a network's training pictures, and list each step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from eyeshot.errors import BadValue
from eyeshot.language import tr

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


FIELD = 28  # the side of MNIST's pictures
BOX = 20  # the side of the box that a digit fills in it

_WORKING_SIDE = 1024  # a larger photo is shrunk first: this is enough for a digit
_LIGHT_SIDE = 128  # light changes slowly: a small copy shows how it falls
_LIGHT_WINDOW = 33  # in that copy, wider than any stroke of a digit that fills the picture
_GROUND_SIDE = 64  # side of the copy in which the background is measured
_GROUND_WINDOW = 31  # in that copy, wide enough that strokes take less than half of it
_FAINTEST = 0.12  # least contrast of ink: below it, a page is blank
_FAINTEST_AT_EDGE = 0.4  # the same if all ink touches the edge: it may be a shadow
_OUT_OF_GRAIN = 5.0  # deviations of the grain; of pure grain, one pixel in 2000 exceeds 3.3
_SPECK = 0.04  # share of the largest mark below which a mark is dirt
_RIVAL = 0.2  # an inner mark of this share of the largest mark is the digit; marks at the edge go
_THIN = 1.4  # pixels of the box: strokes thinner than this would fade to gray
_STROKE = 2.0  # pixels of the box: the width to which thin strokes are thickened

Plane = NDArray[np.float32]


@dataclass(frozen=True)
class Ink:
    """How much ink there is at each pixel, 0…1, and which pixels belong to the digit (H, W)."""

    amount: Plane
    digit: NDArray[np.bool_]


def extract_digit(gray: Bytes) -> tuple[Bytes, list[str]]:
    """The digit in a photo (H, W) in MNIST's form, (28, 28), and a list of the steps.

    Raises:
        BadValue: there is no ink on the page.
    """
    notes: list[str] = []
    plane: Plane = np.asarray(_shrink(gray, notes) / 255, np.float32)
    if is_light(plane):
        notes.append(tr("inverted: dark ink on a light ground"))
    else:
        plane = np.asarray(1 - plane, np.float32)
    ink = _find_digit(_even(plane), notes)
    amount, mask = _crop(ink, notes)
    scaled = _fit_box(_thicken(amount, mask, notes))
    height, width = scaled.shape
    notes.append(
        tr(
            "scaled to {height}×{width} and centered by its mass in {side}×{side}",
            height=height,
            width=width,
            side=FIELD,
        )
    )
    return np.asarray(np.rint(_center(scaled) * 255), np.uint8), notes


def is_light(plane: Plane) -> bool:
    """Whether the background is lighter than the ink, for (H, W) 0…1.

    In a wide window most pixels are background, so the median is the background, also in shadows
    and at their edges. Pixels that differ from it are ink, and the sign shows whether it is darker;
    the cube gives a few pixels of strong ink more weight than many pixels of faint grain.
    """
    small = cv2.resize(plane, (_GROUND_SIDE, _GROUND_SIDE), interpolation=cv2.INTER_AREA)
    levels = np.asarray(np.rint(small * 255), np.uint8)
    off = levels.astype(np.int64) - cv2.medianBlur(levels, _GROUND_WINDOW)
    return bool((off**3).sum() < 0)


def _shrink(gray: Bytes, notes: list[str]) -> Bytes:
    height, width = gray.shape
    scale = _WORKING_SIDE / max(height, width)
    if scale >= 1:
        return gray
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    notes.append(
        tr(
            "reduced from {before} to {after}",
            before=f"{height}×{width}",
            after=f"{size[1]}×{size[0]}",
        )
    )
    return np.asarray(cv2.resize(gray, size, interpolation=cv2.INTER_AREA), np.uint8)


def _even(plane: Plane) -> Plane:
    """The amount of ink 0…1 of a light page (H, W): how much darker it is than the paper around it.

    A closing replaces dark areas that are narrower than its window by the paper next to them; the
    result is the illumination. Ink absorbs a share of the light, so the page is divided by it, and
    not subtracted.

    Raises:
        BadValue: the page is blank.
    """
    height, width = plane.shape
    scale = min(1.0, _LIGHT_SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(plane, size, interpolation=cv2.INTER_AREA)
    window = min(_LIGHT_WINDOW, 2 * (max(size) // 2) + 1)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (window, window))
    light = cv2.GaussianBlur(cv2.morphologyEx(small, cv2.MORPH_CLOSE, kernel), (0, 0), 1.5)
    light = cv2.resize(light, (width, height), interpolation=cv2.INTER_LINEAR)
    ink = np.asarray(1 - plane / np.maximum(light, 1 / 255), np.float32)
    smooth = max(height, width) / 400  # grain, not strokes
    if smooth > 0.5:
        ink = np.asarray(cv2.GaussianBlur(ink, (0, 0), smooth), np.float32)
    return _level(ink)


def _level(ink: Plane) -> Plane:
    """``ink`` with the paper at 0, clipped to 0…1; refused if nothing is stronger than the grain.

    The closing follows the lightest grains, so the paper lies a little above 0. Its level and its
    deviation are read from the 10th and the 30th percentile, which a normal distribution has at
    -1.28 and -0.52 deviations, and which are paper even where ink covers half of a picture.

    Raises:
        BadValue: the page is blank.
    """
    low, middle, strongest = np.quantile(ink, [0.1, 0.3, 0.9995])
    grain = (middle - low) / (1.28 - 0.52)
    paper = middle + 0.52 * grain
    contrast = float(strongest - paper)
    if contrast < max(_FAINTEST, _OUT_OF_GRAIN * grain):
        raise _blank(contrast)
    return np.asarray(np.clip((ink - paper) / max(1 - paper, 1e-6), 0, 1), np.float32)


def _blank(contrast: float) -> BadValue:
    return BadValue(
        tr(
            "the page is blank: its darkest mark differs from the paper by {share}",
            share=f"{contrast:.0%}",
        ),
        cure=tr("photograph it nearer, in better light"),
    )


def _find_digit(amount: Plane, notes: list[str]) -> Ink:
    threshold = _otsu(amount)
    mask = _choose_marks(amount > threshold, notes)
    core = float(np.median(amount[mask]))
    if core < _FAINTEST_AT_EDGE and not _keep_off_edge(mask):
        raise _blank(core)
    notes.append(
        tr(
            "background evened, ink taken from {low:.0%} to {high:.0%} darkness",
            low=threshold,
            high=core,
        )
    )
    low = threshold * 0.5
    soft = np.clip((amount - low) / max(core - low, 1e-6), 0, 1).astype(np.float32)
    near = cv2.dilate(mask.astype(np.uint8), np.ones((5, 5), np.uint8))
    return Ink(soft * near, mask)


def _keep_off_edge(mask: NDArray[np.bool_]) -> bool:
    """Whether any mark of ``mask`` does not touch the picture's border."""
    return bool(_find_marks(mask)[1].any())


def _otsu(amount: Plane) -> float:
    levels = np.rint(amount * 255).astype(np.uint8)
    threshold, _ = cv2.threshold(levels, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    return float(threshold) / 255


def _find_marks(
    mask: NDArray[np.bool_],
) -> tuple[NDArray[np.int32], NDArray[np.bool_], NDArray[np.int32]]:
    """The number of each pixel's mark (H, W); for each mark, whether it does not touch the border;
    and each mark's area in pixels.
    """
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    left, top, width, height, area = np.asarray(stats, np.int32)[1:].T
    rows, columns = mask.shape
    inside = (left > 0) & (top > 0) & (left + width < columns) & (top + height < rows)
    return np.asarray(labels, np.int32), inside, area


def _choose_marks(mask: NDArray[np.bool_], notes: list[str]) -> NDArray[np.bool_]:
    """The marks of the digit, without dirt and without marks that touch the edge."""
    labels, inside, area = _find_marks(mask)
    edge, inner = ~inside, area * inside
    if edge.any() and inner.max(initial=0) >= _RIVAL * area.max():
        notes.append(tr("left out what comes in from the edge: {n} marks", n=int(edge.sum())))
        area = inner
    chosen = area >= max(_SPECK * area.max(), 1)
    if dirt := int((area > 0).sum() - chosen.sum()):
        notes.append(tr("left out {n} specks", n=dirt))
    if chosen.sum() > 1:
        notes.append(tr("took {n} separate marks for one digit", n=int(chosen.sum())))
    return np.concatenate([[False], chosen])[labels]


def _crop(ink: Ink, notes: list[str]) -> tuple[Plane, NDArray[np.bool_]]:
    rows, columns = np.flatnonzero(ink.digit.any(1)), np.flatnonzero(ink.digit.any(0))
    part = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    mask = ink.digit[part]
    height, width = ink.digit.shape
    inner, outer = (f"{rows}×{columns}" for rows, columns in (mask.shape, (height, width)))
    notes.append(tr("cropped to the ink, {part} of {whole}", part=inner, whole=outer))
    return ink.amount[part], mask


def _thicken(amount: Plane, mask: NDArray[np.bool_], notes: list[str]) -> Plane:
    """Strokes that would be thinner than a pixel and a half in the box, made two pixels wide.

    Inside a bar of width w, the distance to the nearest pixel outside is w/4 + 1/2 on average.
    """
    scale = BOX / max(mask.shape)
    padded = np.pad(mask.astype(np.uint8), 1)
    distance = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    stroke = 4 * (float(distance[padded > 0].mean()) - 0.5) * scale
    if scale >= 1 or stroke >= _THIN:
        return amount
    notes.append(tr("strokes of {n:.1f} pixels thickened to {m:.1f}", n=stroke, m=_STROKE))
    grow = max(1, round((_STROKE - stroke) / scale / 2))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * grow + 1, 2 * grow + 1))
    return np.asarray(cv2.dilate(np.pad(amount, grow), kernel), np.float32)


def _fit_box(amount: Plane) -> Plane:
    """(H, W) scaled so that its longer side is 20, the brightest pixel 1."""
    height, width = amount.shape
    scale = BOX / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    scaled = np.clip(cv2.resize(amount, size, interpolation=how), 0, 1)
    return np.asarray(scaled / max(float(scaled.max()), 1e-6), np.float32)


def _center(scaled: Plane) -> Plane:
    """``scaled`` in a field of 28×28, its center of mass on the middle, to the nearest pixel."""
    height, width = scaled.shape
    mass = float(scaled.sum())
    row = float((scaled.sum(1) * np.arange(height)).sum()) / mass
    column = float((scaled.sum(0) * np.arange(width)).sum()) / mass
    top = min(max(round(FIELD / 2 - row), 0), FIELD - height)
    left = min(max(round(FIELD / 2 - column), 0), FIELD - width)
    field = np.zeros((FIELD, FIELD), np.float32)
    field[top : top + height, left : left + width] = scaled
    return field


_FLAT = 8  # levels: a picture with a smaller range of values is blank


def prepare_picture(
    picture: NDArray[Any],
    *,
    channels: int,
    size: tuple[int, int],
    digit: bool,
    alpha: bool = True,
) -> tuple[Samples, list[str]]:
    """``picture`` in the form of the network's training pictures, and a phrase for each step.

    For a network trained on ``digits`` or ``mnist`` (``digit``), a photo is converted to MNIST's
    form: light on dark, with even light, cropped to the ink, scaled to 20×20 and centered by mass
    in 28×28. A picture that is already 28×28 and light on dark is not changed. For any other
    network a picture is converted to gray or color and stretched to ``size``, like the pictures of
    a training folder.

    Args:
        picture: (H, W) or (H, W, C), C from 1 to 4; uint8, uint16, or floats 0…1.
        channels: of the network, 1 or 3.
        size: (height, width) that the network takes.
        digit: whether the network reads handwritten digits in MNIST's form.
        alpha: the last of 2 or 4 channels is opacity.

    Returns:
        (channels, height, width), uint16 where the picture has more than 8 bits and is no digit,
        else uint8; and the notes.

    Raises:
        BadValue: not a picture, or a blank page where a digit should be.
    """
    notes: list[str] = []
    plain = to_samples(picture, alpha=alpha)
    if picture.dtype.kind == "f" and not digit:
        notes.append(tr("{type} rounded to 16 bits", type=picture.dtype))
    if picture.ndim == 3 and picture.shape[2] in (2, 4):
        notes.append(tr("transparent pixels made white"))
    if digit:
        plain = _prepare_digit(_make_bytes(picture, plain, notes), notes)
    elif plain.ndim == 2 and channels == COLOR:
        notes.append(tr("gray repeated in three channels"))
    elif plain.ndim == 3 and channels == GRAY:
        notes.append(tr("made gray"))
    if plain.shape[:2] != check_size(size):
        height, width = plain.shape[:2]
        notes.append(
            tr(
                "stretched from {before} to {after}",
                before=f"{height}×{width}",
                after=f"{size[0]}×{size[1]}",
            )
        )
    # In the order in which the training pictures are converted: every step rounds.
    converted = to_channels(resize(plain, size), channels)
    return np.ascontiguousarray(converted.transpose(2, 0, 1)), notes


def _make_bytes(picture: NDArray[Any], plain: Samples, notes: list[str]) -> Bytes:
    if picture.dtype != np.uint8:
        notes.insert(0, tr("{type} reduced to 8 bits", type=picture.dtype))
    return reduce(plain)


def _prepare_digit(plain: Bytes, notes: list[str]) -> Bytes:
    if plain.ndim == 3:
        notes.append(tr("made gray"))
    gray = reduce(to_channels(plain, GRAY)[..., 0])
    if int(gray.max()) - int(gray.min()) <= _FLAT:
        raise BadValue(
            tr("the page is blank: all of it is of one shade"), cure=tr("use a picture of a digit")
        )
    if gray.shape == (FIELD, FIELD) and not is_light((gray / 255).astype(np.float32)):
        return gray
    digit, steps = extract_digit(gray)
    notes += steps
    return digit
