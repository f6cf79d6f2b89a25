"""The only place where Pillow opens a file: from a list of formats, after a check of the size.

By default Pillow tries all its plugins on the first bytes of a file, for any file name: it would
pass an EPS named ``photo.jpg`` to Ghostscript. So only formats are tried that decode inside this
process. Color pictures of more than 8 bits, which Pillow would cut to 8, are decoded here by other
packages: PNG, JPEG 2000, AVIF and PPM.
"""

from __future__ import annotations

import re
import struct
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from eyeshot.array_likes import not_turned, samples_of
from eyeshot.errors import BadFile, BadValue
from eyeshot.extras import extra
from eyeshot.images import layouts
from eyeshot.images.limits import PNG_START, check_size, claimed_size, damage_named

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


FORMATS = (
    "AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "PCX", "PNG", "PPM", "TGA", "WEBP"
)  # fmt: skip

# Deflate gives at most 1032 bytes for one; a JPEG block of 64 samples takes at least one bit.
_LARGEST_RATIO = {"PNG": 1032 * 4, "JPEG": 4096}
_WEBP_COPIES = 3  # libwebp's animation decoder uses two canvases in addition to the picture
_FRAMES = {"GIF", "PNG", "WEBP", "AVIF"}  # formats whose frames are pictures of equal rank

_globals = threading.Lock()  # Pillow's limit and Python's warnings belong to the whole process


def read_common(
    path: Path, frame: int | None = None, *, indices: bool = False, offered: bool = True
) -> tuple[NDArray[Any], int, tuple[str, ...]]:
    """Read a picture with Pillow, upright, without cutting it to 8 bits.

    Returns:
        Samples (H, W) or (H, W, C), where the last of 2 or 4 channels is alpha; the orientation by
        which they were rotated; and notes.

    Raises:
        BadFile: the file is damaged, truncated, not a picture, or too large.
        BadValue: there is no such frame.
    """
    notes: list[str] = []
    with damage_named(path), open_image(path, notes) as image:
        _choose_frame(image, path, frame, notes, offered)
        if image.format == "PNG":
            image.load()  # its EXIF may come after the pixels
        turn = read_turn(image, notes)
        samples: NDArray[Any] | None = None if frame else read_deep(path, image)
        if samples is None:
            samples = samples_of(image, indices=indices)
    # Pillow's copy is gone by now
    return layouts.turn_upright(samples, turn), turn, tuple(notes)


def open_image(path: Path, notes: list[str] | None = None) -> Image.Image:
    """A picture's header, read by Pillow; its size is checked, and nothing is decoded.

    Args:
        path: the file.
        notes: gets a note if the EXIF is damaged.

    Raises:
        BadFile: the size is above the limit, or impossible for the length of the file.
        UnidentifiedImageError: the format is not in the list.
    """
    size = path.stat().st_size
    _check_webp(path)
    with _globals:
        limit = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = None  # check_size limits the size instead
        try:
            with _warnings_noted(notes):
                image = Image.open(path, formats=FORMATS)
        finally:
            Image.MAX_IMAGE_PIXELS = limit
    try:
        _check_claim(path, image, size)
    except BadFile:
        image.close()
        raise
    return image


def _check_claim(path: Path, image: Image.Image, size: int) -> None:
    shape = (image.height, image.width, len(image.getbands()))
    check_size(path, shape, 4 if image.mode in ("I", "F") else 1)
    ratio = _LARGEST_RATIO.get(image.format or "")
    if ratio and shape[0] * shape[1] > ratio * max(size, 2**10):
        raise BadFile(
            f"{path}: claims {shape[0]} x {shape[1]} pixels in {size} bytes, "
            "more than its format can pack",
            cure="it is truncated or a decompression bomb; get a genuine copy",
        )


def _check_webp(path: Path) -> None:
    """Pillow allocates a WebP's canvas when it opens it, so its header is read before."""
    with path.open("rb") as file:
        start = file.read(64)
    if start.startswith(b"RIFF") and (claim := claimed_size(start)):
        height, width, samples = claim
        check_size(path, (height, width, samples), _WEBP_COPIES)


@contextmanager
def _warnings_noted(notes: list[str] | None) -> Iterator[None]:
    """Inside the context, Pillow's warnings are not printed; damaged EXIF becomes a note."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    damaged = any("exif" in str(one.message).lower() for one in caught)
    if damaged and notes is not None:
        _note_damaged(notes)


def _note_damaged(notes: list[str]) -> None:
    note = "its EXIF is damaged and was ignored, so the picture may be rotated"
    if note not in notes:
        notes.append(note)


def read_turn(image: Image.Image, notes: list[str]) -> int:
    """The EXIF orientation, 1 to 8; 1 and a note if the EXIF is damaged."""
    with _globals, _warnings_noted(notes):
        try:
            turn = image.getexif().get(ExifTags.Base.Orientation, 1)
        except (SyntaxError, ValueError, KeyError, TypeError, OSError, struct.error):
            _note_damaged(notes)
            return 1
    return turn if isinstance(turn, int) and 1 <= turn <= 8 else 1


def _choose_frame(
    image: Image.Image, path: Path, frame: int | None, notes: list[str], offered: bool
) -> None:
    count = getattr(image, "n_frames", 1) if image.format in _FRAMES or frame else 1
    if frame is None and count > 1:
        more = ", --series N reads N" if offered else ""
        notes.append(f"holds {count} frames; the first is read{more}")
    if not 0 <= (frame or 0) < count:
        cure = f"it has frames 0 to {count - 1}" if count > 1 else "it holds only picture 0"
        raise BadValue(f"{path}: no series {frame}", cure=cure)
    if frame:
        image.seek(frame)


def notes_on(image: Image.Image) -> tuple[str, ...]:
    """What the owner of a Pillow image should know: it is read without the rotation of its EXIF."""
    notes: list[str] = []
    turn = read_turn(image, notes)
    if turn != 1:
        notes.append(not_turned(turn))
    return tuple(notes)
