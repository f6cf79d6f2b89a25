"""A run that answers with masks or pictures, judged by whole pictures of a folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from eyeshot.data.pairs import Pairs, load_pairs
from eyeshot.engine.networks import trace
from eyeshot.errors import BadFile, BadValue
from eyeshot.evaluation.restoration import RestorationEvaluation, judge_pictures
from eyeshot.evaluation.segmentation import MaskEvaluation, judge_masks
from eyeshot.runs import Run


def evaluate_pairs(
    run: Run, data: Pairs | str | Path | None = None
) -> MaskEvaluation | RestorationEvaluation:
    """Judge a run by the validation part of pairs: :func:`eyeshot.evaluate` for masks and pictures.

    Raises:
        BadFile: the pairs cannot be read.
        BadValue: they have other classes or channels than the network.
    """
    pairs = fitting_pairs(run, data)
    judge = judge_masks if run.config.task == "segment" else judge_pictures
    return judge(trace(run), pairs, pairs.validation, pairs.notes)


def fitting_pairs(run: Run, data: Pairs | str | Path | None = None) -> Pairs:
    """``data``, loaded where it is not yet, if the run can be judged by it.

    Raises:
        BadFile: the pairs cannot be read.
        BadValue: they have other classes or channels than the network.
    """
    pairs = data if isinstance(data, Pairs) else load_test_pairs(run, data)
    config = run.config
    ours = config.task, config.classes, config.channels
    if (pairs.task, pairs.classes, pairs.channels) != ours:
        raise BadValue(
            f"{pairs.name} has {_told(pairs.channels, pairs.classes)}, and the network of "
            f"{run.path} {_told(config.channels, config.classes)}",
            cure="evaluate it on pairs like those it was trained on",
        )
    return pairs


def load_test_pairs(run: Run, place: str | Path | None = None) -> Pairs:
    """The pairs that the run was trained on, or those in another ``place``, all set aside.

    Their notes say when the run's own pictures are no longer what they were.

    Raises:
        BadFile: they cannot be read.
    """
    config = run.config
    folder = Path(config.data) if place is None else Path(place)
    if not folder.is_dir():
        raise BadFile(f"{folder}: no such folder of pictures", cure="say where it is with --data")
    if place is not None:
        pairs = load_pairs(folder, task=config.task)
        split = (folder / "train").is_dir()
        return pairs if split else replace(pairs, validation=(*pairs.train, *pairs.validation))
    pairs = load_pairs(folder, task=config.task, validation=config.validation)
    if pairs.fingerprint == config.fingerprint:
        return pairs
    changed = f"the pictures in {pairs.name} have changed since the network was trained"
    return replace(pairs, notes=(*pairs.notes, changed))


def _told(channels: int, classes: tuple[str, ...]) -> str:
    named = f" and the classes {', '.join(classes)}" if classes else ""
    return f"{channels} channels{named}"
