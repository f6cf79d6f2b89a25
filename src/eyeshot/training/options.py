"""The options of each task: their types and checks, and the data and configuration from them."""

from __future__ import annotations

import operator
import typing
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from eyeshot.data import SOURCES, Data, Pairs
from eyeshot.data import load as load_data
from eyeshot.data.pairs import load_pairs
from eyeshot.data.pairs.layout import masks_among_classes
from eyeshot.data.pairs.listing import guess_task, has_parts
from eyeshot.errors import BadValue, UnknownName
from eyeshot.runs import TASKS, Recipe, RunConfig
from eyeshot.runs.inputs import geometry_of_named
from eyeshot.training.configuration import (
    Request,
    describe,
    describe_generator,
    describe_pairs,
)
from eyeshot.training.cropping import check_pictures
from eyeshot.training.own_network import OwnNet
from eyeshot.training.recipes import Settings

_BY_DATA = ("in_channels", "classes", "size")
"""Arguments of a network that follow from what it learns from."""
_NUMBERS = typing.get_type_hints(Recipe)


def check_settings(settings: Mapping[str, Any]) -> Settings:
    """Settings as plain numbers, words and tuples.

    Raises:
        UnknownName: there is no such setting.
        BadValue: one is of the wrong type.
    """
    checked: dict[str, Any] = {}
    for name, value in settings.items():
        if name not in _NUMBERS:
            raise UnknownName("setting", name, _NUMBERS)
        if value is None:
            checked[name] = None
        elif name == "class_weights":
            checked[name] = value if isinstance(value, str) else _numbers(name, value)
        elif _NUMBERS[name] is int:
            checked[name] = check_count(name, value)
        elif _NUMBERS[name] is float:
            checked[name] = _number(name, value)
        elif isinstance(value, str):
            checked[name] = value
        else:
            cure = "use words, with commas between them if there are more"
            raise BadValue(f"{name} is {value!r}", cure=cure)
    return cast(Settings, checked)


def check_arguments(arguments: Mapping[str, Any]) -> dict[str, int | str]:
    """Arguments of a network.

    Raises:
        BadValue: one follows from the data, or is neither a whole number nor a word.
    """
    if not isinstance(arguments, Mapping):
        raise BadValue(f"model_arguments is {arguments!r}", cure="use names with values")
    for name in _BY_DATA:
        if name in arguments:
            raise BadValue(
                f"model_arguments has {name!r}, which follows from the data", cure="leave it out"
            )
    return {
        name: value if isinstance(value, str) else check_count(f"model_arguments {name!r}", value)
        for name, value in arguments.items()
    }


def check_count(name: str, value: object) -> int:
    """A whole number.

    Raises:
        BadValue: it is something else; 2.0 is too.
    """
    try:
        if not isinstance(value, bool):
            return operator.index(cast(typing.SupportsIndex, value))
    except TypeError:
        pass
    raise BadValue(f"{name} is {value!r}", cure="use a whole number")


def check_side(name: str, value: object) -> tuple[int, int] | None:
    """(height, width), or None.

    Raises:
        BadValue: it is not two whole numbers.
    """
    if value is None:
        return None
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise BadValue(f"{name} is {value!r}", cure="use two whole numbers: (height, width)")
    return check_count(name, value[0]), check_count(name, value[1])


def _number(name: str, value: object) -> float:
    if isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool):
        return float(value)
    raise BadValue(f"{name} is {value!r}", cure="use a number")


def _numbers(name: str, value: Any) -> tuple[float, ...]:
    if isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.ndim == 1):
        return tuple(_number(name, one) for one in value)
    raise BadValue(f"{name} is {value!r}", cure="use a number for each class")


_PICTURE = 2  # axes of space
_FOR = {
    "folder": ("classify", "generate"),
    "size": ("classify", "generate"),
    "label_smoothing": ("classify",),
    "shift": ("classify",),
    "crop": ("segment", "restore"),
    "validation": ("segment", "restore"),
    "layout": ("segment", "restore"),
    "steps": ("segment", "restore"),
    "augment": ("segment", "restore"),
    "dims": ("segment",),
    "class_weights": ("classify", "segment"),
    "loss": ("restore",),
}
"""Options that make sense for some tasks alone."""
_SPELLED = {
    "folder": "folder (--data)",
    "layout": "layout (--images, --masks, --mask-suffix, --threshold)",
}
"""On the command line they have other names."""


def choose_task(source: str | Path | Data | Pairs, task: str | None) -> str:
    """The task that was asked for, or that the loaded data is for.

    Raises:
        UnknownName: there is no such task.
        BadValue: the loaded data is for another one, the source is no name at all, or it is a
            folder of pairs and no task is named.
    """
    if task is not None and task not in TASKS:
        raise UnknownName("task", task, TASKS)
    if isinstance(source, str | Path):
        if not str(source).strip():
            raise BadValue(f"the source is {str(source)!r}", cure="name digits, mnist or a folder")
        return task or _classify(Path(source))
    own = ("classify", "generate") if isinstance(source, Data) else (source.task,)
    if task is not None and task not in own:
        fitting = " or ".join(own)
        raise BadValue(f"task is {task}, and {source.name} is for {fitting}", cure=f"use {own[0]}")
    return task or own[0]


