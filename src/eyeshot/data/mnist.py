"""MNIST: the digits in the package, the whole set, and IDX, its file format.

The package contains 10,000 digits, so that a first training needs no download. The whole set has
60,000 training digits and 10,000 test digits: it is downloaded once into a folder of the user and
checked, or read from a folder. A folder may also contain another set in the same four files, such
as Fashion-MNIST, if its labels are 0 to 9.

An IDX file begins with four bytes: two zeros, a code for the type of the numbers, and the number of
dimensions. The dimensions follow as big-endian 32-bit integers (http://yann.lecun.com/exdb/mnist/,
"The IDX file format"), then the numbers. Only unsigned bytes are read here: pictures (N, H, W) and
labels (N,). A file may be gzipped or not; its first two bytes decide, not its name.
"""

from __future__ import annotations

import gzip
import hashlib
import http.client
import math
import os
import struct
import sys
import urllib.error
import urllib.request
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray

from eyeshot.data.examples import Data, Examples, Progress, count_levels, describe_counts
from eyeshot.errors import BadFile, Failure
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


_DOWNLOAD_CHUNK = 1 << 16
_TIMEOUT = 30.0  # seconds without a byte
_NETWORK = (urllib.error.URLError, http.client.HTTPException, OSError, ValueError)
"""The exceptions that ``urllib`` raises; ValueError is for an address it cannot parse."""


@dataclass(frozen=True)
class Published:
    """A published gzipped file, identified by its content.

    Attributes:
        name: its name, on each mirror and here.
        sha256: of the uncompressed content, because mirrors may compress a file differently.
        size: of the uncompressed content in bytes.
    """

    name: str
    sha256: str
    size: int


def cache_folder() -> Path:
    """The folder for downloads: ``$EYESHOT_DATA``, or the system's cache folder."""
    chosen = os.environ.get("EYESHOT_DATA")
    if chosen:
        return Path(chosen).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "eyeshot"
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA")
        return (Path(base) if base else Path.home() / "AppData" / "Local") / "eyeshot" / "Cache"
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "eyeshot"


