"""Line buffers: the rows of a node that a consumer still needs, and no others."""

from __future__ import annotations

import torch

from eyeshot.axes import Interval


class LineBuffer:
    """Rows of one node's value, appended at the end and released at the front.

    The rows lie one behind another in one tensor, so that a window on them is a view and never a
    copy. When the end of the tensor is reached the rows still needed move to its start. A node
    whose rows are all used at once is handed over as it is, with no copy at all.

    Attributes:
        rows: the rows held, in the coordinates of the whole picture.
        most: the most rows held at any time so far.
    """

    def __init__(self, dim: int | None, first: int, empty: torch.Tensor) -> None:
        """A buffer whose first row will be ``first``; ``empty`` is a value of no rows."""
        self.rows = Interval(first, first)
        self.most = 0
        self._dim = dim
        self._store = empty
        self._start = 0  # where in the store the first held row lies
        self._borrowed = False

    @property
    def nbytes(self) -> int:
        """Bytes that the store takes."""
        return self._store.numel() * self._store.element_size()

    def append(self, value: torch.Tensor, count: int, borrowed: bool = False) -> None:
        """Take ``count`` new rows.

        Args:
            value: the rows.
            count: how many; the extent of ``value`` along the rows' dimension.
            borrowed: the memory is another's (a view of an input), which may change it later.
        """
        room = self.room(count)
        if room is None:
            self._store, self._start, self._borrowed = value, 0, borrowed
        elif room.data_ptr() != value.data_ptr():  # else it was written where it belongs
            room.copy_(value)
        self.rows = Interval(self.rows.lo, self.rows.hi + count)
        self.most = max(self.most, len(self.rows))

    def room(self, count: int) -> torch.Tensor | None:
        """Where the next ``count`` rows belong; None where they are taken over as they come."""
        held = len(self.rows)
        if self._dim is None or held == 0:
            return None
        self._store, self._borrowed = self._reserve(self._store, held, count), False
        return self._store.narrow(self._dim, self._start + held, count)

    def window(self, rows: Interval) -> torch.Tensor:
        """A view of some of the rows held."""
        if self._dim is None:
            return self._store
        if not rows:
            return self._store.narrow(self._dim, 0, 0)
        if not self.rows.covers(rows):
            raise IndexError(f"rows {rows} of a buffer that holds {self.rows}")
        return self._store.narrow(self._dim, self._start + rows.lo - self.rows.lo, len(rows))

    def release(self, below: int) -> None:
        """Forget the rows before ``below``."""
        lo = min(max(below, self.rows.lo), self.rows.hi)
        self._start += lo - self.rows.lo
        self.rows = Interval(lo, self.rows.hi)
        if self._dim is None:
            return
        if not self.rows or self._borrowed:
            # What is left (an empty slice still tells the shape) must not hold on to the rest.
            kept = self._store.narrow(self._dim, self._start if self.rows else 0, len(self.rows))
            self._store, self._start, self._borrowed = kept.clone(), 0, False

    def _reserve(self, store: torch.Tensor, held: int, count: int) -> torch.Tensor:
        """The store with room for ``count`` rows behind the ones held, and those at its start."""
        dim = self._dim or 0
        size = store.shape[dim]
        if not self._borrowed and self._start + held + count <= size:
            return store
        kept = store.narrow(dim, self._start, held)
        if self._borrowed or size < held + count or self._start < held:
            shape = list(store.shape)
            shape[dim] = max(2 * (held + count), size)
            store = _rows_together(shape, dim, store)
        store.narrow(dim, 0, held).copy_(kept)
        self._start = 0
        return store


def _rows_together(shape: list[int], dim: int, like: torch.Tensor) -> torch.Tensor:
    """An empty tensor; for a picture with channels last in memory, so that rows lie together."""
    if len(shape) == 4 and dim == 2:
        return torch.empty(
            shape, dtype=like.dtype, device=like.device, memory_format=torch.channels_last
        )
    return torch.empty(shape, dtype=like.dtype, device=like.device)
