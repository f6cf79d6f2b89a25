"""What a caller gives a training, each value of the type that it must be of."""

from __future__ import annotations

import operator
import typing
from collections.abc import Mapping
from typing import Any, cast

import numpy as np

from eyeshot.errors import BadValue, UnknownName
from eyeshot.runs import Recipe
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
