"""A training described before it starts: what goes into ``config.yaml``."""

from __future__ import annotations

import hashlib
import platform
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import torch

import eyeshot
from eyeshot import nets
from eyeshot.data import Data, Examples
from eyeshot.errors import UnknownName
from eyeshot.runs import RunConfig
from eyeshot.training.fabric import choose_device
from eyeshot.training.recipes import Settings, choose_recipe

_SAMPLE = 16


def describe(
    data: Data,
    folder: Path | None,
    model: str,
    model_arguments: dict[str, int],
    settings: Settings,
) -> RunConfig:
    """The configuration of a training of ``model`` on ``data``.

    Raises:
        UnknownName, BadValue: there is no such model or setting, or it is out of range.
    """
    if model not in nets.NAMES:
        raise UnknownName("model", model, nets.NAMES)
    recipe = choose_recipe(model, len(data.train), settings)
    named = data.name in ("digits", "mnist") or not Path(data.name).exists()
    return RunConfig(
        model=model,
        model_arguments=model_arguments,
        data=data.name if named else str(Path(data.name).resolve()),
        data_folder=None if folder is None else str(folder.resolve()),
        fingerprint=fingerprint(data),
        classes=data.classes,
        channels=data.channels,
        size=data.size,
        mean=data.mean,
        std=data.std,
        recipe=replace(recipe, device=choose_device(recipe.device)),
        versions={
            "eyeshot": eyeshot.__version__,
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "lightning-fabric": version("lightning-fabric"),
        },
    )


def choose_folder(config: RunConfig) -> Path:
    """``runs/<data>-<model>-seed<seed>`` in the current folder."""
    return Path("runs") / f"{Path(config.data).name}-{config.model}-seed{config.recipe.seed}"


def fingerprint(data: Data) -> str:
    """A short name of the training and test pictures and labels, other for any other set.

    Of a set that is streamed from files only a sample of the pictures is read, and all labels.
    """
    digest = hashlib.sha256(repr((data.classes, data.train.shape, data.test.shape)).encode())
    for examples in (data.train, data.test):
        digest.update(examples.labels.numpy().tobytes())
        digest.update(_pixels(examples))
    return digest.hexdigest()[:16]


def _pixels(examples: Examples) -> memoryview:
    if examples.held:
        images = examples.images
    else:
        step = max(1, len(examples) // _SAMPLE)
        images, _ = examples.take(range(0, len(examples), step))
    return images.contiguous().numpy().data
