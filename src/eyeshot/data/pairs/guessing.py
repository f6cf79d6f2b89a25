"""Detect that folders which should be classes are pictures and their masks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from eyeshot import images
from eyeshot.data.entries import is_picture, same_name, visible
from eyeshot.data.pairs.layout import match
from eyeshot.errors import EyeshotError

_LOOKED_AT = 4  # files of each folder
_FEW_VALUES = 8  # a mask has at most this many values, a photograph has more
_ALIKE = 0.8  # of the names of the smaller folder
_AMONG = 4  # at least one file in this many is the mask of another


def masks_among_classes(folder: Path) -> str | None:
    """The reason why ``folder`` looks like pictures and masks, for the first half of a question.

    None if it does not, or if it cannot be read.
    """
    try:
        classes = [entry for entry in visible(folder) if entry.is_dir()]
        if len(classes) == 2:
            found = _two_folders(*classes)
            if found is not None:
                return found
        return next((told for one in classes[:3] if (told := _within(one))), None)
    except EyeshotError:
        return None  # anyone who loads it says so


def _two_folders(first: Path, second: Path) -> str | None:
    ours, theirs = _files(first), _files(second)
    best = max(
        ((match(ours, theirs), first, second), (match(theirs, ours), second, first)),
        key=lambda one: len(one[0].both),
    )
    matching, pictures, masks = best
    if len(matching.both) < max(2, _ALIKE * min(len(ours), len(theirs))):
        return None
    samples = list(matching.both.values())[:_LOOKED_AT]
    few = [tuple(_has_few_values(path) for path in pair) for pair in samples]
    if all(pair == (True, False) for pair in few):
        pictures, masks = masks, pictures
    elif not all(pair == (False, True) for pair in few):
        return None
    return (
        f"{pictures.name} and {masks.name} hold files of the same names, and those in "
        f"{masks.name} have few values, as masks have"
    )


def _within(folder: Path) -> str | None:
    files = _files(folder)
    matching = match(files, files)
    if not matching.target_suffix or _AMONG * len(matching.both) < len(files):
        return None
    image, mask = next(iter(matching.both.values()))
    if _has_few_values(image) or not _has_few_values(mask):
        return None
    return f"{folder.name} holds masks among its pictures ({mask.name} of {image.name})"


def _files(folder: Path) -> Mapping[str, Path]:
    return {same_name(entry.stem): entry for entry in visible(folder) if is_picture(entry)}


def _has_few_values(path: Path) -> bool:
    return len(np.unique(images.read(path))) <= _FEW_VALUES
