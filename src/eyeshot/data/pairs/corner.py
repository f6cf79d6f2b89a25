"""The top left part of an image, read by windows like the whole."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from eyeshot.images import Source, Span, understand


class Corner(Source):
    """The first rows and columns of another source, which its opener closes.

    Args:
        whole: (C, H, W), or of more or fewer axes of space.
        size: of the part, along each of them.
    """

    def __init__(self, whole: Source, size: tuple[int, ...]) -> None:
        shape = (whole.shape[0], *size)
        layout = {2: "CL", 3: "CHW", 4: "CDHW"}[len(shape)]
        super().__init__(whole.name, understand(shape, layout=layout), whole.dtype)
        self._whole = whole
        self.native_rows = whole.native_rows
        self.memory, self.open_memory = whole.memory, whole.open_memory

    def _read(self, spans: tuple[Span, ...]) -> NDArray[Any]:
        self._whole.keep_rows = self.keep_rows  # as a reader of windows asks
        samples = self._whole.read(*spans)
        self.decoded_chunks = self._whole.decoded_chunks
        return samples

    def identity(self) -> dict[str, Any]:
        """That of the whole, and which part."""
        return {**self._whole.identity(), "corner": list(self.shape[1:])}
