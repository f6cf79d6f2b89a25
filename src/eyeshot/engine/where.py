"""The positions of an output to compute: a mask picture, or the polygons of a GeoJSON file."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from eyeshot.axes import Interval
from eyeshot.errors import BadFile, BadValue
from eyeshot.files import explain_os_error
from eyeshot.images import open_source

Mask = NDArray[np.bool_]
_POLYGONS = (".geojson", ".json")
_LARGEST = 2**28
"""The most bytes of a GeoJSON file."""
_SHIFT = 4
"""Fractional bits of a polygon's corners for OpenCV."""


class Where(Protocol):
    """The positions of an output to compute."""

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
    return MaskWhere(marks, output, source.name)


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
        self._mask, self._output = mask, output
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
    """Polygons in pixels of the image; positions on their edges are inside."""

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
        if not rings or any(
            not ring.size or not np.isfinite(ring).all() for p in rings for ring in p
        ):
            raise BadFile(f"{path}: holds no polygon", cure="draw one, and export it as GeoJSON")
        self._rings = rings
        self._boxes = [
            (np.floor(polygon[0].min(0)).astype(int), np.ceil(polygon[0].max(0)).astype(int) + 1)
            for polygon in rings
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
        for rings, (lo, hi) in zip(self._rings, self._boxes, strict=True):
            down = Interval(int(lo[1]), int(hi[1])).intersect(rows)
            across = Interval(int(lo[0]), int(hi[0])).intersect(columns)
            if not down or not across:
                continue
            part = np.zeros((len(down), len(across)), np.uint8)
            corner = np.array([across.lo, down.lo])
            corners = [
                np.rint((ring - corner) * (1 << _SHIFT)).astype(np.int32)[:, np.newaxis]
                for ring in rings
            ]
            cv2.fillPoly(part, corners, 1, shift=_SHIFT)
            place = found[
                down.lo - rows.lo : down.hi - rows.lo,
                across.lo - columns.lo : across.hi - columns.lo,
            ]
            place |= part.astype(bool)
        return found


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
