"""Which files of a folder form a pair, and to which part each pair belongs.

A picture and its mask have the same name, except for the suffix; :mod:`eyeshot.data.pairs.layout`
lists their folders. Everything is sorted by name, hidden files are ignored, and a link that leads
out of the folder is refused.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from eyeshot.data.pairs.layout import (
    ABOVE_OTHERS,
    COMPANIONS,
    IMAGE,
    TARGET,
    Layout,
    Matching,
    Sides,
    match,
)
from eyeshot.data.tree import (
    ALL,
    PICTURE_SUFFIXES,
    Fold,
    Problem,
    check_without_parts,
    listed,
    no_folder,
    part_of,
    pick_fold,
    same_name,
)
from eyeshot.errors import BadFile, BadValue
from eyeshot.files import explain_os_error
from eyeshot.images.sources import nifti
from eyeshot.language import counted

IMAGE_SUFFIXES = PICTURE_SUFFIXES | {".npy", ".zarr", ".wav", *nifti.SUFFIXES}
BLURRING = frozenset(
    {
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".avif", ".avifs"),
        *(".jp2", ".j2k", ".jpx", ".jpf", ".j2c"),
    }
)
"""Lossy formats: they change samples a little, so they cannot store class numbers."""
MASK_SUFFIXES = IMAGE_SUFFIXES - BLURRING
VALIDATION_SHARE = 5  # one in five is set aside

Report = Callable[[Problem], None]
"""Called with each problem; it may raise."""


@dataclass(frozen=True)
class Files:
    """The files of a pair that has not been read yet."""

    name: str
    image: Path
    target: Path


@dataclass(frozen=True)
class Listing:
    """The pairs of a folder, split."""

    train: tuple[Files, ...]
    validation: tuple[Files, ...]
    notes: tuple[str, ...]

    @property
    def parts(self) -> tuple[tuple[Files, ...], tuple[Files, ...]]:
        """The training part and the validation part."""
        return self.train, self.validation


def has_parts(folder: Path, layout: Layout | None = None) -> bool:
    """Whether ``folder`` is already split into parts."""
    if not folder.is_dir():
        return False
    finders = [_open(folder, task, lambda _: None, layout) for task in TARGET]
    every = [finder.parts() for finder in finders]
    return any("train" in parts for parts in every) or any(_listed(one.root) for one in finders)


def guess_task(folder: Path) -> str | None:
    """The task for which ``folder`` is arranged, by its names; None if it holds no pairs."""
    parts = [folder / name for name in _subfolders(folder) if part_of(name) == "train"]
    for part in (folder, *parts):
        inside = {name.lower() for name in _subfolders(part)}
        if inside & set(IMAGE):
            for task, names in TARGET.items():
                if inside & set(names):
                    return task
    every = {name.lower() for name in _subfolders(folder)}
    if any(name + end in every for name in every if part_of(name) for end in COMPANIONS):
        return "segment"
    return "segment" if _objects(folder) else None


def _are_parts(names: set[str]) -> bool:
    train = any(part_of(name) == "train" for name in names)
    return train and not {name.lower() for name in names} & set(IMAGE)


def _subfolders(folder: Path) -> set[str]:
    try:
        return {entry.name for entry in folder.iterdir() if entry.is_dir()}
    except OSError:
        return set()


def _objects(folder: Path) -> list[Path]:
    """The folders in ``folder`` with one picture each, ``images/`` and ``masks/``; else empty."""
    inside = [folder / name for name in sorted(_subfolders(folder)) if name[0] not in "._"]
    for one in inside:
        if part_of(one.name) or not _subfolders(one) >= {"images", "masks"}:
            return []
        if sum(not entry.name.startswith(".") for entry in (one / "images").iterdir()) != 1:
            return []
    return inside


def list_pairs(
    folder: Path,
    task: str,
    validation: int | None,
    seed: int,
    report: Report,
    layout: Layout | None = None,
    fold: Fold | None = None,
) -> Listing:
    """Look through ``folder``, match pictures with their masks, and split them.

    Raises:
        BadFile: the folder is missing or may not be read.
        BadValue: ``validation`` or ``fold`` is set although the folder has parts, or is out of
            range.
    """
    finder = _open(folder, task, report, layout)
    parts = finder.parts()
    if "train" not in parts:
        pairs = finder.find(parts.get("") or [])
        named = _listed(finder.root)
        if named and validation is None:
            check_without_parts(folder, fold)
            train, val = (_of_list(pairs, named[part], finder) for part in ("train", "val"))
            return Listing(train, val, tuple(finder.notes))
        if not named:
            return _split(pairs, folder, validation, seed, report, finder.notes, fold)
    if validation is not None:
        raise BadValue(
            f"validation is {validation}, and {folder} already has parts",
            cure="leave it out, or put all pairs into one image/ and label/",
        )
    check_without_parts(folder, fold)
    return _take_parts(finder, parts, seed)


def list_judged(
    folder: Path,
    task: str,
    report: Report,
    part: str | None = None,
    layout: Layout | None = None,
) -> Listing:
    """Look through ``folder`` for test pairs: its test part, or all pairs.

    Args:
        folder: with pairs.
        task: one of :data:`eyeshot.data.TASKS`.
        report: called with each problem.
        part: for a folder with parts, ``"train"``, ``"val"`` or ``"test"``; ``"all"`` for every
            pair; None for ``test`` if it exists, else ``val``.
        layout: the places of pictures and masks; empty values are recognized from the names.

    Raises:
        BadFile: the folder is missing or may not be read.
        BadValue: there is no such part.
    """
    finder = _open(folder, task, report, layout)
    parts = finder.parts()
    if part is None and "train" in parts:
        return _take_parts(finder, parts, 0, finished=True)
    lists = _listed(finder.root) if "train" not in parts else {}
    if lists and part != ALL:
        found = finder.find(parts.get("") or [])
        chosen_list = part or ("test" if _names_some(lists, "test", found) else "val")
        if chosen_list not in lists:
            raise BadValue(f"part is {part!r}", cure=f"{folder} has {', '.join(lists)}; choose one")
        return Listing((), _of_list(found, lists[chosen_list], finder), tuple(finder.notes))
    chosen = list(parts) if part in (None, ALL) else [str(part)]
    if chosen and chosen[0] not in parts:
        named = ", ".join(name for name in parts if name) or "no parts"
        raise BadValue(f"part is {part!r}", cure=f"{folder} has {named}; choose one, or all")
    found = [pair for name in chosen for pair in finder.find(parts[name])]
    return Listing((), tuple(found), tuple(finder.notes))


def _listed(root: Path) -> dict[str, Path]:
    """VOC's lists of names for each part, such as ``ImageSets/Segmentation/train.txt``.

    Empty unless both ``train`` and ``val`` exist.
    """
    folder = root / "ImageSets" / "Segmentation"
    lists = {part: folder / f"{part}.txt" for part in ("train", "val", "test")}
    existing = {part: path for part, path in lists.items() if path.is_file()}
    return existing if {"train", "val"} <= set(existing) else {}


def _names(path: Path) -> set[str]:
    """The names in a list, which has one per line."""
    try:
        lines = path.read_text("utf-8", "surrogateescape").splitlines()
    except OSError as error:
        raise explain_os_error(error, path) from error
    return {same_name(line.split()[0]) for line in lines if line.strip()}


def _names_some(lists: dict[str, Path], part: str, pairs: list[Files]) -> bool:
    """Whether the list of a part exists and names some of the pairs; VOC's test has no masks."""
    names = _names(lists[part]) if part in lists else set()
    return any(same_name(pair.name) in names for pair in pairs)


