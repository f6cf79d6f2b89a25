"""The digits inside the package: 10,000 of MNIST, so that a first training needs no download.

They are the first 10,000 of MNIST's 60,000 *training* digits, split here 8,000 to 2,000.
``bundled/PROVENANCE.md`` describes their source and the split.
"""

from __future__ import annotations

from pathlib import Path

import torch

from eyeshot.data import idx
from eyeshot.data.examples import Data, Examples
from eyeshot.data.statistics import count_levels, describe_counts

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
    pictures, names = idx.read_pair(images, labels)
    return Examples.hold(
        torch.from_numpy(pictures).unsqueeze(1), torch.from_numpy(names).to(torch.int64)
    )


def digits_data(name: str, train: Examples, test: Examples) -> Data:
    """Two parts of digits and their statistics, as one set."""
    _, channels, height, width = train.shape
    mean, std = describe_counts(count_levels(train.images))
    return Data(name, train, test, CLASSES, channels, (height, width), mean, std)
