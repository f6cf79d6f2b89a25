"""Pictures made by a generator, and what numbers say of them.

A person sees at a glance whether a made picture is good, and sees neither that a digit is never
made nor that the pictures are copies. So a trained classifier says how many it is sure of and how
they spread over the classes; the Fréchet distance compares the distribution of its features with
that of the pictures that were learned from, beside the same figure of held-out pictures; and the
nearest picture that was learned from shows whether the network copies.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from eyeshot import nets
from eyeshot.data import Data, Examples
from eyeshot.errors import BadValue
from eyeshot.runs import Run, RunConfig, load, normalize
from eyeshot.untouched import untouched

SURE = 0.9
"""The probability from which a classifier counts as sure of a picture."""
_BATCH = 250
_COARSE = 8
"""A side of the coarse pictures that stand for a distribution where no classifier does."""
_COMPARED = 10_000
"""Pictures that were learned from, whose features stand for all of them."""


@dataclass(frozen=True)
class SampleEvaluation:
    """What numbers say of pictures that a generator made.

    Attributes:
        count: of made pictures; as many held-out ones stand beside them, or all that there are.
        frechet: Fréchet distance of their features from those of the pictures learned from.
        held_out_frechet: the same of held-out pictures: what new real pictures come to.
        nearest: median distance of a made picture from the nearest one learned from: the root of
            the mean square over pixels of 0 … 1.
        held_out_nearest: the same of held-out pictures. Copies would be far below it.
        closest: the smallest of the made pictures' distances; 0 is a copy.
        sure: share that the judge gives a probability of at least 0.9; None without a judge.
        held_out_sure: the same of held-out pictures.
        shares: by class, the share of made pictures that the judge takes for it.
        entropy: of the shares, in bits; the base-2 logarithm of the number of classes is the most.
        notes: what the reader should know.
    """

    count: int
    frechet: float
    held_out_frechet: float
    nearest: float
    held_out_nearest: float
    closest: float
    sure: float | None = None
    held_out_sure: float | None = None
    shares: dict[str, float] = field(default_factory=dict)
    entropy: float | None = None
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain data."""
        return {**vars(self), "notes": list(self.notes)}


def draw_latents(latent: int, count: int, seed: int) -> Tensor:
    """``count`` latents (count, latent, 1, 1) from a normal distribution; nobody else's numbers.

    One after another: drawn at once, the last numbers would depend on how many there are.
    """
    source = torch.Generator().manual_seed(seed)
    return torch.stack([torch.randn(latent, 1, 1, generator=source) for _ in range(count)])


def walk_latents(latent: int, count: int, seed: int) -> Tensor:
    """``count`` latents (count, latent, 1, 1) from one that is drawn to another, along an arc.

    A straight line would pass near 0, where no latent that was trained on lies: their lengths are
    all near √latent. Source: White, 2016, arXiv:1609.04468.
    """
    first, last = draw_latents(latent, 2, seed).double()
    cosine = (first * last).sum() / (first.norm() * last.norm())
    angle = torch.arccos(cosine.clamp(-1, 1))
    parts = torch.linspace(0, 1, count, dtype=torch.float64).view(-1, 1, 1, 1)
    ways: Tensor = torch.sin((1 - parts) * angle) * first + torch.sin(parts * angle) * last
    return (ways / torch.sin(angle)).float()


def make_pictures(net: nets.Generator, latents: Tensor) -> Tensor:
    """Pictures (N, C, H, W) in −1 … 1 of latents (N, latent, 1, 1), made in eval mode, on the CPU.

    Each picture is made from its latent alone, however many there are. The network is left in the
    mode that it was in.
    """
    device = next(net.parameters()).device
    with untouched(net), torch.inference_mode():
        net.eval()
        parts = [net(part.to(device)).float().cpu() for part in torch.split(latents, _BATCH)]
    return torch.cat(parts)


def to_bytes(pictures: Tensor, config: RunConfig) -> NDArray[np.uint8]:
    """Made pictures (N, C, H, W) in −1 … 1 as uint8 (N, H, W, C), as the run's data is."""
    mean, std = (torch.tensor(one).view(-1, 1, 1) for one in (config.mean, config.std))
    samples = (pictures * std + mean).clamp(0, 1).mul(255).round().to(torch.uint8)
    return np.ascontiguousarray(samples.permute(0, 2, 3, 1).numpy())


