"""Parts of an output that need not be computed: positions outside of ``where``, and blank regions.

The output is cut into cells. Cells that must be computed are merged into rectangles. Each rectangle
is a pass over its own rows, so nothing is computed twice between the cells of one rectangle. The
other cells are filled, or copied: for each constant, one cell is computed.

``where`` is a mask picture, or the polygons of a GeoJSON file.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from eyeshot.axes import Interval
from eyeshot.engine.blank import CELL, CellReads, Cells, blank_cells, cell_reads
from eyeshot.engine.memory import resident
from eyeshot.engine.outputs import arrangement_of
from eyeshot.errors import BadFile, BadValue
from eyeshot.files import explain_os_error
from eyeshot.geometry import Region, required
from eyeshot.graph import Graph
from eyeshot.images import open_source
from eyeshot.planning import Strip
from eyeshot.planning.band_plan import megabytes
from eyeshot.planning.holding import names_held_whole
from eyeshot.planning.schedule import multiply_adds

if TYPE_CHECKING:
    from eyeshot.engine.job import Job

Mask = NDArray[np.bool_]
_POLYGONS = (".geojson", ".json")
_LARGEST = 2**28
"""The most bytes of a GeoJSON file."""


class Where(Protocol):
    """The positions of an output to compute."""

    name: str
    """What the caller calls it, for messages."""

    @property
    def digest(self) -> str:
        """A digest of the positions, for the journal of a run."""

    def inside(self, rows: Interval, columns: Interval) -> Mask:
        """(rows, columns) bool: whether each position of this part of the output is computed."""


def where_of(mask: Any, image: Sequence[int], output: Sequence[int]) -> Where:
    """A caller's mask or polygons as a :class:`Where`.

    Args:
        mask: the path of a mask picture or of a GeoJSON file; or an array (H, W) of any size, in
            which all values but 0 mark positions to compute. A :class:`Where` is returned as it is.
        image: (rows, columns) of the image; polygons are in its pixels.
        output: (rows, columns) of the network's output, which covers the same area.

    Raises:
        BadFile: the file is missing, damaged, or has no polygon.
        BadValue: no position is marked.
    """
    if isinstance(mask, MaskWhere | PolygonWhere):
        return mask
    path = Path(mask) if isinstance(mask, str | os.PathLike) else None
    if path is not None and path.suffix.lower() in _POLYGONS:
        return PolygonWhere(path, image, output)
    with open_source(mask, space=2) as source:
        marks = np.concatenate(
            [
                _marked(source.read((top, min(top + 1024, source.shape[1]))), source.alpha)
                for top in range(0, source.shape[1], 1024)
            ]
        )
    return MaskWhere(marks, output, "the mask" if path is None else str(path))


def _marked(samples: NDArray[Any], alpha: bool) -> Mask:
    """(rows, columns) bool: where a sample is not 0; transparent pixels are not marked."""
    if alpha:
        return np.asarray((samples[:-1] != 0).any(0) & (samples[-1] != 0))
    return np.asarray((samples != 0).any(0))


class MaskWhere:
    """A mask of any size, stretched over the output: each position takes the nearest pixel."""

    def __init__(self, mask: Mask, output: Sequence[int], name: str = "the mask") -> None:
        if not mask.any():
            raise BadValue(f"{name}: every pixel is 0", cure="mark what to compute by other values")
        self._mask, self._output, self.name = mask, output, name
        self.digest = hashlib.sha256(
            repr(mask.shape).encode() + np.packbits(mask).tobytes()
        ).hexdigest()[:16]

    def inside(self, rows: Interval, columns: Interval) -> Mask:
        """See :meth:`Where.inside`."""
        places = [
            (2 * np.arange(side.lo, side.hi) + 1) * size // (2 * extent)
            for side, size, extent in zip(
                (rows, columns), self._mask.shape, self._output, strict=True
            )
        ]
        return np.asarray(self._mask[np.ix_(*places)])


class PolygonWhere:
    """Polygons in pixels of the image.

    A position is inside if its center is, or if an edge passes through its pixel. That depends on
    the edges and on its own place alone, so a mask is the same in every band and strip.
    """

    def __init__(self, path: Path, image: Sequence[int], output: Sequence[int]) -> None:
        scale = np.array([output[1] / image[1], output[0] / image[0]])
        text = _text(path)
        try:
            rings = [
                [np.array(ring, dtype=float)[:, :2] * scale - 0.5 for ring in polygon]
                for polygon in _polygons(json.loads(text))
            ]
        except BadFile as error:
            raise error.at(str(path)) from None
        except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
            raise BadFile(
                f"{path}: is not GeoJSON", cure="export Polygon or MultiPolygon features"
            ) from None
        rings = [polygon for polygon in rings if polygon]
        if not rings or any(
            not ring.size or not np.isfinite(ring).all() for p in rings for ring in p
        ):
            raise BadFile(f"{path}: holds no polygon", cure="draw one, and export it as GeoJSON")
        self.name = str(path)
        self._edges = [np.concatenate(list(map(_edges, polygon))) for polygon in rings]
        self._boxes = [
            (np.floor(corners.min(0)).astype(int), np.ceil(corners.max(0)).astype(int) + 1)
            for corners in map(np.concatenate, rings)
        ]
        self.digest = hashlib.sha256(text).hexdigest()[:16]
        sides = [Interval(int(lo), int(hi)) for lo, hi in zip(*self._hull(), strict=True)]
        if not all(side.within(n) for side, n in zip(sides, (output[1], output[0]), strict=True)):
            raise BadValue(
                f"{path}: all polygons lie outside of the image of {image[0]}×{image[1]}",
                cure="draw them in pixels of the image, x before y",
            )

    def _hull(self) -> tuple[NDArray[Any], NDArray[Any]]:
        los, his = zip(*self._boxes, strict=True)
        return np.min(los, axis=0), np.max(his, axis=0)

    def inside(self, rows: Interval, columns: Interval) -> Mask:
        """See :meth:`Where.inside`."""
        found = np.zeros((len(rows), len(columns)), bool)
        for edges, (lo, hi) in zip(self._edges, self._boxes, strict=True):
            down = Interval(int(lo[1]), int(hi[1])).intersect(rows)
            across = Interval(int(lo[0]), int(hi[0])).intersect(columns)
            if not down or not across:
                continue
            place = found[
                down.lo - rows.lo : down.hi - rows.lo,
                across.lo - columns.lo : across.hi - columns.lo,
            ]
            place |= _filled(edges, down, across)
        return found


Edges = NDArray[np.float64]
"""(n, 4): x and y of the upper end of each edge, then of the lower one."""


def _edges(ring: NDArray[Any]) -> Edges:
    """The edges of a ring (n, 2) of corners, closed."""
    both = np.concatenate([ring, np.roll(ring, -1, 0)], 1)
    turned = both[:, 1] > both[:, 3]
    both[turned] = both[turned][:, [2, 3, 0, 1]]
    return both


def _filled(edges: Edges, rows: Interval, columns: Interval) -> Mask:
    """(rows, columns) bool: the positions of a polygon, and those that an edge passes through."""
    edges = edges[(edges[:, 1] < rows.hi) & (edges[:, 3] >= rows.lo - 1)]
    flips = np.zeros((len(rows), len(columns)), np.uint8)
    # A center is inside if the edges to its left are odd in number.
    each, row = _rows_of(np.ceil(edges[:, 1]), np.ceil(edges[:, 3]), rows)
    column = np.ceil(_at(edges[each], row)) - columns.lo
    here = column < len(columns)
    place = (row[here] - rows.lo, np.maximum(column[here], 0).astype(int))
    np.bitwise_xor.at(flips, place, 1)
    found: Mask = np.bitwise_xor.accumulate(flips, 1).astype(bool)
    each, row = _rows_of(np.floor(edges[:, 1] + 0.5), np.floor(edges[:, 3] + 0.5) + 1, rows)
    ends = np.stack([_at(edges[each], row - 0.5), _at(edges[each], row + 0.5)])
    level = edges[each, 1] == edges[each, 3]
    ends[:, level] = edges[each][level][:, [0, 2]].T
    first, last = np.floor(np.sort(ends, 0) + 0.5)
    first, last = np.maximum(first, columns.lo), np.minimum(last, columns.hi - 1)
    counts = np.maximum(last - first + 1, 0).astype(int)
    found[np.repeat(row - rows.lo, counts), _counted(first - columns.lo, counts)] = True
    return found


def _rows_of(
    first: NDArray[Any], end: NDArray[Any], rows: Interval
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """For each row from the first to the end of each edge: the edge's number, and the row's."""
    first = np.clip(first, rows.lo, rows.hi)
    counts = (np.clip(end, rows.lo, rows.hi) - first).clip(0).astype(int)
    return np.repeat(np.arange(len(counts)), counts), _counted(first, counts)


def _counted(first: NDArray[Any], counts: NDArray[Any]) -> NDArray[np.intp]:
    """``counts`` whole numbers from each of ``first`` on, one series after another."""
    before = np.repeat(np.cumsum(counts) - counts, counts)
    return np.asarray(np.repeat(first, counts).astype(int) + np.arange(counts.sum()) - before)


def _at(edges: Edges, y: NDArray[Any]) -> NDArray[np.float64]:
    """The x of each edge at a height; at its nearest end outside of it."""
    x, top, other, low = edges.T
    share = (np.clip(y, top, low) - top) / np.where(low > top, low - top, 1)
    return np.asarray(np.where(share < 1, x + share * (other - x), other))


def _text(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            text = file.read(_LARGEST + 1)
    except OSError as error:
        raise explain_os_error(error, path) from error
    if len(text) > _LARGEST:
        raise BadFile(f"{path}: more than {_LARGEST >> 20} MiB", cure="simplify the polygons")
    return text


def _polygons(value: Any) -> Iterator[list[Any]]:
    """The rings of each polygon: the outer one, then its holes."""
    if isinstance(value, list):
        for one in value:
            yield from _polygons(one)
    elif value is None:  # a feature without a place
        return
    elif value["type"] == "FeatureCollection":
        yield from _polygons(value["features"])
    elif value["type"] == "GeometryCollection":
        yield from _polygons(value["geometries"])
    elif value["type"] == "Feature":
        yield from _polygons(value["geometry"])
    elif value["type"] == "MultiPolygon":
        yield from value["coordinates"]
    elif value["type"] == "Polygon":
        yield value["coordinates"]
    else:
        raise BadFile(f"holds a {value['type']}, which has no area", cure="export polygons alone")


COMPUTED, OUTSIDE = -1, -2
"""Values in an array of cells: compute, fill; values from 0 on are numbers of constants."""
_MOST_CONSTANTS = 64
_WORTH = 0.95
"""Blank cells are copied only if the remaining work is less than this share."""
_HALO_WORK = 0.2
"""The work of a position in the halo, relative to an output: most layers need a smaller halo."""
_SETUP_WORK = 100_000_000
"""The cost of setting up one convolution in a pass, in multiply-adds: oneDNN generates code and
reorders weights for the first band, the inner bands, and the last one."""
_MOST_SETUP = 1 / 32
"""The most set-up cost, as a share of the run: a small run spends its time on other things."""
_MOST_BESIDE = 1.5
"""The largest total width of rectangles that run at the same time, in widths of the output."""
_MANY = 300
"""With more rectangles than this, pairs of them are not compared."""

Corners = tuple[int, int, int, int]
"""First row, end of rows, first column, end of columns; in cells."""


@dataclass(frozen=True)
class Skipping:
    """Which parts of an output are computed, copied or filled.

    Attributes:
        sides: outputs in a cell along rows and columns; one column for a signal.
        corner: the number of the region's first cell along rows and columns.
        cells: (rows, columns) of the region's cells: COMPUTED, OUTSIDE or the number of a constant.
        donors: for each constant, the (row, column) of the cell that is computed and copied.
        rectangles: the rectangles of cells to compute, each in a separate pass.
        where: the positions to compute; None for all.
        fill: the sample of all other positions.
        blank: the share of positions that are copied, 0 to 1.
        outside: the share of positions that are filled, 0 to 1.
        whole: multiply-adds of the whole output.
        halo: the halo of a rectangle at each side, along rows and columns, in cells.
        strips: the number of strips of the plan.
        tall: whether narrow rectangles have taller bands.
    """

    sides: tuple[int, int]
    corner: tuple[int, int]
    cells: Cells
    donors: Mapping[int, tuple[int, int]]
    rectangles: tuple[Corners, ...]
    where: Where | None
    fill: float
    blank: float
    outside: float
    whole: int
    halo: tuple[float, float] = (0.0, 0.0)
    strips: int = 1
    tall: bool = True

    @property
    def settings(self) -> dict[str, Any]:
        """Plain data that decides what is computed."""
        return {
            "cells": [*self.sides, hashlib.sha256(self.cells.tobytes()).hexdigest()[:16]],
            "where": None if self.where is None else self.where.digest,
            "fill": repr(self.fill),
            "tall": self.tall,
        }

    def taller(self, columns: int) -> int:
        """The height of the bands of a rectangle of ``columns`` cells, as a multiple of the plan's.

        A taller band of a narrow rectangle has about as many positions as a band of the plan, and
        fewer bands are needed. It is a power of two, so that coarse levels get whole rows.
        """
        if not self.tall:
            return 1
        times = self.cells.shape[1] / self.strips / (columns + 2 * self.halo[1])
        return 1 << max(0, round(math.log2(times)))

    @cached_property
    def beside(self) -> float:
        """The memory of rectangles that run at the same time, relative to a pass of full width."""
        most = 1.0
        for row in range(len(self.cells)):
            beside, _ = _beside(self.rectangles, row, self.halo)
            widths = (one[3] - one[2] for one in beside)
            pixels = sum((width + 2 * self.halo[1]) * self.taller(width) for width in widths)
            most = max(most, pixels / self.cells.shape[1])
        return most

    def span(self, axis: int, first: int, end: int) -> Interval:
        """The outputs of the region's cells from ``first`` to one before ``end``."""
        corner, side = self.corner[axis], self.sides[axis]
        return Interval((corner + first) * side, (corner + end) * side)

    def parts(self, graph: Graph, strip: Strip) -> Iterator[tuple[Strip, int]]:
        """The rectangles in a strip, each as a strip with the factor of its bands' height."""
        for corners in self.rectangles:
            part = {name: self._cut(box, corners) for name, box in strip.regions.items()}
            if all(all(box[:2]) for box in part.values()):
                yield Strip(part, required(graph, part)), self.taller(corners[3] - corners[2])

    def donor(self, graph: Graph, strip: Strip, number: int) -> Strip:
        """The pass that computes the cell of a constant."""
        row, column = self.donors[number]
        cell = (self.span(0, row, row + 1), self.span(1, column, column + 1))
        part = {}
        for name, box in strip.regions.items():
            sides = zip(cell, graph.nodes[name].extents, strict=False)
            part[name] = (*(side.within(n) for side, n in sides), *box[2:])
        return Strip(part, required(graph, part))

    def _cut(self, box: Region, corners: Corners) -> Region:
        rows, columns = self.span(0, *corners[:2]), self.span(1, *corners[2:])
        cut = (rows.intersect(box[0]), *(columns.intersect(side) for side in box[1:2]))
        return (*cut, *box[2:])


