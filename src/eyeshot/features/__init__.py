"""Feature maps: what every layer of a network makes of an image. Arrays first, pictures second."""

from __future__ import annotations

from eyeshot.features.maps import Features, LayerMaps, Step
from eyeshot.features.seeing import see

__all__ = ["Features", "LayerMaps", "Step", "see"]
