"""Evaluate a classifier on a test set, and predict the classes of single images."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy

from eyeshot.data import BUDGET, Data
from eyeshot.data import load as load_data
from eyeshot.data.examples import TerminalProgress
from eyeshot.data.folder import load_judged_folder
from eyeshot.errors import BadFile, BadValue
from eyeshot.frontends.refusals import refuse_autocast
from eyeshot.images.layouts import Index
from eyeshot.runs import Run, fingerprint, load, score
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
