"""Color pictures of more than 8 bits, which Pillow would cut to 8: PNG, JPEG 2000, AVIF, PPM."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from eyeshot.extras import extra
from eyeshot.images.limits import PNG_START, check_size, claimed_size

_FULL = 65535


def read_deep(path: Path, image: Image.Image) -> NDArray[np.uint16] | None:
    """The samples of a picture whose colors have more than 8 bits; None for any other.

    Samples with fewer than 16 bits are scaled to the full range: 1023 of 10 bits becomes 65535.

    Args:
        path: the file.
        image: the image opened by Pillow, whose size has been checked.

    Returns:
        (H, W, C), C from 2 to 4.

    Raises:
        ValueError: it cannot be decoded.
    """
    reader = _READERS.get(image.format or "")
    if reader is None or len(image.getbands()) == 1:
        return None
    return reader(path, image)


def _png(path: Path, image: Image.Image) -> NDArray[np.uint16] | None:
    with path.open("rb") as file:
        start = file.read(32)
    if not start.startswith(PNG_START) or start[24] != 16:
        return None
    from eyeshot.images.sources import png

    image.load()  # Pillow checks that the file is complete
    return png.read_deep(path)


def _jpeg2000(path: Path, image: Image.Image) -> NDArray[np.uint16] | None:
    data = path.read_bytes()
    at = data.find(b"\xff\x4f\xff\x51")
    if at < 0 or (bits := (data[at + 42] & 0x7F) + 1) <= 8:  # the first component's precision
        return None
    claim = claimed_size(data)
    if claim is None or claim[:2] != (image.height, image.width):
        raise ValueError("its headers name different sizes")
    check_size(path, claim, 2)
    with extra("images"):
        import imagecodecs
    return _full_range(np.asarray(imagecodecs.jpeg2k_decode(data)), bits)


def _avif(path: Path, image: Image.Image) -> NDArray[np.uint16] | None:
    """The depth is in the box av1C: AV1 in ISO base media, section 2.3.3."""
    data = path.read_bytes()
    at = data.find(b"av1C", 0, 2**16)
    flags = data[at + 6] if 0 <= at < len(data) - 6 else 0
    if not flags & 0x40:
        return None
    bits = 12 if flags & 0x20 else 10
    with extra("images"):
        import imagecodecs
    return _full_range(np.asarray(imagecodecs.avif_decode(data)), bits)


def _ppm(path: Path, image: Image.Image) -> NDArray[np.uint16] | None:
    with path.open("rb") as file:
        start = file.read(2**10)
    token = rb"(?:\s+|\s*#[^\n]*\n)+(\d+)"
    found = re.match(rb"P6" + token * 3 + rb"\s", start)
    if found is None or not 255 < (top := int(found[3])) <= _FULL:
        return None
    shape = (image.height, image.width, 3)
    samples = np.fromfile(path, ">u2", int(np.prod(shape)), offset=found.end())
    if samples.size < np.prod(shape):
        raise ValueError("the pixels end early")
    return _scaled(samples.reshape(shape), top)


def _full_range(samples: NDArray[Any], bits: int) -> NDArray[np.uint16]:
    if samples.dtype != np.uint16 or samples.ndim != 3 or samples.shape[2] > 4:
        raise ValueError(f"holds {samples.dtype} samples of shape {samples.shape}")
    return _scaled(samples, 2**bits - 1)


def _scaled(samples: NDArray[Any], top: int) -> NDArray[np.uint16]:
    if top == _FULL:
        return samples.astype(np.uint16)
    wide = np.minimum(samples, top).astype(np.uint64) * np.uint64(_FULL)
    rounded = (wide + np.uint64(top // 2)) // np.uint64(top)
    return np.asarray(rounded, np.uint16)


_READERS = {"PNG": _png, "JPEG2000": _jpeg2000, "AVIF": _avif, "PPM": _ppm}
