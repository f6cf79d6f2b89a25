"""MNIST with its 70,000 digits: downloaded once and checked, and read from its folder.

A folder may also contain another set in the same four files, such as Fashion-MNIST, if its labels
are 0 to 9.

In this file:

- the full MNIST: 60,000 training digits and 10,000 test digits, from a folder or a mirror;
- download a published file once into a folder of the user's, and check it.
"""

from __future__ import annotations

import gzip
import hashlib
import http.client
import os
import sys
import urllib.error
import urllib.request
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from eyeshot.data.examples import Data, Examples
from eyeshot.data.idx import CLASSES, digits_data, read_part
from eyeshot.data.streaming import Progress
from eyeshot.errors import BadFile, Failure
from eyeshot.files import explain_os_error, write_aside

_CHUNK = 1 << 16
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
        while piece := _read(response):
            done += len(piece)
            # Gzip never makes a file much larger than its content, so this is another file.
            if done > file.size + _CHUNK:
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


def _read(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read(_CHUNK)
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
            while piece := content.read(min(_CHUNK, file.size + 1 - size)):
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
            f"{folder}: training pictures are {_by(train)} and test pictures {_by(test)}",
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


def _by(examples: Examples) -> str:
    return "×".join(map(str, examples.shape[2:]))
