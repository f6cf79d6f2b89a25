"""Line buffers: the rows of a node that a consumer still needs, and no others."""

from __future__ import annotations

import torch

from eyeshot.axes import Interval


class LineBuffer:
    """Rows of one node's value, appended at the end and released at the front.

    The rows lie one behind another in one tensor, so that a window on them is a view and never a
    copy. When the end of the tensor is reached the rows still needed move to its start. A node
    whose rows are all used at once is handed over as it is, with no copy at all.

    Rows that a resumed run passes over come as tensors on torch's meta device, which have a shape
    and no memory. So all other rows come to lie where they lay in the uninterrupted run. Where
    one of its calls reads rows passed over beside others, they are zero.

    Attributes:
        rows: the rows held, in the coordinates of the whole picture.
        most: the most rows held at any time so far.
    """

    def __init__(self, dim: int | None, first: int, empty: torch.Tensor, most: int = 0) -> None:
        """A buffer whose first row will be ``first``.

        Args:
            dim: along which the rows lie; None where the value has none.
            first: the first row that will come.
            empty: a value of no rows.
            most: as many rows will be held: room for all of them is made at once. 0 to make room
                as they come.
        """
        self._all = most if dim is not None else 0
        self.rows = Interval(first, first)
        self.most = 0
        self._dim = dim
        self._empty = empty
        self._store = empty
        self._start = 0  # where in the store the first held row lies
        self._borrowed = False
        self._owned = False  # the store was made here, with room to spare

    def append(self, value: torch.Tensor, count: int, borrowed: bool = False) -> None:
        """Take ``count`` new rows.

        Args:
            value: the rows.
            count: how many; the extent of ``value`` along the rows' dimension.
            borrowed: the memory is another's (a view of an input), which may change it later.
        """
        room = self._reserve(count, value) if value.is_meta else self.room(count)
        if room is None:
            self._store, self._start = value, 0
            self._borrowed, self._owned = borrowed, False
        elif not value.is_meta and room.data_ptr() != value.data_ptr():
            room.copy_(value)
        self.rows = Interval(self.rows.lo, self.rows.hi + count)
        self.most = max(self.most, len(self.rows))

    def room(self, count: int) -> torch.Tensor | None:
        """Where the next ``count`` rows belong; None where they are taken over as they come."""
        room = self._reserve(count, self._store)
        if room is not None and room.is_meta:
            self._materialise()
            room = self._next(count)
        return room

    def window(self, rows: Interval) -> torch.Tensor:
        """A view of some of the rows held."""
        if self._store.is_meta:
            self._materialise()
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
        if lo == self.rows.lo and not self._borrowed:
            return
        self._start += lo - self.rows.lo
        self.rows = Interval(lo, self.rows.hi)
        if self._dim is None:
            return
        if not self.rows or self._borrowed:
            # What is left (an empty slice still tells the shape) must not hold on to the rest.
            kept = self._store.narrow(self._dim, self._start if self.rows else 0, len(self.rows))
            self._store, self._start = kept.clone(), 0
            self._borrowed = self._owned = False

    def _reserve(self, count: int, like: torch.Tensor) -> torch.Tensor | None:
        """Room for ``count`` rows behind the ones held; None where they are taken as they come."""
        held = len(self.rows)
        if self._dim is None or (held == 0 and count >= self._all):
            return None
        # Where rows come to lie follows from their numbers alone: a store that was handed over
        # is never written to, whatever room it has.
        size = self._store.shape[self._dim] if self._owned else 0
        if self._start + held + count > size:
            kept = self._store.narrow(self._dim, self._start, held)
            if size < held + count or self._start < held:
                shape = list(self._store.shape)
                shape[self._dim] = max(self._all or 2 * (held + count), size, held + count)
                self._store = _rows_together(shape, self._dim, self._store if held else like)
            self._store.narrow(self._dim, 0, held).copy_(kept)
            self._start, self._borrowed, self._owned = 0, False, True
        return self._next(count)

    def _next(self, count: int) -> torch.Tensor:
        return self._store.narrow(self._dim or 0, self._start + len(self.rows), count)

    def _materialise(self) -> None:
        """Give rows passed over a memory: the first others follow, or a call reads them."""
        shape = list(self._store.shape)
        self._store = _rows_together(shape, self._dim or 0, self._empty).zero_()


def _rows_together(shape: list[int], dim: int, like: torch.Tensor) -> torch.Tensor:
    """An empty tensor; for a picture with channels last in memory, so that rows lie together."""
    if len(shape) == 4 and dim == 2:
        return torch.empty(
            shape, dtype=like.dtype, device=like.device, memory_format=torch.channels_last
        )
    return torch.empty(shape, dtype=like.dtype, device=like.device)
