"""Small runs of masks and of restored pictures, written rather than trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from eyeshot import images, runs
from eyeshot.data.pairs import load_pairs
from eyeshot.runs import CONFIG, METRICS, WEIGHTS, Recipe, RunConfig

MASK_ROWS = (
    "epoch,loss,accuracy,dice,validation_accuracy,validation_dice,validation_iou,"
    "validation_boundary_f1,learning_rate,images_per_second,seconds\n"
    "1,0.9,0.7,0.6,0.75,0.65,0.5,0.4,0.001,9,2\n"
    "2,0.5,0.8,0.7,0.85,0.78,0.6,0.5,0.001,9,2\n"
)
PICTURE_ROWS = (
    "epoch,loss,psnr,validation_psnr,validation_ssim,learning_rate,images_per_second,seconds\n"
    "1,0.2,15,18,0.5,0.001,9,2\n2,0.1,19,21,0.6,0.001,9,2\n"
)


def cells(size: tuple[int, int], seed: int, classes: int = 3) -> tuple[NDArray[Any], NDArray[Any]]:
    """A gray picture of discs of several brightnesses, and which class each pixel is of."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[: size[0], : size[1]]
    mask = np.zeros(size, np.uint8)
    for number in range(12):
        center = generator.uniform(0, 1, 2) * size
        reach = generator.uniform(5, 5 + min(size) / 6)
        disc = (rows - center[0]) ** 2 + (columns - center[1]) ** 2 < reach**2
        mask[disc] = 1 + number % (classes - 1)
    noise = generator.normal(0, 12, size)
    return np.clip(60 + 60 * mask + noise, 0, 255).astype(np.uint8), mask


def write_masks(folder: Path, sizes: list[tuple[int, int]], *, ignored: bool = False) -> Path:
    """A folder with two pictures to learn from, and one to be judged by for each size."""
    for part, shapes in (("train", [(40, 48), (40, 48)]), ("val", sizes)):
        for number, size in enumerate(shapes):
            picture, mask = cells(size, number + 10 * (part == "val"))
            if ignored:
                mask[:5] = 255
            for kind, array in (("image", picture), ("label", mask)):
                (folder / part / kind).mkdir(parents=True, exist_ok=True)
                images.write(folder / part / kind / f"cell {number}.png", array)
    return folder


def write_pictures(folder: Path, sizes: list[tuple[int, int]]) -> Path:
    """Color pictures with noise, and without."""
    for part, shapes in (("train", [(40, 48), (40, 48)]), ("val", sizes)):
        for number, size in enumerate(shapes):
            gray, _ = cells(size, number + 10 * (part == "val"))
            clean = np.stack([gray, gray // 2, 255 - gray], axis=-1)
            noise = np.random.default_rng(number).normal(0, 25, clean.shape)
            noisy = np.clip(clean + noise, 0, 255).astype(np.uint8)
            for kind, array in (("image", noisy), ("target", clean)):
                (folder / part / kind).mkdir(parents=True, exist_ok=True)
                images.write(folder / part / kind / f"photo {number}.png", array)
    return folder


def write_run(place: Path, folder: Path, task: str, **arguments: int | str) -> Path:
    """A run folder of a U-Net with random weights."""
    pairs = load_pairs(folder, task=task)
    config = RunConfig(
        model="unet",
        data=str(folder),
        fingerprint=pairs.fingerprint,
        task=task,
        classes=pairs.classes,
        channels=pairs.channels,
        size=(32, 32),
        mean=pairs.mean,
        std=pairs.std,
        recipe=Recipe(epochs=2, batch_size=4, learning_rate=0.01, steps=3, average=0.99),
        model_arguments={"depth": 1, "base": 4, **arguments},
    )
    place.mkdir()
    config.save(place / CONFIG)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        runs.save_tensors(place / WEIGHTS, runs.build_net(config).state_dict())
    (place / METRICS).write_text(MASK_ROWS if task == "segment" else PICTURE_ROWS)
    return place
