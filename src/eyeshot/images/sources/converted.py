"""What the samples of a file mean, and sources that convert or decode them.

In this file:

- the meaning of a TIFF's samples, from its tags: colors, inks, indices, alpha. A reader that
ignores   the tags silently gives wrong colors: it reads inks as light, an infrared band as alpha,
indices as   gray. Here each kind is converted, kept, or refused. TIFF 6.0, sections 8 (baseline),
16 (CMYK),   18 (associated alpha), 21 (YCbCr) and 23 (L*a*b*); - the chain of a TIFF's directories,
followed once and checked before a library reads the file; - a source that converts its samples:
indices to colors, inks to RGB; - a gray picture that is stored as color: one of several equal
channels is read; - a picture with an alpha channel that is opaque everywhere: the other channels
are read; - pictures that can only be decoded whole: JPEG, BMP, WebP, GIF, interlaced PNG.
"""

from __future__ import annotations

import dataclasses
import math
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import tifffile
from numpy.typing import NDArray

from eyeshot.errors import BadFile, BadValue
from eyeshot.images import layouts
from eyeshot.images.layouts import Layout, Span
from eyeshot.images.limits import WHOLE_LIMIT, damage_named
from eyeshot.images.sources.arrays import ArraySource
from eyeshot.images.sources.source import OpenFile, Selection, Source
from eyeshot.images.whole import read_picture, unit_of
from eyeshot.language import tr

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
_GRAY_ALPHA = 2
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
    """Gray is inverted; an opacity beside it, or another extra sample, is not."""
    together = page.samplesperpixel == channels > 1  # else its channels are pages of gray
    extras = [int(extra) for extra in page.extrasamples] if together else []
    if extras[:1] == [_ASSOCIATED]:
        raise BadFile(
            "holds gray whose white is zero, multiplied by opacity", cure="save it as RGB"
        )
    alpha = channels == _GRAY_ALPHA and extras == [_UNASSOCIATED]
    if dtype.kind != "u":
        done = f"white is zero, and {dtype} samples are left so"
        return _plain(channels, dtype, alpha, done)
    done, grays = "white is zero: inverted", 1 if together else channels
    few = _few_bits(page, dtype) and not indices
    if few:
        done += f"; {page.bitspersample} bits made 8"
    table = _scaled_to_bytes(page) if few else None
    top = dtype.type(255 if few else 2 ** int(page.bitspersample) - 1)

    def convert(samples: Array) -> Array:
        scaled = samples if table is None else table[samples]
        return np.concatenate([top - scaled[:grays], scaled[grays:]])

    return Meaning(channels, dtype, alpha, done, convert)


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


_AT_ONCE = 2**18
"""Samples that are converted together, so that the temporary memory is bounded."""
_SCRATCH = 64
"""Temporary bytes per sample of a conversion: several copies as floats."""


class ConvertedSource(Source):
    """Windows of another source, converted one by one."""

    def __init__(self, stored: Source, meaning: Meaning) -> None:
        layout = stored._layout
        if meaning.done:
            layout = dataclasses.replace(layout, why=f"{layout.why}; {meaning.done}")
        super().__init__(stored.name, layout, meaning.dtype)
        self._stored = stored
        self._meaning = meaning
        self.stand_for(stored)
        self.memory += _AT_ONCE * _SCRATCH
        self.alpha = meaning.alpha

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W) after the conversion."""
        return (self._meaning.channels, *self._stored.shape[1:])

    def window_memory(self, shape: tuple[int, ...]) -> int:
        """The stored window in addition to the converted window."""
        return super().window_memory(shape) + self._stored.window_memory(shape)

    def _read(self, spans: tuple[Span, ...]) -> NDArray[Any]:
        self._stored.keep_rows = self.keep_rows  # set by the reader of windows
        samples = self._stored.read(*spans)
        self.decoded_chunks = self._stored.decoded_chunks
        out = np.empty((self._meaning.channels, *samples.shape[1:]), self.dtype)
        step = max(1, _AT_ONCE * samples.shape[1] // samples.size)
        with damage_named(self.name):
            for top in range(0, samples.shape[1], step):
                rows = slice(top, top + step)
                out[:, rows] = self._meaning.convert(samples[:, rows])
        return out

    def identity(self) -> dict[str, Any]:
        """The identity of the stored source, and the conversion."""
        return {**self._stored.identity(), "made": self._meaning.done}

    def close(self) -> None:
        """Close the stored source."""
        self._stored.close()


class GraySource(Source):
    """Gray stored as RGB, maybe with an opaque alpha channel, as one channel.

    Every window is checked: a colored or transparent pixel is refused, not averaged away.
    """

    def __init__(self, stored: Source) -> None:
        super().__init__(stored.name, stored._layout, stored.dtype)
        self.stored = stored
        self.stand_for(stored)

    @staticmethod
    def fits(source: Source) -> bool:
        """Whether a source has as many channels as such a picture: gray and alpha, RGB or RGBA."""
        return source.shape[0] in (2, 3, 4)

    @classmethod
    def starts_gray(cls, source: Source) -> bool:
        """Whether the first row is gray; a picture in color is refused for its channels."""
        try:
            cls(source).read((0, 1))
        except BadValue:
            return False
        return True

    @property
    def shape(self) -> tuple[int, ...]:
        """(1, H, W)."""
        return (1, *self.stored.shape[1:])

    @property
    def layout(self) -> str:
        """How the stored axes were interpreted, in words."""
        return f"{self.stored.layout}; gray in {self.stored.shape[0]} channels, read as one"

    def _read(self, spans: tuple[Span, ...]) -> NDArray[Any]:
        self.stored.keep_rows = self.keep_rows
        samples = self.stored.read(*spans)
        self.decoded_chunks = self.stored.decoded_chunks
        colors = 3 if len(samples) > 2 else 1
        for channel in range(1, len(samples)):
            expected = samples[0] if channel < colors else unit_of(self.dtype)
            other = samples[channel] != expected
            if other.any():
                place = [
                    int(i) + lo for i, (lo, _) in zip(np.argwhere(other)[0], spans, strict=True)
                ]
                kind = "colored" if channel < colors else "transparent"
                raise BadValue(
                    f"{self.name}: the pixel at {tuple(place)} is {kind}, and the network takes "
                    "one channel",
                    cure="convert the image to gray first",
                )
        return samples[:1]

    def identity(self) -> dict[str, Any]:
        """The identity of the stored picture, and that one channel of it is read."""
        return {**self.stored.identity(), "gray": True}

    def close(self) -> None:
        """Close the stored picture."""
        self.stored.close()


class OpaqueSource(Source):
    """A picture with an alpha channel, opaque everywhere, as its colors or its gray alone.

    Every window is checked: a transparent pixel is refused, since the network cannot see it.
    """

    def __init__(self, stored: Source) -> None:
        super().__init__(stored.name, stored._layout, stored.dtype)
        self.stored = stored
        self.stand_for(stored)

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W) without the alpha channel."""
        return (self.stored.shape[0] - 1, *self.stored.shape[1:])

    @property
    def layout(self) -> str:
        """How the stored axes were interpreted, in words."""
        return f"{self.stored.layout}; {self.left_out}"

    @property
    def left_out(self) -> str:
        """What is left out, in words."""
        return tr("the alpha channel is left out: it is opaque")

    def _read(self, spans: tuple[Span, ...]) -> NDArray[Any]:
        self.stored.keep_rows = self.keep_rows
        samples = self.stored.read(*spans)
        self.decoded_chunks = self.stored.decoded_chunks
        seen_through = samples[-1] != unit_of(self.dtype)
        if seen_through.any():
            place = tuple(
                int(i) + lo for i, (lo, _) in zip(np.argwhere(seen_through)[0], spans, strict=True)
            )
            raise BadValue(
                tr(
                    "{name}: the pixel at {place} is transparent, and the network takes no alpha "
                    "channel",
                    name=self.name,
                    place=place,
                ),
                cure=tr("lay the image on a background first"),
            )
        return samples[:-1]

    def identity(self) -> dict[str, Any]:
        """The identity of the stored picture, and that its alpha channel is left out."""
        return {**self.stored.identity(), "opaque": True}

    def close(self) -> None:
        """Close the stored picture."""
        self.stored.close()


