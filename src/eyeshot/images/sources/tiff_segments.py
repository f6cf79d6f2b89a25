"""TIFF, BigTIFF and OME-TIFF by windows: strips and tiles decoded one at a time.

tifffile reads the structure and decodes. The bytes of a segment are read here, so that a truncated
segment is detected and named. An image may be in several files (OME-TIFF).

Some writers fill up the last strip, or write one strip longer than the image. libtiff, and so
Pillow and GIMP, read the rows that belong to the image; the decoders of tifffile refuse the strip,
as its content does not fit. Here the rows beyond the image are removed from its code.
"""

from __future__ import annotations

import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from eyeshot.errors import BadFile
from eyeshot.images import layouts
from eyeshot.images.layouts import Layout
from eyeshot.images.limits import WHOLE_LIMIT, check_claim, check_segments, damage_named
from eyeshot.images.pixel_grid import PAGE_NAME, PICKED, grid_of_tiff
from eyeshot.images.sources.arrays import RawSource
from eyeshot.images.sources.converted import ConvertedSource, check_directories, meaning_of, turned
from eyeshot.images.sources.source import ChunkIndex, GridSource, OpenFile, Selection, Source

_DEFLATE = {8, 32946}
_PACKBITS = 32773
_MOST = 64
"""How many times longer than its rows a strip may be, so that a bomb is not decoded."""


def without_excess(page: tifffile.TiffPage, data: bytes, segment: int) -> bytes | None:
    """The code of the rows of a strip; None if it has no other rows, or is damaged.

    Args:
        page: the page that tells how its strips are encoded.
        data: the code of the strip.
        segment: the number of the strip in the page.
    """
    known = page.compression in {*_DEFLATE, _PACKBITS} and isinstance(page.bitspersample, int)
    if page.is_tiled or page.fillorder != 1 or not known:
        return None
    needed = _bytes_of(page, segment)
    if page.compression == _PACKBITS:
        import imagecodecs

        if len(data) > _MOST * needed:
            return None
        plain = bytes(imagecodecs.packbits_decode(data))
        return bytes(imagecodecs.packbits_encode(plain[:needed])) if len(plain) > needed else None
    return _deflated_again(data, needed)


def _bytes_of(page: tifffile.TiffPage, segment: int) -> int:
    """The decoded bytes of the rows of a strip that are in the image."""
    strips = math.ceil(page.imagelength / page.rowsperstrip)
    rows = min(page.rowsperstrip, page.imagelength - segment % strips * page.rowsperstrip)
    samples = page.samplesperpixel if page.planarconfig == 1 else 1
    return int(rows * math.ceil(page.imagewidth * samples * page.bitspersample / 8))


def _deflated_again(data: bytes, needed: int) -> bytes | None:
    """The first ``needed`` bytes of a Deflate stream as one; None if its checksum is wrong."""
    decoder = zlib.decompressobj()
    try:
        plain = decoder.decompress(data, needed)
        excess = 0
        while not decoder.eof and excess < _MOST * needed:
            more = len(decoder.decompress(decoder.unconsumed_tail, needed))
            excess += more
            if not more and not decoder.unconsumed_tail:
                break  # it is truncated
    except zlib.error:
        return None
    return zlib.compress(plain, 1) if decoder.eof and excess and len(plain) == needed else None


Page = Any
"""A page of tifffile, with or without its tags."""


class TiffSource(GridSource):
    """One level of one series of a TIFF file, by its strips or tiles."""

    def __init__(
        self, tiff: tifffile.TiffFile, level: tifffile.TiffPageSeries, layout: Layout, path: Path
    ) -> None:
        page = level.keyframe
        pages = _page_axes_of(level)
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
        self._files = _open_files(level, path)

    def _decode(self, index: ChunkIndex) -> NDArray[Any]:
        count = len(self._pages)
        where = int(np.ravel_multi_index(index[:count], self._pages)) if count else 0
        segment = int(np.ravel_multi_index(index[count:], self._level.keyframe.chunked))
        kind = "tile" if self._level.keyframe.is_tiled else "strip"
        piece = f"{kind} {segment}" + (f" of page {where}" if count else "")
        extent = [self._extent(index, axis) for axis in range(len(index))]
        shape = [hi - lo for lo, hi in extent]
        page = self._level.pages[where]
        if page is None:
            return np.zeros(shape, self.dtype)
        file = self._files[_path_of(page)]
        file.check_unchanged()
        with damage_named(file.path, piece):
            block = self._decode_segment(page, file, segment, piece)
        if block is None:
            return np.full(shape, self._level.keyframe.nodata, self.dtype)
        block = block.reshape(*(1,) * count, *block.shape)
        block = block[tuple(slice(length) for length in shape)]
        if list(block.shape) != shape:
            raise BadFile(
                f"{file.path}: {piece} holds {block.shape} samples of {tuple(shape)}",
                cure="the file is damaged; copy it again",
            )
        return block

    def _decode_segment(
        self, page: Page, file: OpenFile, segment: int, piece: str
    ) -> NDArray[Any] | None:
        """The samples of a segment with the page's axes; None if the file stores none."""
        key = page.keyframe
        count = page.databytecounts[segment]
        if count == 0:
            return None
        data = bytes(file.read_bytes(page.dataoffsets[segment], count, piece))
        extra = {}
        if key.compression in _JPEG:
            extra = {"jpegtables": page.jpegtables, "jpegheader": key.jpegheader}
        check_claim(key, (key.jpegheader or b"") + data if extra else data)
        try:
            block, _, _ = key.decode(data, segment, **extra)
        except Exception:  # each codec has its own kind, and most are a RuntimeError
            shorter = without_excess(key, data, segment)
            if shorter is None:
                raise
            block, _, _ = key.decode(shorter, segment)
        return None if block is None else _page_axes(block, key)

    def identity(self) -> dict[str, Any]:
        """The identity of the files, and the shape of the read part."""
        first, *others = self._files.values()
        more = {"files": [file.identity() for file in others]} if others else {}
        return {**first.identity(), **more, "shape": list(self.shape)}

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            file.close()
        self._tiff.close()


