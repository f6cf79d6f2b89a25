"""A whole picture as an array, and an array as a picture; the only place where Pillow opens a file.

The first bytes of a file decide its format, not its name. Three libraries share the work: tifffile
for TIFF, OpenCV for 16-bit color PNG (which Pillow would cut to 8 bits), Pillow for everything
else. All their errors for a damaged file become a :class:`BadFile`.

The scale of stored samples is defined here, once for training, inspection and runs.

By default Pillow tries all its plugins on the first bytes of a file, for any file name: it would
pass an EPS named ``photo.jpg`` to Ghostscript. So only formats are tried that decode inside this
process, after a check of the size. Color pictures of more than 8 bits, which Pillow would cut to 8,
are decoded here by other packages: PNG, JPEG 2000, AVIF and PPM.
"""

from __future__ import annotations

import re
import struct
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from eyeshot.array_likes import not_turned, samples_of
from eyeshot.errors import BadFile, BadValue, UnknownName
from eyeshot.extras import extra
from eyeshot.files import write_aside
from eyeshot.images import layouts
from eyeshot.images.layouts import Index
from eyeshot.images.limits import (
    NPY_START,
    PNG_START,
    TIFF_STARTS,
    check_size,
    claimed_size,
    damage_named,
    first_bytes,
)
from eyeshot.images.sources.source import Selection, select

_FULL = 65535


def read_deep(path: Path, image: Image.Image) -> NDArray[np.uint16] | None:
    """The samples of a picture of more than 8 bits that Pillow would cut or shift; None otherwise.

    Samples with fewer than 16 bits are scaled to the full range: 1023 of 10 bits becomes 65535.
    Pillow makes it 65472 in gray JPEG 2000, and 255 in AVIF. It reads gray PNG and PGM right.

    Args:
        path: the file.
        image: the image opened by Pillow, whose size has been checked.

    Returns:
        (H, W), or (H, W, C) with C from 2 to 4.

    Raises:
        ValueError: it cannot be decoded.
    """
    reader = _READERS.get(image.format or "")
    return None if reader is None else reader(path, image)


def _png(path: Path, image: Image.Image) -> NDArray[np.uint16] | None:
    with path.open("rb") as file:
        start = file.read(32)
    if not start.startswith(PNG_START) or start[24] != 16 or len(image.getbands()) == 1:
        return None
    from eyeshot.images.sources import png_rows

    image.load()  # Pillow checks that the file is complete
    return png_rows.read_deep(path)


def _jpeg2000(path: Path, image: Image.Image) -> NDArray[np.uint16] | None:
    data = path.read_bytes()
    at = data.find(b"\xff\x4f\xff\x51")
    if at < 0 or (bits := (data[at + 42] & 0x7F) + 1) <= 8:  # the first component's precision
        return None
    if data[at + 42] & 0x80 and len(image.getbands()) == 1:
        return None  # signed gray, whose 0 Pillow puts into the middle
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
    if samples.dtype != np.uint16 or samples.ndim not in (2, 3) or samples.shape[2:] > (4,):
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


@dataclass(frozen=True, eq=False)
class Picture:
    """A whole picture, upright.

    Attributes:
        samples: (H, W) or (H, W, C), C from 2 to 4; uint8, uint16 or float32.
        alpha: whether the last channel is alpha.
        notes: facts that the user should know about how it was read, a sentence each.
        turn: the file's orientation, 1 to 8, by which it has been rotated.
    """

    samples: NDArray[Any]
    alpha: bool
    notes: tuple[str, ...] = ()
    turn: int = 1


def read(
    path: Path | str, *, series: int | None = None, index: Index | None = None
) -> NDArray[Any]:
    """The picture in a file, upright.

    Args:
        path: PNG, JPEG, TIFF, BMP, WebP, GIF, PNM, TGA, AVIF, JPEG 2000 or ``.npy``.
        series: the number of an image in a file with several, or of a frame; None for the first.
        index: positions along the other axes of a stack, such as ``"Z=3"`` or ``{"Z": 3}``.

    Returns:
        (H, W) or (H, W, C) with C from 2 to 4, uint8, uint16 or float32 as in the file. Palettes
        become RGB, or RGBA if they have transparency; CMYK and YCbCr become RGB; one bit per pixel
        becomes 0 and 255; other integers and float64 become float32.

    Raises:
        BadFile: the file is missing, empty, truncated, not a picture, a stack without a chosen
            page, or larger than ``WHOLE_LIMIT``.
        BadValue: there is no such series or position.
    """
    return read_picture(path, series=series, index=index).samples


