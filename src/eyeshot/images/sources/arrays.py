"""Sources of uncompressed samples: arrays in memory, ``.npy``, plain TIFF and ``.wav``.

In this file:

- images that are already in memory: NumPy arrays, memory maps, torch tensors;
- samples stored uncompressed and in order: ``.npy``, and contiguous TIFF;
- memory maps of files, whose pages stay in memory until they are released;
- sound: ``.wav`` files of integers, as signals (C, L) with a channel for each microphone.
"""

from __future__ import annotations

import hashlib
import math
import mmap
import sys
import tokenize
import wave
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eyeshot.array_likes import as_array, has_alpha, is_pillow
from eyeshot.errors import BadFile, BadValue
from eyeshot.files import explain_os_error
from eyeshot.images.layouts import Index, Layout, Span, understand
from eyeshot.images.sources.source import OpenFile, Selection, Source

_SHORT_RUN = 2**12
"""Bytes below which reading a whole line is faster than reading a part of it."""


class RawSource(Source):
    """A C-ordered array at an offset of a file, read without mapping it."""

    def __init__(
        self, file: OpenFile, offset: int, dtype: np.dtype[Any], layout: Layout, name: str
    ) -> None:
        super().__init__(name, layout, dtype)
        self._file = file
        self._offset = offset
        self._stored = dtype
        needed = offset + math.prod(layout.stored) * dtype.itemsize
        if file.size < needed:
            raise BadFile(
                f"{name}: has {file.size} bytes and its header promises {needed}",
                cure="it is truncated; copy it again",
            )

    def _read(self, spans: tuple[Span, ...]) -> NDArray[Any]:
        self._file.check_unchanged()
        block = self._read_box(self._layout.box(spans))
        return self._layout.arrange(block.astype(self.dtype, copy=False))

    def _read_box(self, box: tuple[Span, ...]) -> NDArray[Any]:
        """One system call for each contiguous run of bytes."""
        stored = self._layout.stored
        strides = [math.prod(stored[axis + 1 :]) for axis in range(len(stored))]
        axis = _run_axis(stored, box, strides, self._stored.itemsize)
        wide = (*box[: axis + 1], *((0, length) for length in stored[axis + 1 :]))
        out = np.empty([hi - lo for lo, hi in wide], self._stored)
        runs = out.reshape(math.prod(out.shape[:axis]), -1)
        corner = wide[axis][0] * strides[axis]
        for run, index in zip(runs, product(*(range(*span) for span in wide[:axis])), strict=True):
            start = corner + sum(i * s for i, s in zip(index, strides, strict=False))
            place = self._offset + start * self._stored.itemsize
            self._file.read_into(place, run.data.cast("B"), "the data")
        self.decoded_chunks += len(runs)
        whole = (slice(None),) * (axis + 1)
        return out[(*whole, *(slice(lo, hi) for lo, hi in box[axis + 1 :]))]

    def identity(self) -> dict[str, Any]:
        """The identity of the file."""
        return self._file.identity()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _run_axis(
    stored: tuple[int, ...], box: tuple[Span, ...], strides: list[int], itemsize: int
) -> int:
    """The axis whose range is read with one call, and later axes whole; short runs are widened."""
    axis = len(stored) - 1
    while axis > 0:
        run = (box[axis][1] - box[axis][0]) * strides[axis]
        whole = box[axis] == (0, stored[axis])
        if not whole and (run * itemsize >= _SHORT_RUN or run * 8 < strides[axis - 1]):
            break
        axis -= 1
    return axis


def open_npy(path: Path, selection: Selection) -> Source:
    """A source over an ``.npy`` file; nothing in it is ever unpickled.

    Raises:
        BadFile: damaged, truncated, or not an array of real numbers.
        BadValue: no such level, series or position.
    """
    selection.check_flat(path)
    file = OpenFile(path)
    try:
        shape, fortran, dtype, offset = _read_header(path)
        if dtype.kind not in "biuf":
            raise BadFile(f"{path}: holds {dtype}", cure="an image holds real numbers")
        order = selection.understand(path, shape, None)
        if fortran:
            last = len(shape) - 1
            chosen = tuple((last - axis, position) for axis, position in order.chosen)
            order = Layout(shape[::-1], order.axes[::-1], order.why, chosen)
        return RawSource(file, offset, dtype, order, str(path))
    except BaseException:
        file.close()
        raise


def _read_header(path: Path) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    with path.open("rb") as file:
        try:
            version = np.lib.format.read_magic(file)
            shape, fortran, dtype = readers[version](file)
        except (ValueError, KeyError, EOFError, SyntaxError, tokenize.TokenError) as error:
            raise BadFile(
                f"{path}: a damaged .npy header ({error})", cure="write the array again"
            ) from error
        return shape, fortran, dtype, file.tell()


_SHARED = ("r", "r+", "w+")


def is_mapped(array: NDArray[Any]) -> bool:
    """Whether an array's memory is that of a file, so that its pages can be released safely."""
    return isinstance(array, np.memmap) and array.mode in _SHARED