_JPEG = {6, 7, 34892, 33007}
"""Compressions whose segments share tables from another place in the file."""


def _path_of(page: Page) -> Path:
    return Path(page.parent.filehandle.path)


def _paths_of(level: tifffile.TiffPageSeries) -> list[Path]:
    """The files that contain the level's pages."""
    if not level.is_multifile:
        return [_path_of(level.keyframe)]
    return list(dict.fromkeys(_path_of(page) for page in level.pages if page is not None))


def _open_files(level: tifffile.TiffPageSeries, path: Path) -> dict[Path, OpenFile]:
    """Every file that holds a page.

    Raises:
        BadFile: a file is missing, or is in another folder.
    """
    files: dict[Path, OpenFile] = {}
    try:
        for other in _paths_of(level):
            if other.resolve().parent != path.resolve().parent:
                raise BadFile(
                    f"{path}: names {other}, a file in another folder",
                    cure="put the files of an image into one folder",
                )
            files[other] = OpenFile(other)
    except BaseException:
        for file in files.values():
            file.close()
        raise
    return files


def _page_axes_of(level: tifffile.TiffPageSeries) -> tuple[int, ...]:
    """The lengths of the axes along which pages are counted."""
    return tuple(level.shape[: len(level.shape) - len(level.keyframe.shape)])


def _page_axes(block: NDArray[Any], page: tifffile.TiffPage) -> NDArray[Any]:
    """A segment (depth, length, width, samples) with the axes of the page."""
    if "Z" not in page.axes:
        block = block[0]
    if page.planarconfig == 1 and page.samplesperpixel > 1:
        return block
    block = block[..., 0]
    return block[np.newaxis] if page.samplesperpixel > 1 else block


def _chunk(page: tifffile.TiffPage) -> tuple[int, ...]:
    planar = page.planarconfig == 2 and page.samplesperpixel > 1
    return ((1,) if planar else ()) + tuple(page.chunks)


def open_tiff(path: Path, selection: Selection, *, one_picture: bool = False) -> Source:
    """A source over one series of a TIFF file, at one level of its pyramid.

    Samples are converted as the file's tags say: a palette to colors, inks to RGB, white to the
    largest value. The image is upright. With ``one_picture``, a stack of pages that are not
    channels of one picture is refused.

    Raises:
        BadFile: the file is damaged, truncated, or not structured as one image.
        BadValue: there is no such series, level or position.
    """
    with damage_named(path):
        check_directories(path)
        tiff = tifffile.TiffFile(path)
    try:
        with damage_named(path):
            every = list(tiff.series)
        if not every:
            raise BadFile(f"{path}: holds no image", cure="export the image again")
        number = selection.check_series(path, len(every))
        with damage_named(path):
            levels = list(every[number].levels)
        level = levels[selection.check_level(path, len(levels))]
        if one_picture:
            _check_one_picture(level, path, selection)
        with damage_named(path):
            source = _open_level(tiff, level, path, selection, every[number].shape)
    except BaseException:
        tiff.close()
        raise
    source.part = selection.part(number)
    if len(every) > 1 and selection.series is None:
        source.notes = (*source.notes, _others(every, selection))
    return source


def _check_one_picture(level: tifffile.TiffPageSeries, path: Path, selection: Selection) -> None:
    for letter, length in zip(level.axes, level.shape, strict=True):
        if letter not in "YXSC" and length > 1 and letter not in selection.index:
            raise BadFile(
                f"{path}: holds {length} pages (axes {level.axes}), and one picture is read",
                cure=selection.page_cure(letter, length),
            )


def _others(every: list[tifffile.TiffPageSeries], selection: Selection) -> str:
    """A note about the chosen series and the others."""
    parts = [
        f"{number}: {' x '.join(map(str, one.shape))} ({one.axes})"
        for number, one in enumerate(every[:_MOST_LISTED])
    ]
    listed = ", ".join(parts) + (", …" if len(every) > _MOST_LISTED else "")
    more = ", --series N reads N" if selection.offered else ""
    return f"holds {len(every)} images, series {listed}; 0 is read{more}"


