"""Arrays in, pictures out: grids of maps and kernels, curves, a sheet with headings.

Nothing here knows what a network or a run is; it draws its arguments.
"""

from __future__ import annotations

from eyeshot.pictures.encoding import (
    Curve,
    curves_svg,
    data_uri,
    jpeg_bytes,
    png_bytes,
    reduce_picture,
)
from eyeshot.pictures.tiles import (
    RANGES,
    Panel,
    check_range,
    color_kernels,
    color_maps,
    mosaic,
    sheet,
)

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