def fetch(
    files: Sequence[Published], mirrors: Sequence[str], folder: Path, progress: Progress
) -> None:
    """Download each of ``files`` to ``folder``, from the first mirror with the right content.

    An existing file is not changed. A new file is written under another name, checked, and then
    renamed, so that an interrupted download leaves no wrong file.

    Raises:
        Failure: no mirror delivered the file; the message lists their errors.
        BadFile: the folder cannot be created or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise explain_os_error(error, folder) from error
    for file in files:
        if not (folder / file.name).is_file():
            _fetch_from_any(file, mirrors, folder, progress)


class _Refused(Exception):
    """A mirror did not deliver the file; the message says why."""


def _fetch_from_any(
    file: Published, mirrors: Sequence[str], folder: Path, progress: Progress
) -> None:
    errors: list[str] = []
    for mirror in mirrors:
        address = f"{mirror.rstrip('/')}/{file.name}"
        try:
            with write_aside(folder / file.name) as aside:
                _download(address, aside, file, progress)
                _check(aside, file)
        except _Refused as refused:
            errors.append(f"{address}: {refused}")
        else:
            return
    raise Failure(
        f"{file.name} could not be fetched ({', '.join(errors) or 'no mirrors'})",
        cure="connect to the network, or get the files elsewhere and name their folder "
        "by --data DIR",
    )


def _download(address: str, aside: Path, file: Published, progress: Progress) -> None:
    with _open(address) as response, aside.open("wb") as written:
        length = response.headers.get("Content-Length", "")
        total = int(length) if length.isdecimal() else file.size
        done = 0
        while piece := _read_response(response):
            done += len(piece)
            # Gzip never makes a file much larger than its content, so this is another file.
            if done > file.size + _DOWNLOAD_CHUNK:
                raise _Refused(f"sent more than {file.size} bytes")
            written.write(piece)
            progress(f"fetching {file.name}", done, total)
        if length.isdecimal() and done < total:
            raise _Refused(f"sent only {done} of {total} bytes")


def _open(address: str) -> http.client.HTTPResponse:
    if not address.startswith(("http://", "https://")):
        raise _Refused("only http and https addresses are fetched")
    try:
        response: http.client.HTTPResponse = urllib.request.urlopen(address, timeout=_TIMEOUT)
    except _NETWORK as error:
        raise _Refused(_reason(error)) from error
    return response


def _read_response(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read(_DOWNLOAD_CHUNK)
    except _NETWORK as error:
        raise _Refused(_reason(error)) from error


def _reason(error: Exception) -> str:
    """The original network error, which ``urllib`` may wrap."""
    inner = getattr(error, "reason", error)
    message = getattr(inner, "strerror", None) or str(inner) or type(inner).__name__
    code = getattr(error, "code", "")
    return f"{code} {message}".strip()


def _check(aside: Path, file: Published) -> None:
    digest, size = hashlib.sha256(), 0
    try:
        with gzip.open(aside) as content:
            while piece := content.read(min(_DOWNLOAD_CHUNK, file.size + 1 - size)):
                digest.update(piece)
                size += len(piece)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise _Refused(f"sent a file that is not gzip ({error})") from error
    if digest.hexdigest() != file.sha256:
        raise _Refused(f"sent another file: sha256 {digest.hexdigest()}, expected {file.sha256}")


MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist",
    "https://storage.googleapis.com/cvdf-datasets/mnist",
)

# SHA-256 of the unpacked files, whose MD5 sums equal the published ones.
FILES = (
    Published(
        "train-images-idx3-ubyte.gz",
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        47_040_016,
    ),
    Published(
        "train-labels-idx1-ubyte.gz",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        60_008,
    ),
    Published(
        "t10k-images-idx3-ubyte.gz",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        7_840_016,
    ),
    Published(
        "t10k-labels-idx1-ubyte.gz",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        10_008,
    ),
)


def load_mnist(
    folder: Path | None,
    *,
    progress: Progress,
    mirrors: Sequence[str] = MIRRORS,
    files: Sequence[Published] = FILES,
) -> Data:
    """MNIST from ``folder``; None downloads it once into the user's cache.

    Args:
        folder: holds the four IDX files, gzipped or not, named ``train-images-idx3-ubyte`` or
            ``train-images.idx3-ubyte`` and so on.
        progress: called during downloads.
        mirrors: addresses to download from, tried in order.
        files: the files to download.

    Raises:
        BadFile: a file is missing or damaged, or a label is not 0 to 9.
        Failure: it could not be downloaded.
    """
    if folder is None:
        folder = cache_folder() / "mnist"
        fetch(files, mirrors, folder, progress)
    elif not folder.is_dir():
        raise BadFile(f"{folder}: no such folder", cure="name the folder of the four IDX files")
    train, test = _load_part(folder, "train"), _load_part(folder, "t10k")
    if train.shape[1:] != test.shape[1:]:
        raise BadFile(
            f"{folder}: training pictures are {_size(train)} and test pictures {_size(test)}",
            cure="use files that belong together",
        )
    return digits_data("mnist", train, test)


def _load_part(folder: Path, part: str) -> Examples:
    labels = _find(folder, part, "labels", 1)
    examples = read_part(_find(folder, part, "images", 3), labels)
    largest = int(examples.labels.max())
    if largest >= len(CLASSES):
        raise BadFile(f"{labels}: holds a label {largest}, expected 0 to {len(CLASSES) - 1}")
    return examples


def _find(folder: Path, part: str, what: str, dimensions: int) -> Path:
    names = [
        f"{part}-{what}{joint}idx{dimensions}-ubyte{suffix}"
        for joint in "-."
        for suffix in ("", ".gz")
    ]
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise BadFile(
        f"{folder}: has no {names[0]}, gzipped or not",
        cure="--data names the folder of MNIST's four IDX files",
    )


def _size(examples: Examples) -> str:
    return "×".join(map(str, examples.shape[2:]))
