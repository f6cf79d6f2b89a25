"""Ranges through a graph: receptive fields, exact footprints, and what a region needs."""

from eyeshot.geometry.fields import Fields, LayerField, ReceptiveField
from eyeshot.geometry.footprints import footprint
from eyeshot.geometry.phases import Phases
from eyeshot.geometry.regions import Region, required

__all__ = [
    "Fields",
    "LayerField",
    "Phases",
    "ReceptiveField",
    "Region",
    "footprint",
    "required",
]
