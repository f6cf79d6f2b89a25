"""Ranges through a graph: receptive fields, exact footprints, and what a region needs."""

from eyeshot.geometry.fields import (
    Fields,
    Grid,
    LayerField,
    Phases,
    ReceptiveField,
    footprint,
    grids_of,
)
from eyeshot.geometry.tiles import Region, required

__all__ = [
    "Fields",
    "Grid",
    "LayerField",
    "Phases",
    "ReceptiveField",
    "Region",
    "footprint",
    "grids_of",
    "required",
]
