"""A tiny set of pictures that a network learns in a second: blobs in one of three corners."""

from __future__ import annotations

import torch

from eyeshot.data import Data, Examples

CORNERS = ((1, 1), (1, 6), (6, 1))


def blobs(train: int = 96, test: int = 30, channels: int = 1, seed: int = 0) -> Data:
    """Pictures (N, channels, 12, 12); the class says in which corner the blob is."""
    return Data(
        name="blobs",
        train=_examples(train, channels, seed),
        test=_examples(test, channels, seed + 1),
        classes=("north-west", "north-east", "south-west"),
        channels=channels,
        size=(12, 12),
        mean=(0.25,) * channels,
        std=(0.2,) * channels,
    )


def _examples(count: int, channels: int, seed: int) -> Examples:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 90, (count, channels, 12, 12), generator=generator)
    labels = torch.randint(0, 3, (count,), generator=generator)
    for image, label in zip(images, labels.tolist(), strict=True):
        top, left = CORNERS[label]
        image[:, top : top + 5, left : left + 5] += 120
    return Examples.hold(images.to(torch.uint8), labels)