def _of_list(pairs: list[Files], path: Path, finder: _Finder) -> tuple[Files, ...]:
    """The pairs whose names are in a list."""
    names = _names(path)
    chosen = tuple(pair for pair in pairs if same_name(pair.name) in names)
    finder.notes.append(f"{path}: names {len(names)}, of which {len(chosen)} are pairs here")
    if not chosen:
        finder.report(
            Problem(path, "names none of the pairs", "write one name per line, or remove it")
        )
    return chosen


def _open(folder: Path, task: str, report: Report, layout: Layout | None) -> _Finder:
    if not folder.is_dir():
        raise no_folder(folder, "name a folder with image/ and label/")
    return _Finder(folder, task, report, layout or Layout())


def keeps_a_test(folder: Path, task: str, layout: Layout | None = None) -> bool:
    """Whether a folder has a test part beside the val part by which the best epoch is chosen."""
    finder = _open(folder, task, lambda _: None, layout)
    parts = finder.parts()
    if "train" in parts:
        return {"val", "test"} <= set(parts)
    lists = _listed(finder.root)
    return "test" in lists and _names_some(lists, "test", finder.find(parts.get("") or []))


def _take_parts(
    finder: _Finder, parts: dict[str, list[Sides]], seed: int, *, finished: bool = False
) -> Listing:
    """The folder's own parts; if neither val nor test has masks, a fifth of train.

    Each epoch is judged by val, or else by test; a finished network by test, or else by val.
    """
    root = finder.root
    preferred = ("test", "val") if finished else ("val", "test")
    held_out = next((name for name in preferred if name in parts), None)
    train = finder.find(parts["train"])
    if held_out is None and not finder.without_answers:
        place = parts["train"][0].images.parent if parts["train"] else root
        cure = f"add val, or name {place} to set a fifth of it aside"
        finder.report(Problem(root, "has train but no val", cure))
        return Listing(tuple(train), (), tuple(finder.notes))
    if held_out is None:
        return _split(train, root, None, seed, finder.report, finder.notes)
    if finished:
        others = [name for name in ("train", "val", "test") if name in parts and name != held_out]
        finder.notes.append(
            f"judged by the {held_out} part of {root} ({' or '.join((*others, ALL))} can be chosen)"
        )
    elif held_out == "test":
        finder.notes.append(
            "there is no val folder: the best epoch is chosen by test, so its figures there are a "
            "little too high"
        )
    elif "test" in parts:
        finder.notes.append("val judges each epoch; test is left for the finished network")
    return Listing(tuple(train), tuple(finder.find(parts[held_out])), tuple(finder.notes))