def read_picture(
    path: Path | str,
    *,
    series: int | None = None,
    index: Index | None = None,
    indices: bool = False,
    offered: bool = True,
) -> Picture:
    """Like :func:`read`, with facts about the samples; optionally the ``indices`` of a palette.

    ``offered`` says whether the user has ``--series`` and ``--index``, so that messages can name
    them.

    Raises:
        BadFile: as :func:`read`.
        BadValue: as :func:`read`.
    """
    path = Path(path)
    start = first_bytes(path)
    if start.startswith(TIFF_STARTS):
        selection = replace(select(series, 0, index, None, 2), offered=offered)
        return _read_tiff(path, selection)
    if index:
        raise BadValue(f"{path}: an index into one picture", cure="only stacks in TIFF have axes")
    if start.startswith(NPY_START):
        with damage_named(path):
            return _as_contract(_read_npy(path), path, alpha=True)
    samples, turn, notes = read_common(path, series, indices=indices, offered=offered)
    picture = _as_contract(samples, path, alpha=True, notes=notes)
    return replace(picture, turn=turn)


def _read_tiff(path: Path, selection: Selection) -> Picture:
    """One page, or the channels of one image; a stack of pages is refused."""
    from eyeshot.images.sources.tiff_segments import open_tiff

    with open_tiff(path, selection, one_picture=True) as source:
        check_size(path, source.shape, source.dtype.itemsize)
        samples = np.moveaxis(source.read(), 0, -1)
        return _as_contract(samples, path, alpha=source.alpha, notes=source.notes)


def _read_npy(path: Path) -> NDArray[Any]:
    mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    check_size(path, mapped.shape, mapped.dtype.itemsize)
    return np.array(mapped)


def _as_contract(
    picture: NDArray[Any], path: Path, *, alpha: bool, notes: tuple[str, ...] = ()
) -> Picture:
    """(H, W) or (H, W, C), uint8, uint16 or float32."""
    if picture.ndim == 3 and picture.shape[-1] > 4 and picture.shape[0] <= 4:
        picture = np.moveaxis(picture, 0, -1)  # from (C, H, W), the usual order of tensors
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
    alpha = alpha and picture.ndim == 3 and picture.shape[2] in (2, 4)
    return Picture(np.ascontiguousarray(picture), alpha, notes)


