"""Measure how well a trained network does, on whole data sets and on single images.

Public as :func:`eyeshot.evaluate` and :func:`eyeshot.predict`.
"""

from __future__ import annotations

from pathlib import Path
from typing import overload

from eyeshot.data import Data
from eyeshot.data.pairs import Pairs
from eyeshot.data.pairs.layout import Layout
from eyeshot.errors import BadValue
from eyeshot.evaluation.classification import (
    ClassResult,
    Evaluation,
    Prediction,
    Predictions,
    evaluate_classes,
    load_learned,
    load_test_data,
    predict,
)
from eyeshot.evaluation.generation import SampleEvaluation, evaluate_samples, sample
from eyeshot.evaluation.pairs import evaluate_pairs, load_test_pairs
from eyeshot.evaluation.restoration import RestorationEvaluation
from eyeshot.evaluation.segmentation import ClassScore, MaskEvaluation, PictureScore
from eyeshot.runs import Run, load

__all__ = [
    "ClassResult",
    "ClassScore",
    "Evaluation",
    "MaskEvaluation",
    "PictureScore",
    "Prediction",
    "Predictions",
    "RestorationEvaluation",
    "SampleEvaluation",
    "evaluate",
    "load_learned",
    "load_test_data",
    "load_test_pairs",
    "predict",
    "sample",
]

_MADE = 1000  # pictures by which a generator is judged


@overload
def evaluate(run: Run | str | Path, data: Data) -> Evaluation: ...
@overload
def evaluate(
    run: Run | str | Path,
    data: Data | str | Path | None = None,
    *,
    skip_damaged: bool = False,
    judge: Run | str | Path,
    count: int | None = None,
) -> SampleEvaluation: ...
@overload
def evaluate(run: Run | str | Path, data: Pairs) -> MaskEvaluation | RestorationEvaluation: ...
@overload
def evaluate(
    run: Run | str | Path,
    data: str | Path | None = None,
    *,
    part: str | None = None,
    skip_damaged: bool = False,
    layout: Layout | None = None,
    judge: Run | str | Path | None = None,
    count: int | None = None,
) -> Evaluation | MaskEvaluation | RestorationEvaluation | SampleEvaluation: ...


def evaluate(
    run: Run | str | Path,
    data: Data | Pairs | str | Path | None = None,
    *,
    part: str | None = None,
    skip_damaged: bool = False,
    layout: Layout | None = None,
    judge: Run | str | Path | None = None,
    count: int | None = None,
) -> Evaluation | MaskEvaluation | RestorationEvaluation | SampleEvaluation:
    """Evaluate a run on data that it was not trained on.

    Args:
        run: a run, or the path of its folder.
        data: loaded data or pairs, or a folder: the IDX files of MNIST for a network of digits,
            images by class, or images with their targets. By default, the held-out part of the
            data that the run was trained on, loaded from where it was.
            Of a folder of classes, the ``test`` part is used, or else ``val``, or else all images;
            the notes say which. Of pairs, the ``val`` part is used, or else all pairs that were not
            trained on. Masks are read with the legend of the run, unless the folder has its own.
        part: for a folder with parts: ``"train"``, ``"val"``, ``"test"``, or ``"all"`` for all.
        skip_damaged: leave out images that cannot be read; the notes name them.
        layout: for a folder of pairs, where images and masks are.
        judge: for a generator, a classifier's run, which classifies the generated images.
        count: for a generator, the number of images to generate; 1000 by default.

    Returns:
        For the task ``classify`` an :class:`Evaluation`; for ``segment`` a
        :class:`MaskEvaluation` and for ``restore`` a :class:`RestorationEvaluation`, both of whole
        images, computed by :func:`eyeshot.run`; for ``generate`` a :class:`SampleEvaluation`.

    Raises:
        BadFile: the run or the data cannot be read.
        BadValue: the data has other classes or channels than the network, or is for another task.
    """
    run = run if isinstance(run, Run) else load(run)
    if run.config.task == "generate":
        if isinstance(data, Pairs) or part is not None or layout is not None:
            raise BadValue(
                f"{run.path}: makes pictures, which no pairs or part can judge",
                cure="leave out --part, --images, --masks, --mask-suffix and --threshold",
            )
        loaded = (
            data if isinstance(data, Data) else load_learned(run, data, skip_damaged=skip_damaged)
        )
        return evaluate_samples(run, loaded, judge=judge, count=_MADE if count is None else count)
    if judge is not None or count is not None:
        raise BadValue(
            f"{run.path}: was trained to {run.config.task}, and makes no pictures of its own",
            cure="leave out --judge and --count",
        )
    of_classes = run.config.task == "classify"
    if isinstance(data, Data if not of_classes else Pairs):
        raise BadValue(
            f"{data.name} is for the task {data.task if isinstance(data, Pairs) else 'classify'}, "
            f"and the network of {run.path} for {run.config.task}",
            cure="evaluate it on data like that it was trained on",
        )
    if isinstance(data, Data) or (of_classes and not isinstance(data, Pairs)):
        if layout is not None:
            fact = f"a layout of pictures and masks, and {run.path} tells classes apart"
            raise BadValue(fact, cure="leave out --images, --masks, --mask-suffix and --threshold")
        return evaluate_classes(run, data, part=part, skip_damaged=skip_damaged)
    return evaluate_pairs(run, data, part=part, skip_damaged=skip_damaged, layout=layout)
