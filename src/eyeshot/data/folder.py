"""A folder of classes as a set to train on."""

from __future__ import annotations

from pathlib import Path

import torch

from eyeshot.data.examples import Data, Examples
from eyeshot.data.progress import Progress
from eyeshot.data.statistics import describe_counts
from eyeshot.data.survey import Survey
from eyeshot.data.tree import Part, find_files


def load_folder(
    folder: Path, *, size: tuple[int, int] | None, seed: int, budget: int, progress: Progress
) -> Data:
    """The set in ``folder``, held in memory where it takes no more than ``budget`` bytes.

    Raises:
        BadFile: see :func:`eyeshot.data.tree.find_files`; or a picture cannot be read, or two
            differ in size and no ``size`` was asked for.
    """
    tree = find_files(folder, seed)
    files = [path for path, _ in tree.train + tree.test + tree.validation]
    survey = Survey(files, len(tree.train), size, budget)
    survey.run(progress)
    train = _examples(survey, 0, tree.train)
    test = _examples(survey, len(train), tree.test)
    validation = None
    if tree.validation:
        validation = _examples(survey, len(train) + len(test), tree.validation)
    mean, std = describe_counts(survey.counts)
    return Data(
        name=str(folder),
        train=train,
        test=test,
        classes=tree.classes,
        channels=survey.channels,
        size=survey.size,
        mean=mean,
        std=std,
        validation=validation,
        notes=(*tree.notes, *survey.notes()),
    )


def _examples(survey: Survey, start: int, part: Part) -> Examples:
    labels = torch.tensor([label for _, label in part], dtype=torch.int64)
    return Examples(survey.pictures(start, start + len(part)), labels)
