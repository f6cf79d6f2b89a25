"""A folder of pictures and masks as a training set, or as a list of its problems."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from eyeshot.data.examples import Progress, TerminalProgress, count_cores
from eyeshot.data.pairs.layout import Layout
from eyeshot.data.pairs.listing import Files, Listing, Report, list_judged, list_pairs
from eyeshot.data.pairs.pair import (
    FILE,
    IGNORE,
    Legend,
    Pair,
    Pairs,
    check_task,
    compare_palettes,
    read_legend,
)
from eyeshot.data.pairs.survey import TWO, Moments, Seen, deduce_legend, look, report_unknown
from eyeshot.data.tree import (
    Checked,
    Fold,
    Problem,
    as_problem,
    listed,
    merge_notes,
    raise_problems,
    skipped_note,
)
from eyeshot.errors import BadFile, BadValue

_AT_ONCE = 64  # pairs in flight
_UNREADABLE = Legend((), ())
"""Replaces the legend of an unreadable ``classes.yaml``: masks are then not checked."""


def load_pairs(
    folder: str | Path,
    *,
    task: str = "segment",
    validation: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    skip_damaged: bool = False,
    layout: Layout | None = None,
    dims: int = 2,
    fold: Fold | None = None,
) -> Pairs:
    """Load a folder of pictures and their masks, split into a training and a validation part.

    Every file is read once, by bands, without keeping it in memory;
    :class:`eyeshot.data.CropSampler` and :func:`eyeshot.data.open_pair` read the pixels later.

    Args:
        folder: with ``image/`` and ``label/``, ``train/`` and ``val/`` with both in each, or any
            layout that :mod:`eyeshot.data.pairs.layout` knows.
        task: ``"segment"``, where the targets are masks; ``"restore"``, where they are pictures.
        validation: how many pairs of a folder without parts are set aside; one in five if None.
        seed: decides which pairs are set aside.
        progress: called with (what, done, total); None shows it on the terminal.
        skip_damaged: leave out pairs with an unreadable file, and name them in the notes.
        layout: where pictures and masks are; empty values are recognized from the names.
        dims: the number of spatial axes: 2 for pictures; 3 for volumes (``.npy``, Zarr or stacks
            of TIFF); 1 for signals (``.npy`` or ``.wav``).
        fold: of a folder without parts, (k, n): part k of n, from 1, is set aside.

    Raises:
        UnknownName: there is no such task.
        BadValue: ``validation``, ``seed`` or ``fold`` is out of range.
        BadFile: the folder has problems; one line names the first ones, :func:`check_pairs` all.
    """
    problems: list[Problem] = []
    pairs = _load(
        Path(folder),
        check_task(task),
        validation,
        seed,
        progress,
        problems.append,
        skip_damaged,
        layout,
        dims,
        fold,
    )
    raise_problems(list(dict.fromkeys(problems)))
    return pairs


def check_pairs(
    folder: str | Path,
    *,
    task: str = "segment",
    validation: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[Problem, ...]:
    """All problems that stop :func:`load_pairs` from loading ``folder``; empty if it loads.

    Raises:
        UnknownName: there is no such task.
        BadValue: ``validation`` or ``seed`` is out of range.
    """
    return inspect_pairs(
        folder, task=task, validation=validation, seed=seed, progress=progress
    ).problems


def inspect_pairs(
    folder: str | Path,
    *,
    task: str = "segment",
    validation: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    skip_damaged: bool = False,
    layout: Layout | None = None,
    dims: int = 2,
) -> Checked:
    """The problems of :func:`check_pairs`, and the notes of :func:`load_pairs`.

    Raises:
        UnknownName: there is no such task.
        BadValue: ``validation`` or ``seed`` is out of range.
    """
    problems: list[Problem] = []
    notes: tuple[str, ...] = ()
    task = check_task(task)
    try:
        notes = _load(
            Path(folder),
            task,
            validation,
            seed,
            progress,
            problems.append,
            skip_damaged,
            layout,
            dims,
        ).notes
    except BadFile as error:
        problems.append(as_problem(error, Path(folder)))
    # A folder may be read twice; its problems are listed once.
    return Checked(tuple(dict.fromkeys(problems)), notes)


def _load(
    folder: Path,
    task: str,
    validation: int | None,
    seed: int,
    progress: Progress | None,
    report: Report,
    skip_damaged: bool = False,
    layout: Layout | None = None,
    dims: int = 2,
    fold: Fold | None = None,
) -> Pairs:
    if seed < 0:
        raise BadValue(f"seed is {seed}", cure="it must be at least 0")
    listing = list_pairs(folder, task, validation, seed, report, layout, fold)
    own = _read_legend(folder, task, report)
    if layout is not None and layout.threshold:
        own = _two_valued(layout.threshold, own, task)
    looked = _look_at_all(
        listing, task, own, progress or TerminalProgress(), report, skip_damaged, dims
    )
    train, held_out, seen = looked.train, looked.held_out, looked.all
    legend = None
    if task == "segment" and own is not _UNREADABLE:
        legend, differing = _compare(seen, _settle(seen, own, report), own, report)
        looked = replace(looked, notes=(*looked.notes, *differing))
        _check_blank(train, _count(train, legend), legend, report)
        _check_judged(held_out, legend, report)
    noted = _notes(train, held_out, _count(train, legend), legend)
    notes = (*listing.notes, *looked.notes, *noted)
    return _gather(folder, task, train, held_out, legend, notes)


def load_judged(
    folder: str | Path,
    *,
    task: str = "segment",
    legend: Legend | None = None,
    learned: Set[str] = frozenset(),
    progress: Progress | None = None,
    part: str | None = None,
    skip_damaged: bool = False,
    layout: Layout | None = None,
    dims: int = 2,
) -> Pairs:
    """Load a folder as the test set of a trained network; one pair is enough.

    In a folder with parts, the validation or test part is used. In any other folder, only the pairs
    that were not used for training are the test set, and the others are in ``train``. If all were
    used for training, all of them are the test set.

    Args:
        folder: as for :func:`load_pairs`.
        task: as for :func:`load_pairs`.
        legend: of the training masks, used if the folder has no ``classes.yaml``; None derives it
            from the masks.
        learned: the digests of the network's training pictures.
        progress: as for :func:`load_pairs`.
        part: for a folder with parts, ``"train"``, ``"val"``, ``"test"`` or ``"all"``.
        skip_damaged: as for :func:`load_pairs`.
        layout: as for :func:`load_pairs`; without a threshold, the legend's is used.
        dims: as for :func:`load_pairs`.

    Raises:
        UnknownName: there is no such task.
        BadFile: the folder has problems.
        BadValue: there is no such part.
    """
    folder = Path(folder)
    problems: list[Problem] = []
    own_threshold = layout.threshold if layout else 0
    threshold = own_threshold or (legend.threshold if legend else 0)
    layout = replace(layout or Layout(), threshold=threshold)
    listing = list_judged(folder, check_task(task), problems.append, part, layout)
    raise_problems(problems)
    own = _read_legend(folder, task, _refuse)
    if own_threshold:
        own = _two_valued(own_threshold, own, task)
    used = own or legend
    shown = progress or TerminalProgress()
    looked = _look_at_all(listing, task, used, shown, problems.append, skip_damaged, dims)
    raise_problems(problems)
    train, held_out, seen = looked.train, looked.held_out, looked.all
    if task == "segment" and used is None:
        used = deduce_legend(seen, _refuse)
    elif used is not None:
        report_unknown(seen, used, _refuse, named=True)
    differing: tuple[str, ...] = ()
    if used is not None and not used.colors:
        used, differing = _compare(seen, used, own, problems.append)
        raise_problems(problems)
    known = [one for one in held_out if one.mark in learned]
    if not listing.train and part is None and len(known) < len(held_out):
        train, held_out = known, [one for one in held_out if one.mark not in learned]
    if used is not None:
        _check_judged(held_out, used, _refuse)
    notes = (*listing.notes, *looked.notes, *differing, *_absent(held_out, used))
    if train is known and known:
        notes += (f"{len(known)} of {len(seen)} pictures were used for training and are left out",)
    return _gather(folder, task, train, held_out, used, notes)


def _two_valued(threshold: int, own: Legend | None, task: str) -> Legend:
    """The legend of masks that are cut at ``threshold``; ``own`` is that of ``classes.yaml``.

    Raises:
        BadValue: it is out of range, or the folder names its classes itself.
    """
    if threshold < 1 or task != "segment":
        fact = f"threshold is {threshold}, and the task is {task}"
        raise BadValue(fact, cure="give masks a value of 1 or more")
    if own is not None:
        raise BadValue(
            f"threshold is {threshold}, and {FILE} names the values of masks",
            cure="leave one of them out",
        )
    return replace(TWO, threshold=threshold)


def _refuse(problem: Problem) -> None:
    raise problem.error()


def _read_legend(folder: Path, task: str, report: Report) -> Legend | None:
    """The folder's own legend; None if it has none, and ``_UNREADABLE`` if that is a problem."""
    try:
        return read_legend(folder) if task == "segment" else None
    except BadFile as error:
        report(as_problem(error, folder / FILE))
        return _UNREADABLE