def _classify(source: Path) -> str:
    """The task if the caller names none."""
    meant = None if str(source) in SOURCES else guess_task(source)
    if meant is not None:
        raise BadValue(
            f"{source} holds pictures beside their answers, and no task was named",
            cure=f"add --task {meant}, or --task classify if its folders are classes",
        )
    masks = None if str(source) in SOURCES or not source.is_dir() else masks_among_classes(source)
    if masks is not None:
        raise BadValue(
            f"{source}: {masks}, and no task was named",
            cure="add --task segment, with --images and --masks or --mask-suffix, or --task "
            "classify if its folders are classes",
        )
    return "classify"


def check_options(task: str, options: Mapping[str, Any]) -> None:
    """Refuse an option that the task knows nothing of.

    Raises:
        BadValue: one was given that is not None.
    """
    for name, value in options.items():
        fitting = _FOR.get(name, TASKS)
        if value is not None and task not in fitting:
            raise BadValue(
                f"{_SPELLED.get(name, name)} is for the task {' or '.join(fitting)}, and the task "
                f"is {task}",
                cure="leave it out",
            )


def ask(
    source: str | Path | Data | Pairs,
    task: str | None,
    model: str | None,
    model_arguments: Mapping[str, int | str],
    options: Mapping[str, Any],
    settings: Settings,
    own: OwnNet | None = None,
    fold: tuple[int, int] | None = None,
) -> Request:
    """What a caller said, once it is known to make sense for the task.

    Args:
        source: of the data.
        task: None for what the data is for.
        model: None to choose.
        model_arguments: of the network.
        options: folder, size, crop and validation; None for what was not said.
        settings: of the recipe.
        own: the network, where it is somebody's own.
        fold: (k, n): part k of n is set aside.

    Raises:
        UnknownName: there is no such task or setting.
        BadValue: something makes no sense for the task, or is of the wrong type.
    """
    task = choose_task(source, task)
    check_options(task, options)
    check_options(task, settings)
    validation = options["validation"]
    places: dict[str, Any] = {
        "folder": None if options["folder"] is None else Path(options["folder"]),
        "size": check_side("size", options["size"]),
        "crop": _check_crop(options["crop"]),
        "dims": _check_dims(options["dims"]),
        "validation": None if validation is None else check_count("validation", validation),
        "skip_damaged": bool(options["skip_damaged"]),
        "layout": options["layout"],
        "own": own,
        "fold": fold,
    }
    return Request(
        task, source, model, check_arguments(model_arguments), check_settings(settings), **places
    )


def settle(request: Request) -> tuple[RunConfig, Data | Pairs]:
    """The data, loaded where it is not yet, and the configuration of the training on it.

    Raises:
        UnknownName, BadValue: what was asked for does not exist, or is out of range.
        BadFile: the data cannot be read.
    """
    source = request.source
    if request.task in ("classify", "generate"):
        classes = request.task == "classify"
        if not isinstance(source, Data):
            source = load_data(
                _place(source),
                folder=request.folder,
                size=request.size,
                skip_damaged=request.skip_damaged,
                labeled=classes,
                fold=request.fold,
            )
        return (describe if classes else describe_generator)(request, source), source

    if not isinstance(source, Pairs):
        source = load_pairs(
            _place(source),
            task=request.task,
            validation=request.validation,
            skip_damaged=request.skip_damaged,
            layout=request.layout,
            dims=request.dims,
            fold=request.fold,
        )
    elif not has_parts(Path(source.name), request.layout):
        # The same pairs are set aside when the folder is loaded later.
        request = replace(request, validation=len(source.validation))
    config = describe_pairs(request, source)
    own = request.own
    geometry = geometry_of_named(config) if own is None else own.geometry
    check_pictures(config, source, geometry.sizes)
    return config, source


def _check_dims(dims: object) -> int:
    """Axes of space; 2 by default.

    Raises:
        BadValue: not 1, 2 or 3.
    """
    count = _PICTURE if dims is None else check_count("dims", dims)
    if count not in (1, 2, 3):
        raise BadValue(f"dims is {count}", cure="use 2 for pictures, 3 for volumes, 1 for signals")
    return count


def _check_crop(crop: Any) -> tuple[int, ...] | None:
    """The length of a crop along each axis.

    Raises:
        BadValue: it is something else.
    """
    if crop is None or not isinstance(crop, (list, tuple)) or len(crop) == _PICTURE:
        return check_side("crop", crop)
    return tuple(check_count("crop", side) for side in crop)


def _place(source: Any) -> str | Path:
    return source if isinstance(source, str | Path) else str(source)
