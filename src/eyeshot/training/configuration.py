"""A training described before it starts: what goes into ``config.yaml``."""

from __future__ import annotations

import platform
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import torch

import eyeshot
from eyeshot import nets
from eyeshot.data import SOURCES, Data
from eyeshot.errors import BadValue, UnknownName
from eyeshot.runs import RunConfig, fingerprint
from eyeshot.training.fabric import choose_device
from eyeshot.training.recipes import Settings, choose_recipe


def describe(
    source: str | Path | Data,
    data: Data,
    folder: Path | None,
    model: str,
    model_arguments: dict[str, int],
    settings: Settings,
) -> RunConfig:
    """The configuration of a training of ``model`` on ``data``, which was loaded from ``source``.

    Raises:
        UnknownName, BadValue: there is no such model or setting, or it is out of range.
    """
    if model not in nets.NAMES:
        raise UnknownName("model", model, nets.NAMES)
    recipe = choose_recipe(model, len(data.train), settings)
    if recipe.shift >= min(data.size):
        raise BadValue(
            f"shift is {recipe.shift}, and the pictures are {data.size[0]}×{data.size[1]}",
            cure=f"use at most {min(data.size) - 1}, so that something is left to see",
        )
    if recipe.devices > 1 and len(data.train) < recipe.batch_size:
        raise BadValue(
            f"batch_size is {recipe.batch_size}, and there are {len(data.train)} pictures to learn "
            "from",
            cure=f"several devices need whole batches: use {len(data.train)} or fewer",
        )
    return RunConfig(
        model=model,
        model_arguments=model_arguments,
        data=_name_source(source),
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


def _name_source(source: str | Path | Data) -> str:
    """How the data is found again: a name, or the whole path of a folder."""
    if isinstance(source, Data):
        return source.name
    return (
        str(source)
        if isinstance(source, str) and source in SOURCES
        else str(Path(source).resolve())
    )


def choose_folder(config: RunConfig) -> Path:
    """``runs/<data>-<model>-seed<seed>`` in the current folder."""
    return Path("runs") / f"{Path(config.data).name}-{config.model}-seed{config.recipe.seed}"