def _gather(
    folder: Path,
    task: str,
    train: Sequence[Seen],
    held_out: Sequence[Seen],
    legend: Legend | None,
    notes: tuple[str, ...],
) -> Pairs:
    """The result; without training pairs, mean and deviation are of the held-out pairs."""
    moments = _join_moments(train or held_out)
    return Pairs(
        name=str(folder),
        task=task,
        train=tuple(_pair(one) for one in train),
        validation=tuple(_pair(one) for one in held_out),
        classes=legend.classes if legend else (),
        channels=len(moments.mean),
        mean=tuple(moments.mean.tolist()),
        std=tuple(moments.std.tolist()),
        counts=_count(train, legend),
        fingerprint=_fingerprint(task, legend, train, held_out),
        legend=legend,
        notes=notes,
        own_scale=any(one.scale == "own" for one in (*train, *held_out)),
    )


@dataclass(frozen=True)
class _Looked:
    """The contents of the pairs that can be used."""

    train: list[Seen]
    held_out: list[Seen]
    notes: tuple[str, ...] = ()

    @property
    def all(self) -> list[Seen]:
        return self.train + self.held_out


def _look_at_all(
    listing: Listing,
    task: str,
    legend: Legend | None,
    progress: Progress,
    report: Report,
    skip_damaged: bool,
    dims: int,
) -> _Looked:
    """Read every pair, the training pairs first, and report their problems in that order."""
    files = listing.train + listing.validation
    colors = None if legend is _UNREADABLE else legend is not None and legend.colors
    parts: tuple[list[Seen], list[Seen]] = [], []
    damaged: list[Problem] = []
    threshold = legend.threshold if legend else 0
    for number, one in enumerate(_in_parallel(files, task, colors, threshold, dims)):
        unreadable = [problem for problem in one.problems if problem.unreadable]
        if skip_damaged and unreadable:
            damaged.append(unreadable[0])
        else:
            for problem in one.problems:
                report(problem)
            parts[number >= len(listing.train)].append(one)
        progress("reading pictures and masks", number + 1, len(files))
    notes = skipped_note(damaged, len(files))
    for name, before, after in zip(("learn from", "judge by"), listing.parts, parts, strict=True):
        if before and not after:
            raise BadFile(f"no pair to {name} can be read", cure="copy them again")
    merged = merge_notes(note for one in (*parts[0], *parts[1]) for note in one.notes)
    looked = _Looked(*parts, (*notes, *merged))
    _check_channels(looked.all, report)
    _check_scales(looked.all, report)
    return looked


