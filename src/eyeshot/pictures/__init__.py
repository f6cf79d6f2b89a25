"""Arrays in, pictures out: grids of maps and kernels, curves, a sheet with headings.

Nothing here knows what a network or a run is; it draws what it is given.
"""

from __future__ import annotations

from eyeshot.pictures.curves import Curve, curves_svg
from eyeshot.pictures.encoding import data_uri, jpeg_bytes, png_bytes, reduce_picture
from eyeshot.pictures.sheets import Panel, sheet
from eyeshot.pictures.tiles import RANGES, check_range, color_kernels, color_maps, mosaic

__all__ = [
    "RANGES",
    "Curve",
    "Panel",
    "check_range",
    "color_kernels",
    "color_maps",
    "curves_svg",
    "data_uri",
    "jpeg_bytes",
    "mosaic",
    "png_bytes",
    "reduce_picture",
    "sheet",
]
