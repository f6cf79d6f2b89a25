"""A whole picture as an array, and an array as a picture.

The kind of a file is told by its first bytes, not by its name: people rename. Three libraries
share the work: tifffile for TIFF, OpenCV for 16-bit colour PNG (which Pillow would cut to 8 bits),
Pillow for everything else. Whatever they raise on a damaged file becomes one :class:`BadFile`.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from eyeshot.errors import BadFile, BadValue, UnknownName
from eyeshot.files import explain_os_error, write_aside
from eyeshot.images import orientation
from eyeshot.images.damage import damage_named
from eyeshot.images.segments import check_segments

WHOLE_LIMIT = 2 * 2**30
"""Largest decoded picture, in bytes, that is ever held whole; larger ones go by windows."""

# Deflate gives at most 1032 bytes for one; a JPEG block of 64 samples takes at least one bit.
_LARGEST_RATIO = {"PNG": 1032 * 4, "JPEG": 4096}

_BAND = 256  # rows
_pillow_limit = threading.Lock()

TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
NPY_START = b"\x93NUMPY"
PNG_START = b"\x89PNG\r\n\x1a\n"


def read(path: Path | str) -> NDArray[Any]:
    """The picture in a file, upright.

    Returns:
        (H, W) or (H, W, C) with C from 2 to 4, uint8, uint16 or float32 as in the file. Palettes
        become RGB, or RGBA when they have transparency; CMYK and the like become RGB; one bit a
        pixel becomes 0 and 255; other integers and float64 become float32. Of several frames or
        pages, the first.

    Raises:
        BadFile: missing, empty, truncated, not a picture, or larger than ``WHOLE_LIMIT``.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            start = file.read(32)
    except OSError as error:
        raise explain_os_error(error, path) from error
    if not start:
        raise BadFile(f"{path}: the file is empty", cure="copy or export the picture again")
    with damage_named(path):
        if start.startswith(NPY_START):
            picture = _read_npy(path)
        elif start.startswith(TIFF_STARTS):
            picture = _read_tiff(path)
        else:
            picture = _read_common(path, start)
    return _as_contract(picture, path)


def check_size(path: Path, shape: tuple[int, ...], itemsize: int) -> None:
    """Refuse a picture whose decoded form would exceed ``WHOLE_LIMIT``, before it is allocated.

    Raises:
        BadFile: it would.
    """
    size = itemsize
    for length in shape:
        size *= length  # whole Python numbers: a claim of 10^6 x 10^6 must not overflow
    if size > WHOLE_LIMIT:
        claim = " x ".join(map(str, shape))
        raise BadFile(
            f"{path}: claims {claim} samples, {size / 2**30:.1f} GiB decoded, "
            f"and a whole picture may take {WHOLE_LIMIT / 2**30:.0f} GiB",
            cure="if it is genuine, process it by windows as TIFF or Zarr",
        )


def _read_common(path: Path, start: bytes) -> NDArray[Any]:
    """Whatever Pillow opens; 16-bit colour PNG takes a way round it."""
    with _open_unjudged(path) as image:
        _check_claim(path, image)
        turn = image.getexif().get(ExifTags.Base.Orientation, 1)
        bits, colour = start[24:26] if start.startswith(PNG_START) else (8, 0)
        if bits == 16 and colour != 0:
            image.load()  # Pillow checks that all of it is there; OpenCV would only warn
            picture = _read_deep_png(path, colour)
        else:
            picture = _from_pillow(image)
    # Pillow's copy is gone by now
    return orientation.turn_upright(picture, turn)


def _open_unjudged(path: Path) -> Image.Image:
    """Read a picture's header without Pillow's own limit: :func:`check_size` is the judge."""
    with _pillow_limit:
        limit = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = None
        try:
            return Image.open(path)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _check_claim(path: Path, image: Image.Image) -> None:
    shape = (image.height, image.width, len(image.getbands()))
    check_size(path, shape, 4 if image.mode in ("I", "F") else 1)
    ratio = _LARGEST_RATIO.get(image.format or "")
    size = path.stat().st_size
    if ratio and shape[0] * shape[1] > ratio * max(size, 2**10):
        raise BadFile(
            f"{path}: claims {shape[0]} x {shape[1]} pixels in {size} bytes, "
            "more than its format can pack",
            cure="it is truncated or a decompression bomb; get a genuine copy",
        )


