"""The words that a filter understands, and the check that a caller used one of them."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from eyeshot.errors import UnknownName

Array = NDArray[Any]
DType = np.dtype[Any]
Weights = NDArray[np.float64]

# What lies outside the picture: zeros, nothing (only whole patches count), the picture mirrored
# about its outermost pixels, its outermost pixels repeated, or the picture from its other side.
Padding = Literal["same", "valid", "reflect", "replicate", "circular"]

# What becomes of results outside the picture's range: cut off, all stretched to fit, left alone.
Range = Literal["clip", "rescale", "keep"]

# The last channel of a (H, W, 2) or (H, W, 4) picture: left as it is, or filtered as a colour.
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
