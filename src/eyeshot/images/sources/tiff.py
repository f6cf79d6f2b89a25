"""TIFF, BigTIFF and OME-TIFF by windows: strips and tiles decoded one at a time.

tifffile reads the structure and decodes; the bytes of a segment are read here, so that one that
is cut short is noticed and named.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from eyeshot.errors import BadFile, BadValue, EyeshotError
from eyeshot.images import orientation
from eyeshot.images.damage import damage_named
from eyeshot.images.layouts import Layout, understand
from eyeshot.images.segments import check_segments
from eyeshot.images.sources.decoded import open_decoded
from eyeshot.images.sources.grid import GridSource, Index
from eyeshot.images.sources.raw import RawSource
from eyeshot.images.sources.source import OpenFile, Source
from eyeshot.images.whole import WHOLE_LIMIT

_PLAIN = (tifffile.PHOTOMETRIC.MINISWHITE, tifffile.PHOTOMETRIC.PALETTE)
"""Meanings of samples that a window of them does not show; such files are decoded whole."""


class TiffSource(GridSource):
    """One level of one series of a TIFF file, by its strips or tiles."""

    def __init__(
        self, tiff: tifffile.TiffFile, level: tifffile.TiffPageSeries, layout: Layout, path: Path
    ) -> None:
        page = level.keyframe
        pages = level.shape[: len(level.shape) - len(page.shape)]
        chunk = (1,) * len(pages) + _chunk(page)
        super().__init__(str(path), layout, np.dtype(page.dtype), chunk)
        if math.prod(chunk) * self.dtype.itemsize > WHOLE_LIMIT:
            raise BadFile(
                f"{path}: claims strips or tiles of {' x '.join(map(str, chunk))} samples",
                cure="store it in tiles of 256 to 1024",
            )
        self._tiff = tiff
        self._level = level
        self._pages = pages
        self._file = OpenFile(path)

    def _decode(self, index: Index) -> NDArray[Any]:
        count = len(self._pages)
        where = int(np.ravel_multi_index(index[:count], self._pages)) if count else 0
        segment = int(np.ravel_multi_index(index[count:], self._level.keyframe.chunked))
        kind = "tile" if self._level.keyframe.is_tiled else "strip"
        piece = f"{kind} {segment}" + (f" of page {where}" if count else "")
        extent = [self._extent(index, axis) for axis in range(len(index))]
        shape = [hi - lo for lo, hi in extent]
        self._file.check_unchanged()
        with damage_named(self._file.path, piece):
            block = self._decode_segment(where, segment, piece)
        if block is None:
            return np.zeros(shape, self.dtype)
        block = block.reshape(*(1,) * count, *block.shape)
        block = block[tuple(slice(length) for length in shape)]
        if list(block.shape) != shape:
            raise BadFile(
                f"{self._file.path}: {piece} holds {block.shape} samples of {tuple(shape)}",
                cure="the file is damaged; copy it again",
            )
        return block

    def _decode_segment(self, where: int, segment: int, piece: str) -> NDArray[Any] | None:
        """The samples of a segment with the page's axes; None where the file stores none."""
        page = self._level.pages[where]
        if page is None:
            return None
        key = self._level.keyframe
        count = page.databytecounts[segment]
        if count == 0:
            return None
        data = self._file.read_bytes(page.dataoffsets[segment], count, piece)
        extra = {}
        if key.compression in _JPEG:
            extra = {"jpegtables": page.jpegtables, "jpegheader": key.jpegheader}
        block, _, _ = key.decode(bytes(data), segment, **extra)
        return None if block is None else _page_axes(block, key)

    def identity(self) -> dict[str, Any]:
        """The file's, and which level of it."""
        return {**self._file.identity(), "shape": list(self.shape)}

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        self._tiff.close()


_JPEG = {6, 7, 34892, 33007}
"""Compressions whose segments share tables kept elsewhere in the file."""


def _page_axes(block: NDArray[Any], page: tifffile.TiffPage) -> NDArray[Any]:
    """(depth, length, width, samples) as the axes that the page has."""
    if "Z" not in page.axes:
        block = block[0]
    if page.planarconfig == 1 and page.samplesperpixel > 1:
        return block
    block = block[..., 0]
    return block[np.newaxis] if page.samplesperpixel > 1 else block


def _chunk(page: tifffile.TiffPage) -> tuple[int, ...]:
    planar = page.planarconfig == 2 and page.samplesperpixel > 1
    return ((1,) if planar else ()) + tuple(page.chunks)


def open_tiff(
    path: Path, *, level: int = 0, layout: str | None = None, space: int | None = None
) -> Source:
    """A source over the first series of a TIFF file, at one level of its pyramid.

    Raises:
        BadFile: damaged, truncated, or of a structure that is not one image.
        BadValue: no such level.
    """
    with damage_named(path):
        tiff = tifffile.TiffFile(path)
    try:
        with damage_named(path):
            series = tiff.series[0]
            levels = list(series.levels)
        if not 0 <= level < len(levels):
            raise BadValue(
                f"{path}: no level {level}", cure=f"it has levels 0 to {len(levels) - 1}"
            )
        with damage_named(path):
            source = _open_level(tiff, levels[level], path, layout, space)
    except BaseException:
        tiff.close()
        raise
    if not isinstance(source, TiffSource):
        tiff.close()
    return source


def _open_level(
    tiff: tifffile.TiffFile,
    level: tifffile.TiffPageSeries,
    path: Path,
    layout: str | None,
    space: int | None,
) -> Source:
    page = level.keyframe
    if page.dtype is None or np.dtype(page.dtype).kind not in "biuf":
        raise BadFile(f"{path}: holds {page.dtype}", cure="an image holds real numbers")
    turned = page.tags.get(orientation.TAG)
    bilevel = np.dtype(page.dtype).kind == "b"
    if bilevel or page.photometric in _PLAIN or (turned is not None and turned.value > 1):
        return open_decoded(path, layout=layout, space=space)
    try:
        order = understand(level.shape, metadata=level.axes, layout=layout, space=space)
    except EyeshotError as error:
        raise error.at(str(path)) from error
    offset = _offset_of_one_piece(level)
    if offset is not None:
        dtype = np.dtype(page.dtype).newbyteorder(tiff.byteorder)
        return RawSource(OpenFile(path), offset, dtype, order, str(path))
    check_segments(page, path.stat().st_size)
    pages = level.shape[: len(level.shape) - len(page.shape)]
    fits = level.shape[len(pages) :] == page.shape and math.prod(pages) == len(level.pages)
    if not fits or len(_chunk(page)) != len(page.shape):
        raise BadFile(
            f"{path}: pages of {page.shape} in a series of {level.shape}",
            cure="store it as one image of one series",
        )
    return TiffSource(tiff, level, order, path)


def _offset_of_one_piece(level: tifffile.TiffPageSeries) -> int | None:
    """Where the samples begin, if all of them lie uncompressed and in order."""
    page = level.keyframe
    if not page.is_contiguous or page.predictor != 1 or page.fillorder != 1:
        return None
    if len(level.pages) == 1 and math.prod(level.shape) == math.prod(page.shape):
        return int(page.dataoffsets[0])
    offset = level.dataoffset
    return None if offset is None else int(offset)
