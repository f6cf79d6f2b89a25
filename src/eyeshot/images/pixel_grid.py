"""The size and the position of the pixels of an image: read from its file, written to the output.

In this file:

- pixel sizes, positions and units, and those of a network's output;
- reading them from OME-TIFF, ImageJ, TIFF in centimeters, and GeoTIFF;
- reading them from OME-Zarr.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from xml.etree import ElementTree

import tifffile

from eyeshot.images.layouts import Layout

MICROMETERS = {
    "nanometer": 1e-3, "micrometer": 1.0, "millimeter": 1e3, "centimeter": 1e4, "meter": 1e6,
    "kilometer": 1e9, "angstrom": 1e-4, "picometer": 1e-6, "inch": 25400.0, "foot": 304800.0,
}  # fmt: skip
"""Units of length in micrometers, by their names in OME-Zarr (UDUNITS-2)."""

_SYMBOLS = {
    "pm": "picometer", "Å": "angstrom", "nm": "nanometer", "µm": "micrometer", "μm": "micrometer",
    "um": "micrometer", "mm": "millimeter", "cm": "centimeter", "m": "meter", "km": "kilometer",
    "in": "inch", "ft": "foot", "micron": "micrometer", "microns": "micrometer",
    "inches": "inch", r"\u00B5m": "micrometer", r"\u00b5m": "micrometer",
}  # fmt: skip
SYMBOL = {"picometer": "pm", "angstrom": "Å", "nanometer": "nm", "micrometer": "µm",
          "millimeter": "mm", "centimeter": "cm", "meter": "m", "kilometer": "km",
          "inch": "in", "foot": "ft"}  # fmt: skip
"""The symbols of units in OME-XML."""


@dataclass(frozen=True, slots=True)
class GeoReference:
    """The position of a GeoTIFF on the earth.

    Attributes:
        matrix: (a, b, c, d, e, f): the center of the pixel at column x and row y is at
            (a·x + b·y + c, d·x + e·y + f).
        points: whether pixels are points, so that the file's positions are those of centers.
        keys: the tags of the coordinate system by their codes; they are copied unchanged.
    """

    matrix: tuple[float, float, float, float, float, float]
    points: bool
    keys: Mapping[int, Any]

    def moved(self, down: tuple[float, float], across: tuple[float, float]) -> GeoReference:
        """The reference of other pixels: pixel i is at ``first + step · i`` of these, along each
        axis as (step, first).
        """
        a, b, c, d, e, f = self.matrix
        (step_y, y), (step_x, x) = down, across
        matrix = (a * step_x, b * step_y, a * x + b * y + c, d * step_x, e * step_y,
                  d * x + e * y + f)  # fmt: skip
        return replace(self, matrix=matrix)

    @property
    def corner(self) -> tuple[float, float, float, float, float, float]:
        """The matrix as the file stores it: for the corner of the first pixel, or for its center if
        pixels are points."""
        a, b, c, d, e, f = self.matrix
        if self.points:
            return self.matrix
        return (a, b, c - (a + b) / 2, d, e, f - (d + e) / 2)


@dataclass(frozen=True, slots=True)
class PixelGrid:
    """The positions of an image's pixels along each spatial axis: rows first, then columns.

    Attributes:
        size: the distance from the center of one pixel to the next.
        origin: the position of the center of the first pixel.
        units: the name of the unit along each axis, as in OME-Zarr; None if it is unknown, and then
            sizes are in pixels of the image that was read.
        geo: the position of rows and columns on the earth, for a GeoTIFF.
    """

    size: tuple[float, ...]
    origin: tuple[float, ...]
    units: tuple[str | None, ...]
    geo: GeoReference | None = None

    @classmethod
    def plain(cls, axes: int) -> PixelGrid:
        """Pixels of size 1 at position 0, without units."""
        return cls((1.0,) * axes, (0.0,) * axes, (None,) * axes)

    def moved(self, grids: Sequence[tuple[float, float]]) -> PixelGrid:
        """The grid of other pixels: pixel i is at ``first + step · i`` of these, along each axis as
        (step, first).
        """
        size = tuple(own * step for own, (step, _) in zip(self.size, grids, strict=True))
        origin = tuple(
            start + own * first
            for start, own, (_, first) in zip(self.origin, self.size, grids, strict=True)
        )
        geo = self.geo.moved(grids[0], grids[1]) if self.geo and len(grids) == 2 else None
        return PixelGrid(size, origin, self.units, geo)

    def without_first(self) -> PixelGrid:
        """The grid without its first axis, such as of a slice of a stack."""
        return PixelGrid(self.size[1:], self.origin[1:], self.units[1:])

    def stacked(self, stack: PixelGrid) -> PixelGrid:
        """The grid of a stack of such slices, whose distance is that of ``stack``."""
        return PixelGrid(
            (stack.size[0], *self.size),
            (stack.origin[0], *self.origin),
            (stack.units[0], *self.units),
        )

    def lengths(self) -> tuple[float, ...] | None:
        """The sizes in micrometers; None unless every unit is a unit of length."""
        factors = [MICROMETERS.get(unit or "") for unit in self.units]
        found = [own * f for own, f in zip(self.size, factors, strict=True) if f is not None]
        return tuple(found) if len(found) == len(factors) else None

    def __str__(self) -> str:
        sizes = " x ".join(f"{size:.6g}" for size in self.size)
        names = list(dict.fromkeys(unit or "(no unit)" for unit in self.units))
        return f"{sizes} {' and '.join(names)}"


def _checked(
    size: Sequence[float], origin: Sequence[float], units: Sequence[str | None], geo: Any = None
) -> PixelGrid | None:
    """The grid, or None if a number is not finite or a size is not positive."""
    numbers = [*size, *origin]
    if not all(math.isfinite(n) for n in numbers) or min(size, default=0) <= 0:
        return None
    return PixelGrid(tuple(size), tuple(origin), tuple(units), geo)


PAGE_NAME = 285  # TIFF 6.0, section 12
PICKED = "every second sample of the level before, and no means"
"""The name of such a page of an OME-TIFF: its first sample lies where that of the image does."""


def grid_of_level(
    grid: PixelGrid, full: Sequence[int], level: Sequence[int], *, picked: bool = False
) -> PixelGrid:
    """The grid of a level of a pyramid, from the sizes of the largest level and of this level.

    A level is smaller by a whole factor, and its size was rounded.

    Args:
        grid: of the whole image.
        full: its size along each axis of space.
        level: the size of the level.
        picked: the level consists of single samples, the first of which is the image's first
            sample; otherwise each sample is a mean.
    """
    factors = []
    for n, m in zip(full, level, strict=True):
        whole = round(n / m)
        factors.append(float(whole) if abs(n - whole * m) < whole else n / m)
    return grid.moved([(factor, 0.0 if picked else (factor - 1) / 2) for factor in factors])


def grid_of_tiff(
    tiff: tifffile.TiffFile,
    number: int,
    layout: Layout,
    shape: Sequence[int],
    letters: str,
    *,
    picked: bool = False,
) -> PixelGrid | None:
    """The grid of a series of a TIFF file; None if the file has no reliable pixel size.

    Args:
        tiff: the open file.
        number: the number of the series.
        layout: the layout of the level that is read.
        shape: the stored shape of the largest level.
        letters: the file's letters for the axes.
        picked: the level consists of single samples, as :data:`PICKED` says.
    """
    try:
        grid = _grid_of_series(tiff, number, _letters(layout, letters))
    except (ValueError, TypeError, KeyError, IndexError, ZeroDivisionError, AttributeError):
        return None  # malformed tags
    except ElementTree.ParseError:
        return None
    if grid is None:
        return None
    full = [shape[axis] for axis in layout.space]
    return grid_of_level(grid, full, layout.shape[1:], picked=picked)


def _letters(layout: Layout, names: str) -> str:
    """The file's letters for the spatial axes; the user's letters do not matter."""
    usual = {"D": "Z", "H": "Y", "W": "X", "L": "X"}
    return "".join(
        names[axis] if names[axis] in "XYZ" else usual[layout.axes[axis]] for axis in layout.space
    )


def _grid_of_series(tiff: tifffile.TiffFile, number: int, axes: str) -> PixelGrid | None:
    if tiff.is_ome:
        return _grid_of_ome(tiff.ome_metadata or "", number, len(tiff.series), axes)
    page = tiff.series[number].levels[0].keyframe
    if tiff.is_geotiff:
        return _grid_of_geotiff(page) if axes == "YX" else None
    sizes = {}
    for letter, tag in (("X", "XResolution"), ("Y", "YResolution")):
        above, below = page.tags[tag].value
        sizes[letter] = below / above
    if tiff.is_imagej:
        found = tiff.imagej_metadata or {}
        unit = _SYMBOLS.get(str(found.get("unit", "")))
        sizes["Z"] = float(found.get("spacing", 0))
        if unit is None:
            return None
        return _checked([sizes[a] for a in axes], [0.0] * len(axes), [unit] * len(axes))
    if int(page.tags["ResolutionUnit"].value) != 3 or axes != "YX":
        return None  # a resolution in inches is for printing
    if any(_is_for_print(size) for size in sizes.values()):
        return None
    return _checked([sizes[a] for a in axes], [0.0] * 2, ["centimeter"] * 2)


def _is_for_print(size: float) -> bool:
    """Whether a pixel size in centimeters is a resolution for printing, as libvips writes it.

    It is if pixels are larger than 50 micrometers, or if it is a usual number of dots per inch: a
    multiple of 50 or 72 up to 4800, or one of a few larger numbers.
    """
    if not 0 < size < 50e-4:
        return True
    dots = 2.54 / size
    usual = [6400, 7200, 9600]
    if dots < 4850:
        usual += [step * round(dots / step) for step in (50, 72)]
    return any(abs(dots - one) <= 1e-3 * one for one in usual)


def _grid_of_ome(xml: str, number: int, series: int, axes: str) -> PixelGrid | None:
    found = [one for one in ElementTree.fromstring(xml).iter() if one.tag.endswith("}Pixels")]
    if len(found) != series and len(found) > 1:
        return None
    pixels = found[number if len(found) == series else 0]
    size, origin, units = [], [], []
    planes = [one for one in pixels if one.tag.endswith("}Plane")]
    for axis in axes:
        size.append(float(pixels.attrib[f"PhysicalSize{axis}"]))
        symbol = pixels.attrib.get(f"PhysicalSize{axis}Unit", "µm")
        units.append(_SYMBOLS.get(symbol))
        place = planes[0].attrib.get(f"Position{axis}") if planes else None
        unit = planes[0].attrib.get(f"Position{axis}Unit", "") if planes else ""
        same = place is not None and unit == symbol
        origin.append(float(place or 0) if same else 0.0)
    return None if None in units else _checked(size, origin, units)


_POINTS = 1025  # GeoTIFF 1.1, section 7: keys of the directory
_LINEAR, _MODEL = 3076, 1024
_UNITS = {9001: "meter", 9002: "foot"}
GEO_TAGS = (34735, 34736, 34737)


def _grid_of_geotiff(page: tifffile.TiffPage) -> PixelGrid | None:
    keys = {code: page.tags[code].value for code in GEO_TAGS if code in page.tags}
    directory = list(keys[34735])
    entries = {directory[at]: directory[at + 1 : at + 4] for at in range(4, len(directory), 4)}
    points = entries.get(_POINTS, [0, 0, 1])[2] == 2
    if 34264 in page.tags:
        m = page.tags[34264].value
        a, b, c, d, e, f = m[0], m[1], m[3], m[4], m[5], m[7]
    else:
        wide, high = page.tags[33550].value[:2]
        places = page.tags[33922].value
        if len(places) != 6:
            return None  # several tie points, which no matrix describes
        x, y, _, east, north, _ = places
        a, b, c, d, e, f = wide, 0.0, east - x * wide, 0.0, -high, north + y * high
    if not points:
        c, f = c + (a + b) / 2, f + (d + e) / 2
    geo = GeoReference((a, b, c, d, e, f), points, keys)
    projected = entries.get(_MODEL, [0, 0, 0])[2] == 1
    unit = _UNITS.get(entries.get(_LINEAR, [0, 0, 0])[2]) if projected else None
    return _checked([math.hypot(b, e), math.hypot(a, d)], [0.0, 0.0], [unit] * 2, geo)


def grid_of_ome_zarr(
    image: Mapping[str, Any], level: int, layout: Layout, names: str | None
) -> PixelGrid | None:
    """The grid of a level of a multiscale image, from its metadata; None if there is none.

    Args:
        image: an entry of ``multiscales``.
        level: the number of the level.
        layout: the layout of the level's array.
        names: the names of the array's axes.
    """
    try:
        axes = image["axes"]
        if names is None or len(axes) != len(layout.stored):
            return None
        scale, move = [1.0] * len(axes), [0.0] * len(axes)
        moves = [
            *image["datasets"][level].get("coordinateTransformations", []),
            *image.get("coordinateTransformations", []),
        ]
        for one in moves:
            if one["type"] == "scale":
                scale = [a * float(b) for a, b in zip(scale, one["scale"], strict=True)]
                move = [a * float(b) for a, b in zip(move, one["scale"], strict=True)]
            elif one["type"] == "translation":
                move = [a + float(b) for a, b in zip(move, one["translation"], strict=True)]
            elif one["type"] != "identity":
                return None
        units = [axes[axis].get("unit") for axis in layout.space]
    except (ValueError, TypeError, KeyError, IndexError, AttributeError):
        return None
    if not moves:
        return None
    known = [None if unit is None else str(unit) for unit in units]
    space = layout.space
    return _checked([scale[axis] for axis in space], [move[axis] for axis in space], known)
