"""Measure how well a trained network does, on whole data sets and on single images.

Public as :func:`eyeshot.evaluate` and :func:`eyeshot.predict`. A run that outputs masks or images
is evaluated on the whole images of a folder of pairs.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import overload

from eyeshot.data import Data
from eyeshot.data.pairs import Pairs, load_judged, load_pairs
from eyeshot.data.pairs.layout import Layout
from eyeshot.data.pairs.listing import keeps_a_test
from eyeshot.engine.networks import trace
from eyeshot.errors import BadFile, BadValue
from eyeshot.evaluation.labels import (
    ClassResult,
    Evaluation,
    Prediction,
    Predictions,
    SampleEvaluation,
    evaluate_classes,
    evaluate_samples,
    load_learned,
    load_test_data,
    predict,
    sample,
)
from eyeshot.evaluation.pairs import (
    ClassScore,
    MaskEvaluation,
    PictureScore,
    RestorationEvaluation,
    judge_masks,
    judge_pictures,
)
from eyeshot.evaluation.passes import tell_sizes
from eyeshot.language import counted
from eyeshot.runs import Run, RunConfig, load
from eyeshot.runs.inputs import geometry_of

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
            the notes say which. Of pairs, the ``test`` part is used, or else ``val``, or else all
            pairs that were not trained on. Masks are read with the legend of the run, unless the
            folder has its own.
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


def evaluate_pairs(
    run: Run,
    data: Pairs | str | Path | None = None,
    *,
    part: str | None = None,
    skip_damaged: bool = False,
    layout: Layout | None = None,
) -> MaskEvaluation | RestorationEvaluation:
    """Evaluate a run on the test part of pairs, or else the val part: :func:`eyeshot.evaluate`.

    Raises:
        BadFile: the pairs cannot be read.
        BadValue: they have other classes or channels than the network.
    """
    if not isinstance(data, Pairs):
        data = load_test_pairs(run, data, part=part, skip_damaged=skip_damaged, layout=layout)
    pairs = fitting_pairs(run, data)
    judge = judge_masks if run.config.task == "segment" else judge_pictures
    return judge(trace(run), pairs, pairs.validation, (*pairs.notes, *tell_sizes(geometry_of(run))))


def fitting_pairs(run: Run, data: Pairs | str | Path | None = None) -> Pairs:
    """``data``, loaded if it is a folder, and checked to fit the run.

    Raises:
        BadFile: the pairs cannot be read.
        BadValue: they have other classes or channels than the network.
    """
    pairs = data if isinstance(data, Pairs) else load_test_pairs(run, data)
    config = run.config
    if pairs.task != config.task:
        raise BadValue(
            f"{pairs.name} is for the task {pairs.task}, and the network of {run.path} for "
            f"{config.task}",
            cure="evaluate it on pairs like those it was trained on",
        )
    own, expected = _traits(pairs), _traits(config)
    apart = [place for place, trait in enumerate(own) if trait != expected[place]]
    if apart:
        raise BadValue(
            f"{pairs.name} has {' and '.join(own[place] for place in apart)}, and the network of "
            f"{run.path} {' and '.join(expected[place] for place in apart)}",
            cure="evaluate it on pairs like those it was trained on",
        )
    learned = sum(pair.digest in config.learned_from for pair in pairs.validation)
    if not learned:
        return pairs
    note = (
        f"{learned} of these {len(pairs.validation)} pictures were learned from: the figures are "
        "better than they would be for new pictures"
    )
    return replace(pairs, notes=(*pairs.notes, note))


def load_test_pairs(
    run: Run,
    place: str | Path | None = None,
    *,
    part: str | None = None,
    skip_damaged: bool = False,
    layout: Layout | None = None,
) -> Pairs:
    """The pairs that the run was trained on, or those in another ``place``.

    Their ``validation`` holds the pairs to evaluate: the folder's own test part, or else its val
    part, or all that were not trained on. Their notes say so if the run's own images have changed
    since training.

    Args:
        run: a run of the task ``segment`` or ``restore``.
        place: another folder of pairs; None for the run's own.
        part: for a folder with parts: ``"train"``, ``"val"``, ``"test"``, or ``"all"`` for all.
        skip_damaged: leave out images that cannot be read.
        layout: where images and masks are; None for the run's own layout if the folder has it, else
            by the names of its folders.

    Raises:
        BadFile: they cannot be read.
        BadValue: there is no such part.
    """
    config = run.config
    folder = Path(config.data) if place is None else Path(place)
    if place is None:
        run.check_held_out()
    if not folder.is_dir():
        raise BadFile(f"{folder}: no such folder of pictures", cure="say where it is with --data")
    own = part is None and layout is None and not config.learned_all
    own = own and folder.resolve() == Path(config.data).resolve()
    own = own and not keeps_a_test(folder, config.task, config.layout)
    pairs = _split_again(folder, config) if own else None
    if pairs is not None and pairs.fingerprint == config.fingerprint:
        return pairs
    if pairs is None or config.learned:
        pairs = load_judged(
            folder,
            task=config.task,
            legend=config.legend,
            learned=config.learned_from,
            part=part,
            skip_damaged=skip_damaged or config.skip_damaged,
            layout=layout or _own_layout(config, folder),
            dims=len(config.size),
        )
    if not own or pairs.fingerprint == config.fingerprint:
        return pairs
    changed = f"the pictures in {pairs.name} have changed since the network was trained"
    return replace(pairs, notes=(*pairs.notes, changed))


def _own_layout(config: RunConfig, folder: Path) -> Layout | None:
    """The layout of the run's own folder, if this folder has the same subfolders; else None."""
    own = config.layout
    if own is None:
        return None
    here = all((folder / name).is_dir() for name in (own.images, own.masks) if name)
    return own if here else replace(own, images="", masks="")


def _split_again(folder: Path, config: RunConfig) -> Pairs | None:
    """The run's own pairs, split as by default; None if this is no longer possible.

    Raises:
        BadFile, BadValue: it is not possible, and the run does not record its training images.
    """
    try:
        return load_pairs(
            folder,
            task=config.task,
            validation=config.validation,
            skip_damaged=config.skip_damaged,
            layout=config.layout,
            dims=len(config.size),
            fold=config.held_out,
        )
    except (BadFile, BadValue):
        if not config.learned:
            raise
        return None


def _traits(one: Pairs | RunConfig) -> tuple[str, str]:
    """The properties that pairs and a network must share, as text."""
    return counted(one.channels, "channel"), f"the classes {', '.join(one.classes)}"
