"""Pictures as bytes: PNG, and the ``data:`` address that puts one inside a page."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_QUALITY = 88


def png_bytes(picture: NDArray[Any]) -> bytes:
    """(H, W), (H, W, 1), (H, W, 3) or (H, W, 4) uint8 as PNG; the same picture, the same bytes."""
    pixels = np.ascontiguousarray(picture)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    held = io.BytesIO()
    Image.fromarray(pixels).save(held, format="PNG", optimize=True)
    return held.getvalue()


def jpeg_bytes(picture: NDArray[Any]) -> bytes:
    """(H, W) or (H, W, 3) uint8 as JPEG: for photographs, a tenth of the bytes of a PNG."""
    held = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(
        held, format="JPEG", quality=_QUALITY, optimize=True
    )
    return held.getvalue()


def data_uri(picture: NDArray[Any], *, photo: bool = False) -> str:
    """The picture as ``data:image/png;base64,…``, so that a page needs no other file.

    A ``photo`` becomes a JPEG; everything else keeps its exact pixels.
    """
    kind, content = ("jpeg", jpeg_bytes(picture)) if photo else ("png", png_bytes(picture))
    return f"data:image/{kind};base64," + base64.b64encode(content).decode("ascii")


def reduce_picture(picture: NDArray[np.uint8], *, height: int) -> NDArray[np.uint8]:
    """(H, W) or (H, W, 3) averaged down to ``height`` pixels in the same proportions."""
    width = max(1, round(picture.shape[1] * height / picture.shape[0]))
    resized = Image.fromarray(picture).resize((width, height), Image.Resampling.BOX)
    return np.asarray(resized)
