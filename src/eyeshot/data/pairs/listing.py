"""Which files of a folder belong together, and which part each pair is for.

Two layouts are known::

    FOLDER/image/*.png        FOLDER/train/image/*.png
    FOLDER/label/*.png        FOLDER/train/label/*.png
                              FOLDER/val/image/*.png
                              FOLDER/val/label/*.png

A picture and its mask have one name, but for the suffix. Everything is taken in the order of its
name, hidden files are passed over, and a link that leads out of the folder is refused.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from eyeshot.data.entries import PICTURE_SUFFIXES
from eyeshot.data.problem import Problem
from eyeshot.data.tree import ALL, part_of
from eyeshot.errors import BadFile, BadValue
from eyeshot.files import explain_os_error

IMAGE_SUFFIXES = PICTURE_SUFFIXES | {".npy", ".zarr"}
BLURRING = frozenset(
    {
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".avif", ".avifs"),
        *(".jp2", ".j2k", ".jpx", ".jpf", ".j2c"),
    }
)
"""Kinds of files that change samples a little, so that they hold no numbers of classes."""
MASK_SUFFIXES = IMAGE_SUFFIXES - BLURRING
VALIDATION_SHARE = 5  # one in five is set aside

_IMAGE = ("image", "images")
_TARGET = {
    "segment": ("label", "labels", "mask", "masks"),
    "restore": ("target", "targets", "label", "labels"),
}
_VALIDATION = ("val", "valid", "validation", "test")

Report = Callable[[Problem], None]
"""Told of each problem; it may raise."""


@dataclass(frozen=True)
class Files:
    """A pair before anybody has looked into it."""

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
        """Both."""
        return self.train, self.validation


def has_parts(folder: Path) -> bool:
    """Whether ``folder`` comes split: ``train/``, and no pictures beside it."""
    return _are_parts(_subfolders(folder))


def guess_task(folder: Path) -> str | None:
    """The task that ``folder`` is laid out for, by its names; None if it holds no pairs."""
    for part in (folder, folder / "train"):
        found = _subfolders(part)
        if found & set(_IMAGE):
            for task, names in _TARGET.items():
                if found & set(names):
                    return task
    return None


def _are_parts(names: set[str]) -> bool:
    return "train" in names and not names & set(_IMAGE)


def _subfolders(folder: Path) -> set[str]:
    try:
        return {entry.name for entry in folder.iterdir() if entry.is_dir()}
    except OSError:
        return set()


def list_pairs(
    folder: Path, task: str, validation: int | None, seed: int, report: Report
) -> Listing:
    """Look through ``folder``, match pictures with their masks, and split them.

    Raises:
        BadFile: the folder is missing or may not be read.
        BadValue: ``validation`` is asked for and the folder has its own, or is out of range.
    """
    if not folder.is_dir():
        raise BadFile(f"{folder}: no such folder", cure="name a folder with image/ and label/")
    finder = _Finder(folder, task, report)
    names = {entry.name for entry in finder.entries(folder) if entry.is_dir()}
    if _are_parts(names):
        if validation is not None:
            raise BadValue(
                f"validation is {validation}, and {folder} has parts of its own",
                cure="leave it out, or put all pairs into one image/ and label/",
            )
        return _find_parts(finder, names)
    pairs = finder.find(folder)
    return _split(pairs, folder, validation, seed, report, finder.notes)


def list_judged(folder: Path, task: str, report: Report, part: str | None = None) -> Listing:
    """Look through ``folder`` for pairs to judge by: its own part for that, or else all of them.

    Args:
        folder: with pairs.
        task: one of :data:`eyeshot.data.TASKS`.
        report: told of each problem.
        part: of a folder with parts, ``"train"``, ``"val"`` or ``"test"``; ``"all"`` for every
            pair; None for ``val``, or else ``test``.

    Raises:
        BadFile: the folder is missing or may not be read.
        BadValue: there is no such part.
    """
    if part is None and has_parts(folder):
        return list_pairs(folder, task, None, 0, report)
    if not folder.is_dir():
        raise BadFile(f"{folder}: no such folder", cure="name a folder with image/ and label/")
    finder = _Finder(folder, task, report)
    found = [pair for place in _places(folder, part) for pair in finder.find(place)]
    return Listing((), tuple(found), tuple(finder.notes))


def _places(folder: Path, part: str | None) -> list[Path]:
    """The folders of the pairs that are judged."""
    parts: dict[str, Path] = {}
    if has_parts(folder):
        parts = {part_of(name) or "": folder / name for name in sorted(_subfolders(folder))}
        parts.pop("", None)
    if part in (None, ALL):
        return list(parts.values()) or [folder]
    if part not in parts:
        has = f"{folder} has {', '.join(parts) or 'no parts'}"
        raise BadValue(f"part is {part!r}", cure=f"{has}; choose one, or all")
    return [parts[part]]


def _find_parts(finder: _Finder, names: set[str]) -> Listing:
    root = finder.root
    held_out = next((name for name in _VALIDATION if name in names), None)
    train = finder.find(root / "train")
    if held_out is None:
        cure = f"add val, or name {root / 'train'} to have a fifth of it set aside"
        finder.report(Problem(root, "has train but no val", cure))
        return Listing(tuple(train), (), tuple(finder.notes))
    if held_out == "test":
        finder.notes.append("there is no val folder: test is the validation part")
    return Listing(tuple(train), tuple(finder.find(root / held_out)), tuple(finder.notes))


def _split(
    pairs: list[Files],
    folder: Path,
    validation: int | None,
    seed: int,
    report: Report,
    notes: list[str],
) -> Listing:
    """Set some pairs aside, in the order of a SHA-256 of the seed and their names.

    So the split does not depend on any library's random numbers, and a pair that is added later
    moves few of the others from one part to the other.
    """
    if len(pairs) == 1:
        message = f"is the only pair in {folder}, and at least 2 are needed"
        report(Problem(pairs[0].image, message, "add one to judge by"))
    count = max(1, round(len(pairs) / VALIDATION_SHARE)) if validation is None else validation
    if validation is not None and len(pairs) > 1 and not 1 <= count < len(pairs):
        raise BadValue(
            f"validation is {count}, and {folder} holds {len(pairs)} pairs",
            cure=f"set aside 1 to {len(pairs) - 1}",
        )
    mixed = sorted(pairs, key=lambda pair: _hash(f"{seed}/{pair.name}"))
    aside = {pair.name for pair in mixed[max(len(mixed) - count, 0) :]}
    were = "was" if count == 1 else "were"
    notes.append(f"{count} of {len(pairs)} pairs {were} set aside for validation, by seed {seed}")
    return Listing(
        tuple(pair for pair in pairs if pair.name not in aside),
        tuple(pair for pair in pairs if pair.name in aside),
        tuple(notes),
    )


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()


class _Finder:
    """Looks into the folders of one root."""

    def __init__(self, root: Path, task: str, report: Report) -> None:
        self.root = root
        self.report = report
        self.notes: list[str] = []
        self._real_root = root.resolve()
        self._targets = _TARGET[task]
        self._target_suffixes = MASK_SUFFIXES if task == "segment" else IMAGE_SUFFIXES

    def find(self, part: Path) -> list[Files]:
        """The pairs of ``part``, in the order of their names."""
        image_folder, target_folder = self._side(part, _IMAGE), self._side(part, self._targets)
        if image_folder is None or target_folder is None:
            return []
        images = self._files(image_folder, IMAGE_SUFFIXES)
        targets = self._files(target_folder, self._target_suffixes)
        if not images or not targets:
            return []
        for stem in sorted(images.keys() - targets.keys()):
            cure = f"draw {target_folder / stem}.png, or take the image out"
            self.report(Problem(images[stem], f"has no mask in {target_folder}", cure))
        for stem in sorted(targets.keys() - images.keys()):
            cure = "add the image under the same name, or take the mask out"
            self.report(Problem(targets[stem], f"has no image in {image_folder}", cure))
        both = sorted(images.keys() & targets.keys())
        return [Files(stem, images[stem], targets[stem]) for stem in both]

    def _side(self, part: Path, names: tuple[str, ...]) -> Path | None:
        """The folder of ``part`` with one of ``names``."""
        entries = [entry for entry in self.entries(part) if entry.is_dir()]
        found = [entry for entry in entries if entry.name in names]
        if not found:
            self.report(Problem(part, f"has no folder {names[0]}", f"make {part / names[0]}"))
            return None
        if len(found) > 1:
            both = f"{found[0].name} and {found[1].name}"
            self.report(Problem(part, f"has both {both}", "keep one of them"))
        return found[0]

    def _files(self, folder: Path, suffixes: frozenset[str]) -> dict[str, Path]:
        """What can be read in ``folder``, by its name without the suffix."""
        found: dict[str, Path] = {}
        others = 0
        for entry in self.entries(folder):
            suffix = entry.suffix.lower()
            if suffix not in suffixes:
                if suffix in IMAGE_SUFFIXES:
                    cure = "save it as PNG: this kind of file blurs the values of classes"
                    self.report(Problem(entry, f"a mask cannot be {suffix}", cure))
                else:
                    others += 1
            elif entry.stem in found:
                message = f"has the same name as {found[entry.stem].name}"
                self.report(Problem(entry, message, "keep one of them"))
            else:
                found[entry.stem] = entry
        if others:
            place = folder.relative_to(self.root)
            self.notes.append(f"passed over in {place}: {others} that are no pictures")
        if not found:
            kinds = ", ".join(sorted(suffix[1:] for suffix in suffixes))
            self.report(Problem(folder, "holds no pictures", f"put some directly in it ({kinds})"))
        return found

    def entries(self, folder: Path) -> Iterator[Path]:
        """What lies in ``folder``, by name, without what is hidden."""
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
        """Whether ``entry`` is a link out of the root, or holds one as a Zarr array; reported."""
        links = [entry] if entry.is_symlink() else []
        if entry.suffix.lower() == ".zarr":
            links += [link for link in _walk(entry) if link.is_symlink()]
        for link in links:
            try:
                inside = link.resolve().is_relative_to(self._real_root)
            except (OSError, RuntimeError):  # RuntimeError: before Python 3.13, of a loop
                inside = False
            if not inside or not link.exists():
                way = f"leads out of {self.root}" if not inside else "leads nowhere"
                self.report(Problem(link, f"is a link that {way}", "copy in what is meant"))
                return True
        return False


def _walk(folder: Path) -> Iterator[Path]:
    """Everything in ``folder`` at any depth; links are given and not followed."""
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            yield Path(place, name)
