"""Pictures to learn from: the digits of the package, MNIST, a folder of classes or of masks.

:func:`load` loads any set of labeled pictures.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch

from eyeshot.data import pixels
from eyeshot.data.examples import (
    BUDGET,
    Batch,
    Data,
    Examples,
    Progress,
    TerminalProgress,
    count_levels,
    describe_counts,
)
from eyeshot.data.folder import load_folder
from eyeshot.data.mnist import load_digits, load_mnist
from eyeshot.data.pairs import (
    IGNORED,
    TASKS,
    Crops,
    CropSampler,
    Legend,
    Pair,
    PairReader,
    Pairs,
    Problem,
    check_pairs,
    load_pairs,
    open_pair,
)
from eyeshot.data.pixels import prepare_picture
from eyeshot.data.tree import Fold, no_folder
from eyeshot.errors import BadValue, UnknownName

__all__ = [
    "BUDGET",
    "IGNORED",
    "SOURCES",
    "TASKS",
    "Batch",
    "CropSampler",
    "Crops",
    "Data",
    "Examples",
    "Legend",
    "Pair",
    "PairReader",
    "Pairs",
    "Problem",
    "Progress",
    "check_pairs",
    "load",
    "load_pairs",
    "open_pair",
    "prepare_picture",
]


SOURCES = ("digits", "mnist")
"""Sets that are known by name; anything else is a folder."""


def load(
    source: str | Path,
    *,
    folder: Path | str | None = None,
    size: tuple[int, int] | None = None,
    seed: int = 0,
    budget: int = BUDGET,
    progress: Progress | None = None,
    skip_damaged: bool = False,
    labeled: bool = True,
    fold: Fold | None = None,
) -> Data:
    """Load a set of labeled pictures with a training part and a test part.

    Args:
        source: ``"digits"``, the 10,000 in the package; ``"mnist"``, all 70,000; or a folder of
            classes. For a folder with one of these names use ``"./digits"``, or a ``Path``.
        folder: the folder of the ``mnist`` files; None downloads them once, into the user's cache.
        size: (height, width) to which every picture is stretched; None keeps the size.
        seed: decides which fifth of a folder without a test part is set aside.
        budget: the most bytes of pictures in memory; a larger folder is streamed.
        progress: called with (what, done, total); None shows it on the terminal.
        skip_damaged: for a folder, skip unreadable pictures, and name them.
        labeled: whether the sub-folders of a folder are classes; False gives all pictures in it
            the same class, "picture".
        fold: of a folder without parts, (k, n): part k of n, from 1, is the test part; None for
            one in five.

    Raises:
        UnknownName: ``source`` is neither a known name nor a folder.
        BadValue: ``size`` is not positive, ``seed`` is negative, or ``folder`` does not apply.
        BadFile: a file or folder is missing, damaged, or not of the expected kind.
        Failure: MNIST could not be downloaded.
    """
    if size is not None:
        pixels.check_size(size)
    if seed < 0:
        raise BadValue(f"seed is {seed}", cure="it must be at least 0")
    if folder is not None and source != "mnist":
        raise BadValue(
            f"a folder of data ({folder}) is for mnist, and the source is {source}",
            cure="leave it out, or name the folder as the source",
        )
    if fold is not None and (source in SOURCES or not labeled):
        raise BadValue(
            f"folds is {fold[1]}, and {source} has parts of its own",
            cure="folds are for folders of pictures",
        )
    reporter = progress or TerminalProgress()
    if source == "digits":
        return _stretch(load_digits(), size, budget)
    if source == "mnist":
        files = Path(folder) if folder else None
        return _stretch(load_mnist(files, progress=reporter), size, budget)
    return load_folder(
        _check_folder(source),
        size=size,
        seed=seed,
        budget=budget,
        progress=reporter,
        skip_damaged=skip_damaged,
        labeled=labeled,
        fold=fold,
    )


def _check_folder(source: str | Path) -> Path:
    path = Path(source)
    if path.is_dir():
        return path
    if isinstance(source, str) and path.name == source and not path.exists():
        raise UnknownName("data set or folder", source, SOURCES)
    raise no_folder(path, f"name a folder of classes, or {' or '.join(SOURCES)}")


def _stretch(data: Data, size: tuple[int, int] | None, budget: int) -> Data:
    if size is None or size == data.size:
        return data
    count = len(data.train) + len(data.test)
    if count * size[0] * size[1] > budget:
        raise BadValue(
            f"{count} pictures of {size[0]}×{size[1]} take more than {budget} bytes",
            cure="choose a smaller size",
        )
    train, test = (_stretch_part(part, size) for part in (data.train, data.test))
    mean, std = describe_counts(count_levels(train.images))
    return dataclasses.replace(data, train=train, test=test, size=size, mean=mean, std=std)


def _stretch_part(part: Examples, size: tuple[int, int]) -> Examples:
    resized = np.stack([pixels.resize(picture, size) for picture in part.images[:, 0].numpy()])
    return Examples.hold(torch.from_numpy(resized)[:, None], part.labels)
