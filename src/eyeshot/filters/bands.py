"""Process rows in bands, so that intermediate results stay in the cache.

A temporary array of the whole picture costs more than the arithmetic of a small kernel, because
memory is allocated, cleared and freed each time. A band of two megabytes stays in the cache.
"""

from __future__ import annotations

from collections.abc import Iterator

from eyeshot.filters.options import Array

_BAND_BYTES = 2 * 2**20


def cut_bands(picture: Array, rows: int, kernel_rows: int) -> Iterator[tuple[int, int]]:
    """Cut ``rows`` output rows into bands [first, last) of about two megabytes of ``picture``.

    A band is never less than four kernels high: its neighbours' rows are read again.
    """
    row_bytes = max(1, picture[0].nbytes)
    step = max(_BAND_BYTES // row_bytes, 4 * kernel_rows)
    for first in range(0, rows, step):
        yield first, min(rows, first + step)
