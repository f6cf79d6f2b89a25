"""Pictures to learn from: the digits of the package, MNIST, a folder of classes or of masks."""

from __future__ import annotations

from eyeshot.data.digit_photo import prepare_picture
from eyeshot.data.examples import Batch, Data, Examples, Progress
from eyeshot.data.loading import BUDGET, SOURCES, load
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
