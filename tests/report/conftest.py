"""Small runs, written rather than trained: one of digits, one of a folder of color classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from eyeshot import data, images, runs
from eyeshot.runs import CONFIG, METRICS, WEIGHTS, Recipe, RunConfig, fingerprint

from .pairs import write_masks, write_pictures
from .pairs import write_run as write_pairs_run

HEADER = "epoch,loss,accuracy,test_loss,test_accuracy,learning_rate,images_per_second,seconds\n"


def write_run(folder: Path, source: str, model: str = "digit_cnn") -> Path:
    """A run folder of a network with random weights."""
    loaded = data.load(source)
    config = RunConfig(
        model=model,
        data=source,
        fingerprint=fingerprint(loaded),
        classes=loaded.classes,
        channels=loaded.channels,
        size=loaded.size,
        mean=loaded.mean,
        std=loaded.std,
        recipe=Recipe(epochs=2, batch_size=8, learning_rate=0.01, shift=1),
        model_arguments={"width": 4},
    )
    folder.mkdir()
    config.save(folder / CONFIG)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        runs.save_tensors(folder / WEIGHTS, runs.build_net(config).state_dict())
    rows = "1,1.5,0.4,1.2,0.5,0.01,100,2\n2,0.5,0.8,0.6,0.75,0.001,100,2\n"
    (folder / METRICS).write_text(HEADER + rows)
    return folder


@pytest.fixture(scope="session")
def digits_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("digits") / "run", "digits")


@pytest.fixture(scope="session")
def colors_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of blue and green pictures, whose classes have names that HTML would take for its own."""
    place = tmp_path_factory.mktemp("colors")
    generator = np.random.default_rng(0)
    for number, (name, color) in enumerate(
        zip(("sky", "grass & moss"), ((40, 90, 220), (40, 170, 60)), strict=True)
    ):
        folder = place / "photos" / name
        folder.mkdir(parents=True)
        for index in range(10):
            noise = generator.integers(-30, 30, (20, 24, 3))
            picture = np.clip(np.array(color) + noise + number, 0, 255).astype(np.uint8)
            images.write(folder / f"{index}.png", picture)
    return write_run(place / "run", str(place / "photos"), "small_vgg")


@pytest.fixture(scope="session")
def masks_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of three classes, judged by pictures of several sizes, parts of which nobody has judged."""
    place = tmp_path_factory.mktemp("masks")
    sizes = [(70, 90), (460, 500), (70, 90)]
    folder = write_masks(place / "cells <&>", sizes, ignored=True)
    return write_pairs_run(place / "run", folder, "segment")


@pytest.fixture(scope="session")
def pictures_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of color pictures with noise."""
    place = tmp_path_factory.mktemp("pictures")
    folder = write_pictures(place / "photos", [(70, 90), (450, 200)])
    return write_pairs_run(place / "run", folder, "restore")
