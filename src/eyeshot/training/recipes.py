"""How to train when the caller does not say: sensible settings for each network and set size."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypedDict

from eyeshot.errors import UnknownName
from eyeshot.runs import Recipe

# Chosen on the last 10,000 of MNIST's 60,000 training digits and on a fifth of the 8,000 digits of
# the package, held out of the training; the test sets had no say.
_LARGE = 30_000  # training examples


class Settings(TypedDict, total=False):
    """What a caller may say about a run, as :class:`Recipe` explains it; None chooses for them."""

    epochs: int | None
    batch_size: int | None
    learning_rate: float | None
    warmup: float | None
    weight_decay: float | None
    label_smoothing: float | None
    shift: int | None
    average: float | None
    seed: int | None
    device: str | None
    devices: int | None
    precision: str | None


def choose_recipe(model: str, examples: int, settings: Settings) -> Recipe:
    """The recipe for ``model`` on so many training ``examples``, with the caller's ``settings``.

    Raises:
        UnknownName: a setting that does not exist.
        BadValue: a setting is out of range.
    """
    known = Recipe.__dataclass_fields__
    for name in settings:
        if name not in known:
            raise UnknownName("setting", name, known)
    given: dict[str, Any] = {name: value for name, value in settings.items() if value is not None}
    return replace(_default(model, examples), **given)


def _default(model: str, examples: int) -> Recipe:
    if model == "digit_cnn":
        return _quick(examples)
    return _thorough(examples)


def _quick(examples: int) -> Recipe:
    quick = Recipe(epochs=1, batch_size=128, learning_rate=8e-3, label_smoothing=0.05)
    if examples >= _LARGE:
        return quick
    return replace(quick, epochs=8, batch_size=64, learning_rate=5e-3, shift=1)


def _thorough(examples: int) -> Recipe:
    epochs = 3 if examples >= _LARGE else 12
    return Recipe(
        epochs=epochs,
        batch_size=128,
        learning_rate=8e-3,
        weight_decay=0.01,
        label_smoothing=0.05,
        shift=2,
        average=0.99,
    )
