"""The options of a filter, and a check of their values."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from eyeshot.errors import UnknownName

Array = NDArray[Any]
DType = np.dtype[Any]
Weights = NDArray[np.float64]

# Values outside the picture: zeros, nothing (only whole patches), the picture mirrored
# about its outermost pixels, its outermost pixels repeated, or the picture from its other side.
Padding = Literal["same", "valid", "reflect", "replicate", "circular"]

# Results outside the picture's range: clip them, stretch all to fit, or keep them.
Range = Literal["clip", "rescale", "keep"]

# The last channel of a (H, W, 2) or (H, W, 4) picture: keep it, or filter it like a color.
Alpha = Literal["keep", "filter"]

PADDINGS: tuple[str, ...] = get_args(Padding)
RANGES: tuple[str, ...] = get_args(Range)
ALPHAS: tuple[str, ...] = get_args(Alpha)


def check_option(kind: str, value: str, known: tuple[str, ...]) -> None:
    """Refuse a word that is not among the ``known`` ones.

    Raises:
        UnknownName: with the nearest known word.
    """
    if value not in known:
        raise UnknownName(kind, str(value), known)