def _in_parallel(
    files: Sequence[Files], task: str, colors: bool | None, threshold: int, dims: int
) -> Iterator[Seen]:
    one_look = partial(look, task=task, colors=colors, threshold=threshold, space=dims)
    with ThreadPoolExecutor(count_cores()) as pool:
        for start in range(0, len(files), _AT_ONCE):
            part = files[start : start + _AT_ONCE]
            yield from pool.map(one_look, part)


def _check_channels(seen: Sequence[Seen], report: Report) -> None:
    """All pictures must have as many channels as most have."""
    found = Counter(one.channels for one in seen if one.channels)
    if len(found) < 2:
        return
    usual, count = found.most_common(1)[0]
    for one in seen:
        if one.channels not in (0, usual):
            message = (
                f"has {one.channels} channels, and {count} of {found.total()} have {usual} "
                "(1 is gray, 3 color)"
            )
            report(Problem(one.files.image, message, "save all pictures in the same colors"))


def _settle(seen: Sequence[Seen], legend: Legend | None, report: Report) -> Legend:
    """The legend that holds for all masks that could be read."""
    masks = [one for one in seen if one.tally]
    if legend is None:
        return deduce_legend(masks, report)
    report_unknown(masks, legend, report)
    return legend


def _compare(
    seen: Sequence[Seen], legend: Legend, own: Legend | None, report: Report
) -> tuple[Legend, tuple[str, ...]]:
    """The legend with the masks' palette. If palettes differ, that is a problem; it is only a note
    if the folder itself names the values (``own``).
    """
    legend, differing = compare_palettes(seen, legend)
    if own is None:
        for problem in differing:
            report(problem)
        return legend, ()
    if not differing:
        return legend, ()
    note = f"the palettes of {len(differing)} masks differ from others; values are read by {FILE}"
    return replace(legend, palette=()), (note,)


