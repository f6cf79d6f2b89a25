"""The places of pictures and masks in a folder: from the caller, or from the names.

These names are recognized, in upper or lower case::

    image/  label/        images/  masks/        imgs/  masks/
    JPEGImages/  SegmentationClass/  ImageSets/Segmentation/     (VOC; its lists are the parts)
    train/image/          image/train/           train/  train_masks/
    train/label/          label/train/
    leftImg8bit/train/<city>/    gtFine/train/<city>/            (Cityscapes)
    training/images/  training/1st_manual/                       (DRIVE)
    <name>/images/  <name>/masks/                                (DSB2018: a mask for each object)
    x.png  x_mask.png                                            (both in one folder)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

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
"""Of known sets: beside them lie folders that are no answers, such as DRIVE's field of view."""

COMPANIONS = ("_masks", "_mask", "_labels", "_label", "annot", "_annot", "_gt", "_seg")
"""What the folder of masks is called beside ``train``: ``train_masks``."""

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
    """Two folders of which one holds the pictures and the other their answers; may be one folder.

    Attributes:
        images: of the pictures.
        targets: of the answers.
        objects: whether both are of one picture, with a mask for each of its objects.
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
    """Match names by the suffixes that bring most of them together; none is best of equals.

    Args:
        images: files by their names without the kind's suffix.
        targets: likewise.
        suffix: the one that answers have; blank to find it.
    """
    best: Matching | None = None
    suffixes = [suffix] if suffix else _used(TARGET_SUFFIXES, targets)
    if targets is images and not suffix:
        suffixes = suffixes[1:]  # in one folder, masks have other names
    for target_suffix in suffixes:
        for image_suffix in _used(IMAGE_SUFFIXES, images):
            found = _match(images, targets, image_suffix, target_suffix)
            if best is None or len(found.both) > len(best.both):
                best = found
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