def let_go(array: NDArray[Any]) -> None:
    """Release the pages of a mapped file from the process; the system keeps or writes them."""
    mapped = getattr(array, "_mmap", None)
    if is_mapped(array) and mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


class ArraySource(Source):
    """Windows of an array, as views of it."""

    def __init__(self, array: NDArray[Any], layout: Layout, name: str = "the array") -> None:
        super().__init__(name, layout, array.dtype)
        self._array = array

    def window_memory(self, shape: tuple[int, ...]) -> int:
        """0 for a view; a copy in another byte order, or the pages of a file, take memory."""
        is_view = self._array.dtype == self.dtype and not is_mapped(self._array)
        return 0 if is_view else super().window_memory(shape)

    def _read(self, spans: tuple[Span, ...]) -> NDArray[Any]:
        let_go(self._array)
        box = self._layout.box(spans)
        block = self._layout.arrange(self._array[tuple(slice(lo, hi) for lo, hi in box)])
        return block.astype(self.dtype, copy=False)

    def identity(self) -> dict[str, Any]:
        """Shape, dtype and a digest of the samples, row by row to avoid a copy of the whole."""
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
    """A source over an array, a CPU tensor or a Pillow image; see :func:`as_array`.

    Raises:
        BadValue: not an array of numbers, a tensor on another device, a masked array.
    """
    array = as_array(image)
    if array.dtype.kind not in "biuf" or array.ndim == 0:
        raise BadValue(f"an array of {array.dtype}", cure="pass an array of real numbers")
    torch = sys.modules.get("torch")
    first = torch is not None and isinstance(image, torch.Tensor)
    source = ArraySource(
        array, understand(array.shape, layout=layout, space=space, first=first, index=index)
    )
    if is_pillow(image):
        from eyeshot.images.whole import notes_on

        source.alpha, source.notes = has_alpha(image), notes_on(image)
    return source


_BITS = {1: 8, 2: 16, 3: 24, 4: 32}  # bytes per sample -> bits
_SIGNED_FROM = 2  # bytes per sample: smaller samples are unsigned


class SoundSource(Source):
    """A ``.wav`` file read by windows: float32 (C, hi − lo) in −1 … 1.

    Args:
        path: the path of the file.

    Raises:
        BadFile: it is not a ``.wav`` file of integers.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file = wave.open(str(path), "rb")  # noqa: SIM115 - close() does it
        except (wave.Error, EOFError, RuntimeError) as error:  # RuntimeError: a chunk too long
            reason = str(error) or "a length in it is damaged"
            raise BadFile(
                f"{path}: not a .wav that can be read ({reason})",
                cure="save it as PCM of 16 bits, or as .npy",
            ) from None
        except OSError as error:
            raise explain_os_error(error, path) from error
        self._bytes, channels = self._file.getsampwidth(), self._file.getnchannels()
        shape = (channels, self._file.getnframes())
        if self._bytes not in _BITS or not shape[1]:
            self._file.close()
            raise BadFile(f"{path}: holds no samples that can be read", cure="save it as .npy")
        super().__init__(str(path), understand(shape, layout="CL"), np.dtype(np.float32))
        self.notes = (f"{self._file.getframerate():,} samples a second, scaled to −1 … 1",)

    def _read(self, spans: tuple[Span, ...]) -> NDArray[Any]:
        ((lo, hi),) = spans
        self._file.setpos(lo)
        raw = self._file.readframes(hi - lo)
        channels = self.shape[0]
        if len(raw) != (hi - lo) * channels * self._bytes:
            raise BadFile(f"{self._path}: is cut short", cure="copy it again")
        return _decoded(raw, self._bytes).reshape(-1, channels).T

    def identity(self) -> dict[str, Any]:
        """The path, length and time of change of the file."""
        found = self._path.stat()
        return {"path": str(self._path.resolve()), "size": found.st_size, "time": found.st_mtime_ns}

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _decoded(raw: bytes, width: int) -> NDArray[np.float32]:
    """Samples of ``width`` bytes as float32 in −1 … 1."""
    if width < _SIGNED_FROM:
        unsigned = np.frombuffer(raw, np.uint8).astype(np.float32)
        return np.asarray((unsigned - 128) / 128, np.float32)
    if width == 3:
        parts = np.frombuffer(raw, np.uint8).reshape(-1, 3)
        whole = np.zeros((len(parts), 4), np.uint8)
        whole[:, 1:] = parts  # the highest bytes of 32 bits
        return np.asarray(whole.view("<i4")[:, 0] / 2**31, np.float32)
    scaled = np.frombuffer(raw, f"<i{width}") / 2 ** (8 * width - 1)
    return np.asarray(scaled, np.float32)


def open_sound(path: Path, selection: Selection) -> Source:
    """Open a ``.wav`` file.

    Raises:
        BadFile: it cannot be read, or a picture is expected.
    """
    if selection.space not in (None, 1):
        raise BadFile(
            f"{path}: is a sound, and an image is expected", cure="use a network of signals"
        )
    return SoundSource(path)