def _check_scales(seen: Sequence[Seen], report: Report) -> None:
    """Whole numbers, which become 0…1, may not be mixed with floats of another scale."""
    shares = [one for one in seen if one.scale == "share"]
    if not shares:
        return
    for one in seen:
        if one.scale == "own":
            message = (
                f"holds floats outside 0…1, and {shares[0].files.image} whole numbers, which are "
                "divided by the largest of their type"
            )
            cure = "save all of them in one way"
            report(Problem(one.files.image, message, cure))


def _join_moments(train: Sequence[Seen]) -> Moments:
    """The moments of all training pictures with as many channels as the first."""
    moments = Moments(train[0].channels if train else 0)
    for one in train:
        if one.channels == len(moments.mean) and one.moments.count:
            moments.join(one.moments)
    return moments


def _count(train: Sequence[Seen], legend: Legend | None) -> tuple[int, ...]:
    codes = legend.codes if legend else ()
    return tuple(sum(one.tally.get(code, 0) for one in train) for code in codes)


def _check_blank(
    train: Sequence[Seen], counts: Sequence[int], legend: Legend, report: Report
) -> None:
    """The training masks must contain two classes; unreadable masks are not checked."""
    if not train or sum(count > 0 for count in counts) > 1 or not all(one.tally for one in train):
        return
    only = next((name for name, n in zip(legend.classes, counts, strict=True) if n), "no class")
    message = f"the {len(train)} training masks contain only {only!r}"
    report(Problem(train[0].files.target.parent, message, "draw the objects to detect"))


def _check_judged(held_out: Sequence[Seen], legend: Legend, report: Report) -> None:
    """At least one pixel must be labeled for a metric; unreadable masks are not checked."""
    if not held_out or not all(one.tally for one in held_out):
        return
    if all(code == legend.ignore for one in held_out for code in one.tally):
        message = f"the {len(held_out)} masks to judge by hold {IGNORE!r} and nothing else"
        cure = "draw classes in one of them, or set others aside"
        report(Problem(held_out[0].files.target, message, cure))


def _pair(seen: Seen) -> Pair:
    files = seen.files
    return Pair(files.name, files.image, files.target, seen.size, seen.mark)


def _fingerprint(
    task: str, legend: Legend | None, train: Sequence[Seen], held_out: Sequence[Seen]
) -> str:
    parts = [
        [(one.files.name, one.digest, one.target_digest) for one in part]
        for part in (train, held_out)
    ]
    return hashlib.sha256(repr((task, legend, parts)).encode()).hexdigest()[:16]


def _absent(held_out: Sequence[Seen], legend: Legend | None) -> Iterator[str]:
    """A note about each class that no validation mask contains."""
    names = legend.classes if legend else ()
    absent = [name for name, n in zip(names, _count(held_out, legend), strict=True) if not n]
    if absent and held_out and _understood(held_out, legend):
        yield (
            f"no mask to judge by holds {listed(absent)}: it counts neither in the mean Dice nor "
            "in the choice of the best epoch"
        )


def _understood(masks: Sequence[Seen], legend: Legend | None) -> bool:
    """Whether every value in every mask belongs to a class; other masks cannot be checked."""
    return legend is not None and all(
        one.tally and all(map(legend.knows, one.tally)) for one in masks
    )


def _notes(
    train: Sequence[Seen], held_out: Sequence[Seen], counts: Sequence[int], legend: Legend | None
) -> Iterator[str]:
    if train and _understood(train, legend):
        for name, count in zip(legend.classes if legend else (), counts, strict=True):
            if not count:
                yield f"no training mask holds {name!r}: it cannot be learned"
    yield from _absent(held_out, legend)
    if legend is not None and legend.ignore is not None:
        yield f"{legend.spell(legend.ignore)} in a mask stands for no class and is left out"
    known = {one.digest: one for one in reversed(train)}
    twins = [one for one in held_out if one.digest in known]
    if twins:
        are = (
            "picture is a training picture" if len(twins) == 1 else "pictures are training pictures"
        )
        yield (
            f"{len(twins)} validation {are} too, first "
            f"{twins[0].files.image} = {known[twins[0].digest].files.image}: "
            "the figures will look better than they are"
        )
    yield from _contradictions((*train, *held_out))


def _contradictions(every: Sequence[Seen]) -> Iterator[str]:
    """A note on pictures that are there twice, with different targets."""
    known: dict[str, Seen] = {}
    found = [
        (one, first)
        for one in every
        if (first := known.setdefault(one.digest, one)).target_digest != one.target_digest
    ]
    if found:
        one, first = found[0]
        are = "picture is" if len(found) == 1 else "pictures are"
        yield (
            f"{len(found)} {are} there twice, with different answers, first {one.files.target} and "
            f"{first.files.target}: one of them is wrong"
        )