READINGS: dict[str, type[GraySource | OpaqueSource]] = {"gray": GraySource, "opaque": OpaqueSource}
"""Ways to read fewer channels than a file stores, by the name in a cluster's task."""


def reading_of(source: Source) -> str:
    """The name of the way in which a source is read; empty for all its channels."""
    return next((name for name, kind in READINGS.items() if isinstance(source, kind)), "")


def read_as(name: str, source: Source) -> Source:
    """A source, read in the way of that name."""
    return READINGS[name](source) if name else source


_WHILE_DECODING = 2.5
"""The most decoded copies at one time: Pillow's, with 4 bytes for 3, and the array; or two arrays
while a picture is rotated."""


class DecodedSource(ArraySource):
    """A whole picture in memory, with the identity of its file."""

    file: dict[str, Any]

    def identity(self) -> dict[str, Any]:
        """The identity of the file."""
        return self.file


def open_decoded(path: Path, selection: Selection) -> Source:
    """Decode a picture whole.

    Raises:
        BadFile: the file is damaged, truncated, not a picture, or too large.
        BadValue: there is no such frame, level or position.
    """
    selection.check_level(path, 1)
    file = OpenFile(path)
    try:
        picture = read_picture(
            path,
            series=selection.series,
            indices=selection.indices,
            offered=selection.offered,
        )
        metadata = "YX" if picture.samples.ndim == 2 else "YXC"
        order = selection.understand(path, picture.samples.shape, metadata)
        source = DecodedSource(picture.samples, order, str(path))
        source.file = file.identity()
    finally:
        file.close()
    source.alpha, source.turn = picture.alpha, picture.turn
    source.notes = picture.notes
    source.part = selection.part(selection.series or 0)
    return _counted(source, picture.samples)


def turned(source: Source, turn: int) -> Source:
    """The whole image in memory, rotated upright; ``source`` is closed.

    Args:
        source: the stored image.
        turn: its EXIF or TIFF orientation, 1 to 8.

    Raises:
        BadFile: it is too large.
    """
    with source:
        if math.prod(source.shape) * source.dtype.itemsize > WHOLE_LIMIT // 2:
            raise BadFile(
                f"{source.name}: is stored rotated (orientation {turn}), and is too large to "
                "rotate in memory",
                cure="store it upright, or choose a smaller level",
            )
        stored = np.moveaxis(source.read(), 0, -1)
        upright = layouts.turn_upright(stored, turn)
        letters = "DHWC"[-upright.ndim :]
        layout = Layout(upright.shape, letters, f"{source._layout.why}; turned upright ({turn})")
        decoded = DecodedSource(upright, layout, source.name)
        decoded.file = {**source.identity(), "turned": turn}
    decoded.alpha, decoded.notes, decoded.part = source.alpha, source.notes, source.part
    decoded.turn, decoded.pages = turn, source.pages
    return _counted(decoded, upright)


def _counted(source: DecodedSource, samples: NDArray[Any]) -> Source:
    source.memory = samples.nbytes
    source.open_memory = int(samples.nbytes * _WHILE_DECODING)
    source.decoded_chunks = 1
    return source
