"""Where pairs of pictures and masks lie in a folder, and the order in which crops come.

These names are recognized, in upper or lower case::

    image/  label/        images/  masks/        imgs/  masks/
    JPEGImages/  SegmentationClass/  ImageSets/Segmentation/     (VOC; its lists are the parts)
    train/image/          image/train/           train/  train_masks/
    train/label/          label/train/
    leftImg8bit/train/<city>/    gtFine/train/<city>/            (Cityscapes)
    training/images/  training/1st_manual/                       (DRIVE)
    <name>/images/  <name>/masks/                                (DSB2018: a mask for each object)
    x.png  x_mask.png                                            (both in one folder)

In this file:

- the places of pictures and masks in a folder: from the caller, or from the names;
- detect a folder of classes that actually contains pictures and their masks;
- the order of an epoch's crops, and which of them share a batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eyeshot import images
from eyeshot.data.tree import is_picture, same_name, visible
from eyeshot.errors import EyeshotError

IMAGE = (
    *("image", "images", "img", "imgs", "jpegimages", "leftimg8bit", "photo", "photos"),
    *("picture", "pictures", "original", "originals", "input", "inputs", "rgb"),
)
TARGET = {
    "segment": (
        *("1st_manual", "segmentationclass", "gtfine", "label", "labels", "mask", "masks"),
        *("groundtruth", "ground_truth", "gt", "manual", "annotation", "annotations"),
        *("seg", "segmentation", "segmentations"),
    ),
    "restore": ("target", "targets", "label", "labels", "clean", "gt", "groundtruth"),
}
ABOVE_OTHERS = ("1st_manual", "segmentationclass", "gtfine")
"""Mask folders of known sets, where other folders hold no targets, such as DRIVE's ``mask``."""

COMPANIONS = ("_masks", "_mask", "_labels", "_label", "annot", "_annot", "_gt", "_seg")
"""Suffixes of a mask folder that lies next to its picture folder: ``train``, ``train_masks``."""

IMAGE_SUFFIXES = ("", "_leftImg8bit", "_sat", "_training", "_test", "_image", "_img", "_im")
TARGET_SUFFIXES = (
    *("", "_mask", "_masks", "_manual1", "_gtFine_labelIds", "_gtCoarse_labelIds", "_labelIds"),
    *("_label", "_labels", "_gt", "_seg", "_segmentation", "_groundtruth", "_matte", "_annotation"),
    *("_L", "_lab", "-mask", "_target"),
)


@dataclass(frozen=True)
class Layout:
    """The caller's places of pictures and masks; empty values are recognized from the names.

    Attributes:
        images: folder of the pictures, in the data folder or elsewhere.
        masks: folder of the masks, or of the target pictures.
        mask_suffix: text at the end of a mask's name, after its picture's name, such as ``_mask``.
        threshold: masks become binary, with foreground from this value on; 0 does not change them.
    """

    images: str = ""
    masks: str = ""
    mask_suffix: str = ""
    threshold: int = 0


@dataclass(frozen=True)
class Sides:
    """The folder of the pictures and the folder of their targets; both may be the same folder.

    Attributes:
        images: the folder of the pictures.
        targets: the folder of the targets.
        objects: whether they hold a single picture, with a mask for each of its objects.
    """

    images: Path
    targets: Path
    objects: bool = False


@dataclass(frozen=True)
class Matching:
    """The matching of pictures and targets.

    Attributes:
        image_suffix: text at the end of the pictures' names, after the common part.
        target_suffix: text at the end of the targets' names.
        both: for each common name, the two files.
        images: pictures without a target, by name.
        targets: targets without a picture; other files if there is a ``target_suffix``.
    """

    image_suffix: str
    target_suffix: str
    both: Mapping[str, tuple[Path, Path]]
    images: Mapping[str, Path]
    targets: Mapping[str, Path]


def match(images: Mapping[str, Path], targets: Mapping[str, Path], suffix: str = "") -> Matching:
    """Match names by the suffixes that give the most matches; on a tie, by no suffix.

    Args:
        images: files by their names without the kind's suffix.
        targets: likewise.
        suffix: the suffix of the targets' names; empty to detect it.
    """
    best: Matching | None = None
    suffixes = [suffix] if suffix else _used(TARGET_SUFFIXES, targets)
    if targets is images and not suffix:
        suffixes = suffixes[1:]  # in one folder, masks have other names
    for target_suffix in suffixes:
        for image_suffix in _used(IMAGE_SUFFIXES, images):
            matching = _match(images, targets, image_suffix, target_suffix)
            if best is None or len(matching.both) > len(best.both):
                best = matching
    return best or _match(images, targets, "", suffix)


def _used(suffixes: Iterable[str], names: Mapping[str, Path]) -> list[str]:
    return [one for one in suffixes if not one or any(name.endswith(one) for name in names)]


