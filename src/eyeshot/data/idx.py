"""IDX, the file format of MNIST, and the 10,000 digits that the package holds in it.

The four bytes of magic are two zeros, a code for the type of the numbers and the number of
dimensions; the dimensions follow as big-endian 32-bit integers
(http://yann.lecun.com/exdb/mnist/, "The IDX file format"). Only unsigned bytes are read here:
pictures (N, H, W) and labels (N,). A file may be gzipped or not; its first two bytes decide, not
its name.

In this file:

- IDX, the file format of MNIST: four bytes of magic, the dimensions, then the pixels;
- the digits inside the package: 10,000 of MNIST, so that a first training needs no download.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray

from eyeshot.data.examples import Data, Examples
from eyeshot.data.streaming import count_levels, describe_counts
from eyeshot.errors import BadFile
from eyeshot.files import explain_os_error, write_aside

_GZIP = b"\x1f\x8b"
_UNSIGNED_BYTE = 0x08
_CHUNK = 1 << 20
_MOST_BYTES = 1 << 30  # MNIST holds 47 million, the largest set like it 640 million
_DAMAGED = "fetch or copy the file again"


def read_images(path: Path) -> NDArray[np.uint8]:
    """The pictures of an IDX file, (N, H, W).

    Raises:
        BadFile: the file is missing, damaged, empty, or not pictures of unsigned bytes.
    """
    return _read(Path(path), dimensions=3)


def read_labels(path: Path) -> NDArray[np.uint8]:
    """The labels of an IDX file, (N,).

    Raises:
        BadFile: the file is missing, damaged, empty, or not labels of one unsigned byte each.
    """
    return _read(Path(path), dimensions=1)


def read_pair(images: Path, labels: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Pictures (N, H, W) and the labels (N,) that belong to them.

    Raises:
        BadFile: a file is damaged, or the numbers of pictures and labels differ.
    """
    pictures, names = read_images(images), read_labels(labels)
    if len(pictures) != len(names):
        raise BadFile(
            f"{labels}: holds {len(names)} labels, expected {len(pictures)}, "
            f"one for each picture of {images}",
            cure="use the two files that belong together",
        )
    return pictures, names


def write(path: Path, array: NDArray[np.uint8]) -> None:
    """Write ``array`` as IDX, gzipped where the name ends in ``.gz``; equal bytes each time.

    Raises:
        BadFile: the folder does not exist or may not be written to.
        Failure: the disk is full.
    """
    header = bytes((0, 0, _UNSIGNED_BYTE, array.ndim)) + struct.pack(
        f">{array.ndim}I", *array.shape
    )
    content = header + np.ascontiguousarray(array).tobytes()
    if path.suffix == ".gz":
        # No time stamp, so that the same digits always give the same file.
        content = gzip.compress(content, compresslevel=9, mtime=0)
    with write_aside(path) as aside:
        aside.write_bytes(content)


def _read(path: Path, *, dimensions: int) -> NDArray[np.uint8]:
    try:
        with path.open("rb") as plain:
            zipped = plain.read(2) == _GZIP
            plain.seek(0)
            if not zipped:
                return _parse(plain, path, dimensions)
            with gzip.open(plain) as unzipped:
                return _parse(unzipped, path, dimensions)  # type: ignore[arg-type]
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BadFile(f"{path}: the gzip data is damaged ({error})", cure=_DAMAGED) from error
    except OSError as error:
        raise explain_os_error(error, path) from error


def _parse(stream: BinaryIO, path: Path, dimensions: int) -> NDArray[np.uint8]:
    expected = bytes((0, 0, _UNSIGNED_BYTE, dimensions))
    what = "pictures" if dimensions == 3 else "labels"
    magic = stream.read(4)
    if magic != expected:
        raise BadFile(
            f"{path}: starts with {magic.hex(' ') or 'nothing'}, "
            f"expected {expected.hex(' ')}, the magic of IDX {what}",
            cure=f"name an IDX file of {what}",
        )
    sizes = stream.read(4 * dimensions)
    if len(sizes) < 4 * dimensions:
        raise BadFile(
            f"{path}: ends after {4 + len(sizes)} bytes, expected a header of {4 + 4 * dimensions}",
            cure=_DAMAGED,
        )
    shape = struct.unpack(f">{dimensions}I", sizes)
    if 0 in shape:
        raise BadFile(f"{path}: its header says {_by(shape)} {what}, expected at least one")
    return _read_exactly(stream, path, shape)


def _read_exactly(stream: BinaryIO, path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Exactly the number of bytes in the header.

    They are read piece by piece, so that a wrong header cannot make the reader use much memory.
    """
    expected = math.prod(shape)
    fits = expected <= _MOST_BYTES
    content = np.empty(expected if fits else 0, np.uint8)  # takes memory only when it is filled
    count = 0
    while count < min(expected, _MOST_BYTES + 1):
        piece = stream.read(min(_CHUNK, expected - count))
        if not piece:
            break
        if fits:
            content[count : count + len(piece)] = np.frombuffer(piece, np.uint8)
        count += len(piece)
    if count > _MOST_BYTES:
        raise BadFile(
            f"{path}: holds {_by(shape)}, more than the {_MOST_BYTES} bytes that are kept",
            cure="use a smaller set, or a folder of classes, which is streamed",
        )
    if count < expected or stream.read(1):
        actual = f"only {count}" if count < expected else "more"
        raise BadFile(
            f"{path}: holds {actual} bytes after its header, expected {expected} for {_by(shape)}",
            cure=_DAMAGED,
        )
    return content.reshape(shape)


def _by(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))


BUNDLED = Path(__file__).parent / "bundled"
CLASSES = tuple("0123456789")


def load_digits() -> Data:
    """The 8,000 and 2,000 digits of the package, (N, 1, 28, 28), light on dark."""
    train = read_part(
        BUNDLED / "train-images-idx3-ubyte.gz", BUNDLED / "train-labels-idx1-ubyte.gz"
    )
    test = read_part(BUNDLED / "test-images-idx3-ubyte.gz", BUNDLED / "test-labels-idx1-ubyte.gz")
    return digits_data("digits", train, test)


def read_part(images: Path, labels: Path) -> Examples:
    """One part of a set of digits, from its two IDX files.

    Raises:
        BadFile: a file is damaged, or the two do not belong together.
    """
    pictures, names = read_pair(images, labels)
    return Examples.hold(
        torch.from_numpy(pictures).unsqueeze(1), torch.from_numpy(names).to(torch.int64)
    )


def digits_data(name: str, train: Examples, test: Examples) -> Data:
    """Two parts of digits and their statistics, as one set."""
    _, channels, height, width = train.shape
    mean, std = describe_counts(count_levels(train.images))
    return Data(name, train, test, CLASSES, channels, (height, width), mean, std)
