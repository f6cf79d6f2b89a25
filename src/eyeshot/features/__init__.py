"""Feature maps: the output of every layer of a network for an image, as arrays and as pictures."""

from __future__ import annotations

from eyeshot.features.feature_maps import Features, LayerMaps, Step
from eyeshot.features.seeing import see

__all__ = ["Features", "LayerMaps", "Step", "see"]
