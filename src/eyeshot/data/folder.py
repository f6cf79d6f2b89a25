"""A folder of classes as a training set, a test set, or a list of problems."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch

from eyeshot.data.examples import Data, Examples
from eyeshot.data.problem import Checked, as_problem, raise_problems, skipped_note
from eyeshot.data.streaming import Progress, describe_counts
from eyeshot.data.survey import Labeled, Survey
from eyeshot.data.tree import Fold, Tree, find_files, find_judged, find_pictures
from eyeshot.errors import BadFile


def load_folder(
    folder: Path,
    *,
    size: tuple[int, int] | None,
    seed: int,
    budget: int,
    progress: Progress,
    skip_damaged: bool = False,
    labeled: bool = True,
    fold: Fold | None = None,
) -> Data:
    """The set in ``folder``, kept in memory if it takes at most ``budget`` bytes.

    If ``labeled`` is False, all its pictures are of one class.

    Raises:
        BadFile: see :func:`eyeshot.data.tree.find_files`; or pictures cannot be read and
            ``skip_damaged`` is not set, or two differ in size and ``size`` is None.
        BadValue: the folder cannot be split into this ``fold``.
    """
    tree = find_files(folder, seed, fold) if labeled else find_pictures(folder, seed)
    survey = Survey(_all_of(tree), len(tree.train), size, budget)
    survey.run(progress)
    skipped = _settle(survey, tree, skip_damaged)
    test, validation = _held_out(survey, tree)
    train = _examples(survey, tree, survey.readable[0])
    mean, std = describe_counts(survey.counts)
    marks = tuple(survey.marks[number] for number in survey.readable[0])
    return Data(
        name=str(folder),
        train=train,
        test=_examples(survey, tree, test),
        classes=tree.classes,
        channels=survey.channels,
        size=survey.size,
        mean=mean,
        std=std,
        validation=_examples(survey, tree, validation) if tree.validation else None,
        notes=(*tree.notes, *skipped, *survey.notes()),
        marks=marks,
    )


class Known(Protocol):
    """A network's input format and classes; a run's configuration has all of them."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the network's scores."""

    @property
    def channels(self) -> int:
        """1 or 3."""

    @property
    def picture_size(self) -> tuple[int, int]:
        """(H, W)."""

    @property
    def mean(self) -> tuple[float, ...]:
        """The mean of the training pixels, 0 to 1, for each channel."""

    @property
    def std(self) -> tuple[float, ...]:
        """Their standard deviation, for each channel."""

    @property
    def learned_from(self) -> frozenset[str]:
        """The marks of its training pictures; empty if they were not saved."""


def load_judged_folder(
    folder: Path,
    known: Known,
    *,
    part: str | None,
    budget: int,
    progress: Progress,
    skip_damaged: bool = False,
) -> Data:
    """All pictures in ``folder`` as a test set, with a network's classes, size and channels.

    ``train`` is empty.

    Args:
        folder: a folder of classes, any of which may be absent or have a single picture.
        known: the classes, size and channels of the network.
        part: for a folder with parts, ``"train"``, ``"val"``, ``"test"`` or ``"all"``; None for
            ``test`` if it exists, else ``val``.
        budget: the most bytes of pictures in memory.
        progress: called with (what, done, total).
        skip_damaged: skip unreadable pictures.

    Raises:
        BadFile: see :func:`eyeshot.data.tree.find_judged`; or pictures cannot be read.
        BadValue: there is no such part.
    """
    tree = find_judged(folder, known.classes, part)
    survey = Survey(tree.test, 0, known.picture_size, budget, known.channels)
    survey.run(progress)
    skipped = _settle(survey, tree, skip_damaged)
    _, numbers = survey.readable
    learned = sum(survey.marks[number] in known.learned_from for number in numbers)
    notes = [*tree.notes, *skipped, *survey.notes()]
    dark = survey.note_dark(known.mean)
    if dark is not None:
        notes.append(dark)
    if learned:
        notes.append(
            f"{learned} of these {len(numbers)} pictures were learned from: the figures are "
            "better than they would be for new pictures"
        )
    no_pictures = torch.empty((0, known.channels, *known.picture_size), dtype=torch.uint8)
    return Data(
        name=str(folder),
        train=Examples.hold(no_pictures, torch.empty(0, dtype=torch.int64)),
        test=_examples(survey, tree, numbers),
        classes=known.classes,
        channels=known.channels,
        size=known.picture_size,
        mean=known.mean,
        std=known.std,
        notes=tuple(notes),
    )


def check_folder(
    folder: Path,
    *,
    size: tuple[int, int] | None,
    seed: int,
    progress: Progress,
    skip_damaged: bool = False,
) -> Checked:
    """All problems that stop :func:`load_folder` from loading ``folder``, and its notes."""
    try:
        tree = find_files(folder, seed)
        survey = Survey(_all_of(tree), len(tree.train), size, 0)
        survey.run(progress)
        skipped = _settle(survey, tree, skip_damaged) if skip_damaged else ()
    except BadFile as error:
        return Checked((as_problem(error, folder),))
    problems = [one for one in survey.problems if not (skip_damaged and one.unreadable)]
    return Checked(tuple(problems), (*tree.notes, *skipped, *survey.notes()))


def _all_of(tree: Tree) -> Labeled:
    return tree.train + tree.test + tree.validation


def _settle(survey: Survey, tree: Tree, skip_damaged: bool) -> tuple[str, ...]:
    """Raise the problems, or return a note about the skipped files.

    Raises:
        BadFile: there is a problem, or too few files are left.
    """
    unreadable = [one for one in survey.problems if one.unreadable]
    if not skip_damaged:
        raise_problems(survey.problems)
    raise_problems([one for one in survey.problems if not one.unreadable])
    note = skipped_note(unreadable, len(_all_of(tree)))
    labels = {_all_of(tree)[number][1] for number in survey.readable[0]}
    for label, name in enumerate(tree.classes):
        if tree.train and label not in labels:
            raise BadFile(f"no picture of {name!r} to learn from can be read", cure="copy it again")
    if not _held_out(survey, tree)[0]:
        raise BadFile("no picture to test with can be read", cure="copy them again")
    return note


def _held_out(survey: Survey, tree: Tree) -> tuple[list[int], list[int]]:
    """The numbers of the test pictures that could be read, and of the validation pictures."""
    end = len(tree.train) + len(tree.test)
    _, others = survey.readable
    return [n for n in others if n < end], [n for n in others if n >= end]


def _examples(survey: Survey, tree: Tree, numbers: Sequence[int]) -> Examples:
    files = _all_of(tree)
    labels = torch.tensor([files[number][1] for number in numbers], dtype=torch.int64)
    return Examples(survey.pictures(numbers), labels)
