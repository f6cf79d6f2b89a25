"""Random changes to training pictures, so that the network sees more variety.

The random numbers depend only on the run's seed, the epoch and the step; the global generators are
not used.

In this file:

- photometric changes: brightness, contrast, blur, noise;
- geometric changes of a picture together with its target: rotation, scale, elastic deformation.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from eyeshot.data import Crops
from eyeshot.errors import UnknownName
from eyeshot.extras import extra

BRIGHTNESS = 0.1
"""The largest change of brightness, on the scale 0…1."""

CONTRAST = 1.25
"""The largest factor by which samples are multiplied or divided."""

GAMMA = 1.4
"""The highest power to which samples are raised; the lowest is its reciprocal."""

BLURRED = 0.2
"""The share of crops that are blurred, by a Gaussian of at most :data:`SOFTEST` pixels."""

SOFTEST = 1.0
NOISE = 0.03
"""The highest standard deviation of the noise, of 0…1."""


def tone(pictures: Tensor, generator: np.random.Generator) -> Tensor:
    """Change the contrast, the brightness and the gamma of each picture at random.

    Args:
        pictures: (B, C, H, W) in 0…1.
        generator: draws them.

    Returns:
        (B, C, H, W) in 0…1.
    """
    with extra("train"):
        from kornia import enhance  # takes seconds to import

    count = len(pictures)
    factors = torch.from_numpy(CONTRAST ** generator.uniform(-1, 1, count)).float()
    added = torch.from_numpy(generator.uniform(-BRIGHTNESS, BRIGHTNESS, count)).float()
    powers = torch.from_numpy(GAMMA ** generator.uniform(-1, 1, count)).float()
    toned = enhance.adjust_contrast(pictures, factors, clip_output=False)
    return enhance.adjust_gamma(enhance.adjust_brightness(toned, added), powers)


def roughen(pictures: Tensor, generator: np.random.Generator) -> Tensor:
    """Blur some pictures, and add noise of a random strength to each.

    Args:
        pictures: (B, C, H, W) in 0…1; they are overwritten.
        generator: draws how much.

    Returns:
        (B, C, H, W) in 0…1.
    """
    with extra("train"):
        from kornia.filters import gaussian_blur2d  # takes seconds to import

    count = len(pictures)
    chosen = torch.from_numpy(generator.random(count) < BLURRED)
    softness = torch.from_numpy(generator.uniform(0.3, SOFTEST, (count, 1))).float()
    if chosen.any():
        sigma = softness[chosen].expand(-1, 2)
        pictures[chosen] = gaussian_blur2d(pictures[chosen], (5, 5), sigma, "replicate")
    strengths = torch.from_numpy(generator.uniform(0, NOISE, (count, 1, 1, 1))).float()
    source = torch.Generator().manual_seed(int(generator.integers(2**62)))
    noise = torch.randn(pictures.shape, generator=source)
    return pictures.add_(noise.mul_(strengths)).clamp_(0, 1)


SPACING = 64
"""Pixels between two knots of the grid."""

SHIFT = 0.2
"""The most that a knot moves along an axis, in spacings. Below 0.48 nothing can fold (Choi and Lee,
"Injectivity Conditions of 2D and 3D Uniform Cubic B-Spline Functions", Graphical Models, 2000)."""

ANGLE = 15.0
"""The largest rotation of a crop, in degrees."""

SCALE = 1.2
"""The largest factor by which a crop is enlarged or reduced."""


def draw_places(count: int, size: tuple[int, int], generator: np.random.Generator) -> Tensor:
    """Where each pixel of ``count`` bent crops comes from: (B, 2, H, W), row and column.

    Args:
        count: B.
        size: (H, W).
        generator: draws how much each crop is turned, scaled and stretched.
    """
    height, width = size
    angles = np.deg2rad(generator.uniform(-ANGLE, ANGLE, count))
    scales = np.exp(generator.uniform(-1, 1, count) * math.log(SCALE))
    cosines, sines = np.cos(angles) / scales, np.sin(angles) / scales
    turns = np.stack([cosines, -sines, sines, cosines], 1).reshape(count, 2, 2)
    rows = torch.arange(height, dtype=torch.float32) - (height - 1) / 2
    columns = torch.arange(width, dtype=torch.float32) - (width - 1) / 2
    turned = torch.from_numpy(turns.astype(np.float32))[..., None, None]
    places = turned[:, :, 0] * rows[:, None] + turned[:, :, 1] * columns
    places += torch.tensor([(height - 1) / 2, (width - 1) / 2]).view(2, 1, 1)
    return places.add_(_draw_rubber(count, size, generator))


def _draw_rubber(count: int, size: tuple[int, int], generator: np.random.Generator) -> Tensor:
    """Smooth shifts (B, 2, H, W) in pixels."""
    down, across = _spline(size[0]), _spline(size[1])
    strengths = generator.uniform(0, SHIFT * SPACING, (count, 1, 1, 1))
    knots = generator.uniform(-1, 1, (count, 2, down.shape[1], across.shape[1])) * strengths
    return down @ torch.from_numpy(knots.astype(np.float32)) @ across.T


def _spline(length: int) -> Tensor:
    """The weight of each knot at each position: (length, knots), the cubic B-spline's weights."""
    knots = (length - 1) // SPACING + 4
    place, inside = np.divmod(np.arange(length), SPACING)
    t = inside / SPACING
    weights = np.stack(
        [(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], 1
    )
    matrix = np.zeros((length, knots), np.float32)
    matrix[np.arange(length)[:, None], place[:, None] + np.arange(4)] = weights / 6
    return torch.from_numpy(matrix)


def resample(pictures: Tensor, places: Tensor, *, smooth: bool) -> Tensor:
    """``pictures`` (B, C, H, W) read at ``places`` (B, 2, H, W).

    Beyond its border a crop is continued by its mirror image, so that every place has a value.

    Args:
        pictures: float.
        places: row and column of each pixel.
        smooth: interpolate between the four nearest samples; or take the nearest.
    """
    with extra("train"):
        from kornia.geometry.transform import remap  # takes seconds to import

    return remap(
        pictures,
        places[:, 1],
        places[:, 0],
        mode="bilinear" if smooth else "nearest",
        padding_mode="reflection",
        align_corners=True,
    )


AUGMENTATIONS = ("flips", "turns", "elastic", "intensity")
"""Changes of pictures with their answers: mirror images; quarter turns; a small turn, a change of
scale and a stretch like rubber's, in one; brightness, contrast, gamma, blur and noise."""

Seed = tuple[int, int, int]
Three = tuple[Tensor, Tensor, Tensor]


def shift_pictures(images: Tensor, reach: int, seed: Seed) -> Tensor:
    """Move each picture by up to ``reach`` pixels along both axes; what comes in is 0.

    The shifts depend only on ``seed`` (the run's seed, the epoch, the step); the global random
    generators do not change.

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
    """Change pictures at random, and their answers in the same way.

    Flips and turns move samples without changing them. ``elastic`` reads image, answer and
    ``valid`` at the same places: the image between samples, class numbers at the nearest. Beyond
    its border a crop is continued by its mirror image, in all three: a mirrored pixel has the class
    of the pixel, so there is as much to learn from it. A pixel that ``elastic`` takes from an
    invalid place is not valid.

    ``intensity`` changes the image alone where the answers are classes. If they are pictures,
    the answer gets the same brightness, contrast and gamma; blur and noise are left out, because
    they would change the task.

    Args:
        images: (B, C, H, W) float in 0…1.
        targets: class numbers (B, H, W), or pictures (B, C, H, W) float in 0…1.
        valid: (B, H, W) bool, the pixels to learn from.
        kinds: some of :data:`AUGMENTATIONS`, in any order; empty for no change.
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
    # In this order, each with its own random numbers, so that a new kind changes no other.
    for number, change in enumerate((_flip, _turn, _bend, _tone)):
        if AUGMENTATIONS[number] in kinds:
            three = change(*three, np.random.default_rng([*seed, number + 1]))
    return three


def _flip(images: Tensor, targets: Tensor, valid: Tensor, generator: np.random.Generator) -> Three:
    """Flip half of the crops top to bottom, and half left to right; reverse half of the signals."""
    axes = min(2, valid.ndim - 1)
    draws = generator.random((len(images), 2)) < 0.5

    def flip(picture: Tensor, number: int) -> Tensor:
        return picture.flip([axis - axes for axis in range(axes) if draws[number, axis]])

    return _each(flip, images), _each(flip, targets), _each(flip, valid)


def _turn(images: Tensor, targets: Tensor, valid: Tensor, generator: np.random.Generator) -> Three:
    """Turn each crop by 0 to 3 quarter turns; by 0 or 2 if it is not square."""
    square = images.shape[-2] == images.shape[-1]
    quarters = generator.integers(4, size=len(images))
    if not square:
        quarters = quarters // 2 * 2

    def turn(picture: Tensor, number: int) -> Tensor:
        return picture.rot90(int(quarters[number]), (-2, -1))

    return _each(turn, images), _each(turn, targets), _each(turn, valid)


def _each(change: Callable[[Tensor, int], Tensor], batch: Tensor) -> Tensor:
    """The batch with each picture changed; ``change`` gets its number."""
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
    """Split images and answers that were joined along the channels."""
    return both[:, :channels], both[:, channels:]
