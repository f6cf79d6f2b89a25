"""A folder of classes as a training set, a test set, or a list of problems.

Before training, one pass reads every file. It detects damaged files before training time is lost,
records the size and the channels, counts the values of the pixels for the mean and the deviation,
and detects duplicate pictures. It keeps the pictures in memory if they fit the budget; otherwise
they are streamed from their files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from eyeshot.data import pixels
from eyeshot.data.examples import (
    LEVELS,
    Counts,
    Data,
    Examples,
    FilePictures,
    HeldPictures,
    Pictures,
    Progress,
    count_cores,
    count_levels,
    deepen_counts,
    describe_counts,
    read_pixels,
)
from eyeshot.data.tree import (
    Checked,
    Fold,
    Problem,
    Tree,
    as_problem,
    find_files,
    find_judged,
    find_pictures,
    merge_notes,
    raise_problems,
    skipped_note,
)
from eyeshot.errors import BadFile, BadValue
from eyeshot.images.whole import SCALE_FIRST, bits_of, note_dark

_AT_ONCE = 256  # files in flight, so that the pass itself needs little memory

Labeled = Sequence[tuple[Path, int]]


class Survey:
    """The results of one pass over the files of a set.

    Args:
        files: with their labels, the training files first, then the others.
        training: how many of them are for training.
        size: (height, width) to stretch to; None expects all pictures to have one size.
        budget: the most bytes of pictures in memory; 0 for a check that keeps none.
        channels: of the network to evaluate; None for as many as the training pictures have.

    Attributes:
        channels: 3 if any training picture is in color, else 1.
        deep: whether any picture has more than 8 bits; then all are returned in 16.
        counts: (channels, 256), the count of each value in the training pictures; (channels, 65536)
            if one of them has 16 bits.
        problems: what prevents training, in the order of the files.
        marks: for each readable picture, a digest that identifies it.
    """

    def __init__(
        self,
        files: Labeled,
        training: int,
        size: tuple[int, int] | None,
        budget: int,
        channels: int | None = None,
    ) -> None:
        self.channels = channels or pixels.GRAY
        self.deep = False
        self.problems: list[Problem] = []
        self.marks: dict[int, str] = {}
        self._settled = channels is not None
        self._files = files
        self._training = training
        self._stretch = size is not None
        self._size = pixels.check_size(size) if size else None
        self._first = 0  # the file whose size all others must have
        self._budget = budget
        self._in_memory: dict[int, pixels.Samples] | None = {}  # None once they exceed the budget
        self._counts: Counts = np.zeros((pixels.COLOR, LEVELS), np.int64)
        self._noted: list[tuple[Path, str]] = []
        self._seen: dict[str, int] = {}  # picture, by its mark -> its number
        self._twins: list[tuple[int, int]] = []  # held-out number, training number
        self._contradictions: list[tuple[int, int]] = []  # one picture, two classes
        self._others: list[tuple[int, tuple[int, int]]] = []  # of another size
        self._made_gray = 0
        self._largest = 0  # sample of the pictures of 16 bits
        self._of_bytes: int | None = None  # the first picture of 8 bits

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of every picture; known after :meth:`run`."""
        if self._size is None:
            raise RuntimeError("the survey has not been run")
        return self._size

    @property
    def counts(self) -> Counts:
        """The count of each value for each channel, (channels, 256) or (channels, 65536)."""
        return self._counts[: self.channels]

    @property
    def readable(self) -> tuple[list[int], list[int]]:
        """The numbers of the training files that could be read, and of the others."""
        numbers = sorted(self.marks)
        return (
            [number for number in numbers if number < self._training],
            [number for number in numbers if number >= self._training],
        )

    def run(self, progress: Progress) -> None:
        """Read every picture; ``problems`` lists the unreadable ones."""
        for number, (picture, notes) in enumerate(self._read_all()):
            self._noted += ((self._files[number][0], note) for note in notes)
            if isinstance(picture, BadFile):
                path, _ = self._files[number]
                unreadable = not isinstance(picture.__cause__, BadValue)  # such as floats beyond 1
                self.problems.append(as_problem(picture, path, unreadable=unreadable))
            else:
                self._take_in(number, picture)
            progress("reading pictures", number + 1, len(self._files))
        self._report_sizes()

    def _take_in(self, number: int, picture: pixels.Samples) -> None:
        if picture.dtype == np.uint16:
            self.deep = True
            self._largest = max(self._largest, int(picture.max()))
        elif self._of_bytes is None:
            self._of_bytes = number
        if not self._check_size(number, picture):
            return
        picture = pixels.resize(picture, self.size)
        if number < self._training:
            self._count(picture)
        elif picture.ndim == 3 and self.channels == pixels.GRAY:
            self._made_gray += 1
        self._look_for_twin(number, picture)
        self._keep(number, picture)

    def pictures(self, numbers: Sequence[int]) -> Pictures:
        """The pictures of these files, in memory or streamed; ask for each picture only once."""
        if self._in_memory is None:
            paths = tuple(self._files[number][0] for number in numbers)
            return FilePictures(paths, self.channels, self.size, self._stretch, self.deep)
        dtype = torch.uint16 if self.deep else torch.uint8
        images = torch.empty((len(numbers), self.channels, *self.size), dtype=dtype)
        for place, number in enumerate(numbers):
            samples = pixels.to_channels(self._in_memory.pop(number), self.channels)
            samples = pixels.deepen(samples) if self.deep else samples
            images[place] = torch.from_numpy(samples).permute(2, 0, 1)
        return HeldPictures(images)

    def notes(self) -> Iterator[str]:
        """Facts that the user should know, a sentence each."""
        if self._in_memory is None and self._budget:
            yield f"more than {self._budget} bytes of pictures: they stay in their files"
        yield from merge_notes(self._noted)
        if self._made_gray:
            gray = "the network's" if self._settled else "all training pictures"
            one = self._made_gray == 1
            were = "picture is in color and was" if one else "pictures are in color and were"
            yield f"{self._made_gray} held-out {were} made gray, like {gray}"
        bits = bits_of(self._largest, np.dtype(np.uint16))
        if bits and self._of_bytes is not None:
            yield (
                f"pictures of 16 bits use {bits} of them, and {self._files[self._of_bytes][0]} has "
                f"8: beside it they are almost black; {SCALE_FIRST.format(bits=bits)}"
            )
        if self._twins:
            held_out, training = self._twins[0]
            one = len(self._twins) == 1
            are = "picture is a training picture" if one else "pictures are training pictures"
            yield (
                f"{len(self._twins)} held-out {are} too, "
                f"first {self._files[held_out][0]} = {self._files[training][0]}: "
                "the accuracy will look better than it is"
            )
        if self._contradictions:
            second, first = self._contradictions[0]
            count = len(self._contradictions)
            are = "picture is" if count == 1 else "pictures are"
            yield (
                f"{count} {are} there twice, in two classes, first "
                f"{self._files[second][0]} = {self._files[first][0]}: one of them is wrong"
            )

    def note_dark(self, mean: Sequence[float]) -> str | None:
        """A note on pictures that are much darker than those of that mean, of fewer bits."""
        return note_dark(self._largest, np.dtype(np.uint16), mean, SCALE_FIRST)

    def _read_all(self) -> Iterator[tuple[pixels.Samples | BadFile, list[str]]]:
        paths = [path for path, _ in self._files]
        with ThreadPoolExecutor(count_cores()) as pool:
            for start in range(0, len(paths), _AT_ONCE):
                yield from pool.map(_read, paths[start : start + _AT_ONCE])

    def _check_size(self, number: int, picture: pixels.Samples) -> bool:
        """Whether a picture has the same size as the first one, or is stretched to it."""
        height, width = picture.shape[:2]
        if self._size is None:
            self._size, self._first = (height, width), number
        if self._stretch or (height, width) == self._size:
            return True
        self._others.append((number, (height, width)))
        return False

    def _report_sizes(self) -> None:
        if not self._others:
            return
        number, (height, width) = self._others[0]
        path, first = self._files[number][0], self._files[self._first][0]
        more = f" ({len(self._others):,} pictures are not)" if len(self._others) > 1 else ""
        message = f"is {height}×{width}, and {first} is {self.size[0]}×{self.size[1]}{more}"
        self.problems.append(
            Problem(path, message, "choose one size for all, such as --size 64x64")
        )

    def _count(self, picture: pixels.Samples) -> None:
        if picture.ndim == 3 and not self._settled:
            self.channels = pixels.COLOR
        color = pixels.to_channels(picture, pixels.COLOR)
        counts = count_levels(torch.from_numpy(color).permute(2, 0, 1)[None])
        if counts.shape[1] > self._counts.shape[1]:
            self._counts = deepen_counts(self._counts)
        elif counts.shape[1] < self._counts.shape[1]:
            counts = deepen_counts(counts)
        self._counts += counts

    def _look_for_twin(self, number: int, picture: pixels.Samples) -> None:
        mark = hashlib.blake2b(picture.tobytes(), digest_size=16).hexdigest()
        self.marks[number] = mark
        first = self._seen.setdefault(mark, number)
        if first == number:
            return
        if first < self._training <= number:
            self._twins.append((number, first))
        if self._files[first][1] != self._files[number][1]:
            self._contradictions.append((number, first))

    def _keep(self, number: int, picture: pixels.Samples) -> None:
        if self._in_memory is None:
            return
        height, width = self.size
        if len(self._files) * self.channels * height * width * (1 + self.deep) > self._budget:
            self._in_memory = None
        else:
            self._in_memory[number] = picture


def _read(path: Path) -> tuple[pixels.Samples | BadFile, list[str]]:
    notes: list[str] = []
    try:
        return read_pixels(path, notes), notes
    except BadFile as error:
        return error, notes


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
