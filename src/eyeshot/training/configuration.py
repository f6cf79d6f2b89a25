"""A training described before it starts: what goes into ``config.yaml``."""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

import eyeshot
from eyeshot import nets
from eyeshot.data import SOURCES, Data
from eyeshot.data.pairs.layout import Layout
from eyeshot.errors import BadValue, UnknownName
from eyeshot.runs import Recipe, RunConfig, build_net, fingerprint
from eyeshot.runs.inputs import geometry_of_model
from eyeshot.training.cropping import check_batches, choose_crop, make_sampler
from eyeshot.training.loop import choose_device
from eyeshot.training.own_network import OwnNet, check_fit, check_map
from eyeshot.training.precision import choose_precision
from eyeshot.training.recipes import (
    Settings,
    choose_crop_recipe,
    choose_generator_recipe,
    choose_recipe,
)

if TYPE_CHECKING:
    from eyeshot.data.pairs import Pair, Pairs


_NARROWED: dict[str, dict[str, int | str]] = {"unet": {"base": 16}}
"""Half as wide as the published one. On the membranes it learns as much a step, and a step takes
less than half the time."""
_PICTURE = 2  # axes of space
_OTHER_DIMS: dict[int, dict[str, int | str]] = {1: {"base": 16}, 3: {"base": 8, "depth": 2}}
"""Of a U-Net over signals and over volumes, where a level costs four times as much as of pictures,
and an output of depth 4 sees a million voxels."""
_LEAST_MADE = 2
_MOST_LEARNED = 10_000
"""The most pictures whose digests a run keeps: more would make a file of megabytes."""


@dataclass(frozen=True)
class Request:
    """The settings of a training that the caller gave, without the data.

    Attributes:
        task: one of :data:`eyeshot.runs.TASKS`.
        source: of the data.
        model: the network's name; None to choose.
        model_arguments: of the network.
        settings: of the recipe.
        folder: of the files of "mnist".
        size: (height, width) to resize pictures to; None to leave them.
        crop: (height, width); None to choose.
        validation: how many pairs are set aside; None for one in five.
        skip_damaged: leave out files that cannot be read.
        layout: where pictures and masks are in a folder of pairs.
        own: the user's own network, if there is one.
        dims: the number of spatial axes of pairs: 2 for pictures, 3 for volumes, 1 for signals.
        fold: (k, n): part k of n is set aside.
    """

    task: str
    source: str | Path | Data | Pairs
    model: str | None
    model_arguments: Mapping[str, int | str]
    settings: Settings
    folder: Path | None = None
    size: tuple[int, int] | None = None
    crop: tuple[int, ...] | None = None
    validation: int | None = None
    skip_damaged: bool = False
    layout: Layout | None = None
    own: OwnNet | None = None
    dims: int = 2
    fold: tuple[int, int] | None = None


def describe(request: Request, data: Data) -> RunConfig:
    """The configuration of a training to tell classes of pictures apart.

    Raises:
        UnknownName, BadValue: there is no such model or setting, or it is out of range.
    """
    model = _choose_model(request, nets.CLASSIFIERS)
    if request.own is not None:
        request.own.channels = data.channels
        check_fit(request.own, request.task, data.channels, len(data.classes), data.size)
    counts = data.train.labels.bincount(minlength=len(data.classes)).tolist()
    recipe = choose_recipe(model, counts, request.settings)
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
    config = _configuration(request, data, model, recipe, data.size, fingerprint(data))
    _check_smallest_batch(config, len(data.train), request.own)
    learned = sorted(set(data.marks)) if len(data.marks) <= _MOST_LEARNED else []
    return replace(config, learned=" ".join(learned), judged_by=data.judged[0])


def describe_generator(request: Request, data: Data) -> RunConfig:
    """The configuration of a training to make pictures like those of ``data``.

    Raises:
        UnknownName, BadValue: there is no such model or setting, or it is out of range.
    """
    if request.own is not None:
        raise BadValue(
            "a network of your own for the task generate, which trains two against each other",
            cure="leave out --net; --latent, --width and --up change the generator",
        )
    model = _choose_model(request, nets.GENERATORS)
    count = len(data.train)
    recipe = choose_generator_recipe(count, request.settings)
    if min(count, recipe.batch_size) < _LEAST_MADE:
        raise BadValue(
            f"batches of {min(count, recipe.batch_size)}, and batch norm compares pictures",
            cure=f"use a batch size and {_LEAST_MADE} pictures or more",
        )
    if recipe.devices > 1:
        raise BadValue(
            f"devices is {recipe.devices}, and two networks that learn from each other share one",
            cure="use one device",
        )
    levels = (0.5,) * data.channels  # a generator's output lies in −1 … 1
    bare = replace(data, classes=(), mean=levels, std=levels)
    config = _configuration(request, bare, model, recipe, data.size, fingerprint(data))
    with torch.device("meta"):
        build_net(config)  # a size that cannot be made is refused before anything starts
    return config


def _check_smallest_batch(config: RunConfig, count: int, own: OwnNet | None) -> None:
    """Refuse batches of one picture for a network whose batch norm is then left a single value.

    Raises:
        BadValue: it could not learn from them.
    """
    recipe = config.recipe
    if min(count, recipe.batch_size) // recipe.devices > 1:
        return
    with torch.device("meta"):
        net = own.on_meta().train() if own else build_net(config).train()
        picture = torch.empty(1, config.channels, *config.size)
    try:
        net(picture)
    except ValueError:  # "Expected more than 1 value per channel when training"
        raise BadValue(
            f"batch_size is {recipe.batch_size}, and in a batch of one picture {config.model} has "
            "a map of a single pixel, which batch norm cannot compare with others",
            cure="use 2 or more, a smaller depth, or larger pictures",
        ) from None