def _from_pillow(image: Image.Image) -> NDArray[Any]:
    mode = image.mode
    if mode in ("P", "PA"):
        transparent = mode == "PA" or "transparency" in image.info
        image = image.convert("RGBA" if transparent else "RGB")
    elif mode == "1":
        image = image.convert("L")
    elif mode not in ("L", "LA", "RGB", "RGBA", "I", "F", "I;16", "I;16L", "I;16B"):
        image = image.convert("RGB")
    line = np.asarray(image.crop((0, 0, image.width, 1)))
    picture = np.empty((image.height, *line.shape[1:]), line.dtype.newbyteorder("="))
    for top in range(0, image.height, _BAND):  # by bands: Pillow makes two copies of what it gives
        bottom = min(top + _BAND, image.height)
        picture[top:bottom] = np.asarray(image.crop((0, top, image.width, bottom)))
    return picture


def _read_deep_png(path: Path, colour: int) -> NDArray[Any]:
    """A 16-bit PNG with colour or alpha, in the file's own channels."""
    import cv2

    decoded = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None or decoded.dtype != np.uint16:
        raise ValueError("OpenCV could not decode this 16-bit PNG")
    picture = np.asarray(decoded)
    order = {2: [2, 1, 0], 4: [0, 3], 6: [2, 1, 0, 3]}[colour]  # OpenCV counts blue first
    return picture[..., order]


def _read_tiff(path: Path) -> NDArray[Any]:
    import tifffile

    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages.first
        check_size(path, page.shape, page.dtype.itemsize if page.dtype else 1)
        check_segments(page, path.stat().st_size)
        picture = page.asarray()
        if page.axes.startswith("S"):
            picture = np.moveaxis(picture, 0, -1)
        if page.photometric == tifffile.PHOTOMETRIC.PALETTE and page.colormap is not None:
            picture = np.moveaxis(page.colormap, 0, -1)[picture]
        elif page.photometric == tifffile.PHOTOMETRIC.MINISWHITE and picture.dtype.kind in "ub":
            picture = ~picture
        tag = page.tags.get(orientation.TAG)
        return orientation.turn_upright(picture, int(tag.value) if tag else 1)


def _read_npy(path: Path) -> NDArray[Any]:
    mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    check_size(path, mapped.shape, mapped.dtype.itemsize)
    return np.array(mapped)


def _as_contract(picture: NDArray[Any], path: Path) -> NDArray[Any]:
    """(H, W) or (H, W, C), uint8, uint16 or float32."""
    if picture.ndim == 3 and picture.shape[-1] > 4 and picture.shape[0] <= 4:
        picture = np.moveaxis(picture, 0, -1)  # (C, H, W), as arrays of networks are kept
    if picture.ndim == 3 and picture.shape[-1] == 1:
        picture = picture[..., 0]
    if picture.ndim not in (2, 3) or (picture.ndim == 3 and picture.shape[-1] > 4):
        shape = " x ".join(map(str, picture.shape))
        raise BadFile(f"{path}: holds {shape}", cure="a picture is (H, W) or (H, W, 1 to 4)")
    if picture.size == 0:
        raise BadFile(f"{path}: has no pixels", cure="export the picture again")
    if picture.dtype.kind not in "biuf":
        raise BadFile(f"{path}: holds {picture.dtype}", cure="a picture holds real numbers")
    picture = picture.astype(picture.dtype.newbyteorder("="), copy=False)
    if picture.dtype == np.bool_:
        picture = picture * np.uint8(255)
    elif picture.dtype not in (np.uint8, np.uint16):
        picture = picture.astype(np.float32, copy=False)
    return np.ascontiguousarray(picture)


