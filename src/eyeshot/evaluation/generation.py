"""Generate images with a trained generator, and evaluate them.

A person sees at once whether one image is good, but not that a digit is never generated, or that
images are copies of training images. So a trained classifier counts the images that it is confident
about, and how they spread over the classes. The Fréchet distance compares the distribution of its
features with that of the training images; the same figure for held-out images is given beside it.
The distance to the nearest training image shows whether the network copies.
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
from eyeshot.evaluation.classification import has_probabilities
from eyeshot.runs import Run, RunConfig, load, normalize
from eyeshot.untouched import untouched

SURE = 0.9
"""The probability from which the classifier counts as sure of an image."""
_BATCH = 250
_COARSE = 8
"""The side, in pixels, of the coarse images used as features if there is no classifier."""
_COMPARED = 10_000
"""The most training images from which features are computed."""


@dataclass(frozen=True)
class SampleEvaluation:
    """Measurements of generated images.

    Attributes:
        count: the number of generated images; up to as many held-out images are compared.
        frechet: the Fréchet distance between the features of generated and training images.
        held_out_frechet: the same for held-out images: the value that new real images reach.
        nearest: the median distance of a generated image from the nearest training image: the root
            mean square difference over pixels in 0 … 1.
        held_out_nearest: the same for held-out images. Copies have a much smaller value.
        closest: the smallest distance of a generated image; 0 is a copy.
        sure: the share with a class of probability 0.9 or more by the judge; None without a judge.
        held_out_sure: the same for held-out images.
        shares: for each class, the share of generated images that the judge puts in it.
        entropy: the entropy of the shares, in bits; at most log2 of the number of classes.
        notes: further lines for the reader.
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
    """``count`` latents (count, latent, 1, 1) from a normal distribution, by a separate generator.

    They are drawn one by one, so that the first ones are the same for every ``count``.
    """
    source = torch.Generator().manual_seed(seed)
    return torch.stack([torch.randn(latent, 1, 1, generator=source) for _ in range(count)])


def walk_latents(latent: int, count: int, seed: int) -> Tensor:
    """``count`` latents (count, latent, 1, 1) on an arc between two random latents.

    A straight line would pass near 0, where there are no training latents: their lengths are all
    near √latent. Source: White, 2016, arXiv:1609.04468.
    """
    first, last = draw_latents(latent, 2, seed).double()
    cosine = (first * last).sum() / (first.norm() * last.norm())
    angle = torch.arccos(cosine.clamp(-1, 1))
    parts = torch.linspace(0, 1, count, dtype=torch.float64).view(-1, 1, 1, 1)
    ways: Tensor = torch.sin((1 - parts) * angle) * first + torch.sin(parts * angle) * last
    return (ways / torch.sin(angle)).float()


def make_pictures(net: nets.Generator, latents: Tensor) -> Tensor:
    """Images (N, C, H, W) in −1 … 1 from latents (N, latent, 1, 1), in eval mode, on the CPU.

    Each image depends only on its own latent, for any N. The network keeps its mode.
    """
    device = next(net.parameters()).device
    with untouched(net), torch.inference_mode():
        net.eval()
        parts = [net(part.to(device)).float().cpu() for part in torch.split(latents, _BATCH)]
    return torch.cat(parts)


def to_bytes(pictures: Tensor, config: RunConfig) -> NDArray[np.uint8]:
    """Generated images (N, C, H, W) in −1 … 1 as uint8 (N, H, W, C), scaled as the run's data."""
    mean, std = (torch.tensor(one).view(-1, 1, 1) for one in (config.mean, config.std))
    samples = (pictures * std + mean).clamp(0, 1).mul(255).round().to(torch.uint8)
    return np.ascontiguousarray(samples.permute(0, 2, 3, 1).numpy())


def sample(
    run: Run | str | Path, count: int = 64, *, seed: int = 0, walk: bool = False
) -> NDArray[np.uint8]:
    """Generate images with a trained generator.

    Args:
        run: a run of the task ``generate``, or the path of its folder.
        count: the number of images.
        seed: the seed of the latents. The same seed gives the same images; a larger count adds
            images after them.
        walk: True for images between two latents in even steps, not one random latent for each.

    Returns:
        (count, H, W, C) uint8; C is 1 or 3.

    Raises:
        BadFile: the run cannot be read.
        BadValue: the run is of another task, ``count`` is below 1 (for a walk, 2), or ``seed`` is
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
    is symmetric, so that rounding gives no complex numbers.
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
    """Evaluate a generator's images: :func:`eyeshot.evaluate` for the task ``generate``.

    With a judge, the features are the inputs of its last linear layer; without one, the coarse
    pixels of :func:`describe_pixels`.

    Args:
        run: a run of the task ``generate``.
        data: its training data, with a held-out part.
        judge: a classifier trained on such images; None for none.
        count: the number of images to generate.
        seed: the seed of their latents.

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
    """For each image, the distance to the nearest training image and its index: (N,) and (N,).

    The distance is the root mean square difference over pixels and channels in 0 … 1.

    Args:
        pictures: (N, C, H, W) uint8 or uint16.
        learned: of the same size.
    """
    vectors = _unit(pictures).flatten(1)
    nearest = torch.full((len(vectors),), math.inf)
    places = torch.zeros(len(vectors), dtype=torch.long)
    start = 0
    for others, _ in learned.batches(8 * _BATCH):
        least, place = torch.cdist(vectors, _unit(others).flatten(1)).min(1)
        places = torch.where(least < nearest, start + place, places)
        nearest = torch.minimum(nearest, least)
        start += len(others)
    return nearest / math.sqrt(vectors.shape[1]), places


def _unit(pictures: Tensor) -> Tensor:
    return pictures.float() / torch.iinfo(pictures.dtype).max


def _some(examples: Examples, most: int) -> Tensor:
    """At most ``most`` images of ``examples``, evenly spaced over all of them: (N, C, H, W)."""
    count = min(most, len(examples))
    places = torch.linspace(0, len(examples) - 1, count, dtype=torch.float64).round().long()
    return examples.take(places)[0]


def _coarse(pictures: Tensor, config: RunConfig) -> Tensor:
    return describe_pixels(normalize(pictures, config.mean, config.std))


def _ask(judge: Run, pictures: Tensor) -> tuple[Tensor, Tensor]:
    """The inputs of the judge's last linear layer, (N, F), and its probabilities (N, classes)."""
    last = [layer for layer in judge.net.modules() if isinstance(layer, nn.Linear)][-1]
    read: list[Tensor] = []
    scores: list[Tensor] = []
    with untouched(judge.net), torch.inference_mode():
        handle = last.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0].clone()))
        for part in torch.split(pictures, _BATCH):
            scores.append(judge.net(judge.normalize(part)))
        handle.remove()
    given = torch.cat(scores)
    return torch.cat(read), given if has_probabilities(judge) else given.softmax(1)


def _spread(made: Tensor, held_out: Tensor, classes: tuple[str, ...]) -> dict[str, Any]:
    """Measurements from a judge's probabilities (N, classes) for generated and held-out images."""
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
