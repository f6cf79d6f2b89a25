"""How to train when the caller does not say: sensible settings for each network and set size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypedDict

from eyeshot import nets
from eyeshot.data.examples import count_batches
from eyeshot.errors import BadValue, UnknownName
from eyeshot.runs import Recipe
from eyeshot.training.augmentation import AUGMENTATIONS
from eyeshot.training.optimization import LOSSES

if TYPE_CHECKING:
    from eyeshot.data.pairs import CropSampler

LEAST_STEPS = 100
"""Of a classifier: a few dozen pictures are gone over many times. Of 32 pictures of 128×128, two
textures or two sizes of a disc, 8 steps reach 50 to 94 % of new ones, 100 steps all of them."""
_GENERATOR_STEPS = 15_900
"""Of a generator: two networks that learn from each other come to rest slowly."""
_GENERATOR_BATCH = 64
"""With as many pictures in all, twice the steps of half the size gave better ones."""
_SMALLEST_BATCH = 8
_BATCHES_A_PASS = 8
"""Of few pictures, smaller batches: as many steps cost less, and their noise does no harm."""

# Chosen on the last 10,000 of MNIST's 60,000 training digits and on a fifth of the 8,000 digits of
# the package, held out of the training; the test sets had no say.
_LARGE = 30_000  # training examples

_PICTURE = 2  # axes of space
_STEP_PIXELS = 2**20
_STEP_CROPS = 4
"""A step takes so many pixels, and crops, or more: batch norm learns what is usual from a batch,
and one picture at a time would be normalized by itself, as none is when the network is used."""
_LEAST_STEPS = 50
"""In an epoch: a folder of a few small pictures is gone over many times before it is judged."""
_PASS_SHARE = 8
"""An epoch passes over all pictures, unless that takes more than so many times their pixels."""
_JUDGED_SHARE = 16
"""An epoch learns from so many times the pixels that it is judged by: judging costs about as much a
pixel as a third of a step does, and so stays below a tenth of the time."""


class Settings(TypedDict, total=False):
    """What a caller may say about a run, as :class:`Recipe` explains it; None chooses for them.

    ``class_weights`` may be "none" or "balanced" (each class counts as much as any other, however
    few its pixels are) in place of numbers.
    """

    epochs: int | None
    batch_size: int | None
    learning_rate: float | None
    warmup: float | None
    momentum: float | None
    weight_decay: float | None
    label_smoothing: float | None
    shift: int | None
    steps: int | None
    loss: str | None
    class_weights: str | Sequence[float] | None
    augment: str | None
    average: float | None
    seed: int | None
    device: str | None
    devices: int | None
    precision: str | None
    freeze: str | None
    backbone_rate: float | None
    minutes: float | None
    patience: int | None


def choose_recipe(model: str, counts: Sequence[int], settings: Settings) -> Recipe:
    """The recipe for ``model`` on so many training pictures, with the caller's ``settings``.

    Args:
        model: the network's name.
        counts: pictures of each class.
        settings: of the caller.

    Raises:
        UnknownName: a setting that does not exist.
        BadValue: a setting is out of range.
    """
    examples = sum(counts)
    explicit = explicit_settings(settings)
    weights = choose_class_weights(explicit.pop("class_weights", "none"), counts, "picture")
    recipe = replace(_default(model, examples), **explicit, class_weights=weights)
    if "epochs" in explicit:
        return recipe
    return replace(recipe, epochs=max(recipe.epochs, epochs_needed(examples, recipe.batch_size)))


def choose_generator_recipe(examples: int, settings: Settings) -> Recipe:
    """The recipe for a generator on so many training pictures, with the caller's ``settings``.

    Raises:
        UnknownName: a setting that does not exist.
        BadValue: a setting is out of range.
    """
    batch = min(_GENERATOR_BATCH, max(_SMALLEST_BATCH, examples // _BATCHES_A_PASS))
    passes = math.ceil(_GENERATOR_STEPS / max(1, count_batches(examples, batch, least=2)))
    chosen = Recipe(
        epochs=passes,
        batch_size=batch,
        learning_rate=1e-3,
        warmup=0.02,
        momentum=0.5,
        average=0.998,
        precision="auto",
    )
    return replace(chosen, **explicit_settings(settings))


def epochs_needed(examples: int, batch_size: int) -> int:
    """Passes over so many pictures that make :data:`LEAST_STEPS`."""
    return math.ceil(LEAST_STEPS / max(1, count_batches(examples, batch_size, least=2)))


def explicit_settings(settings: Settings) -> dict[str, Any]:
    """Those of the settings that the caller gave.

    Raises:
        UnknownName: a setting that does not exist.
    """
    known = Recipe.__dataclass_fields__
    for name in settings:
        if name not in known:
            raise UnknownName("setting", name, known)
    return {name: value for name, value in settings.items() if value is not None}


def choose_crop_recipe(
    task: str,
    sampler: CropSampler,
    judged: int,
    counts: Sequence[int],
    settings: Settings,
) -> Recipe:
    """The recipe for learning masks or pictures from crops, with the caller's ``settings``.

    Args:
        task: "segment" or "restore".
        sampler: of the crops.
        judged: pixels of the pictures it is judged by.
        counts: pixels of each class; empty for pictures.
        settings: of the caller.

    Raises:
        UnknownName: a setting that does not exist, or a loss.
        BadValue: a setting is out of range.
    """
    explicit = explicit_settings(settings)
    explicit["augment"] = choose_augmentations(task, explicit.get("augment"), sampler.pairs.dims)
    loss = explicit.pop("loss", "l1" if task == "restore" else "dice+ce")
    if task == "restore" and loss not in LOSSES:
        raise UnknownName("loss", loss, LOSSES)
    pixels = math.prod(sampler.crop)
    batch = explicit.pop("batch_size", max(_STEP_CROPS, math.ceil(_STEP_PIXELS / pixels)))
    if batch < 1:
        raise BadValue(f"batch_size is {batch}", cure="use 1 or more")
    weights = choose_class_weights(explicit.pop("class_weights", "none"), counts)
    chosen = Recipe(
        epochs=12,
        batch_size=batch,
        learning_rate=2e-3 if task == "segment" else 1e-3,
        warmup=0.1,
        weight_decay=1e-4,
        steps=_choose_steps(sampler, batch, judged),
        loss=loss,
        class_weights=weights,
        average=0.99,
        precision="auto",
    )
    recipe = replace(chosen, **explicit)
    if recipe.steps < 1:
        raise BadValue(f"steps is {recipe.steps}", cure="use 1 or more")
    return recipe


def _choose_steps(sampler: CropSampler, batch: int, judged: int) -> int:
    """Steps of an epoch: a pass over the pictures and more, by what its batches really hold.

    Crops of pictures of many sizes come in batches that are hardly ever full. And a pass in crops
    of which little is valid has many times the pixels of the pictures, so it is left unfinished.
    """
    steps = sampler.steps(batch)
    learned = sum(math.prod(pair.size) for pair in sampler.pairs.train)
    a_step = learned / sampler.valid_share / steps  # pixels, valid or not
    return max(
        _LEAST_STEPS,
        min(steps, math.ceil(_PASS_SHARE * learned / a_step)),
        math.ceil(_JUDGED_SHARE * judged / a_step),
    )


def choose_augmentations(task: str, listed: str | None, dims: int = 2) -> str:
    """What is done to crops at random, names with commas between them, or "none".

    Masks stand all there is. Of pictures to be restored, shapes and tones are left as they are:
    what was recorded is what is to be mended. Volumes stand flips and turns in the plane of their
    last two axes; a signal has a direction, and stands none of them unless it is asked for.

    Raises:
        UnknownName: a name that is none of :data:`AUGMENTATIONS`.
        BadValue: one that is for pictures alone.
    """
    allowed = {1: ("flips",), 2: AUGMENTATIONS, 3: ("flips", "turns")}[dims]
    if listed is None and dims != _PICTURE:
        return ",".join(allowed) if dims > _PICTURE else "none"
    if listed is None:
        return ",".join(AUGMENTATIONS) if task == "segment" else "flips,turns"
    if listed.strip() == "none":
        return "none"
    names = [name.strip() for name in listed.split(",")]
    for name in names:
        if name not in AUGMENTATIONS:
            raise UnknownName("augmentation", name, (*AUGMENTATIONS, "none"))
        if name not in allowed:
            raise BadValue(
                f"augment is {name}, and the data has {dims} axes of space",
                cure=f"use {','.join(allowed)} or none",
            )
    return ",".join(name for name in AUGMENTATIONS if name in names)


def choose_class_weights(
    weights: str | Sequence[float], counts: Sequence[int], unit: str = "pixel"
) -> tuple[float, ...]:
    """Weights for the cross-entropy; none at all where every class weighs the same.

    "balanced" weighs a class by the pixels of all classes / (classes × its own pixels): then each
    class as a whole weighs the same. "none" is the custom where pixels are what is counted in the
    end; balanced weights find more of a rare class and take more of its neighbors for it.

    Args:
        weights: "none", "balanced", or a number for each class.
        counts: pixels or pictures of each class.
        unit: which of the two.

    Raises:
        UnknownName: another word.
        BadValue: not one number a class, or a class without pixels cannot be balanced.
    """
    if weights == "none":
        return ()
    if weights == "balanced":
        if not all(counts):
            raise BadValue(
                f"class {counts.index(0)} has no {unit} to learn from, so that no weight can "
                "balance it",
                cure="give the weights as numbers",
            )
        return tuple(round(sum(counts) / (len(counts) * count), 6) for count in counts)
    if isinstance(weights, str):
        raise UnknownName("class weights", weights, ("none", "balanced"))
    if len(weights) != len(counts):
        raise BadValue(
            f"{len(weights)} class weights for {len(counts)} classes", cure="give one for each"
        )
    return tuple(float(weight) for weight in weights)


def _default(model: str, examples: int) -> Recipe:
    recipe = _quick(examples) if model == "digit_cnn" else _thorough(examples)
    recipe = replace(recipe, precision="auto")
    if model not in nets.NAMES:  # somebody's own: steps that most networks bear, and plain pictures
        recipe = replace(recipe, learning_rate=2e-3, shift=0, label_smoothing=0.0)
    few = max(_SMALLEST_BATCH, examples // _BATCHES_A_PASS)
    return replace(recipe, batch_size=min(recipe.batch_size, few))


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
