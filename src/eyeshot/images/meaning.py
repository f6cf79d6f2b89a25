"""The meaning of the samples of a TIFF, from its tags: colors, inks, indices, alpha.

A reader that ignores the tags silently gives wrong colors: it reads inks as light, an infrared
band as alpha, indices as gray. Here each kind is converted, kept, or refused.
TIFF 6.0, sections 8 (baseline), 16 (CMYK), 18 (associated alpha), 21 (YCbCr) and 23 (L*a*b*).

The chain of a TIFF's directories is followed once and checked here, before a library reads the
file.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import tifffile
from numpy.typing import NDArray

from eyeshot.errors import BadFile

Array = NDArray[Any]

_KIND = tifffile.PHOTOMETRIC
_REFUSED: dict[int, str] = {
    _KIND.CIELAB: "L*a*b* colors",
    _KIND.ICCLAB: "L*a*b* colors",
    _KIND.ITULAB: "L*a*b* colors",
    _KIND.LOGL: "logarithms of luminance (LogL)",
    _KIND.LOGLUV: "LogLuv colors",
}
_COLORS: dict[int, int] = {_KIND.RGB: 3, _KIND.YCBCR: 3, _KIND.SEPARATED: 4}
"""Samples a pixel before the extra ones; one for every other kind."""

_DECODES_TO_RGB = {6, 7, 34892, 33007, 50001, 50002, 52546, 34933, 34934, 22610}
"""Compressions whose decoder turns YCbCr into RGB by itself: JPEG, WebP, JPEG XL, PNG, JPEG XR."""

_ASSOCIATED, _UNASSOCIATED = 1, 2  # values of the tag ExtraSamples; 0 is no opacity
_INK_SET, _NOT_CMYK = 332, 2
_LUMA, _REFERENCE = 529, 532


@dataclass(frozen=True)
class Meaning:
    """The conversion of stored samples (C, …) to those of a picture.

    Attributes:
        channels: the number of channels of the picture.
        dtype: the type of the picture's samples.
        alpha: whether the last channel is alpha.
        done: the conversion in words; empty if there is none.
        convert: stored samples (C, …) -> samples (C', …).
    """

    channels: int
    dtype: np.dtype[Any]
    alpha: bool
    done: str
    convert: Callable[[Array], Array]


def meaning_of(
    page: tifffile.TiffPage, channels: int, colors: Array | None, *, indices: bool = False
) -> Meaning:
    """The meaning of the samples of ``page``.

    Args:
        page: a page; all pages that are read together share its tags.
        channels: the number of channels of the stored samples.
        colors: the palette, (3, entries) uint16; None if there is none.
        indices: return a palette's indices, not its colors.

    Raises:
        BadFile: a kind of color that cannot be converted to RGB.
    """
    dtype = np.dtype(page.dtype).newbyteorder("=")
    kind = int(page.photometric)
    if kind in _REFUSED:
        raise BadFile(f"holds {_REFUSED[kind]}", cure="save it as RGB")
    if kind == _KIND.PALETTE and colors is not None:
        return _palette(channels, dtype, None if indices else colors)
    if dtype.kind == "b":
        return Meaning(channels, np.dtype(np.uint8), False, "", _bilevel(inverted=kind == 0))
    if kind == _KIND.MINISWHITE:
        return _white_is_zero(page, channels, dtype, indices)
    if _few_bits(page, dtype) and not indices:
        done = f"{page.bitspersample} bits made 8"
        return Meaning(channels, dtype, False, done, _by_table(_scaled_to_bytes(page)))
    if page.samplesperpixel != channels:
        return _plain(channels, dtype)  # its channels are pages
    return _colors_and_extras(page, dtype)


def _plain(channels: int, dtype: np.dtype[Any], alpha: bool = False, done: str = "") -> Meaning:
    return Meaning(channels, dtype, alpha, done, lambda samples: samples)


def _bilevel(*, inverted: bool) -> Callable[[Array], Array]:
    def convert(samples: Array) -> Array:
        return np.where(samples != inverted, np.uint8(255), np.uint8(0))

    return convert


def _palette(channels: int, dtype: np.dtype[Any], colors: Array | None) -> Meaning:
    """The meaning of a palette's indices: its colors, or the indices if ``colors`` is None."""
    if channels != 1 or dtype.kind not in "ub":
        raise BadFile(
            f"holds {channels} channels of indices into a palette",
            cure="choose one page by --index, such as C=0, or save it as RGB",
        )
    if colors is None:
        whole = np.dtype(np.uint8) if dtype.kind == "b" else dtype
        return Meaning(1, whole, False, "", lambda samples: samples.astype(whole, copy=False))
    table = _colors_of(np.moveaxis(colors, 0, -1))

    def convert(samples: Array) -> Array:
        if int(samples.max(initial=0)) >= len(table):
            raise ValueError(f"an index of {samples.max()} into {len(table)} colors")
        return np.moveaxis(table[samples[0].astype(np.intp)], -1, 0)

    return Meaning(3, table.dtype, False, "a palette's colors", convert)


def _colors_of(table: Array) -> Array:
    """A palette (entries, 3), in 8 bits if that is enough."""
    if not (table % 257).any():  # each byte written twice, as the standard says
        return (table // 257).astype(np.uint8)
    if not (table % 256).any():  # only the upper byte written, as many writers do
        return (table // 256).astype(np.uint8)
    if int(table.max()) < 256:  # only the lower byte written; libtiff reads it in the same way
        return table.astype(np.uint8)
    return table


def _few_bits(page: tifffile.TiffPage, dtype: np.dtype[Any]) -> bool:
    bits = page.bitspersample
    return dtype == np.uint8 and isinstance(bits, int) and 1 < bits < 8


def _scaled_to_bytes(page: tifffile.TiffPage) -> NDArray[np.uint8]:
    """A table from samples with fewer than 8 bits to 8 bits, scaled to the full range as in PNG."""
    top = 2 ** int(page.bitspersample) - 1
    shares = np.minimum(np.arange(256), top) * (255 / top)
    return np.asarray(np.rint(shares), np.uint8)


def _by_table(table: Array) -> Callable[[Array], Array]:
    return lambda samples: table[samples]


def _white_is_zero(
    page: tifffile.TiffPage, channels: int, dtype: np.dtype[Any], indices: bool
) -> Meaning:
    if dtype.kind != "u":
        return _plain(channels, dtype, done=f"white is zero, and {dtype} samples are left so")
    if _few_bits(page, dtype) and not indices:
        done = f"white is zero: inverted; {page.bitspersample} bits made 8"
        return Meaning(channels, dtype, False, done, _by_table(255 - _scaled_to_bytes(page)))
    top = dtype.type(2 ** int(page.bitspersample) - 1)
    return Meaning(channels, dtype, False, "white is zero: inverted", lambda samples: top - samples)


def _colors_and_extras(page: tifffile.TiffPage, dtype: np.dtype[Any]) -> Meaning:
    """The colors first, then the other channels as the tag ExtraSamples describes them."""
    kind, samples = int(page.photometric), page.samplesperpixel
    count = min(_COLORS.get(kind, 1), samples)
    extras = [int(extra) for extra in page.extrasamples]
    if kind == _KIND.RGB and samples == 4 and not extras:
        extras = [_UNASSOCIATED]  # old writers leave the tag out
    alpha = samples == count + 1 and extras[:1] in ([_ASSOCIATED], [_UNASSOCIATED])
    steps: list[tuple[str, Callable[[Array], Array]]] = []
    if alpha and extras[0] == _ASSOCIATED:
        steps.append(("opacity divided out of the colors", _divided_by_opacity(dtype)))
    if kind == _KIND.SEPARATED and samples >= 4 and _tag(page, _INK_SET, 1) != _NOT_CMYK:
        steps.append(("CMYK made RGB", _without_inks(dtype)))
    if kind == _KIND.YCBCR and page.compression not in _DECODES_TO_RGB:
        steps.append(("YCbCr made RGB", _from_ycbcr(page, dtype)))
    channels = samples - 1 if any(name.startswith("CMYK") for name, _ in steps) else samples

    def convert(stored: Array) -> Array:
        for _, step in steps:
            stored = step(stored)
        return stored

    done = ", ".join(name for name, _ in steps)
    return Meaning(channels, dtype, alpha and channels in (2, 4), done, convert)


def _tag(page: tifffile.TiffPage, code: int, default: Any) -> Any:
    return page.tags.valueof(code, default)


def _divided_by_opacity(dtype: np.dtype[Any]) -> Callable[[Array], Array]:
    """Divide colors by the opacity with which they were multiplied; 0 where the opacity is 0."""
    top = float(np.iinfo(dtype).max) if dtype.kind == "u" else 1.0

    def convert(samples: Array) -> Array:
        colors, opacity = samples[:-1].astype(np.float64), samples[-1:]
        with np.errstate(divide="ignore", invalid="ignore"):
            straight = np.where(opacity > 0, colors * top / opacity, 0)
        if dtype.kind == "u":
            straight = np.rint(np.minimum(straight, top))
        return np.concatenate([straight.astype(dtype), opacity])

    return convert


def _without_inks(dtype: np.dtype[Any]) -> Callable[[Array], Array]:
    """RGB from cyan, magenta, yellow and black ink: (1 - ink) · (1 - black)."""
    if dtype.kind != "u" or dtype.itemsize > 2:
        raise BadFile(f"holds CMYK as {dtype}", cure="save it as RGB")
    top = int(np.iinfo(dtype).max)

    def convert(samples: Array) -> Array:
        inks, black, rest = samples[:3], samples[3:4], samples[4:]
        light = (top - inks.astype(np.uint64)) * (top - black.astype(np.uint64))
        return np.concatenate([((light + top // 2) // top).astype(dtype), rest])

    return convert


def _from_ycbcr(page: tifffile.TiffPage, dtype: np.dtype[Any]) -> Callable[[Array], Array]:
    """RGB from YCbCr: TIFF 6.0, section 21; the coefficients and reference levels are tags."""
    if dtype != np.uint8:
        raise BadFile(f"holds YCbCr as {dtype}", cure="save it as RGB")
    red, green, blue = _fractions(_tag(page, _LUMA, (299, 1000, 587, 1000, 114, 1000)))
    low = _fractions(_tag(page, _REFERENCE, (0, 1, 255, 1, 128, 1, 255, 1, 128, 1, 255, 1)))
    black, white = np.array(low[::2]), np.array(low[1::2])
    if not green or (white == black).any():
        raise BadFile("holds YCbCr whose levels make no colors", cure="save it as RGB")

    def convert(samples: Array) -> Array:
        spans = np.array([255, 127, 127]) / (white - black)
        shape = (3, *(1 for _ in samples.shape[1:]))
        levels = (samples[:3] - black.reshape(shape)) * spans.reshape(shape)
        luma, to_blue, to_red = levels
        r = luma + to_red * (2 - 2 * red)
        b = luma + to_blue * (2 - 2 * blue)
        g = (luma - blue * b - red * r) / green
        colors = np.rint(np.stack([r, g, b]).clip(0, 255)).astype(dtype)
        return np.concatenate([colors, samples[3:]])

    return convert


def _fractions(value: Any) -> list[float]:
    """Pairs of numerator and denominator, as TIFF stores fractions."""
    flat = [float(number) for number in np.ravel(value)]
    return [
        above / below if below else 0.0 for above, below in zip(flat[::2], flat[1::2], strict=True)
    ]


MOST = 10**6
"""The most pages that a file may have."""


def check_directories(path: Path) -> None:
    """Follow the chain of pages and refuse a circular one, which a library would follow forever.

    Raises:
        ValueError: the chain returns to an earlier page, or has more than ``MOST`` pages.
        OSError: the file cannot be read.
    """
    with path.open("rb", buffering=0) as file:
        head = file.read(16)
        order = "<" if head[:2] == b"II" else ">"
        big = struct.unpack_from(order + "H", head, 2)[0] == 43
        (offset,) = struct.unpack_from(order + ("Q" if big else "I"), head, 8 if big else 4)
        passed: dict[int, int] = {}
        while offset:
            if offset in passed:
                raise ValueError(f"page {len(passed) - 1} is followed by page {passed[offset]}")
            if len(passed) >= MOST:
                raise ValueError(f"more than {MOST} pages")
            passed[offset] = len(passed)
            offset = _following(file, offset, order, big)


def _following(file: BinaryIO, offset: int, order: str, big: bool) -> int:
    """The offset of the next directory; 0 after the last, or if the chain is truncated."""
    count_format, entry, next_format = ("Q", 20, "Q") if big else ("H", 12, "I")
    width = struct.calcsize(order + count_format)
    counted = os.pread(file.fileno(), width, offset) if offset < 2**63 else b""
    if len(counted) < width:
        return 0
    (count,) = struct.unpack(order + count_format, counted)
    width, at = struct.calcsize(order + next_format), offset + width + entry * count
    following = os.pread(file.fileno(), width, at) if at < 2**63 else b""
    return int(struct.unpack(order + next_format, following)[0]) if len(following) == width else 0