def _split(
    pairs: list[Files],
    folder: Path,
    validation: int | None,
    seed: int,
    report: Report,
    notes: list[str],
    fold: Fold | None = None,
) -> Listing:
    """Set some pairs, or a fold, aside, in the order of a SHA-256 of the seed and their names.

    So the split does not depend on any library's random numbers, and adding a pair later moves
    only a few others to another part.
    """
    if len(pairs) == 1:
        message = f"is the only pair in {folder}, and at least 2 are needed"
        report(Problem(pairs[0].image, message, "add a pair for validation"))
    if fold is not None and len(pairs) < fold[1]:
        raise BadValue(
            f"folds is {fold[1]}, and {folder} holds {counted(len(pairs), 'pair')}",
            cure="add pairs" if len(pairs) == 1 else f"use {len(pairs)} or fewer, or add pairs",
        )
    count = max(1, round(len(pairs) / VALIDATION_SHARE)) if validation is None else validation
    if validation is not None and len(pairs) > 1 and not 1 <= count < len(pairs):
        raise BadValue(
            f"validation is {count}, and {folder} holds {len(pairs)} pairs",
            cure=f"set aside 1 to {len(pairs) - 1}",
        )
    mixed = sorted(pairs, key=lambda pair: _hash(f"{seed}/{pair.name}"))
    chosen = mixed[max(len(mixed) - count, 0) :] if fold is None else pick_fold(mixed, fold)
    aside = {pair.name for pair in chosen}
    were = "was" if count == 1 else "were"
    if fold is not None:
        notes.append(
            f"fold {fold[0]} of {fold[1]}: validated by {len(aside)} of {len(pairs)} pairs, by "
            f"seed {seed}"
        )
    elif pairs:
        notes.append(
            f"{count} of {len(pairs)} pairs {were} set aside for validation, by seed {seed}"
        )
    return Listing(
        tuple(pair for pair in pairs if pair.name not in aside),
        tuple(pair for pair in pairs if pair.name in aside),
        tuple(notes),
    )


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()


