"""Evaluate networks of labeled pictures: classifiers on a test set, generators by a classifier.

The classes of single images are predicted here too, and images are generated.

A person sees at once whether one image is good, but not that a digit is never generated, or that
images are copies of training images. So a trained classifier counts the images that it is confident
about, and how they spread over the classes. The Fréchet distance compares the distribution of its
features with that of the training images; the same figure for held-out images is given beside it.
The distance to the nearest training image shows whether the network copies.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, cross_entropy

from eyeshot import nets
from eyeshot.data import BUDGET, Data, Examples
from eyeshot.data import load as load_data
from eyeshot.data.examples import TerminalProgress
from eyeshot.data.folder import load_judged_folder
from eyeshot.errors import BadFile, BadValue
from eyeshot.frontends.refusals import refuse_autocast
from eyeshot.images.layouts import Index
from eyeshot.language import counted
from eyeshot.runs import Run, RunConfig, fingerprint, load, normalize, score
from eyeshot.runs.config import are_shares, log_of
from eyeshot.untouched import untouched


@dataclass(frozen=True)
class ClassResult:
    """Precision and recall of one class.

    ``precision`` is None if no image was predicted as this class; ``recall`` is None if no image
    is of this class.
    """

    name: str
    count: int
    precision: float | None
    recall: float | None


@dataclass(frozen=True)
class Evaluation:
    """A classifier's results on a test set of N images.

    Attributes:
        count: N.
        accuracy: the share of images classified correctly, 0 to 1.
        loss: the mean cross-entropy, in nats.
        per_class: the results of each class.
        confusion: (classes, classes), the number of images of class [row] predicted as [column].
        probabilities: (N, classes), in the order of the set.
        labels: (N,), the true classes.
        notes: further lines for the reader.
    """

    count: int
    accuracy: float
    loss: float
    per_class: tuple[ClassResult, ...]
    confusion: NDArray[np.int64] = field(repr=False)
    probabilities: Tensor = field(repr=False)
    labels: Tensor = field(repr=False)
    notes: tuple[str, ...] = ()

    def mistakes(self) -> Tensor:
        """Indices of the images classified wrongly, the most confident first: (mistakes,)."""
        sure, predicted = self.probabilities.max(1)
        wrong = (predicted != self.labels).nonzero().squeeze(1)
        order: Tensor = wrong[sure[wrong].argsort(descending=True, stable=True)]
        return order

    def _repr_html_(self) -> str:
        from eyeshot.evaluation.passes import evaluation_piece

        return evaluation_piece(self)

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain data."""
        return {
            "count": self.count,
            "accuracy": self.accuracy,
            "loss": self.loss,
            "per_class": [vars(result) for result in self.per_class],
            "confusion": self.confusion.tolist(),
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class Prediction:
    """A prediction for one image: the most likely classes first, each with its probability.

    ``notes`` says how the image was prepared for the network.
    """

    name: str
    classes: tuple[tuple[str, float], ...]
    notes: tuple[str, ...]

    def __str__(self) -> str:
        name, share = self.classes[0]
        return f"{self.name}: {name}, {share:.1%} sure"

    def _repr_html_(self) -> str:
        from eyeshot.evaluation.passes import predictions_piece

        return predictions_piece([self])

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain data."""
        top = [{"class": name, "probability": share} for name, share in self.classes]
        return {"image": self.name, "top": top, "notes": list(self.notes)}


class Predictions(list[Prediction]):
    """The predictions for several images, in their order; a notebook shows them as bars."""

    def __str__(self) -> str:
        return "\n".join(map(str, self))

    def _repr_html_(self) -> str:
        from eyeshot.evaluation.passes import predictions_piece

        return predictions_piece(self)


def evaluate_classes(
    run: Run,
    data: Data | str | Path | None = None,
    *,
    part: str | None = None,
    skip_damaged: bool = False,
) -> Evaluation:
    """Evaluate a classifier on a test set: :func:`eyeshot.evaluate` for the task ``classify``.

    Raises:
        BadFile: the data cannot be read.
        BadValue: the data has other classes or channels than the network, or no such part.
    """
    config = run.config
    if isinstance(data, Data):
        loaded = data
    else:
        loaded = load_test_data(run, data, part=part, skip_damaged=skip_damaged)
    if loaded.classes != config.classes or loaded.channels != config.channels:
        raise BadValue(
            f"{loaded.name} has {loaded.channels} channels and the classes "
            f"{', '.join(loaded.classes)}, and the network of {run.path} {config.channels} and "
            f"{', '.join(config.classes)}",
            cure="evaluate it on data like that it was trained on",
        )
    if loaded.size != config.picture_size:
        here, there = ("×".join(map(str, size)) for size in (loaded.size, config.picture_size))
        raise BadValue(
            f"{loaded.name} holds pictures of {here}, and the network of {run.path} was trained "
            f"on {there}",
            cure=f"load them with size={config.picture_size}",
        )
    with untouched(run.net):
        scores, labels = score(run.net, loaded.test, config)
    if has_probabilities(run):
        scores = log_of(scores)
    return _summarize(scores, labels, config.classes, loaded.notes)


def predict(
    run: Run | str | Path,
    images: Iterable[str | Path | NDArray[Any]],
    top: int = 3,
    *,
    series: int | None = None,
    index: Index | None = None,
) -> Predictions:
    """Predict the class of each of ``images``.

    Args:
        run: a run, or the path of its folder.
        images: files, or arrays (H, W) or (H, W, C): uint8, uint16, or floats 0…1. A photo is
            prepared as the network was trained; each prediction's notes say how.
        top: the number of classes to give for each image.
        series: the index of an image in files that hold several, or of a frame; None for the first.
        index: positions along the other axes of stacks in files, such as ``"Z=3"``.

    Raises:
        BadFile: an image cannot be read.
        BadValue: ``top`` is below 1, an image is empty, or the run's network outputs an image.
    """
    if top < 1:
        raise BadValue(f"top is {top}", cure="use 1 or more")
    refuse_autocast()
    run = run if isinstance(run, Run) else load(run)
    if run.config.task != "classify":
        raise BadValue(
            f"{run.path}: was trained to {run.config.task}, and answers with a whole picture",
            cure=f"use eyeshot sample {run.path} -o SHEET.png"
            if run.config.task == "generate"
            else f"use eyeshot run {run.path} IMAGE -o OUT",
        )
    prepare = partial(run.prepare, series=series, index=index)
    return Predictions(_predict_one(run, image, prepare, top) for image in images)


def _predict_one(
    run: Run,
    image: str | Path | NDArray[Any],
    prepare: Callable[[str | Path | NDArray[Any]], tuple[Tensor, list[str]]],
    top: int,
) -> Prediction:
    name = "array" if isinstance(image, np.ndarray) else str(image)
    picture, notes = prepare(image)
    with untouched(run.net), torch.inference_mode():
        scores = run.net(run.normalize(picture))
    found = scores if has_probabilities(run) else scores.softmax(1)
    shares, order = found[0].sort(descending=True)
    ranked = zip(order.tolist(), shares.tolist(), strict=True)
    classes = tuple((run.config.classes[index], share) for index, share in ranked)
    return Prediction(name, classes[:top], tuple(notes))


def has_probabilities(run: Run) -> bool:
    """Whether a classifier's answers are probabilities already, as they are after a softmax.

    No other softmax may be taken of them. Its answers to noise tell, as in training.
    """
    config = run.config
    if config.own is None:  # eyeshot's own networks give scores
        return False
    weight = next((one for one in run.net.parameters() if one.is_floating_point()), torch.zeros(()))
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(2, config.channels, *config.size, generator=generator)
    with untouched(run.net), torch.inference_mode():
        return are_shares(run.net(noise.to(weight)))


def load_test_data(
    run: Run,
    place: str | Path | None = None,
    *,
    part: str | None = None,
    skip_damaged: bool = False,
) -> Data:
    """The data to evaluate a run on: the held-out part of its own data, or all images in ``place``.

    The data's notes say so if the run's own data has changed since training.

    Args:
        run: a run of the task ``classify``.
        place: another folder, of images by class or of MNIST's files; None for the run's own.
        part: for a folder with parts: ``"train"``, ``"val"``, ``"test"``, or ``"all"`` for all.
        skip_damaged: leave out images that cannot be read.

    Raises:
        BadFile: the data cannot be read.
        BadValue: there is no such part.
    """
    config = run.config
    if config.reads_digits:
        if part is not None:
            raise BadValue(
                f"part is {part}, and {config.data} has fixed parts", cure="leave it out"
            )
        if place is not None:
            return load_data("mnist", folder=place, size=config.picture_size)
        run.check_held_out()
        data = load_data(config.data, folder=config.data_folder, size=config.picture_size)
        return _compared(data, run)
    if place is None:
        run.check_held_out()
    source = Path(config.data) if place is None else Path(place)
    if not source.is_dir():
        raise BadFile(f"{source}: no such folder of pictures", cure="say where it is with --data")
    skip = skip_damaged or config.skip_damaged
    own = part is None and not config.learned_all
    if own and source.resolve() == Path(config.data).resolve():
        fold = config.held_out
        size = config.picture_size
        return _compared(load_data(source, size=size, skip_damaged=skip, fold=fold), run)
    return load_judged_folder(
        source,
        config,
        part=part,
        budget=BUDGET,
        progress=TerminalProgress(),
        skip_damaged=skip,
    )


def load_learned(run: Run, place: str | Path | None = None, *, skip_damaged: bool = False) -> Data:
    """A generator's training images and held-out images, without their classes.

    Args:
        run: a run of the task ``generate``.
        place: the folder where the data is now; None if it has not moved.
        skip_damaged: leave out images that cannot be read.

    Raises:
        BadFile: they cannot be read.
    """
    config = run.config
    if config.reads_digits:
        folder = config.data_folder if place is None else place
        return _compared(load_data(config.data, folder=folder, size=config.picture_size), run)
    skip = skip_damaged or config.skip_damaged
    source = Path(config.data) if place is None else Path(place)
    size = config.picture_size
    return _compared(load_data(source, size=size, skip_damaged=skip, labeled=False), run)


def _compared(data: Data, run: Run) -> Data:
    """The run's own data, with notes: which part is used, and whether it changed since training."""
    if not run.config.reads_digits:
        aside = f"judged by the part of {data.name} that was not learned from"
        data = replace(data, notes=(*data.notes, aside))
    if fingerprint(data) == run.config.fingerprint:
        return data
    changed = f"the pictures in {data.name} have changed since the network was trained"
    return replace(data, notes=(*data.notes, changed))


def _summarize(
    scores: Tensor, labels: Tensor, classes: tuple[str, ...], notes: tuple[str, ...]
) -> Evaluation:
    count = len(classes)
    predicted = scores.argmax(1)
    pairs = torch.bincount(labels * count + predicted, minlength=count * count)
    confusion = pairs.view(count, count)
    right, total, named = confusion.diagonal(), confusion.sum(1), confusion.sum(0)
    per_class = tuple(
        ClassResult(name, int(total[i]), _share(right[i], named[i]), _share(right[i], total[i]))
        for i, name in enumerate(classes)
    )
    return Evaluation(
        count=len(labels),
        accuracy=float(right.sum() / len(labels)),
        loss=float(cross_entropy(scores, labels)),
        per_class=per_class,
        confusion=confusion.numpy(),
        probabilities=scores.softmax(1),
        labels=labels,
        notes=notes,
    )


def _share(part: Tensor, whole: Tensor) -> float | None:
    return float(part / whole) if whole else None


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

    Raises:
        BadValue: N or M is below 2: a single picture has no covariance.
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
            ``count`` is below 2, or there are fewer than 2 training or held-out pictures.
    """
    if count < 2:
        raise BadValue(f"count is {count}", cure="use 2 or more, such as 1000")
    _check_size(data.name, data, run.config, "the pictures that it learned from")
    made = torch.from_numpy(sample(run, count, seed=seed)).permute(0, 3, 1, 2)
    check_spread(f"the held-out part of {data.name}", len(data.test))
    check_spread(f"the training part of {data.name}", len(data.train))
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
        nearest=float(distances.quantile(0.5)),
        held_out_nearest=float(others.quantile(0.5)),
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
        known = _unit(others).flatten(1)
        # cdist takes products: their rounding in float32 hides whether a picture is a copy.
        place = torch.cdist(vectors.double(), known.double()).argmin(1)
        least = (vectors - known[place]).norm(dim=1)
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
    """The inputs of the judge's last linear layer, (N, F), and its probabilities (N, classes).

    The last is the one that runs last, in whatever order the network names its layers.
    """
    linear = [layer for layer in judge.net.modules() if isinstance(layer, nn.Linear)]
    given: list[Tensor] = []
    read, scores = [], []

    def note(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        given[:] = inputs[:1]

    with untouched(judge.net), torch.inference_mode():
        handles = [layer.register_forward_pre_hook(note) for layer in linear]
        for part in torch.split(pictures, _BATCH):
            scores.append(judge.net(judge.normalize(part)))
            read.append(given[0].clone())
        for handle in handles:
            handle.remove()
    answers = torch.cat(scores)
    return torch.cat(read), answers if has_probabilities(judge) else answers.softmax(1)


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


def check_spread(name: str, count: int) -> None:
    """Refuse a set of pictures whose distribution is unknown.

    Raises:
        BadValue: it has fewer than two.
    """
    if count < 2:
        raise BadValue(
            f"{name}: {counted(count, 'picture')}, and the distribution of made pictures is "
            "compared with that of 2 or more",
            cure="add pictures: of 8 or more, a fifth is 2 to be set aside",
        )


def _moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (F,) and covariance (F, F), float64."""
    check_spread("features", len(features))
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