def skip(
    job: Job,
    *,
    where: Any = None,
    fill: float = 0,
    blank: bool | None = None,
    look: bool = True,
    tall: bool = True,
) -> Job:
    """The job without the parts that need not be computed.

    Args:
        job: the complete job.
        where: as for :func:`eyeshot.run`.
        fill: as for :func:`eyeshot.run`.
        blank: as for :func:`eyeshot.run`.
        look: whether the image may be read to find constants.
        tall: whether narrow rectangles may have taller bands, if the memory is large enough.

    Raises:
        BadValue: ``where`` does not fit the outputs or marks no position of the region, or the
            memory is too small.
        BadFile: the mask or the image cannot be read.
    """
    graph, region = job.graph, _common(job)
    if region is None:
        if where is not None:
            raise BadValue(
                "--where, and the outputs are not pictures of one size",
                cure="leave it out, or return a single map",
            )
        return job
    for name, form in job.forms.items():
        with np.errstate(all="ignore"):
            filled = np.asarray(fill).astype(form.dtype)
        if (
            where is not None
            and filled != fill
            and not (math.isnan(fill) and form.dtype.kind == "f")
        ):
            raise BadValue(
                f"--fill {fill:g}, and the samples of {name} are {form.dtype}",
                cure="give a number that they can hold",
            )
    grid = [cell_reads(graph, axis) for axis in range(min(2, len(region)))]
    reads = [one for one in grid if one is not None]
    alike = len(reads) == len(grid)
    side = [one.side for one in reads] if alike else [CELL] * len(grid)
    sides = (side[0], side[1] if len(side) > 1 else 1)
    looks = look and alike and blank is not False and (blank or worth_a_look(job))
    if where is None and not looks:  # before a table of all cells, which may be many
        return job
    asked, marks = _asked(job, region, sides, where)
    cells: Cells = np.where(asked, COMPUTED, OUTSIDE)
    donors: dict[int, tuple[int, int]] = {}
    corner = np.array([span.lo // size for span, size in zip(_two(region), sides, strict=True)])
    if looks:
        found = blank_cells(job.sources, reads, asked, corner)
        donors = _copied(cells, found)
    if where is None and not donors:
        return job
    skipping = _skipping(job, region, reads if alike else [], cells, donors, sides, marks, fill)
    if where is None and _work(job, skipping) > _WORTH * skipping.whole:
        return job
    return _with(job, replace(skipping, tall=tall))


def _common(job: Job) -> Region | None:
    """The region of all outputs, if they are pictures of one size."""
    regions = [job.plan.regions[name] for name in job.graph.outputs]
    extents = {job.graph.nodes[name].extents[:2] for name in job.graph.outputs}
    flat = any(len(arrangement_of(job.graph, n).space) < 1 for n in job.graph.outputs)
    if flat or len(extents) > 1 or len({region[:2] for region in regions}) > 1:
        return None
    return regions[0]


def _two(region: Region) -> tuple[Interval, Interval]:
    return region[0], region[1] if len(region) > 1 else Interval(0, 1)


def _asked(
    job: Job, region: Region, sides: tuple[int, int], where: Any
) -> tuple[NDArray[np.bool_], Where | None]:
    """Which cells contain a position of ``where``."""
    rows, columns = _two(region)
    counts = [-(-s.hi // n) - s.lo // n for s, n in zip((rows, columns), sides, strict=True)]
    if where is None:
        return np.ones(counts, bool), None
    if len(region) != 2:
        raise BadValue(f"--where for an image of {len(region)} axes", cure="leave it out")
    name = job.graph.outputs[0]
    image = next(iter(job.sources.values())).shape[1:]
    marks = where_of(where, image, job.graph.nodes[name].extents)
    asked = np.zeros(counts, bool)
    first = columns.lo // sides[1]
    starts = [max(0, (first + n) * sides[1] - columns.lo) for n in range(counts[1])]
    for number in range(counts[0]):
        top = (rows.lo // sides[0] + number) * sides[0]
        band = Interval(top, top + sides[0]).intersect(rows)
        asked[number] = np.logical_or.reduceat(marks.inside(band, columns).any(0), starts)
    if not asked.any():
        raise BadValue(
            f"{marks.name}: nothing of the output is marked", cure="mark what to compute"
        )
    return asked, marks


def worth_a_look(job: Job) -> bool:
    """Whether searching the image for constants costs little, compared with the network."""
    source = next(iter(job.sources.values()))
    positions = math.prod(source.shape[1:])
    if job.memory is not None and resident() + source.memory + _LOOKING > job.memory:
        return False
    return positions >= _LARGE and job.plan.multiply_adds >= _DEAR * positions


def looks_for_blank(job: Job) -> bool:
    """Whether a run searches the image for blank regions, if it is not asked to or not to."""
    region = _common(job)
    if region is None or not worth_a_look(job):
        return False
    axes = range(min(2, len(region)))
    return all(cell_reads(job.graph, axis) is not None for axis in axes)


_LARGE = 1 << 20
_LOOKING = 64 << 20
"""Bytes that the search of an image takes."""
_DEAR = 20_000
"""Multiply-adds per position of the image from which the search is cheap in comparison."""


def _copied(cells: Cells, found: Cells) -> dict[int, tuple[int, int]]:
    """Mark the cells to copy, and return for each constant the cell to compute."""
    counts = Counter(found[found >= 0].tolist())
    donors = {}
    for number, count in counts.most_common(_MOST_CONSTANTS):
        if count > 1:
            places = np.argwhere(found == number)
            donors[number] = (int(places[0][0]), int(places[0][1]))
            cells[found == number] = number
    return donors


def _skipping(
    job: Job,
    region: Region,
    reads: list[CellReads],
    cells: Cells,
    donors: Mapping[int, tuple[int, int]],
    sides: tuple[int, int],
    where: Where | None,
    fill: float,
) -> Skipping:
    halo = [
        max((len(one.first[n]) - one.step[n]) / one.step[n] for n in one.first) / 2
        if one.first
        else 0.0
        for one in reads
    ] or [0.0, 0.0]  # in cells
    rows, columns = _two(region)
    corner = (rows.lo // sides[0], columns.lo // sides[1])
    pair = (halo[0], halo[1] if len(halo) > 1 else 0.0)
    if names_held_whole(job.graph) or not reads:  # each pass would repeat what mixes positions
        places = np.argwhere(cells == COMPUTED)
        (top, left), (bottom, right) = places.min(0), places.max(0) + 1
        rectangles: tuple[Corners, ...] = ((int(top), int(bottom), int(left), int(right)),)
    else:
        work = _SETUP_WORK * sum(node.is_convolution for node in job.graph)
        share = min(work / max(1, job.plan.multiply_adds), _MOST_SETUP)
        rectangles = tuple(_rectangles(cells == COMPUTED, pair, share * cells.size))
    heights = [len(_span(rows, sides[0], corner[0], n)) for n in range(cells.shape[0])]
    widths = [len(_span(columns, sides[1], corner[1], n)) for n in range(cells.shape[1])]
    area = np.outer(heights, widths)
    total = int(area.sum())
    return Skipping(
        sides=sides,
        corner=corner,
        cells=cells,
        donors=donors,
        rectangles=rectangles,
        where=where,
        fill=fill,
        blank=int(area[cells >= 0].sum()) / total,
        outside=int(area[cells == OUTSIDE].sum()) / total,
        whole=job.plan.multiply_adds,
        halo=pair,
        strips=len(job.plan.strips),
    )


def _span(side: Interval, size: int, corner: int, number: int) -> Interval:
    return Interval((corner + number) * size, (corner + number + 1) * size).intersect(side)


def _work(job: Job, skipping: Skipping) -> int:
    total = sum(
        multiply_adds(job.graph, part.boxes)
        for strip in job.plan.strips
        for part, _ in skipping.parts(job.graph, strip)
    )
    first = job.plan.strips[0]
    donors = (skipping.donor(job.graph, first, number).boxes for number in skipping.donors)
    return total + sum(multiply_adds(job.graph, boxes) for boxes in donors)


def _with(job: Job, skipping: Skipping) -> Job:
    """The job with ``skipping``, and with the plan's new memory and work.

    Raises:
        BadValue: rows of cells, which are assembled in memory, do not fit.
    """
    extra = int((skipping.beside - 1) * sum(buffer.nbytes for buffer in job.plan.buffers))
    for name, form in job.forms.items():
        row = form.channels * form.dtype.itemsize
        beyond = math.prod(len(side) for side in job.plan.regions[name][2:])
        columns = max(
            len(strip.regions[name][1]) if len(strip.regions[name]) > 1 else 1
            for strip in job.plan.strips
        )
        delayed = 3 * skipping.sides[0] + math.ceil(2 * job.plan.band * skipping.beside)
        cell = skipping.sides[0] * skipping.sides[1] * len(skipping.donors)
        extra += row * beyond * (delayed * columns + cell)
    for source in job.sources.values():  # rectangles next to each other read the same rows
        again = len(next(iter(job.plan.strips[0].boxes.values()))[0])
        source.keep_rows = min(again, 4 * max(skipping.sides[0], job.plan.band))
        extra += (
            source.keep_rows
            * math.prod((source.shape[0], *source.shape[2:]))
            * source.dtype.itemsize
        )
    peak = job.plan.peak + extra
    if job.memory is not None and peak > job.memory:
        if skipping.tall:
            return _with(job, replace(skipping, tall=False))
        if skipping.where is None:
            return job
        raise BadValue(
            f"--memory {megabytes(job.memory)} cannot hold rows of the output beside the run",
            cure=f"give {megabytes(peak + (8 << 20))}",
        )
    plan = replace(job.plan, peak=peak, multiply_adds=_work(job, skipping))
    return replace(job, plan=plan, skipping=skipping)


def _rectangles(
    computed: NDArray[np.bool_], halo: tuple[float, float], setup: float = 0.0
) -> list[Corners]:
    """Rectangles that cover all cells to compute at a low cost, halos included.

    Args:
        computed: (rows, columns) bool: the cells to compute.
        halo: the halo of a rectangle at each side, along rows and columns, in cells.
        setup: the fixed cost of a pass, in cells.
    """
    down, across = (2 * _HALO_WORK * side for side in halo)

    def cost(one: Corners) -> float:
        return (one[1] - one[0] + down) * (one[3] - one[2] + across) + setup

    found: list[Corners] = []
    reach = math.ceil(2 * halo[0]) + 1
    for row, line in enumerate(computed):
        for left, right in _runs(line, math.ceil(2 * halo[1])):
            run = (row, row + 1, left, right)
            near = [n for n, one in enumerate(found) if one[1] >= row - reach]
            best = min(near, key=lambda n: cost(_hull(found[n], run)) - cost(found[n]), default=-1)
            if best >= 0 and cost(_hull(found[best], run)) <= cost(found[best]) + cost(run):
                found[best] = _hull(found[best], run)
            else:
                found.append(run)
    merged = len(found) <= _MANY
    while merged:
        merged = False
        for one, other in combinations(found, 2):
            if cost(_hull(one, other)) <= cost(one) + cost(other):
                found = [_hull(one, other), *(o for o in found if o not in (one, other))]
                merged = True
                break
    return sorted(_narrow_enough(found, computed.shape, halo))


def _narrow_enough(
    found: list[Corners], shape: tuple[int, ...], halo: tuple[float, float]
) -> list[Corners]:
    """Merge rectangles that run at the same time, until their total width is small enough."""
    reach = math.ceil(2 * halo[0]) + 1
    row = 0
    while row < shape[0]:
        beside, width = _beside(found, row, halo)
        if len(beside) > 1 and width > _MOST_BESIDE * shape[1] + 2 * halo[1]:
            hull = beside[0]
            for one in beside[1:]:
                hull = _hull(hull, one)
            found = [hull, *(one for one in found if one not in beside)]
            row = max(0, hull[0] - reach)
        else:
            row += 1
    return found


def _beside(
    found: Sequence[Corners], row: int, halo: tuple[float, float]
) -> tuple[list[Corners], float]:
    """The rectangles that are computed at a row of cells, and their total width with halos, in
    cells.
    """
    beside = [one for one in found if one[0] - 2 * halo[0] <= row < one[1]]
    return beside, sum(one[3] - one[2] + 2 * halo[1] for one in beside)


def _runs(line: NDArray[np.bool_], gap: int) -> Iterator[tuple[int, int]]:
    """The runs of true places as (first, end); gaps of up to ``gap`` places are closed."""
    places = np.flatnonzero(line)
    if places.size:
        breaks = np.flatnonzero(np.diff(places) > gap + 1)
        for lo, hi in zip([0, *(breaks + 1)], [*breaks, len(places) - 1], strict=True):
            yield int(places[lo]), int(places[hi]) + 1


def _hull(one: Corners, other: Corners) -> Corners:
    return (min(one[0], other[0]), max(one[1], other[1]),
            min(one[2], other[2]), max(one[3], other[3]))  # fmt: skip
