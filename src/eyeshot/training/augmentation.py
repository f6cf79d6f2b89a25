"""Pictures changed at random while training, so that the network meets more of them.

What is drawn depends on a seed of three numbers alone (the run's, the epoch, the step); nobody
else's random numbers are used up.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from eyeshot.data import Crops
from eyeshot.errors import UnknownName
from eyeshot.training.toning import roughen, tone
from eyeshot.training.warping import draw_places, resample

AUGMENTATIONS = ("flips", "turns", "elastic", "intensity")
"""Changes of pictures with their answers: mirror images; quarter turns; a small turn, a change of
scale and a stretch like rubber's, in one; brightness, contrast, gamma, blur and noise."""

Seed = tuple[int, int, int]
Three = tuple[Tensor, Tensor, Tensor]


def shift_pictures(images: Tensor, reach: int, seed: Seed) -> Tensor:
    """Move each picture by up to ``reach`` pixels along both axes; what comes in is 0.

    The shifts depend on ``seed`` (the run's, the epoch, the step) alone; nobody else's random
    numbers are used up.

    Args:
        images: (N, C, H, W), any dtype.
        reach: pixels, 0 or more.
        seed: three whole numbers of 0 or more.

    Returns:
        (N, C, H, W).
    """
    if reach == 0:
        return images
    count, _, height, width = images.shape
    draws = np.random.default_rng(seed).integers(0, 2 * reach + 1, size=(2, count))
    down, right = torch.from_numpy(draws).to(images.device)
    wide = functional.pad(images, (reach, reach, reach, reach))
    # Every window of the padded picture as a view; one copy then takes the chosen of each.
    windows = wide.unfold(2, height, 1).unfold(3, width, 1)
    return windows[torch.arange(count, device=images.device), :, down, right]


def augment_crops(crops: Crops, kinds: Collection[str], seed: Seed) -> Crops:
    """A batch of crops changed at random: see :func:`augment_pairs`.

    Raises:
        UnknownName: a kind is not among :data:`AUGMENTATIONS`.
    """
    images, targets, valid = augment_pairs(crops.images, crops.targets, crops.valid, kinds, seed)
    return dataclasses.replace(crops, images=images, targets=targets, valid=valid)


def augment_pairs(
    images: Tensor, targets: Tensor, valid: Tensor, kinds: Collection[str], seed: Seed
) -> Three:
    """Pictures changed at random, and their answers changed with them.

    Flips and turns move samples and change none. ``elastic`` reads image, answer and ``valid`` at
    the same places: the image between samples, class numbers at the nearest. Beyond its border a
    crop is continued by its mirror image, in all three: a mirrored pixel has the class that the
    pixel has, so there is as much to learn from it. What ``elastic`` brings from where nothing is
    valid, or moves to where nothing was, is not valid.

    ``intensity`` changes the image alone where the answers are classes. Where they are pictures
    the answer gets the same brightness, contrast and gamma; blur and noise are left out, for they
    would change what is to be restored.

    Args:
        images: (B, C, H, W) float in 0…1.
        targets: class numbers (B, H, W), or pictures (B, C, H, W) float in 0…1.
        valid: (B, H, W) bool, the pixels to learn from.
        kinds: some of :data:`AUGMENTATIONS`, in any order; none changes nothing.
        seed: three whole numbers of 0 or more.

    Returns:
        The three, of the same shapes; new tensors where anything was changed.

    Raises:
        UnknownName: a kind is not among :data:`AUGMENTATIONS`.
    """
    for kind in kinds:
        if kind not in AUGMENTATIONS:
            raise UnknownName("augmentation", kind, AUGMENTATIONS)
    three = images, targets, valid
    # In this order, each with random numbers of its own: one more kind leaves the others alone.
    for number, change in enumerate((_flip, _turn, _bend, _tone)):
        if AUGMENTATIONS[number] in kinds:
            three = change(*three, np.random.default_rng([*seed, number + 1]))
    return three


def _flip(images: Tensor, targets: Tensor, valid: Tensor, generator: np.random.Generator) -> Three:
    """Half of the crops upside down, and half left for right; half of signals end for end."""
    axes = min(2, valid.ndim - 1)
    draws = generator.random((len(images), 2)) < 0.5

    def flip(picture: Tensor, number: int) -> Tensor:
        return picture.flip([axis - axes for axis in range(axes) if draws[number, axis]])

    return _each(flip, images), _each(flip, targets), _each(flip, valid)


def _turn(images: Tensor, targets: Tensor, valid: Tensor, generator: np.random.Generator) -> Three:
    """By none to three quarters; only by none or two where a crop is not square."""
    square = images.shape[-2] == images.shape[-1]
    quarters = generator.integers(4, size=len(images))
    if not square:
        quarters = quarters // 2 * 2

    def turn(picture: Tensor, number: int) -> Tensor:
        return picture.rot90(int(quarters[number]), (-2, -1))

    return _each(turn, images), _each(turn, targets), _each(turn, valid)


def _each(change: Callable[[Tensor, int], Tensor], batch: Tensor) -> Tensor:
    """The batch with each picture changed; ``change`` is told which it is."""
    return torch.stack([change(picture, number) for number, picture in enumerate(batch)])


def _bend(images: Tensor, targets: Tensor, valid: Tensor, generator: np.random.Generator) -> Three:
    places = draw_places(len(images), (images.shape[2], images.shape[3]), generator)
    if targets.ndim == 4:
        both = resample(torch.cat([images, targets], 1), places, smooth=True)
        found = resample(valid[:, None].float(), places, smooth=False)[:, 0]
        return *_part(both, images.shape[1]), valid & found.bool()
    images = resample(images, places, smooth=True)
    # Floats hold the numbers of classes exactly, and one reading serves both.
    numbers = torch.stack([targets.float(), valid.float()], 1)
    found = resample(numbers, places, smooth=False)
    return images, found[:, 0].to(targets.dtype), valid & found[:, 1].bool()


def _tone(images: Tensor, targets: Tensor, valid: Tensor, generator: np.random.Generator) -> Three:
    if targets.ndim == 4:
        both = tone(torch.cat([images, targets], 1), generator)
        return *_part(both, images.shape[1]), valid
    return roughen(tone(images, generator), generator), targets, valid


def _part(both: Tensor, channels: int) -> tuple[Tensor, Tensor]:
    """Images and answers that were joined along the channels."""
    return both[:, :channels], both[:, channels:]
