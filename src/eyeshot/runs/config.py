"""The configuration of a run: everything needed to repeat it, as ``config.yaml``.

The file contains only data. It is read by :mod:`eyeshot.plain_yaml`, and the type of every value is
checked; a model is a name in the table of :mod:`eyeshot.nets`, never an import path.

A network's scores for many pictures are computed here too.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
import yaml
from torch import Tensor, nn

from eyeshot import plain_yaml
from eyeshot.data import SOURCES, Examples, Legend
from eyeshot.data.pairs.layout import Layout as PairsLayout
from eyeshot.errors import BadFile, BadValue, UnknownName, shorten
from eyeshot.files import explain_os_error, write_aside

TASKS = ("classify", "segment", "restore", "generate")

_BEYOND = 2**64
"""Integers of a configuration must be smaller than this."""
_PICTURE = 2  # axes of space
_LARGEST_INPUT = 2**31
"""The most samples of a training picture or crop."""


@dataclass(frozen=True)
class Recipe:
    """How a network is trained; the same recipe, data and machine give the same weights.

    Args:
        epochs: passes over the training set; for crops, an epoch has ``steps`` batches.
        batch_size: pictures or crops per step, over all devices together.
        learning_rate: the highest rate; the rate rises to it linearly and falls back to 0.
        warmup: the share of all steps in which the rate rises, from 0 to below 1.
        momentum: AdamW's first decay: how much of the mean gradient is kept from step to step.
        weight_decay: AdamW's decay, only for weights of convolutions and linear layers.
        label_smoothing: the share of the target that is spread over all classes, 0 to below 1.
        shift: the most pixels by which training pictures are moved at random, each way.
        steps: for crops, the number of batches in an epoch; 0 if an epoch is a pass.
        loss: the name of the loss, if the task has more than one.
        class_weights: the weight of each class in the cross-entropy; empty for equal weights.
        augment: the random changes of crops: names with commas between them.
        average: the decay per step of a running average of the weights, which is the result; 0
            for no average.
        seed: of the first weights, the order of the data and the shifts.
        device: "auto", "cpu", "cuda", "mps" …, as Lightning Fabric names accelerators.
        devices: the number of devices.
        precision: "32-true", "bf16-mixed", "16-mixed" …, as Lightning Fabric names them.
        freeze: layers that do not learn: patterns such as ``down*``, with commas between them.
        backbone_rate: the highest learning rate of weights that were loaded at the start; 0 for
            the rate of all others.
        minutes: the training ends after this many minutes of steps; 0 for no limit.
        patience: it ends after this many epochs without an improvement; 0 for no limit.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    warmup: float = 0.25
    momentum: float = 0.9
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    shift: int = 0
    steps: int = 0
    loss: str = ""
    class_weights: tuple[float, ...] = ()
    augment: str = ""
    average: float = 0.0
    seed: int = 0
    device: str = "auto"
    devices: int = 1
    precision: str = "32-true"
    freeze: str = ""
    backbone_rate: float = 0.0
    minutes: float = 0.0
    patience: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "devices"):
            _at_least(name, getattr(self, name), 1)
        numbers = ("backbone_rate", "minutes", "patience")
        for name in ("shift", "seed", "weight_decay", "steps", *numbers):
            _at_least(name, getattr(self, name), 0)
        if self.seed >= 2**63:
            raise BadValue(f"seed is {self.seed}", cure="use less than 2^63")
        for name in ("warmup", "momentum", "label_smoothing", "average"):
            value = getattr(self, name)
            if not 0 <= value < 1:
                raise BadValue(f"{name} is {value}", cure="use a number from 0 to below 1")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise BadValue(
                f"learning_rate is {self.learning_rate}", cure="use a finite number above 0"
            )
        if not all(math.isfinite(weight) and weight > 0 for weight in self.class_weights):
            raise BadValue(
                f"class_weights are {list(self.class_weights)}", cure="use finite numbers above 0"
            )


@dataclass(frozen=True)
class NetSource:
    """The source of a user's own network. Its program is in ``net.pt2``.

    Args:
        source: ``my_net.py:Net``; empty if it was an object in memory.
        arguments: the arguments of its constructor, as JSON.
        program: 16 hexadecimal digits that identify the network.
    """

    source: str
    arguments: str
    program: str