def write(path: Path | str, array: NDArray[Any], *, alpha: bool = True) -> None:
    """Write ``array`` (H, W) or (H, W, C) to a file; the suffix of ``path`` decides the format.

    PNG stores uint8 and uint16 in 1 to 4 channels; JPEG and BMP store uint8 in 1 or 3; TIFF stores
    numbers of any type; ``.npy`` anything. True and False become 255 and 0 in a picture. The file
    is written under another name and then renamed over an older one.

    Args:
        path: the path of the file.
        array: the picture.
        alpha: whether the last of 2 or 4 channels is opacity; in a PNG it always is.

    Raises:
        UnknownName: the suffix is unknown.
        BadValue: the format cannot store this dtype, shape or number of channels.
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
        if not alpha and suffix == ".png" and array.ndim == 3 and array.shape[2] in (2, 4):
            raise BadValue(
                f"{path}: {array.shape[2]} channels, none of them opacity, and a PNG takes the "
                "last for it",
                cure="write .tif or .npy",
            )
    with write_aside(path) as aside:
        if suffix in _TIFF:
            _write_tiff(aside, array, alpha)
        else:
            _WRITERS[suffix](aside, array)


# suffix -> dtypes (by character) and numbers of channels that the format can store
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


def _write_tiff(path: Path, array: NDArray[Any], alpha: bool = True) -> None:
    import tifffile

    channels = array.shape[2] if array.ndim == 3 else 1
    extra = ["unassalpha" if alpha else "unspecified"] if channels in (2, 4) else None
    tifffile.imwrite(
        path,
        array,
        photometric="rgb" if channels >= 3 else "minisblack",
        planarconfig="contig" if channels > 1 else None,
        extrasamples=extra,
        metadata=None,
    )


def _write_npy(path: Path, array: NDArray[Any]) -> None:
    with path.open("wb") as file:
        np.save(file, array, allow_pickle=False)


_TIFF = (".tif", ".tiff")
_WRITERS = {
    ".png": _write_png,
    ".jpg": _write_jpeg,
    ".jpeg": _write_jpeg,
    ".bmp": _write_bmp,
    ".tif": _write_tiff,
    ".tiff": _write_tiff,
    ".npy": _write_npy,
}


def unit_of(dtype: np.dtype[Any]) -> float:
    """The sample that counts as 1: the largest value of an integer type, and 1 for other types."""
    return float(np.iinfo(dtype).max) if dtype.kind in "ui" else 1.0


_USUAL_BITS = (8, 10, 12, 14, 16)
"""Bits per sample of cameras whose samples are stored in more bits."""


def bits_of(largest: int, dtype: np.dtype[Any]) -> int:
    """The bits that samples of a type seem to have, by the largest; 0 if they may use all of it."""
    if dtype.kind not in "ui" or dtype.itemsize == 1:
        return 0
    usual = (bits for bits in _USUAL_BITS if 2**bits <= np.iinfo(dtype).max)
    return next((bits for bits in usual if 2 ** (bits - 2) <= largest < 2**bits), 0)


def note_dark(largest: int, dtype: np.dtype[Any], mean: Sequence[float], cure: str) -> str | None:
    """A note on samples of so few bits that a network sees them almost black.

    None if they may use their whole type, or if the training images were just as dark.

    Args:
        largest: the largest sample.
        dtype: the type of the samples.
        mean: that of the training images, in 0 … 1; empty if unknown.
        cure: what to do; ``{bits}`` and ``{white}`` are filled in.
    """
    bits, white = bits_of(largest, dtype), unit_of(dtype)
    if not bits or (mean and largest / white >= min(mean)):
        return None
    todo = cure.format(bits=bits, white=2**bits - 1)
    return (
        f"the largest sample is {largest}, and {np.iinfo(dtype).max} counts as 1: the network saw "
        f"at most {largest / white:.1%} of white; {todo}"
    )


SCALE_FIRST = "scale {bits}-bit samples to the full range first"
"""The cure of :func:`note_dark` where no option does it."""

_SLACK = 1.0
"""How far floats may be outside of 0 … 1: noise and cubic resizing overshoot a little, and a
picture of 0 … 255 stored as floats exceeds it by far."""


def check_scale(samples: NDArray[Any], name: str, unit: bool | None, *, cure: str = "") -> None:
    """Refuse samples that surely have another scale than those a network learned from.

    Args:
        samples: as they are stored.
        name: the image's name, for messages.
        unit: whether it learned from samples in 0 … 1; False if from floats of a scale of their
            own, such as Hounsfield units; None if unknown.
        cure: another way out, for a caller with such an option.

    Raises:
        BadValue: they have.
    """
    if unit is False and samples.dtype.kind in "ui":
        raise BadValue(
            f"{name}: holds {samples.dtype} samples, which are divided by the largest of their "
            "type, and this run learned from floats outside 0…1",
            cure=f"save them as floats of the training images' scale{cure}",
        )
    if unit and samples.dtype.kind == "f" and samples.size:
        low, high = float(samples.min()), float(samples.max())
        if low < -_SLACK or high > 1 + _SLACK:
            raise BadValue(
                f"{name}: holds floats from {low:g} to {high:g}, and this run learned from 0…1",
                cure="scale them, or give whole numbers",
            )


def to_unit(samples: NDArray[Any]) -> NDArray[np.float32]:
    """Samples in 0…1 as float32, a new array; floats stay as they are."""
    scaled = samples.astype(np.float32)
    scaled /= np.float32(unit_of(samples.dtype))
    return scaled
