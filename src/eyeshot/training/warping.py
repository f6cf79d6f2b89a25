"""Pictures bent at random together with their answers: turned, scaled and stretched like rubber.

Everything is one map from each pixel of the result to a place in the crop, so that each sample is
interpolated once. The rubber is a cubic B-spline over a coarse grid of random shifts (Rueckert et
al., "Nonrigid Registration Using Free-Form Deformations", IEEE Transactions on Medical Imaging,
1999); two small matrix products make it, where smoothing noise at every pixel would take longer
than the rest of the augmentation together.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from eyeshot.extras import extra

SPACING = 64
"""Pixels between two knots of the grid."""

SHIFT = 0.2
"""The most that a knot moves along an axis, in spacings. Below 0.48 nothing can fold (Choi and Lee,
"Injectivity Conditions of 2D and 3D Uniform Cubic B-Spline Functions", Graphical Models, 2000)."""

ANGLE = 15.0
"""Degrees that a crop is turned by at the most."""

SCALE = 1.2
"""By how much it is enlarged or made smaller at the most."""


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
    """How much each knot counts at each position: (length, knots), the cubic B-spline's weights."""
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

    Beyond its border a crop is its own mirror image, so that every place holds something.

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