def sample(
    run: Run | str | Path, count: int = 64, *, seed: int = 0, walk: bool = False
) -> NDArray[np.uint8]:
    """Pictures that a trained generator makes.

    Args:
        run: a run of the task ``generate``, or the path of its folder.
        count: how many.
        seed: of the latents; the same seed gives the same pictures, and a larger count the same
            ones first.
        walk: from one latent to another in even steps, in place of a latent for each picture.

    Returns:
        (count, H, W, C) uint8; C is 1 or 3.

    Raises:
        BadFile: the run cannot be read.
        BadValue: the run is of another task, ``count`` is below 1 (of a walk, 2), or ``seed`` is
            negative.
    """
    run = run if isinstance(run, Run) else load(run)
    net = _generator_of(run)
    least = 2 if walk else 1
    if count < least:
        raise BadValue(f"count is {count}", cure=f"use {least} or more")
    if seed < 0:
        raise BadValue(f"seed is {seed}", cure="use 0 or more")
    draw = walk_latents if walk else draw_latents
    return to_bytes(make_pictures(net, draw(net.latent, count, seed)), run.config)


def describe_pixels(pictures: Tensor) -> Tensor:
    """Features (N, C·64) of pictures (N, C, H, W): the means of 8×8 parts of each."""
    return adaptive_avg_pool2d(pictures, _COARSE).flatten(1)


def frechet_distance(first: Tensor, second: Tensor) -> float:
    """The Fréchet distance between two normal distributions, of features (N, F) and (M, F).

    |m₁ − m₂|² + tr(C₁ + C₂ − 2·(C₁C₂)^½). The last trace is that of (C₁^½ C₂ C₁^½)^½, whose matrix
    is symmetric: no complex numbers come of rounding.
    Sources: Dowson and Landau, 1982; Heusel et al., 2017, arXiv:1706.08500.
    """
    means, covariances = zip(*map(_moments, (first, second)), strict=True)
    values, vectors = torch.linalg.eigh(covariances[0])
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    both = torch.linalg.eigvalsh(root @ covariances[1] @ root).clamp(min=0).sqrt().sum()
    apart = (means[0] - means[1]).square().sum()
    return float((apart + sum(one.trace() for one in covariances) - 2 * both).clamp(min=0))


def evaluate_samples(
    run: Run,
    data: Data,
    *,
    judge: Run | str | Path | None = None,
    count: int = 1000,
    seed: int = 0,
) -> SampleEvaluation:
    """Judge the pictures of a generator: :func:`eyeshot.evaluate` for the task ``generate``.

    Without a judge the features are the coarse pixels of :func:`describe_pixels`; with one, what
    its last linear layer reads.

    Args:
        run: of the task ``generate``.
        data: what it learned from, with a part that it did not.
        judge: a trained classifier of such pictures; None for none.
        count: of made pictures.
        seed: of their latents.

    Raises:
        BadFile: the judge cannot be read.
        BadValue: the run or the judge is of another task, the pictures are of another size, or
            ``count`` is below 2.
    """
    if count < 2:
        raise BadValue(f"count is {count}", cure="use 2 or more, such as 1000")
    _check_size(data.name, data, run.config, "the pictures that it learned from")
    made = torch.from_numpy(sample(run, count, seed=seed)).permute(0, 3, 1, 2)
    held_out, learned = _some(data.test, count), _some(data.train, _COMPARED)
    (distances, _), (others, _) = (find_nearest(one, data.train) for one in (made, held_out))
    figures: dict[str, Any] = {}
    if judge is None:
        features = [_coarse(one, run.config) for one in (learned, made, held_out)]
        notes = ("no --judge: its classes and what it is sure of are not known",)
    else:
        classifier = _judge_for(run, judge)
        answers = [_ask(classifier, one) for one in (learned, made, held_out)]
        features = [one for one, _ in answers]
        figures = _spread(answers[1][1], answers[2][1], classifier.config.classes)
        notes = (f"judged by {classifier.path}",)
    return SampleEvaluation(
        count=count,
        frechet=frechet_distance(features[1], features[0]),
        held_out_frechet=frechet_distance(features[2], features[0]),
        nearest=float(distances.median()),
        held_out_nearest=float(others.median()),
        closest=float(distances.min()),
        notes=(*data.notes, *notes),
        **figures,
    )


