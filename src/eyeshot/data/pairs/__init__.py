"""Folders of pictures with their targets: masks, or other pictures."""

from eyeshot.data.pairs.crops import Crops, CropSampler
from eyeshot.data.pairs.loading import check_pairs, load_judged, load_pairs
from eyeshot.data.pairs.pair import IGNORED, TASKS, Legend, Pair, PairReader, Pairs, open_pair
from eyeshot.data.tree import Problem

__all__ = [
    "IGNORED",
    "TASKS",
    "CropSampler",
    "Crops",
    "Legend",
    "Pair",
    "PairReader",
    "Pairs",
    "Problem",
    "check_pairs",
    "load_judged",
    "load_pairs",
    "open_pair",
]