def _match(
    images: Mapping[str, Path], targets: Mapping[str, Path], first: str, second: str
) -> Matching:
    """The files whose names are equal without the suffixes."""
    ours = {name.removesuffix(first): name for name in images if name.endswith(first)}
    theirs = {name.removesuffix(second): name for name in targets if name.endswith(second)}
    names = sorted(ours.keys() & theirs.keys())
    both = {
        name: (images[ours[name]], targets[theirs[name]])
        for name in names
        if images[ours[name]] != targets[theirs[name]]
    }
    used = {ours[name] for name in both}, {theirs[name] for name in both}
    return Matching(
        first,
        second,
        both,
        {name: path for name, path in images.items() if name not in used[0]},
        {name: path for name, path in targets.items() if name not in used[1]},
    )


_LOOKED_AT = 4  # files of each folder that are read
_FEW_VALUES = 8  # a mask has at most this many values, a photograph has more
_ALIKE = 0.8  # least share of the smaller folder's names that both folders have
_AMONG = 4  # at least one file in this many is the mask of another


def masks_among_classes(folder: Path) -> str | None:
    """Why ``folder`` looks like pictures and masks instead of classes, as the start of a message.

    None if it does not, or if it cannot be read.
    """
    try:
        classes = [entry for entry in visible(folder) if entry.is_dir()]
        if len(classes) == 2:
            reason = _two_folders(*classes)
            if reason is not None:
                return reason
        return next((reason for one in classes[:3] if (reason := _within(one))), None)
    except EyeshotError:
        return None  # loading the folder reports the error


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


MOST_SHUFFLED = 2**22
"""The most crops of an epoch that are shuffled; with more, each batch is drawn independently."""

# The purposes of random numbers; each has a separate stream.
_ORDER, _GROUP, _DRAW, CUTTING, LABELED = 1, 2, 3, 4, 5


@dataclass(frozen=True)
class Batch:
    """Which crops are in a batch.

    Attributes:
        group: the number of the group.
        items: the numbers of the crops in that group.
        again: how many times all crops of the epoch have been used before.
    """

    group: int
    items: tuple[int, ...]
    again: int


class Order:
    """The order of crops in groups; crops of two groups never share a batch.

    Args:
        sizes: the number of crops in each group.
        seed: the seed of the order.
    """

    def __init__(self, sizes: tuple[int, ...], seed: int) -> None:
        self.sizes = sizes
        self._seed = seed
        self._shuffled: dict[tuple[int, int, int], list[NDArray[np.int64]]] = {}

    def steps(self, count: int) -> int:
        """The number of batches of up to ``count`` + 1 crops that contain each crop once."""
        return sum(_batches(size, count) for size in self.sizes)

    def batch(self, epoch: int, step: int, count: int) -> Batch:
        """The batch of one step; it depends only on the seed and these numbers."""
        again, number = divmod(step, self.steps(count))
        if sum(self.sizes) > MOST_SHUFFLED:
            return self._draw(epoch, again, number, count)
        batches, *orders = self._shuffle(epoch, again, count)
        starts = np.cumsum([0, *(_batches(size, count) for size in self.sizes)])
        group = int(np.searchsorted(starts, batches[number], side="right")) - 1
        first = (int(batches[number]) - int(starts[group])) * count
        last = int(batches[number]) + 1 == starts[group + 1]
        end = self.sizes[group] if last else first + count
        return Batch(group, tuple(orders[group][first:end].tolist()), again)

    def generator(self, epoch: int, again: int, purpose: int, number: int) -> np.random.Generator:
        """A separate stream of random numbers."""
        return np.random.default_rng([self._seed, epoch, again, purpose, number])

    def _draw(self, epoch: int, again: int, number: int, count: int) -> Batch:
        generator = self.generator(epoch, again, _DRAW, number)
        shares = np.array(self.sizes) / sum(self.sizes)
        group = int(generator.choice(len(shares), p=shares))
        items = generator.integers(self.sizes[group], size=count)
        return Batch(group, tuple(items.tolist()), again)

    def _shuffle(self, epoch: int, again: int, count: int) -> list[NDArray[np.int64]]:
        """The order of the batches, then of the crops in each group. The last result is cached."""
        key = (epoch, again, count)
        if key not in self._shuffled:
            batches = self.generator(epoch, again, _ORDER, 0).permutation(self.steps(count))
            groups = [
                self.generator(epoch, again, _GROUP, number).permutation(size)
                for number, size in enumerate(self.sizes)
            ]
            self._shuffled = {key: [batches, *groups]}
        return self._shuffled[key]


def _batches(size: int, count: int) -> int:
    """The number of batches in a group. A single last crop joins the batch before it, because
    batch normalization cannot use a batch of one.
    """
    full, left = divmod(size, count)
    return full if full and (left == 0 or (left == 1 and count > 1)) else full + 1
