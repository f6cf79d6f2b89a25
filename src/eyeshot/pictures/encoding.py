"""Pictures as bytes: PNG, and the ``data:`` address that puts one inside a page."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def png_bytes(picture: NDArray[Any]) -> bytes:
    """(H, W), (H, W, 1), (H, W, 3) or (H, W, 4) uint8 as PNG; the same picture, the same bytes."""
    pixels = np.ascontiguousarray(picture)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    held = io.BytesIO()
    Image.fromarray(pixels).save(held, format="PNG", optimize=True)
    return held.getvalue()


def data_uri(picture: NDArray[Any]) -> str:
    """The picture as ``data:image/png;base64,…``, so that a page needs no other file."""
    return "data:image/png;base64," + base64.b64encode(png_bytes(picture)).decode("ascii")
