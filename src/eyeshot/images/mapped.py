"""Memory maps of files: pages that were read or written stay in memory until they are let go."""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

_SHARED = ("r", "r+", "w+")


def is_mapped(array: NDArray[Any]) -> bool:
    """Whether an array's memory is a file's, so that its pages can be let go without a loss."""
    return isinstance(array, np.memmap) and array.mode in _SHARED


def let_go(array: NDArray[Any]) -> None:
    """Take the pages of a mapped file out of the process; the system keeps them or writes them."""
    mapped = getattr(array, "_mmap", None)
    if is_mapped(array) and mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)
