"""Masks that are not stored as one number a pixel: soft edges cut in two, grey saved as colors."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from eyeshot.data.problem import Unfit
from eyeshot.images import Source, Span, understand

WHITE = 255
_WEIGHTS = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601


class Thresholded(Source):
    """A mask as 0 and 255: 255 where its grey value reaches a threshold. Opacity is left out.

    Args:
        mask: (C, H, W), which is closed with this one.
        threshold: in the mask's own values.
    """

    def __init__(self, mask: Source, threshold: int) -> None:
        shape = (1, *mask.shape[1:])
        layout = {2: "CL", 3: "CHW", 4: "CDHW"}[len(shape)]
        super().__init__(mask.name, understand(shape, layout=layout), np.dtype(np.uint8))
        self._mask, self._threshold = mask, threshold
        self.native_rows = mask.native_rows
        self.memory, self.open_memory = mask.memory, mask.open_memory
        self.notes = mask.notes

    def _read(self, spans: tuple[Span, ...]) -> NDArray[Any]:
        samples = self._mask.read(*spans)
        grey = samples[0] if len(samples) < 3 else np.tensordot(_WEIGHTS, samples[:3], 1)
        return np.where(grey >= self._threshold, WHITE, 0).astype(np.uint8)[np.newaxis]

    def identity(self) -> dict[str, Any]:
        """That of the mask, and the threshold."""
        return {**self._mask.identity(), "threshold": self._threshold}

    def close(self) -> None:
        """Close the mask."""
        self._mask.close()


class SingleChannel(Source):
    """A mask that is grey in every pixel and was saved as color, or with an opacity that is full.

    Args:
        mask: (C, H, W) with C from 2 to 4, which is closed with this one.
        cure: what to do where it turns out to be colored, or partly transparent.
    """

    def __init__(self, mask: Source, cure: str) -> None:
        super().__init__(mask.name, understand((1, *mask.shape[1:]), layout="CHW"), mask.dtype)
        self._mask, self._cure = mask, cure
        self.native_rows = mask.native_rows
        self.memory, self.open_memory = mask.memory, mask.open_memory
        self.notes = (*mask.notes, f"grey saved in {mask.shape[0]} channels; one is read")

    def _read(self, spans: tuple[Span, ...]) -> NDArray[Any]:
        samples = self._mask.read(*spans)
        colors = samples[: 3 if len(samples) > 2 else 1]
        opacity = samples[len(colors) :]
        full = np.iinfo(samples.dtype).max if samples.dtype.kind in "ui" else 1
        if (colors[1:] != colors[0]).any() or (opacity != full).any():
            fact = f"{self.name}: is a mask with {len(samples)} channels"
            raise Unfit(fact, cure=self._cure)
        return colors[:1]

    def identity(self) -> dict[str, Any]:
        """That of the mask."""
        return self._mask.identity()

    def close(self) -> None:
        """Close the mask."""
        self._mask.close()