def describe_pairs(request: Request, pairs: Pairs) -> RunConfig:
    """The configuration of a training that turns pictures into masks or other pictures.

    Raises:
        UnknownName, BadValue: there is no such model or setting, or it is out of range.
    """
    model = _choose_model(request, nets.PER_PIXEL)
    arguments = {**_narrowed(model, pairs.dims), **request.model_arguments}
    request = replace(request, model_arguments=arguments)
    outputs = pairs.channels if pairs.task == "restore" else len(pairs.classes)
    own = request.own
    if own is not None:
        own.channels = pairs.channels
        check_map(own, request.task, pairs.channels, outputs, pairs.dims)
        geometry = own.geometry
    else:
        geometry = geometry_of_model(model, pairs.channels, outputs, arguments)
    _check_stride(model, request.task, geometry.output.stride)
    crop = choose_crop(geometry, pairs, request.crop)
    sampler = make_sampler(pairs, crop, geometry, 0)
    recipe = choose_crop_recipe(
        pairs.task, sampler, _area(pairs.validation), pairs.counts, request.settings
    )

    def build(**other: int) -> nn.Module:
        if own is not None:
            return own.on_meta()
        with torch.device("meta"):
            arguments_of_net = {**arguments, **other}
            return nets.build(
                model, in_channels=pairs.channels, classes=outputs, **arguments_of_net
            )

    check_batches(
        build,
        sampler,
        recipe.batch_size,
        channels=pairs.channels,
        alignment=geometry.output.alignment,
    )
    if recipe.devices > 1:
        raise BadValue(
            f"devices is {recipe.devices}, and crops may come one at a time, which devices cannot "
            "share",
            cure="use one device",
        )
    config = _configuration(request, pairs, model, recipe, crop, pairs.fingerprint)
    learned = " ".join(sorted({pair.digest for pair in pairs.train}))
    return replace(config, legend=pairs.legend, learned=learned, own_scale=pairs.own_scale)


def _configuration(
    request: Request,
    data: Data | Pairs,
    model: str,
    recipe: Recipe,
    size: tuple[int, ...],
    name: str,
) -> RunConfig:
    device = choose_device(recipe.device)
    precision = choose_precision(
        recipe.precision, request.task, device, own=request.own is not None
    )
    return RunConfig(
        model=model,
        model_arguments=request.model_arguments,
        data=_name_source(request.source),
        data_folder=None if request.folder is None else str(request.folder.resolve()),
        task=request.task,
        validation=request.validation,
        fold=request.fold[0] if request.fold else 0,
        folds=request.fold[1] if request.fold else 0,
        skip_damaged=request.skip_damaged,
        layout=request.layout,
        fingerprint=name,
        classes=data.classes,
        channels=data.channels,
        size=size,
        mean=data.mean,
        std=data.std,
        recipe=replace(recipe, device=device, precision=precision),
        versions={
            "eyeshot": eyeshot.__version__,
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "lightning-fabric": version("lightning-fabric"),
        },
    )


def _choose_model(request: Request, fitting: tuple[str, ...]) -> str:
    """The model's name, which must be one of ``fitting``."""
    if request.own is not None:
        if request.model is not None or request.model_arguments:
            also = request.model or ", ".join(request.model_arguments)
            raise BadValue(
                f"net and {also} together", cure="give a network of your own its own arguments"
            )
        return request.own.name
    model = fitting[0] if request.model is None else request.model
    if model not in nets.NAMES:
        raise UnknownName("model", model, nets.NAMES)
    if model not in fitting:
        raise BadValue(
            f"model is {model}, which is not for the task {request.task}",
            cure=f"use {' or '.join(fitting)}, or another --task",
        )
    return model


def _narrowed(model: str, dims: int) -> dict[str, int | str]:
    """The arguments of a network that the caller did not give."""
    if model == "unet" and dims != _PICTURE:
        return {"dims": dims, **_OTHER_DIMS[dims]}
    return _NARROWED.get(model, {})


def _area(pairs: tuple[Pair, ...]) -> int:
    return sum(math.prod(pair.size) for pair in pairs)


def _check_stride(model: str, task: str, stride: tuple[Fraction, ...]) -> None:
    """A mask may have one answer for several pixels; a picture needs one for each pixel."""
    most = None if task == "segment" else 1
    if any(step.denominator != 1 or (most is not None and step > most) for step in stride):
        apart = "×".join(str(step) for step in stride)
        raise BadValue(
            f"model is {model}, whose outputs are {apart} pixels apart, and the task is {task}",
            cure="use a network that ends at the size of the picture",
        )


def _name_source(source: str | Path | Data | Pairs) -> str:
    """The data's address in the configuration: a name, or the absolute path of a folder."""
    if isinstance(source, Data):
        return source.name
    if not isinstance(source, str | Path):
        return str(Path(source.name).resolve())
    if isinstance(source, str) and source in SOURCES:
        return source
    return str(Path(source).resolve())


def choose_folder(config: RunConfig) -> Path:
    """``runs/<data>-<model>-seed<seed>`` in the current folder."""
    return Path("runs") / f"{Path(config.data).name}-{config.model}-seed{config.recipe.seed}"
