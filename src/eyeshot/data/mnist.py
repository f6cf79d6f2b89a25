"""The full MNIST: 60,000 training digits and 10,000 test digits, from a folder or a mirror.

A folder may also contain another set in the same four files, such as Fashion-MNIST, if its labels
are 0 to 9.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from eyeshot.data.digits import CLASSES, digits_data, read_part
from eyeshot.data.examples import Data, Examples
from eyeshot.data.fetching import Published, cache_folder, fetch
from eyeshot.data.progress import Progress
from eyeshot.errors import BadFile

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist",
    "https://storage.googleapis.com/cvdf-datasets/mnist",
)

# The checksums are of the unpacked files, whose md5 are the published ones of the originals.
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
