"""What stored samples count as: the one place where training, looking and running agree on it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def unit_of(dtype: np.dtype[Any]) -> float:
    """The sample that counts as 1: the largest that whole numbers can hold, and 1 of the others."""
    return float(np.iinfo(dtype).max) if dtype.kind in "ui" else 1.0


def to_unit(samples: NDArray[Any]) -> NDArray[np.float32]:
    """Samples in 0…1 as float32, a new array; floats stay as they are."""
    scaled = samples.astype(np.float32)
    scaled /= np.float32(unit_of(samples.dtype))
    return scaled
