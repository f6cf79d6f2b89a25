"""Ranges through a graph: receptive fields, exact footprints, and what a region needs."""

from eyeshot.geometry.fields import Fields, LayerField, ReceptiveField
from eyeshot.geometry.phases import Phases, footprint
from eyeshot.geometry.tiles import Region, required

__all__ = [
    "Fields",
    "LayerField",
    "Phases",
    "ReceptiveField",
    "Region",
    "footprint",
    "required",
]
