"""What a caller may say for which task, and the data and configuration that come of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eyeshot.data import Data
from eyeshot.data import load as load_data
from eyeshot.errors import BadValue, UnknownName
from eyeshot.runs import TASKS, RunConfig
from eyeshot.training.configuration import Wanted, describe, describe_pairs
from eyeshot.training.recipes import Settings

if TYPE_CHECKING:
    from eyeshot.data.pairs import Pairs

_FOR = {
    "folder": ("classify",),
    "size": ("classify",),
    "label_smoothing": ("classify",),
    "shift": ("classify",),
    "crop": ("segment", "restore"),
    "validation": ("segment", "restore"),
    "steps": ("segment", "restore"),
    "augment": ("segment", "restore"),
    "class_weights": ("segment",),
    "loss": ("restore",),
}
"""Options that make sense for some tasks alone."""


def choose_task(source: str | Path | Data | Pairs, task: str | None) -> str:
    """The task that was asked for, or that the loaded data is for.

    Raises:
        UnknownName: there is no such task.
        BadValue: the loaded data is for another one, or the source is no name at all.
    """
    if task is not None and task not in TASKS:
        raise UnknownName("task", task, TASKS)
    if isinstance(source, str | Path):
        if not str(source).strip():
            raise BadValue(f"the source is {str(source)!r}", cure="name digits, mnist or a folder")
        return task or "classify"
    own = "classify" if isinstance(source, Data) else source.task
    if task not in (None, own):
        raise BadValue(f"task is {task}, and {source.name} is for {own}", cure=f"use {own}")
    return own


def check_options(task: str, options: Mapping[str, Any]) -> None:
    """Refuse an option that the task knows nothing of.

    Raises:
        BadValue: one was given that is not None.
    """
    for name, value in options.items():
        fitting = _FOR.get(name, TASKS)
        if value is not None and task not in fitting:
            raise BadValue(
                f"{name} is for the task {' or '.join(fitting)}, and the task is {task}",
                cure="leave it out",
            )


def ask(
    source: str | Path | Data | Pairs,
    task: str | None,
    model: str | None,
    model_arguments: Mapping[str, int | str],
    options: Mapping[str, Any],
    settings: Settings,
) -> Wanted:
    """What a caller said, once it is known to make sense for the task.

    Args:
        source: of the data.
        task: None for what the data is for.
        model: None to choose.
        model_arguments: of the network.
        options: folder, size, crop and validation; None for what was not said.
        settings: of the recipe.

    Raises:
        UnknownName: there is no such task.
        BadValue: something makes no sense for the task.
    """
    task = choose_task(source, task)
    check_options(task, options)
    check_options(task, settings)
    folder = None if options["folder"] is None else Path(options["folder"])
    places = {**options, "folder": folder}
    return Wanted(task, source, model, dict(model_arguments), settings, **places)


def settle(wanted: Wanted) -> tuple[RunConfig, Data | Pairs]:
    """The data, loaded where it is not yet, and the configuration of the training on it.

    Raises:
        UnknownName, BadValue: what was asked for does not exist, or is out of range.
        BadFile: the data cannot be read.
    """
    source = wanted.source
    if wanted.task == "classify":
        if not isinstance(source, Data):
            source = load_data(_place(source), folder=wanted.folder, size=wanted.size)
        return describe(wanted, source), source
    from eyeshot.data.pairs import Pairs, load_pairs  # not needed by who learns classes

    if not isinstance(source, Pairs):
        source = load_pairs(_place(source), task=wanted.task, validation=wanted.validation)
    elif not (Path(source.name) / "train").is_dir():
        # Whoever loads the folder later is to set the same pairs aside.
        wanted = replace(wanted, validation=len(source.validation))
    return describe_pairs(wanted, source), source


def _place(source: Any) -> str | Path:
    return source if isinstance(source, str | Path) else str(source)
