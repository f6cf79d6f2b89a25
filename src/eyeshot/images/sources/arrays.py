"""Images that are already in memory: NumPy arrays, memory maps, torch tensors."""

from __future__ import annotations

import hashlib
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eyeshot.errors import BadValue
from eyeshot.images.layouts import Index, Layout, Span, understand
from eyeshot.images.mapped import is_mapped, let_go
from eyeshot.images.sources.source import Source


class ArraySource(Source):
    """Windows of an array, as views of it."""

    def __init__(self, array: NDArray[Any], layout: Layout, name: str = "the array") -> None:
        super().__init__(name, layout, array.dtype)
        self._array = array

    def window_memory(self, shape: tuple[int, ...]) -> int:
        """A view takes nothing; samples of another byte order, and a file's pages, do."""
        is_view = self._array.dtype == self.dtype and not is_mapped(self._array)
        return 0 if is_view else super().window_memory(shape)

    def _read(self, spans: tuple[Span, ...]) -> NDArray[Any]:
        let_go(self._array)
        box = self._layout.box(spans)
        block = self._layout.arrange(self._array[tuple(slice(lo, hi) for lo, hi in box)])
        return block.astype(self.dtype, copy=False)

    def identity(self) -> dict[str, Any]:
        """Shape, dtype and a digest of the samples, row by row so that no copy is made whole."""
        digest = hashlib.blake2b(digest_size=16)
        for row in range(self.shape[1]):
            digest.update(np.ascontiguousarray(self.read((row, row + 1))).tobytes())
        return {
            "shape": list(self.shape),
            "dtype": str(self.dtype),
            "digest": digest.hexdigest(),
        }


def open_array(
    image: Any,
    *,
    layout: str | None = None,
    space: int | None = None,
    index: Index | None = None,
) -> Source:
    """A source over an array or a CPU tensor.

    Raises:
        BadValue: not an array of numbers, or a tensor on another device.
    """
    torch = sys.modules.get("torch")  # a caller with a tensor has imported torch
    if torch is not None and isinstance(image, torch.Tensor):
        if image.device.type != "cpu" or image.dtype == torch.bfloat16:
            raise BadValue(
                f"a tensor of {image.dtype} on {image.device}",
                cure="pass image.float().cpu()",
            )
        array = image.detach().numpy()
        order = understand(array.shape, layout=layout, space=space, first=True, index=index)
    else:
        array = np.asanyarray(image)
        if array.dtype.kind not in "biuf" or array.ndim == 0:
            raise BadValue(f"an array of {array.dtype}", cure="pass an array of real numbers")
        order = understand(array.shape, layout=layout, space=space, index=index)
    return ArraySource(array, order)