_MOST_LISTED = 8


def _open_level(
    tiff: tifffile.TiffFile,
    level: tifffile.TiffPageSeries,
    path: Path,
    selection: Selection,
    whole: tuple[int, ...],
) -> Source:
    """A source of the level, upright, with samples converted according to the tags.

    Args:
        tiff: the open file.
        level: a level of one of its series.
        path: the path of the file.
        selection: the requested part.
        whole: the shape of the largest level.
    """
    page = level.keyframe
    if page.dtype is None or np.dtype(page.dtype).kind not in "biuf":
        raise BadFile(f"{path}: holds {page.dtype}", cure="an image holds real numbers")
    layout = selection.understand(path, tuple(level.shape), level.axes)
    turn, colors = _tags_of_pages(level, layout, path)
    picked = page.tags.valueof(PAGE_NAME) == PICKED
    grid = grid_of_tiff(tiff, selection.series or 0, layout, whole, level.axes, picked=picked)
    stored = _open_stored(tiff, level, layout, path)
    try:
        try:
            meaning = meaning_of(page, stored.shape[0], colors, indices=selection.indices)
        except BadFile as error:
            raise error.at(str(path)) from None
        source: Source = stored
        if meaning.done or meaning.dtype != stored.dtype:
            source = ConvertedSource(stored, meaning)
        source.alpha, source.grid = meaning.alpha, grid
        return source if turn == 1 else turned(source, turn)
    except BaseException:
        stored.close()
        raise


def _open_stored(
    tiff: tifffile.TiffFile, level: tifffile.TiffPageSeries, layout: Layout, path: Path
) -> Source:
    """The samples as they are stored."""
    page = level.keyframe
    offset = _offset_of_one_piece(level)
    if offset is not None:
        dtype = np.dtype(page.dtype).newbyteorder(tiff.byteorder)
        tiff.close()
        return RawSource(OpenFile(path), offset, dtype, layout, str(path))
    check_segments(page, _path_of(page).stat().st_size)
    pages = _page_axes_of(level)
    fits = level.shape[len(pages) :] == page.shape and math.prod(pages) == len(level.pages)
    if not fits or len(_chunk(page)) != len(page.shape):
        raise BadFile(
            f"{path}: pages of {page.shape} in a series of {level.shape}",
            cure="store it as one image of one series",
        )
    return TiffSource(tiff, level, layout, path)


def _offset_of_one_piece(level: tifffile.TiffPageSeries) -> int | None:
    """The offset of the samples, if all are in one file, uncompressed and in order."""
    page = level.keyframe
    if not page.is_contiguous or page.predictor != 1 or page.fillorder != 1:
        return None
    if len(_paths_of(level)) > 1:
        return None
    if len(level.pages) == 1 and math.prod(level.shape) == math.prod(page.shape):
        return int(page.dataoffsets[0])
    offset = level.dataoffset
    return None if offset is None else int(offset)


def _tags_of_pages(
    level: tifffile.TiffPageSeries, layout: Layout, path: Path
) -> tuple[int, NDArray[Any] | None]:
    """The orientation and the palette (None if there is none) of all pages that are read.

    Raises:
        BadFile: the pages have different ones.
    """
    numbers = _pages_read(level, layout)
    if level.kind not in _OF_ANY_PAGES:
        numbers = numbers[:1]
    first: tuple[int, bytes] | None = None
    colors = None
    for number in numbers:
        page = level.pages[number]
        if page is None:
            continue
        whole = _with_tags(page)
        if whole.photometric == tifffile.PHOTOMETRIC.PALETTE:
            colors = whole.colormap
        turn = int(whole.tags.valueof(layouts.TAG, 1))
        tags = (turn, b"" if colors is None else colors.tobytes())
        if first is not None and tags != first:
            what = "with another orientation" if turn != first[0] else "with another palette"
            raise BadFile(
                f"{path}: page {number} is {what} than page {numbers[0]}",
                cure="choose one page by --index, or store all in the same way",
            )
        first = tags
    return (1 if first is None else first[0]), colors


_OF_ANY_PAGES = {"generic", "uniform"}
"""Series that tifffile assembles from similar pages; other series come from one writer."""


def _pages_read(level: tifffile.TiffPageSeries, layout: Layout) -> list[int]:
    """The numbers of the pages that a layout reads of a series."""
    counted = _page_axes_of(level)
    if len(level.pages) != math.prod(counted):
        return [0]  # the first page represents all
    whole = layout.box(tuple((0, length) for length in layout.shape[1:]))
    grid = np.arange(math.prod(counted)).reshape(counted)
    return [int(n) for n in grid[tuple(slice(*span) for span in whole[: len(counted)])].flat]


def _with_tags(page: Page) -> Page:
    """The page with all its tags, read from its file; a page without tags has those of another."""
    if not isinstance(page, tifffile.TiffFrame) or page.is_virtual:
        return page.keyframe
    handle = page.parent.filehandle
    if not handle.closed:
        return page.aspage()
    handle.open()
    try:
        return page.aspage()
    finally:
        handle.close()
