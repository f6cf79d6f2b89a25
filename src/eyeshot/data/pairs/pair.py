"""Pictures with a picture as their answer: a mask of classes, or what they ought to look like."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from eyeshot.data.pairs.legend import Legend
from eyeshot.errors import UnknownName

TASKS = ("segment", "restore")
"""``segment``: the answer is a mask of classes. ``restore``: it is a picture."""


@dataclass(frozen=True)
class Pair:
    """One picture and its answer, as files.

    Attributes:
        name: what both files are called, without their suffixes.
        image: the picture's file.
        target: the mask's, or the wanted picture's.
        size: (height, width) of both.
        digest: of the picture's samples, 16 hexadecimal digits; "" where nobody has taken it.
    """

    name: str
    image: Path
    target: Path
    size: tuple[int, int]
    digest: str = ""


@dataclass(frozen=True)
class Pairs:
    """A folder of pairs, split: what :func:`eyeshot.data.load_pairs` returns.

    Attributes:
        name: the folder.
        task: one of :data:`TASKS`.
        train: what a network may learn from.
        validation: what it is judged by.
        classes: the names of the classes, none for ``restore``; a mask's numbers index them.
        channels: C of every picture, as in its file: 1 for grey, 3 for colour.
        mean: of the training samples scaled to 0…1, for each channel.
        std: their standard deviation, for each channel, never 0.
        counts: pixels of each class in the training masks; one may be 0.
        fingerprint: 16 hexadecimal digits that are others for any other pixels, names or classes.
        legend: how a mask's samples stand for classes; None for ``restore``.
        notes: what was decided on the way, a sentence each.
    """

    name: str
    task: str
    train: tuple[Pair, ...]
    validation: tuple[Pair, ...]
    classes: tuple[str, ...]
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    counts: tuple[int, ...]
    fingerprint: str
    legend: Legend | None = None
    notes: tuple[str, ...] = ()


def check_task(task: str) -> str:
    """``task`` itself, where it is one.

    Raises:
        UnknownName: it is not.
    """
    if task not in TASKS:
        raise UnknownName("task", task, TASKS)
    return task