def find_nearest(pictures: Tensor, learned: Examples) -> tuple[Tensor, Tensor]:
    """How far each of ``pictures`` is from the nearest that was learned from, and its place: (N,).

    The distance is the root of the mean square difference over pixels and channels of 0 … 1.

    Args:
        pictures: (N, C, H, W) uint8 or uint16.
        learned: of the same size.
    """
    asked = _unit(pictures).flatten(1)
    nearest, places = torch.full((len(asked),), math.inf), torch.zeros(len(asked), dtype=torch.long)
    start = 0
    for others, _ in learned.batches(8 * _BATCH):
        least, place = torch.cdist(asked, _unit(others).flatten(1)).min(1)
        places = torch.where(least < nearest, start + place, places)
        nearest = torch.minimum(nearest, least)
        start += len(others)
    return nearest / math.sqrt(asked.shape[1]), places


def _unit(pictures: Tensor) -> Tensor:
    return pictures.float() / torch.iinfo(pictures.dtype).max


def _some(examples: Examples, most: int) -> Tensor:
    """Pictures of ``examples``, at most so many, evenly from all of them."""
    count = min(most, len(examples))
    places = torch.linspace(0, len(examples) - 1, count, dtype=torch.float64).round().long()
    return examples.take(places)[0]


def _coarse(pictures: Tensor, config: RunConfig) -> Tensor:
    return describe_pixels(normalize(pictures, config.mean, config.std))


def _ask(judge: Run, pictures: Tensor) -> tuple[Tensor, Tensor]:
    """What the judge's last linear layer reads, (N, F), and probabilities (N, classes)."""
    last = [layer for layer in judge.net.modules() if isinstance(layer, nn.Linear)][-1]
    read: list[Tensor] = []
    scores: list[Tensor] = []
    with untouched(judge.net), torch.inference_mode():
        handle = last.register_forward_pre_hook(lambda _, given: read.append(given[0].clone()))
        for part in torch.split(pictures, _BATCH):
            scores.append(judge.net(judge.normalize(part)))
        handle.remove()
    return torch.cat(read), torch.cat(scores).softmax(1)


def _spread(made: Tensor, held_out: Tensor, classes: tuple[str, ...]) -> dict[str, Any]:
    """The figures of a judge's probabilities, (N, classes), of made and of held-out pictures."""
    counts = made.argmax(1).bincount(minlength=len(classes)).double() / len(made)
    there = counts[counts > 0]
    return {
        "sure": float((made.amax(1) >= SURE).double().mean()),
        "held_out_sure": float((held_out.amax(1) >= SURE).double().mean()),
        "shares": dict(zip(classes, counts.tolist(), strict=True)),
        "entropy": float(-(there * there.log2()).sum()),
    }


def _moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (F,) and covariance (F, F), float64."""
    features = features.double()
    return features.mean(0), features.T.cov().view(features.shape[1], -1)


def _generator_of(run: Run) -> nets.Generator:
    if not isinstance(run.net, nets.Generator):
        raise BadValue(
            f"{run.path}: was trained to {run.config.task}, and makes no pictures of its own",
            cure="name a run that was trained with --task generate",
        )
    return run.net


def _judge_for(run: Run, judge: Run | str | Path) -> Run:
    judge = judge if isinstance(judge, Run) else load(judge)
    if judge.config.task != "classify":
        raise BadValue(
            f"{judge.path}: was trained to {judge.config.task}, and knows no classes of pictures",
            cure="name a run of a classifier as the judge",
        )
    if not any(isinstance(layer, nn.Linear) for layer in judge.net.modules()):
        raise BadValue(
            f"{judge.path}: has no linear layer, whose inputs are the features to compare",
            cure="judge by a classifier that ends in one, such as digit_cnn",
        )
    _check_size(str(judge.path), judge.config, run.config, "what it takes")
    return judge


class _Sized(Protocol):
    @property
    def channels(self) -> int: ...
    @property
    def size(self) -> tuple[int, ...]: ...


def _check_size(name: str, one: _Sized, config: RunConfig, what: str) -> None:
    """Refuse pictures of another shape than the generator's."""
    shapes = ["×".join(map(str, (each.channels, *each.size))) for each in (one, config)]
    if shapes[0] != shapes[1]:
        raise BadValue(
            f"{name}: {what} is {shapes[0]}, and the generator makes {shapes[1]}",
            cure="use one of the same size and channels",
        )