class _Finder:
    """Finds the pictures and targets below one root."""

    def __init__(self, root: Path, task: str, report: Report, layout: Layout) -> None:
        self.root = root
        self.report = report
        self.notes: list[str] = []
        self.without_answers: list[str] = []  # parts that have pictures and no masks
        self._layout = layout
        self._real_root = root.resolve()
        self._targets = TARGET[task]
        self._blurring = frozenset() if task == "restore" or layout.threshold else BLURRING

    def parts(self) -> dict[str, list[Sides]]:
        """The folders of pictures and targets of each part; without parts, under the key ``""``."""
        root, layout = self.root, self._layout
        if layout.images or layout.masks:
            return self._within_sides(self._named(root))
        folders = self.folders(root)
        names = {entry.name for entry in folders}
        objects = _objects(root)
        if objects:
            self.notes.append(f"{root}: {len(objects)} folders of a picture and its objects' masks")
            return {"": [Sides(one / "images", one / "masks", objects=True) for one in objects]}
        if _are_parts(names):
            return self._parts(folders)
        known = {name.lower() for name in names} & {*IMAGE, *self._targets}
        if not known and len(folders) == 1 and self._is_wrapper(folders[0]):
            self.notes.append(f"{root} contains only one folder: {folders[0]} was opened")
            self.root = folders[0]
            return self.parts()
        if not known and self._holds_both(root):
            return {"": [Sides(root, root)]}
        sides = self._sides(root)
        return {"": []} if sides is None else self._within_sides(sides)

    def _is_wrapper(self, folder: Path) -> bool:
        return not part_of(folder.name) and bool(self.folders(folder))

    def _named(self, part: Path) -> Sides:
        """The caller's folders, inside ``part`` or as paths of their own."""
        places = []
        for name, option in ((self._layout.images, "images"), (self._layout.masks, "masks")):
            place = part / name if name else part
            if name and not place.is_dir() and Path(name).is_dir():
                place = Path(name)
            if not place.is_dir():
                raise BadFile(f"{place}: no such folder", cure=f"check --{option}")
            places.append(place)
        return Sides(places[0], places[1])

    def _within_sides(self, sides: Sides) -> dict[str, list[Sides]]:
        """The parts inside both folders (``image/train``, ``label/train``), else the folders."""
        ours = {part_of(one.name): one for one in self.folders(sides.images)}
        theirs = {part_of(one.name): one for one in self.folders(sides.targets)}
        if "train" not in ours or "train" not in theirs:
            return {"": [sides]}
        return {
            part: [Sides(ours[part], theirs[part])]
            for part in ("train", "val", "test")
            if part in ours and part in theirs
        }

    def _parts(self, folders: list[Path]) -> dict[str, list[Sides]]:
        """The picture and mask folders of each part, or the mask folder next to it."""
        found: dict[str, list[Sides]] = {}
        others = {entry.name.lower(): entry for entry in folders}
        answers = ""  # the name of the training part's mask folder
        for entry in sorted(folders, key=lambda one: part_of(one.name) != "train"):
            part = part_of(entry.name)
            if part is None or part in found:
                continue
            beside = [others.get(entry.name.lower() + end) for end in COMPANIONS]
            companion = next((one for one in beside if one is not None), None)
            if companion is not None:
                found[part] = [Sides(entry, companion)]
                continue
            if part != "train" and not self._has(entry, answers):
                self.without_answers.append(part)
                self.notes.append(f"{entry}: has no {answers or 'masks'}; it is left out")
                continue
            sides = self._sides(entry)
            found[part] = [] if sides is None else [sides]
            answers = answers or ("" if sides is None else sides.targets.name.lower())
        return found

    def _has(self, part: Path, answers: str) -> bool:
        """Whether a part has a target folder; for a known set, with the training part's name."""
        names = (answers,) if answers in ABOVE_OTHERS else self._targets
        return any(one.name.lower() in names for one in self.folders(part))

    def _sides(self, part: Path) -> Sides | None:
        """The two folders of ``part``, by their names; None and a report if one is missing."""
        images, targets = self._side(part, IMAGE), self._side(part, self._targets)
        return None if images is None or targets is None else Sides(images, targets)

    def _side(self, part: Path, names: tuple[str, ...]) -> Path | None:
        """The folder of ``part`` with one of ``names``."""
        found = [entry for entry in self.folders(part) if entry.name.lower() in names]
        if not found:
            name = (
                names[0] if names[0] in IMAGE else next(n for n in names if n not in ABOVE_OTHERS)
            )
            cure = f"make {part / name}, or name the folder with --images and --masks"
            self.report(Problem(part, f"has no folder {name}", cure))
            return None
        chosen = [entry for entry in found if entry.name.lower() in ABOVE_OTHERS]
        if len(found) > 1 and chosen:
            others = [entry.name for entry in found if entry != chosen[0]]
            self.notes.append(f"{chosen[0]} holds the masks; {listed(others)} is not used")
            return chosen[0]
        if len(found) > 1:
            both = f"{found[0].name} and {found[1].name}"
            cure = "keep one of them, or name it with --images or --masks"
            self.report(Problem(part, f"has both {both}", cure))
        return found[0]

    def find(self, places: list[Sides]) -> list[Files]:
        """The pairs of a part, in the order of their names."""
        return [pair for sides in places for pair in self._find(sides)]

    def _find(self, sides: Sides) -> list[Files]:
        images = self._files(sides.images, IMAGE_SUFFIXES)
        if sides.objects:
            one = [path for path in images.values() if path.suffix != ".zarr"]
            return [
                Files(same_name(sides.images.parent.name), path, sides.targets) for path in one[:1]
            ]
        together = sides.images == sides.targets
        targets = images if together else self._files(sides.targets, IMAGE_SUFFIXES)
        if not images or not targets:
            return []
        matching = match(images, targets, self._layout.mask_suffix)
        if matching.target_suffix or matching.image_suffix:
            self._note_suffixes(sides, matching)
        self._report_alone(sides, matching, together)
        return [
            Files(name, image, target)
            for name, (image, target) in matching.both.items()
            if self._can_be_mask(target)
        ]

    def _can_be_mask(self, target: Path) -> bool:
        if target.suffix.lower() not in self._blurring:
            return True
        cure = "save it as PNG: this kind of file blurs the values; or cut it with --threshold 128"
        self.report(Problem(target, f"a mask cannot be {target.suffix.lower()}", cure))
        return False

    def _note_suffixes(self, sides: Sides, matching: Matching) -> None:
        ends = [end for end in (matching.image_suffix, matching.target_suffix) if end]
        note = f"{sides.targets}: names are matched without {' and '.join(ends)}"
        unused = len(matching.targets) if matching.target_suffix else 0
        more = f"; {counted(unused, 'other file')} there not used" if unused else ""
        self.notes.append(note + more)

    def _report_alone(self, sides: Sides, matching: Matching, together: bool) -> None:
        """Report pictures without a mask, and masks without a picture."""
        if together:
            answers = {target for _, target in matching.both.values()}
            alone = [path for path in matching.images.values() if path not in answers]
            if alone:
                self.notes.append(f"{counted(len(alone), 'file')} without a mask, first {alone[0]}")
            return
        # In VOC most pictures have no mask.
        if sides.images.name.lower() == "jpegimages" and matching.images:
            self.notes.append(f"{counted(len(matching.images), 'picture')} without a mask left out")
        else:
            for name in sorted(matching.images):
                cure = f"draw {sides.targets / name}.png, or take the image out"
                message = f"has no mask in {sides.targets}"
                self.report(Problem(matching.images[name], message, cure))
        if not matching.target_suffix:
            for name in sorted(matching.targets):
                cure = "add the image under the same name, or take the mask out"
                message = f"has no image in {sides.images}"
                self.report(Problem(matching.targets[name], message, cure))

    def _holds_both(self, folder: Path) -> bool:
        """Whether pictures and their masks are together in ``folder``, or in its sub-folders."""
        files = {
            same_name(str(path.relative_to(folder).with_suffix(""))): path
            for path in _walk(folder)
            if path.suffix.lower() in PICTURE_SUFFIXES and path.name[0] != "."
        }
        if self._targets is not TARGET["segment"]:
            return False
        found = match(files, files, self._layout.mask_suffix).both
        return 3 * len(found) > len(files)  # not all: some masks have no picture, or a copy

    def _files(self, folder: Path, suffixes: frozenset[str]) -> dict[str, Path]:
        """The readable files in ``folder`` and below it, by their names without suffixes."""
        found: dict[str, Path] = {}
        others: list[Path] = []
        for entry in self._below(folder):
            suffix = nifti.suffix_of(entry)
            name = same_name(entry.relative_to(folder).as_posix().removesuffix(suffix))
            if suffix.lower() not in suffixes:
                others.append(entry)
            elif name in found:
                message = f"has the same name as {found[name].name}"
                self.report(Problem(entry, message, "keep one of them"))
            else:
                found[name] = entry
        if others:
            are = "is no picture" if len(others) == 1 else "are no pictures"
            first = others[0].name
            self.notes.append(f"passed over in {folder}: {len(others)} that {are}, first {first}")
        if not found:
            cure = "put some directly in it (png, tif, bmp, npy, zarr, nii and others)"
            self.report(Problem(folder, "holds no pictures", cure))
        return found

    def _below(self, folder: Path) -> Iterator[Path]:
        """The files and Zarr arrays in ``folder`` and its sub-folders, by name."""
        for entry in self.entries(folder):
            if entry.is_dir() and entry.suffix.lower() != ".zarr" and not entry.is_symlink():
                yield from self._below(entry)
            else:
                yield entry

    def folders(self, folder: Path) -> list[Path]:
        """The folders in ``folder``."""
        return [entry for entry in self.entries(folder) if entry.is_dir()]

    def entries(self, folder: Path) -> Iterator[Path]:
        """The entries of ``folder``, sorted by name, without hidden files."""
        try:
            found = sorted(folder.iterdir(), key=lambda entry: entry.name)
        except OSError as error:
            raise explain_os_error(error, folder) from error
        for entry in found:
            if entry.name.startswith((".", "__")):
                continue
            if not self._leads_out(entry):
                yield entry

    def _leads_out(self, entry: Path) -> bool:
        """Whether ``entry`` is a link out of the root, or a Zarr array with one; it is reported."""
        links = [entry] if entry.is_symlink() else []
        if entry.suffix.lower() == ".zarr":
            links += [link for link in _walk(entry) if link.is_symlink()]
        for link in links:
            try:
                inside = link.resolve().is_relative_to(self._real_root)
            except (OSError, RuntimeError):  # RuntimeError: before Python 3.13, of a loop
                inside = False
            if not inside or not link.exists():
                way = f"leads out of {self.root}" if not inside else "points to nothing"
                self.report(
                    Problem(link, f"is a link that {way}", "copy its target into the folder")
                )
                return True
        return False


def _walk(folder: Path) -> Iterator[Path]:
    """Everything in ``folder`` at any depth; links are listed but not followed."""
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            yield Path(place, name)
