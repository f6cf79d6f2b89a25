"""The place of the largest or smallest number of a map, gathered band by band.

torch counts places over the reduced dimensions in their order, and returns the first of equals. So
each band needs to know where it lies in the map.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from eyeshot.graph import Node

First = tuple[int, ...]
"""The position of a band's first number along each axis."""


class PlaceOfExtreme:
    """What ``argmax`` and ``argmin`` return, and the second result of ``max`` and ``min``.

    A place is two numbers: over the dimensions before the rows, and over the rows and the
    dimensions after them. How many rows there are is known at the end: a camera's have none.
    """

    def __init__(
        self, shape: tuple[int, ...], source: Node, reduced: tuple[int, ...], largest: bool
    ) -> None:
        """Start without any rows.

        Args:
            shape: of the result.
            source: the map.
            reduced: its dimensions over which places are counted.
            largest: False for the smallest number.
        """
        self._shape, self._axes, self._reduced = shape, source.dims, reduced
        rows = source.dims[0]
        cut = len([dim for dim in reduced if rows is not None and dim < rows])
        self._before, self._after = reduced[:cut], reduced[cut:]
        self._sizes = source.shape
        self._largest = largest
        self._rows = 0
        self._best: torch.Tensor | None = None
        self._place: torch.Tensor | None = None

    def take(self, band: torch.Tensor, first: First = ()) -> None:
        """Add rows.

        Args:
            band: the rows.
            first: the position of the first one along each axis; empty for the map's first.
        """
        kept = [dim for dim in range(band.ndim) if dim not in self._reduced]
        lines = band.permute(*kept, *self._reduced).flatten(len(kept))
        if not lines.shape[-1]:
            return
        best, place = (lines.max if self._largest else lines.min)(-1)
        starts = dict(zip(self._axes, first, strict=False))
        inside = math.prod(band.shape[dim] for dim in self._after)
        places = torch.stack(
            [
                self._within_map(place // inside, self._before, band, starts),
                self._within_map(place % inside, self._after, band, starts),
            ]
        )
        rows = self._axes[0]
        self.merge((best, places, 0 if rows is None else starts.get(rows, 0) + band.shape[rows]))

    def _within_map(
        self,
        place: torch.Tensor,
        dims: tuple[int, ...],
        band: torch.Tensor,
        starts: dict[int | None, int],
    ) -> torch.Tensor:
        """Places within a band as places within the map."""
        found = torch.zeros_like(place)
        factor = 1
        for dim in reversed(dims):
            found += (place % band.shape[dim] + starts.get(dim, 0)) * factor
            place = place // band.shape[dim]
            factor *= self._sizes[dim]
        return found

    def state(self) -> tuple[Any, ...]:
        """The best numbers so far, their places, and the rows of the map as far as is known."""
        return self._best, self._place, self._rows

    def merge(self, state: tuple[Any, ...]) -> None:
        """Add what was found in other rows."""
        best, place, rows = state
        if best is None:
            return
        self._rows = max(self._rows, rows)
        if self._best is None or self._place is None:
            self._best, self._place = best, place
            return
        better = best > self._best if self._largest else best < self._best
        better |= best.isnan() & ~self._best.isnan()
        equal = (best == self._best) | (best.isnan() & self._best.isnan())
        (before, after), (known_before, known_after) = place, self._place
        sooner = (before < known_before) | ((before == known_before) & (after < known_after))
        chosen = better | (equal & sooner)
        self._best = torch.where(chosen, best, self._best)
        self._place = torch.where(chosen, place, self._place)

    def result(self) -> torch.Tensor:
        """The places, as the operator returns them."""
        if self._place is None:
            raise ValueError("no row has been taken")
        before, after = self._place
        rows = self._axes[0]
        sizes = [self._rows if dim == rows else self._sizes[dim] for dim in self._after]
        places: torch.Tensor = before * math.prod(sizes) + after
        return places.reshape(self._shape)