def write(path: Path | str, array: NDArray[Any]) -> None:
    """Write ``array`` (H, W) or (H, W, C) as the kind of file that the suffix of ``path`` names.

    PNG holds uint8 and uint16 in 1 to 4 channels; JPEG and BMP hold uint8 in 1 or 3; TIFF holds
    numbers of any kind; ``.npy`` anything. True and false become 255 and 0 in a picture. The file
    is written aside and renamed over an older one.

    Raises:
        UnknownName: a suffix of no known kind.
        BadValue: the kind cannot hold this dtype, shape or number of channels.
        BadFile: the folder is missing or may not be written to.
        Failure: the disk is full.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in _WRITERS:
        raise UnknownName("picture suffix", suffix, sorted(_WRITERS))
    array = np.asarray(array)
    if suffix != ".npy":
        array = _check_picture(array, suffix, path)
    with write_aside(path) as aside:
        _WRITERS[suffix](aside, array)


# suffix -> dtypes (by character) and numbers of channels that the kind can hold
_HOLDS = {
    ".png": ("BH", (1, 2, 3, 4)),
    ".jpg": ("B", (1, 3)),
    ".jpeg": ("B", (1, 3)),
    ".bmp": ("B", (1, 3)),
    ".tif": ("BHILQbhilqefd", (1, 2, 3, 4)),
    ".tiff": ("BHILQbhilqefd", (1, 2, 3, 4)),
}


def _check_picture(array: NDArray[Any], suffix: str, path: Path) -> NDArray[Any]:
    """``array`` with one channel as (H, W), or a refusal."""
    if array.dtype == np.bool_:
        array = array * np.uint8(255)
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim not in (2, 3) or array.size == 0:
        raise BadValue(f"{path}: array of shape {array.shape}", cure="a picture is (H, W[, C])")
    kinds, counts = _HOLDS[suffix]
    channels = array.shape[2] if array.ndim == 3 else 1
    if channels not in counts:
        allowed = ", ".join(map(str, counts))
        raise BadValue(
            f"{path}: {channels} channels, and {suffix} holds {allowed}",
            cure="write .npy, or fewer channels",
        )
    if array.dtype.char not in kinds:
        allowed = "uint8 or uint16" if "H" in kinds else "uint8"
        raise BadValue(
            f"{path}: {array.dtype} samples, and {suffix} holds {allowed}",
            cure="convert the array, or write .tif or .npy",
        )
    return np.ascontiguousarray(array.astype(array.dtype.newbyteorder("="), copy=False))


def _write_png(path: Path, array: NDArray[Any]) -> None:
    if array.dtype == np.uint16 and array.ndim == 3:
        _write_deep_png(path, array)
    else:
        Image.fromarray(array).save(path, format="PNG")


def _write_deep_png(path: Path, array: NDArray[Any]) -> None:
    from eyeshot.images.sinks.png import write_png  # Pillow would cut it to 8 bits

    height, width, channels = array.shape
    with path.open("wb") as file:
        write_png(file, [array], (height, width, channels), 16)


def _write_jpeg(path: Path, array: NDArray[Any]) -> None:
    Image.fromarray(array).save(path, format="JPEG", quality=95, subsampling=0)


def _write_bmp(path: Path, array: NDArray[Any]) -> None:
    Image.fromarray(array).save(path, format="BMP")


def _write_tiff(path: Path, array: NDArray[Any]) -> None:
    import tifffile

    colour = array.ndim == 3 and array.shape[2] >= 3
    tifffile.imwrite(path, array, photometric="rgb" if colour else "minisblack", metadata=None)


def _write_npy(path: Path, array: NDArray[Any]) -> None:
    with path.open("wb") as file:
        np.save(file, array, allow_pickle=False)


_WRITERS = {
    ".png": _write_png,
    ".jpg": _write_jpeg,
    ".jpeg": _write_jpeg,
    ".bmp": _write_bmp,
    ".tif": _write_tiff,
    ".tiff": _write_tiff,
    ".npy": _write_npy,
}
