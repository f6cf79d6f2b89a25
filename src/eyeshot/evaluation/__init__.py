"""How well a trained network does: on whole sets, and on single pictures.

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
    """Judge a run by what it has not learned from.

    Args:
        run: a run, or the path of its folder.
        data: by default the part that was set aside of what it was trained on, loaded from where it
            was. Data or pairs that are loaded, or a folder: of the IDX files of MNIST for a network
            of digits, of pictures by class, or of pictures with their answers. All pictures of a
            folder of classes are judged, or its ``test`` part, or else ``val``, as the notes say.
            Of pairs, its ``val`` part is judged, or else all that was not learned from, by the
            legend of the run's masks unless the folder has its own.
        part: of a folder with parts, ``"train"``, ``"val"``, ``"test"``; ``"all"`` for every
            picture.
        skip_damaged: leave out what cannot be read; the notes name it.
        layout: of a folder of pairs, where pictures and masks are.
        judge: of a generator, a run of a classifier that says what its pictures show.
        count: of a generator, how many pictures it makes; 1000.

    Returns:
        For the task ``classify`` an :class:`Evaluation`; for ``segment`` a
        :class:`MaskEvaluation`, for ``restore`` a :class:`RestorationEvaluation`: both on whole
        pictures, which :func:`eyeshot.run` passed through the network; for ``generate`` a
        :class:`SampleEvaluation`.

    Raises:
        BadFile: the run or the data cannot be read.
        BadValue: the data has other classes or channels than the network, or is of another task.
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
