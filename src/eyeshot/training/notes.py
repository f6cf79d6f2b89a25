"""What a person should know of a training before it starts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from eyeshot.data import Data
from eyeshot.data.examples import count_batches
from eyeshot.findings.wording import counted
from eyeshot.runs import RunConfig, build_net
from eyeshot.runs.geometry import geometry_of_named
from eyeshot.training.cropping import border_of, whole_border
from eyeshot.training.own_network import OwnNet, find_faults
from eyeshot.training.recipes import LEAST_STEPS, epochs_needed
from eyeshot.training.tasks.classification import LEAST_BATCH

if TYPE_CHECKING:
    from eyeshot.data.pairs import Pairs

_WITH_ALPHA = 4
_MANY_WEIGHTS = 10_000_000
"""More than a classifier of this kind can use: they sit in one linear layer behind large maps."""
_SMALLER = "128x128"


def tell(config: RunConfig, data: Data | Pairs, own: OwnNet | None = None) -> Iterator[str]:
    """A sentence for each thing that may surprise."""
    yield from data.notes
    if own is not None:
        yield from find_faults(own, config.channels, config.picture_size)
    if config.task == "generate":
        return
    if isinstance(data, Data):
        yield from _tell_classes(config, data, own)
    else:
        yield from _tell_pairs(config, data, own)


def _tell_classes(config: RunConfig, data: Data, own: OwnNet | None) -> Iterator[str]:
    recipe, count = config.recipe, len(data.train)
    steps = recipe.epochs * count_batches(count, recipe.batch_size, least=LEAST_BATCH)
    if 2 * steps < LEAST_STEPS:
        yield (
            f"{counted(steps, 'step')} in all may be too few to learn anything: --epochs "
            f"{epochs_needed(count, recipe.batch_size)} makes {LEAST_STEPS}"
        )
    if own is not None:
        return
    with torch.device("meta"):
        sizes = {name: p.numel() for name, p in build_net(config).named_parameters()}
    total, largest = sum(sizes.values()), max(sizes, key=lambda name: sizes[name])
    if total > _MANY_WEIGHTS:
        high, wide = config.size
        yield (
            f"{config.model} for pictures of {high}×{wide} has {total:,} weights, "
            f"{sizes[largest]:,} of them in {largest}: use --size {_SMALLER}, "
            "--depth 5, or --model small_vgg"
        )


def _tell_pairs(config: RunConfig, pairs: Pairs, own: OwnNet | None) -> Iterator[str]:
    from eyeshot.evaluation.passes import tell_sizes  # brings the engine, not needed for classes

    if pairs.channels == _WITH_ALPHA:
        yield (
            "the pictures have 4 channels, and all are learned from: if the fourth is alpha and "
            "not wanted, save them without it"
        )
    if len(pairs.validation) == 1:
        yield (
            f"one picture is all that the network is judged by, {pairs.validation[0].name}: its "
            "figures may not hold for others"
        )
    if own is not None:
        yield from _tell_own(own, config, pairs)
    yield from tell_sizes(own.geometry if own else geometry_of_named(config))


def _tell_own(own: OwnNet, config: RunConfig, pairs: Pairs) -> Iterator[str]:
    """What crops cannot show a network of somebody's own."""
    geometry, layers = own.geometry, own.geometry.statistics
    if layers:
        yield (
            f"{counted(len(layers), 'layer')} of {own.name} ({layers[0]}"
            f"{', …' if len(layers) > 1 else ''}) depend on all of a picture, or on its size: a "
            "crop gives them other numbers than the whole picture; large crops keep them near"
        )
    border, whole = border_of(geometry, config.size), whole_border(geometry.output)
    larger = any(n > m for pair in pairs.train for n, m in zip(pair.size, config.size, strict=True))
    if border < whole and larger:
        yield (
            f"an output of {own.name} sees up to {whole} pixels to each side, and of a crop "
            f"{border} are left out: what is next to them is learned from less than a whole "
            f"picture shows; --crop {2 * whole + geometry.output.alignment} would show all"
        )
