"""Whatever an image library raises on a damaged file, as one BadFile that names the piece."""

from __future__ import annotations

import logging
import struct
import tokenize
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from eyeshot.errors import BadFile
from eyeshot.extras import is_installed, not_installed

_DAMAGED = (
    ValueError, TypeError, AttributeError, IndexError, KeyError, EOFError, SyntaxError, OSError,
    RuntimeError, AssertionError, OverflowError, ZeroDivisionError, MemoryError, struct.error,
    zlib.error, tokenize.TokenError, Image.DecompressionBombError,
)  # fmt: skip
"""What Pillow, tifffile, zarr, their codecs and NumPy raise on damaged files, between them."""


@contextmanager
def damage_named(path: Path | str, piece: str = "") -> Iterator[None]:
    """Turn a library's errors inside the block into a BadFile for ``path`` and ``piece``."""
    place = f"{path}: {piece}" if piece else str(path)
    try:
        with _quiet("tifffile"):
            yield
    except UnidentifiedImageError as error:
        raise BadFile(
            f"{path}: not a picture format that Eyeshot reads",
            cure="use PNG, JPEG, TIFF, BMP, WebP, .npy or Zarr",
        ) from error
    except _DAMAGED as error:
        if "imagecodecs" in str(error) and not is_installed("imagecodecs"):  # says tifffile
            raise not_installed("imagecodecs", "images").at(place) from error
        raise BadFile(
            f"{place}: truncated or damaged ({type(error).__name__}: {error})",
            cure="copy or export the image again",
        ) from error


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Suppress a library's log; the error contains the important part."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