@dataclass(frozen=True)
class RunConfig:
    """One training run: the network, the data, the recipe, and the versions of packages.

    Attributes:
        model: the name of the network in :mod:`eyeshot.nets`, or the class of a user's network.
        data: a named set, or the folder of the data.
        fingerprint: identifies the set of pictures and labels.
        classes: the names of the classes.
        channels: of the network's input.
        size: (height, width) of the training pictures or crops; one length for each spatial axis.
        mean: the mean of samples scaled to 0 … 1, for each channel.
        std: their standard deviation, for each channel.
        recipe: how it was trained.
        data_folder: the folder of the ``mnist`` files, if the caller named one.
        task: one of :data:`TASKS`: a class for a picture, a class for each pixel, a picture for a
            picture, or a picture from random numbers.
        validation: the number of pairs that were set aside, if the caller named it.
        model_arguments: the arguments of the network.
        versions: the versions of packages.
        legend: the mapping from masks' samples to classes.
        learned: the digests of the training pictures, with spaces; empty if there are too many.
        skip_damaged: whether unreadable files were left out.
        layout: the places of pictures and masks in the folder, if the caller named them.
        own: the source of a user's own network.
        start: the source of the weights with which it started.
        fresh: the names of parameters that were not in ``start``, with spaces.
        fold: the fold that was set aside, from 1; 0 for the ensemble of all folds.
        folds: the number of folds of a cross-validation; 0 without one.
        judged_by: the part of pictures by class that judges each epoch: "validation" if the data
            has one beside its test part, or "test".
        own_scale: whether it learned from floats outside 0 … 1, of a scale of their own; None in a
            run that does not record it.
    """

    model: str
    data: str
    fingerprint: str
    classes: tuple[str, ...]
    channels: int
    size: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    recipe: Recipe
    data_folder: str | None = None
    task: str = "classify"
    validation: int | None = None
    model_arguments: Mapping[str, int | str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    legend: Legend | None = None
    learned: str = ""
    skip_damaged: bool = False
    layout: PairsLayout | None = None
    own: NetSource | None = None
    start: str | None = None
    fresh: str = ""
    fold: int = 0
    folds: int = 0
    own_scale: bool | None = None
    judged_by: str = "test"

    def __post_init__(self) -> None:
        _at_least("channels", self.channels, 1)
        if not 0 <= self.fold <= self.folds:
            raise BadValue(f"fold is {self.fold} of {self.folds}", cure="restore it")
        if len(self.size) not in (1, 2, 3):
            raise BadValue(f"size has {len(self.size)} lengths", cure="one to three axes have one")
        _at_least("size", min(self.size), 1)
        if self.channels * math.prod(self.size) > _LARGEST_INPUT:
            raise BadValue(
                f"size is {'×'.join(map(str, self.size))}, of {self.channels} channels",
                cure="use the size of the pictures or crops that it was trained on",
            )
        if self.judged_by not in ("test", "validation"):
            raise UnknownName("judged_by", self.judged_by, ("test", "validation"))
        if self.task not in TASKS:
            raise UnknownName("task", self.task, TASKS)
        if self.task in ("classify", "segment") and len(self.classes) < 2:
            raise BadValue(f"{len(self.classes)} classes", cure="a classifier needs two or more")
        for name in ("mean", "std"):
            if len(getattr(self, name)) != self.channels:
                raise BadValue(
                    f"{name} has {len(getattr(self, name))} values for {self.channels} channels",
                    cure="give one per channel",
                )
        if not all(math.isfinite(value) for value in self.mean):
            raise BadValue(f"mean is {list(self.mean)}", cure="use finite numbers")
        if not all(math.isfinite(value) and value > 0 for value in self.std):
            raise BadValue(f"std is {list(self.std)}", cure="use finite numbers above 0")
        legend = self.legend
        if legend and (legend.classes != self.classes or len(legend.codes) != len(self.classes)):
            raise BadValue("the legend is of other classes", cure="restore it, or train again")

    @property
    def learned_from(self) -> frozenset[str]:
        """The digests of the training pictures."""
        return frozenset(self.learned.split())

    @property
    def in_unit(self) -> bool:
        """Whether it learned from samples in 0 … 1: pictures always do, volumes may have any."""
        if self.own_scale is not None:
            return not self.own_scale
        # No numbers in 0 … 1 deviate by more than a half.
        within = all(0 <= mean <= 1 for mean in self.mean) and all(std <= 0.5 for std in self.std)
        return len(self.size) == _PICTURE or within

    @property
    def held_out(self) -> tuple[int, int] | None:
        """(k, n) if fold k of n was set aside; None without folds."""
        return (self.fold, self.folds) if self.fold else None

    @property
    def learned_all(self) -> bool:
        """Whether its networks have learned from all of its data, so that no test data is left."""
        return self.folds > 0 and not self.fold

    @property
    def picture_size(self) -> tuple[int, int]:
        """(height, width) of a run on pictures; runs on other data have no such size."""
        height, width = self.size
        return height, width

    @property
    def outputs(self) -> int:
        """The channels of the network's output: one per class, or those of a picture."""
        return self.channels if self.task in ("restore", "generate") else len(self.classes)

    @property
    def best(self) -> str | None:
        """The column of ``metrics.csv`` whose highest value decides which epoch's weights are kept.

        None if the last weights are kept.
        """
        if self.task == "classify" and self.recipe.patience:
            return f"{self.judged_by}_accuracy"
        return {"segment": "validation_dice", "restore": "validation_psnr"}.get(self.task)

    @property
    def reads_digits(self) -> bool:
        """Whether it was trained on a named set: on digits in MNIST's form."""
        return self.data in SOURCES

    def save(self, path: Path) -> None:
        """Write as YAML."""
        tree = _plain(self)
        text = yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)
        if (
            plain_yaml.parse(text)[0] != tree
        ):  # a name with a rare kind of line break: write it escaped
            text = yaml.safe_dump(tree, sort_keys=False)
        with write_aside(path) as aside:
            aside.write_text(text, encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read from YAML.

        Raises:
            BadFile: missing, not YAML, or a key that is missing, unknown or of the wrong type.
        """
        try:
            config: Self = _build(cls, plain_yaml.read(path)[0])
            return config
        except FileNotFoundError as error:
            raise explain_os_error(error, path) from error
        except (BadValue, UnknownName) as error:
            cure = error.cure or "restore it, or train again"
            raise BadFile(f"{path}: {error.fact}", cure=cure) from None


def _at_least(name: str, value: float, least: int) -> None:
    if not least <= value < math.inf:
        raise BadValue(f"{name} is {value}", cure=f"use {least} or more")


def _plain(value: Any) -> Any:
    """Dataclasses, tuples and mappings as types that YAML's safe writer supports."""
    if dataclasses.is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return dict(value)
    return list(value) if isinstance(value, tuple) else value


def _build(kind: Any, tree: Any) -> Any:
    """An instance of the dataclass ``kind`` from the mapping ``tree``, each value checked."""
    if not isinstance(tree, dict):
        raise BadValue(f"expected keys and values, found {type(tree).__name__}")
    hints = typing.get_type_hints(kind)
    fields = {f.name: f for f in dataclasses.fields(kind)}
    for name in tree:
        if name not in fields:
            raise UnknownName("key", str(name), fields)
    missing = [f.name for f in fields.values() if f.name not in tree and _required(f)]
    if missing:
        raise BadValue(f"the key {missing[0]!r} is missing", cure="restore it, or train again")
    return kind(**{name: _convert(hints[name], value, name) for name, value in tree.items()})


def _required(entry: dataclasses.Field[Any]) -> bool:
    return entry.default is dataclasses.MISSING and entry.default_factory is dataclasses.MISSING


def _convert(hint: Any, value: Any, name: str) -> Any:
    """``value`` as the type ``hint``; otherwise a BadValue that names ``name``."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        return _build(hint, value)
    if origin is types.UnionType:
        if value is None and types.NoneType in arguments:
            return None
        kinds = [kind for kind in arguments if isinstance(value, kind)]
        return _convert(kinds[0] if kinds else arguments[0], value, name)
    if origin is tuple and isinstance(value, list):
        if arguments[-1] is Ellipsis or len(value) == len(arguments):
            return tuple(_convert(arguments[0], item, name) for item in value)
    elif origin is Mapping and isinstance(value, dict):
        return {_convert(str, key, name): _convert(arguments[1], value[key], name) for key in value}
    elif hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        if isinstance(value, float) or _countable(value):
            return float(value)
    elif (
        hint in (str, bool, int) and type(value) is hint and (hint is not int or _countable(value))
    ):
        return value  # True is an int to isinstance
    raise BadValue(
        f"{name} is {shorten(value)}", cure=f"it should be {getattr(hint, '__name__', hint)}"
    )


def _countable(value: int) -> bool:
    return abs(value) < _BEYOND


BATCH_SIZE = 500


def normalize(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """(images / largest − mean) / std, channel by channel, as float32 of the same shape.

    Args:
        images: (N, C, H, W) uint8, whose largest is 255, or uint16, whose largest is 65535.
        mean: the mean of each channel, 0…1.
        std: the standard deviation of each channel.
    """
    largest = torch.iinfo(images.dtype).max
    scale = torch.tensor([1 / (largest * s) for s in std], device=images.device)
    offset = torch.tensor([m / s for m, s in zip(mean, std, strict=True)], device=images.device)
    return images.to(torch.float32).mul_(scale.view(-1, 1, 1)).sub_(offset.view(-1, 1, 1))


_ROUNDING = 1e-4


def are_shares(answers: Tensor) -> bool:
    """Whether answers (N, K, …) are shares that sum to 1 over the classes, as after a softmax."""
    sums = answers.double().sum(1)
    return bool((answers >= 0).all() and ((sums - 1).abs() < _ROUNDING).all())


def log_of(probabilities: Tensor) -> Tensor:
    """Probabilities as scores whose softmax they are; 0 as the least that float32 has."""
    return probabilities.float().clamp_min(torch.finfo(torch.float32).tiny).log()


@torch.inference_mode()
def score(net: nn.Module, examples: Examples, config: RunConfig) -> tuple[Tensor, Tensor]:
    """Scores (N, classes) of all examples in their order, and their labels (N,); both on the CPU.

    The network runs in eval mode; its mode is restored afterwards.
    """
    device = next(net.parameters()).device
    training = net.training
    net.eval()
    try:
        parts = [
            (net(normalize(images.to(device), config.mean, config.std)).cpu(), labels)
            for images, labels in examples.batches(BATCH_SIZE)
        ]
    finally:
        net.train(training)
    scores, labels = zip(*parts, strict=True)
    return torch.cat(scores), torch.cat(labels)
