"""The EXIF orientation: how a viewer must rotate a picture."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# EXIF 2.32, tag 0x0112: value -> (rows and columns swapped, then rows flipped, columns flipped)
_MOVES = {
    1: (False, False, False),
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}
TAG = 0x0112


def turn_upright(picture: NDArray[Any], orientation: int) -> NDArray[Any]:
    """``picture`` (H, W), (H, W, C) or (D, H, W, C), rotated upright.

    An unknown value changes nothing.
    """
    swap, rows, columns = _MOVES.get(orientation, _MOVES[1])
    row_axis = 1 if picture.ndim == 4 else 0
    upright = picture.swapaxes(row_axis, row_axis + 1) if swap else picture
    before = (slice(None),) * row_axis
    flips = (slice(None, None, -1 if flip else 1) for flip in (rows, columns))
    return np.ascontiguousarray(upright[(*before, *flips)])
