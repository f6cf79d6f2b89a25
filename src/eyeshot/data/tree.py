"""A folder of classes as lists of files: which file belongs to which class and which part.

These layouts are known::

    FOLDER/train/<class>/*.png        FOLDER/<class>/*.png
    FOLDER/test/<class>/*.png         (a fifth of each class is set aside as the test part)
    FOLDER/val/<class>/*.png
                                      FOLDER/<class>/train/*.png
                                      FOLDER/<class>/test/*.png

Pictures in sub-folders of a class are of that class. A part may be called ``training``,
``test_set``, ``Valid`` and the like; a folder that contains only one folder of folders is opened.
Everything is sorted by name, hidden files are ignored, and a link that leads out of the folder is
refused.

The problems of a training folder are here too: each one separately, and all on one line.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from eyeshot.errors import BadFile, BadValue, EyeshotError
from eyeshot.files import explain_os_error
from eyeshot.language import counted

_SHOWN = 4  # problems on one line
SKIP = "leave them out with --skip-damaged"


class Unfit(BadFile):
    """A file that can be read but not used."""


@dataclass(frozen=True)
class Problem:
    """A problem in a folder that prevents training.

    Attributes:
        path: the file or folder.
        message: the problem.
        cure: what to do.
        unreadable: whether it is a file that cannot be used, and can be skipped.
    """

    path: Path
    message: str
    cure: str = ""
    unreadable: bool = False

    def __str__(self) -> str:
        """All of it on one line."""
        return str(self.error())

    def error(self) -> BadFile:
        """The problem as an exception."""
        return BadFile(f"{self.path}: {self.message}", cure=self.cure)


@dataclass(frozen=True)
class Checked:
    """The result of checking a folder before training.

    Attributes:
        problems: the problems that prevent training.
        notes: facts that the user should know, a sentence each.
    """

    problems: tuple[Problem, ...]
    notes: tuple[str, ...] = ()


def as_problem(error: EyeshotError, path: Path, *, unreadable: bool = False) -> Problem:
    """An error about ``path``, or about a file in it that the error names, as a problem."""
    fact = error.fact.removeprefix(f"{path}: ")
    place, _, message = fact.partition(": ")
    if message and Path(place).is_relative_to(path):
        return Problem(Path(place), message, error.cure, unreadable)
    return Problem(path, fact, error.cure, unreadable)


def raise_problems(problems: Sequence[Problem]) -> None:
    """Raise all problems on one line of bounded length; do nothing if there is no problem.

    Raises:
        BadFile: there is a problem.
    """
    if not problems:
        return
    first = problems[0]
    skip = "or leave it out with --skip-damaged"
    if len(problems) == 1:
        cure = f"{first.cure}, {skip}" if first.unreadable and first.cure else first.cure
        raise BadFile(f"{first.path}: {first.message}", cure=cure)
    facts = "; ".join(f"{one.path}: {one.message}" for one in problems[:_SHOWN])
    more = len(problems) - _SHOWN
    rest = f"; and {more:,} more" if more > 0 else ""
    cure = first.cure
    if all(one.unreadable for one in problems):
        cure = f"copy them again, or {SKIP}"
    every = "--check lists every problem"
    raise BadFile(
        f"{facts}{rest} ({len(problems):,} problems)", cure=f"{cure}; {every}" if cure else every
    )


def merge_notes(noted: Iterable[tuple[Path, str]]) -> Iterator[str]:
    """The notes of files, equal notes as one: with the first file, and how many more there are."""
    files: dict[str, list[Path]] = {}
    for path, note in noted:
        files.setdefault(note, []).append(path)
    for note, paths in files.items():
        more = f", and the same of {len(paths) - 1} more" if len(paths) > 1 else ""
        yield f"{paths[0]}: {note}{more}"


def skipped_note(problems: Sequence[Problem], count: int) -> tuple[str, ...]:
    """A note about the files of ``count`` that were left out; empty if all could be read.

    Raises:
        BadFile: more than half cannot be read, so something else must be wrong.
    """
    if not problems:
        return ()
    if 2 * len(problems) > count:
        raise BadFile(
            f"{len(problems):,} of {count:,} files cannot be read, first {problems[0].path}: "
            f"{problems[0].message}",
            cure="too many to be left out; copy the folder again",
        )
    named = ", ".join(str(one.path) for one in problems[:_SHOWN])
    more = f" and {len(problems) - _SHOWN:,} more" if len(problems) > _SHOWN else ""
    were = "was" if len(problems) == 1 else "were"
    return (f"{len(problems):,} of {count:,} cannot be read and {were} left out: {named}{more}",)


PICTURE_SUFFIXES = frozenset(
    {
        *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".bmp", ".dib"),
        *(".webp", ".gif", ".avif", ".avifs", ".jp2", ".j2k", ".jpx", ".jpf", ".j2c", ".tga"),
        *(".ppm", ".pgm", ".pbm", ".pnm", ".pcx"),
    }
)
"""Suffixes of files that are read as pictures; their first bytes decide the format."""


def visible(folder: Path) -> list[Path]:
    """The entries of ``folder``, sorted by name. Names that start with a dot or ``__`` are hidden.

    Raises:
        BadFile: the folder is missing or may not be read.
    """
    try:
        found = sorted(folder.iterdir(), key=lambda entry: entry.name)
    except OSError as error:
        raise explain_os_error(error, folder) from error
    return [entry for entry in found if not entry.name.startswith((".", "__"))]


_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")


def no_folder(path: Path, cure: str) -> BadFile:
    """The error for a ``path`` that should be a folder but is not."""
    if not path.exists():
        return BadFile(f"{path}: no such folder", cure=cure)
    if path.suffix.lower() in _ARCHIVES:
        return BadFile(f"{path}: is an archive", cure="unpack it, and name the folder")
    return BadFile(f"{path}: is a file", cure=cure)


def check_link(entry: Path, root: Path) -> None:
    """Refuse a link that is broken or leads out of ``root``.

    Raises:
        BadFile: ``entry`` is such a link.
    """
    if not entry.is_symlink():
        return
    try:
        inside = entry.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError):  # RuntimeError: before Python 3.13, of a loop
        inside = False
    if not inside:
        raise BadFile(
            f"{entry}: is a link that leads out of {root}", cure="copy its target into the folder"
        )
    if not entry.exists():
        raise BadFile(f"{entry}: is a broken link", cure="copy its target into the folder")


def same_name(name: str) -> str:
    """``name`` in Unicode's composed form: macOS writes é as two characters, others as one."""
    return unicodedata.normalize("NFC", name)


def is_picture(path: Path) -> bool:
    """Whether ``path`` has the name of a picture."""
    return path.suffix.lower() in PICTURE_SUFFIXES


def listed(names: Sequence[object], most: int = 8) -> str:
    """Some names with commas between them, and how many more there are."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(map(str, names[:most])) + more


TEST_SHARE = 5  # one in five is set aside
PARTS = ("train", "val", "test")
ALL = "all"

_TABLES = (".csv", ".tsv", ".txt", ".xlsx", ".json")

_PART = re.compile(
    r"(?:seg[_ -]?)?(?:(?P<train>train(?:ing)?)|(?P<val>val(?:id(?:ation)?)?|dev)|"
    r"(?P<test>test(?:ing)?))(?:[_ -]?(?:set|data|images|dir))?",
    re.IGNORECASE,
)

Part = tuple[tuple[Path, int], ...]  # file, label
_Classes = dict[str, list[Path]]  # the files of each class, both in the order of their names


Fold = tuple[int, int]
"""(k, n): part k of n, from 1, is held out. Every picture is in exactly one part."""
_One = TypeVar("_One")
_UNEVEN = 10  # times as many pictures in one class as in another


@dataclass(frozen=True)
class Tree:
    """The files of a folder, split."""

    classes: tuple[str, ...]
    train: Part
    test: Part
    validation: Part
    notes: tuple[str, ...]


def part_of(name: str) -> str | None:
    """Which of :data:`PARTS` a folder called ``name`` is; None if it is none of them."""
    found = _PART.fullmatch(name)
    return found.lastgroup if found else None


def find_files(folder: Path, seed: int, fold: Fold | None = None) -> Tree:
    """Look through ``folder`` and split it.

    Raises:
        BadFile: the folder is missing or empty, has fewer than two classes, a class is empty or
            only in a held-out part, or a link leads out of the folder.
        BadValue: there is a ``fold``, and the folder has parts or a class has too few pictures.
    """
    walk = _Walk(folder)
    top = walk.open_wrappers(folder)
    parts = walk.parts(top)
    if parts:
        check_without_parts(top, fold)
        return _split_by_parts(walk, top, parts, seed)
    classes = walk.classes(top)
    within = _parts_within(classes, top)
    if within:
        check_without_parts(top, fold)
        walk.say(f"each class of {top} contains parts: {', '.join(within)}")
        return _join(walk, top, {part: _part_within(classes, top, part) for part in within})
    return _split(walk, classes, seed, fold)


def check_without_parts(folder: Path, fold: Fold | None) -> None:
    """Refuse folds for a folder that has parts.

    Raises:
        BadValue: there is a fold.
    """
    if fold is not None:
        raise BadValue(
            f"folds is {fold[1]}, and {folder} already has parts",
            cure="leave folds out, or put all pictures into one part",
        )


def pick_fold(mixed: Sequence[_One], fold: Fold) -> list[_One]:
    """The items of one fold, from a list in random order; sizes of folds differ by at most one.

    Raises:
        BadValue: there is no such fold.
    """
    which, count = fold
    if not 1 <= which <= count or count < 2:
        raise BadValue(f"fold {which} of {count}", cure="use fold 1 to n of n, with n at least 2")
    return list(mixed[which - 1 :: count])


def find_pictures(folder: Path, seed: int) -> Tree:
    """All pictures in ``folder`` and below it as one class.

    If it holds nothing but parts, the test part, or else the val part, is set aside; otherwise a
    fifth of the pictures.

    Raises:
        BadFile: the folder is missing or holds fewer than two, or a link leads out of it.
    """
    walk = _Walk(folder)
    parts = {part_of(one.name): walk.pictures(one) for one in walk.folders(folder)}
    held_out = next((part for part in ("test", "val") if parts.get(part)), None)
    if held_out and parts.get("train") and None not in parts and not walk.holds_pictures(folder):
        walk.say(f"the pictures in train are learned from, those in {held_out} are set aside")
        numbers = {"picture": 0}
        train, test = (_label({"picture": parts[one]}, numbers) for one in ("train", held_out))
        return Tree(tuple(numbers), train, test, (), walk.notes())
    files = walk.pictures(folder)
    if not files:
        raise BadFile(f"{folder}: holds no pictures", cure=_no_pictures_cure(walk))
    return _split(walk, {"picture": files}, seed)


def find_judged(folder: Path, classes: Sequence[str], part: str | None) -> Tree:
    """All pictures of ``folder``, or of one part of it, as the test part of a tree.

    Args:
        folder: arranged like a training folder; classes may be absent or have one picture.
        classes: the network's classes.
        part: one of :data:`PARTS` or ``"all"``; None for the test part, or else the val part.

    Raises:
        BadFile: the folder is missing, holds no pictures, or has a class that is unknown.
        BadValue: there is no such part.
    """
    walk = _Walk(folder)
    known = {same_name(name): label for label, name in enumerate(classes)}
    top = walk.open_wrappers(folder, known)
    parts = walk.parts(top)
    each = {} if parts else walk.classes(top, known)
    within = _parts_within(each, top)
    chosen = _choose_part(top, tuple(parts) or within, part)
    found: _Classes = {}
    for name in chosen:
        within_part = _part_within(each, top, name) if within else walk.classes(parts[name], known)
        _merge(found, within_part)
    found = found if chosen else each
    if chosen and part is None:
        others = [name for name in (*parts, *within) if name not in chosen]
        more = f" ({' or '.join((*others, ALL))} can be chosen)" if others else ""
        walk.say(f"judged by the {chosen[0]} part of {top}{more}")
    _check_known(top, found, known)
    if not any(found.values()):
        raise BadFile(f"{top}: holds no pictures of any class", cure=_no_pictures_cure(walk))
    absent = [name for name in classes if not found.get(same_name(name))]
    if absent:
        walk.say(f"no picture of {listed(absent)} is among them: it is not evaluated")
    return Tree(tuple(classes), (), _label(found, known), (), walk.notes())


def _choose_part(top: Path, parts: Sequence[str], part: str | None) -> tuple[str, ...]:
    """The parts of ``parts`` to evaluate; none if the folder has no parts."""
    if not parts:
        if part not in (None, ALL):
            raise BadValue(f"part is {part}, and {top} has no parts", cure="leave it out")
        return ()
    if part == ALL:
        return tuple(parts)
    if part is None:
        chosen = next((name for name in ("test", "val") if name in parts), None)
        if chosen is None:
            raise BadFile(f"{top}: has only a train part", cure="choose it with --part train")
        return (chosen,)
    if part not in parts:
        raise BadValue(f"part is {part!r}", cure=f"{top} has {', '.join(parts)}, or choose {ALL}")
    return (part,)


def _check_known(top: Path, found: Mapping[str, list[Path]], known: Mapping[str, int]) -> None:
    strange = [name for name, files in found.items() if name not in known and files]
    if strange:
        raise BadFile(
            f"{top}: has the classes {listed(list(found))}, and the network knows "
            f"{listed(list(known))}",
            cure=f"take out {strange[0]!r}, or rename it" + (" …" if strange[1:] else ""),
        )


def _split_by_parts(walk: _Walk, top: Path, parts: dict[str, Path], seed: int) -> Tree:
    """The folder's own parts; if the held-out parts have no classes, a fifth of train."""
    if "train" not in parts:
        raise BadFile(f"{top}: has {' and '.join(parts)} but no train", cure="add it")
    found = {"train": walk.classes(parts["train"])}
    for name in [name for name in ("test", "val") if name in parts]:
        if not walk.folders(parts[name]) and walk.holds_pictures(parts[name]):
            walk.say(f"{parts[name]}: holds pictures without folders of classes; it is left out")
            continue
        found[name] = walk.classes(parts[name], found["train"])
    if len(parts) == 1:
        raise BadFile(
            f"{top}: has train but neither test nor val",
            cure=f"add one, or name {parts['train']} to set a fifth of it aside",
        )
    if len(found) == 1:
        return _split(walk, found["train"], seed)
    _check_held_out(found, parts)
    return _join(walk, top, found)


def _check_held_out(found: dict[str, _Classes], parts: Mapping[str, Path]) -> None:
    """Refuse a held-out class that the training part does not have."""
    for part, classes in found.items():
        for name in classes:
            if name not in found["train"]:
                raise BadFile(
                    f"{parts[part]}: has a class {name!r}, which {parts['train']} has not",
                    cure="add pictures of it to both or take it out",
                )


def _join(walk: _Walk, top: Path, found: dict[str, _Classes]) -> Tree:
    """A tree of the folder's parts: train, and test or val or both."""
    held_out = "test" if "test" in found else "val"
    if held_out == "val":
        walk.say("there is no test folder: val judges each epoch, and the finished network")
    numbers = {name: label for label, name in enumerate(found["train"])}
    _say_if_uneven(walk, found["train"])
    for part in ("test", "val"):
        absent = [name for name in numbers if part in found and not found[part].get(name)]
        if absent:
            walk.say(f"the {part} part of {top} has no picture of {listed(absent)}")
    if {"test", "val"} <= set(found):
        walk.say("val judges each epoch; test is left for the finished network")
    checked = found.get("val", {}) if held_out == "test" else {}
    train, test = (_label(found[part], numbers) for part in ("train", held_out))
    return Tree(tuple(numbers), train, test, _label(checked, numbers), walk.notes())


def _say_if_uneven(walk: _Walk, train: Mapping[str, Sequence[Path]]) -> None:
    few, many = (pick(train, key=lambda name: len(train[name])) for pick in (min, max))
    if len(train[many]) >= _UNEVEN * len(train[few]):
        walk.say(
            f"{many} has {len(train[many]):,} training pictures and {few} {len(train[few]):,}: "
            "--class-weights balanced lets each class count as much"
        )


def _split(walk: _Walk, classes: _Classes, seed: int, fold: Fold | None = None) -> Tree:
    """Set aside a fifth of each class, or a fold.

    The files of a class are put in the order of a SHA-256 of the seed and their names. So the split
    does not depend on any library's random numbers, and adding a file later moves only a few others
    to another part.
    """
    train, test = {}, {}
    for name, files in classes.items():
        if len(files) < 2:
            raise BadFile(
                f"{files[0].parent}: holds {len(files)} picture, and at least 2 are needed, "
                "one for training and one for testing",
                cure="add pictures of this class",
            )
        mixed = sorted(files, key=lambda path: _hash(f"{seed}/{walk.spell(path)}"))
        if fold is None:
            held_out = max(1, round(len(files) / TEST_SHARE))
            test[name] = sorted(mixed[-held_out:])
        elif len(files) < fold[1]:
            raise BadValue(
                f"folds is {fold[1]}, and {name!r} has {len(files)} pictures",
                cure=f"use {len(files)} or fewer, or add pictures",
            )
        else:
            test[name] = sorted(pick_fold(mixed, fold))
        train[name] = sorted(set(files) - set(test[name]))
    _say_if_uneven(walk, train)
    if fold is None:
        walk.say(f"one in {TEST_SHARE} of each class was set aside for testing, by seed {seed}")
    else:
        walk.say(f"fold {fold[0]} of {fold[1]} of each class is for testing, by seed {seed}")
    numbers = {name: label for label, name in enumerate(classes)}
    return Tree(tuple(classes), _label(train, numbers), _label(test, numbers), (), walk.notes())


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()


def _label(classes: _Classes, numbers: Mapping[str, int]) -> Part:
    return tuple((path, numbers[name]) for name, files in classes.items() for path in files)


def _merge(first: _Classes, second: _Classes) -> None:
    for name, files in second.items():
        first[name] = first.get(name, []) + files


def _parts_within(classes: _Classes, top: Path) -> tuple[str, ...]:
    """The parts that are sub-folders of the classes, as in ``<class>/train``.

    Empty unless all pictures of all classes lie in such sub-folders.
    """
    places: dict[str, None] = {}
    for files in classes.values():
        for path in files:
            depth = path.relative_to(top).parts
            part = part_of(depth[1]) if len(depth) > 2 else None
            if part is None:
                return ()
            places[part] = None
    return tuple(places) if "train" in places and len(places) > 1 else ()


def _part_within(classes: _Classes, top: Path, part: str) -> _Classes:
    """The files of each class that lie in its own sub-folder for ``part``."""
    return {
        name: [path for path in files if part_of(path.relative_to(top).parts[1]) == part]
        for name, files in classes.items()
    }


def _no_pictures_cure(walk: _Walk) -> str:
    others = sorted({path.suffix.lower() or path.name for path in walk.passed_over})
    seen = f"; it holds {listed(others)}" if others else ""
    return f"put some in it (png, jpg, tif, bmp, webp, gif and others){seen}"


@dataclass
class _Walk:
    """Walks through the folders of one root, and collects notes for the user.

    Attributes:
        passed_over: files that are no pictures.
    """

    root: Path
    passed_over: list[Path] = field(default_factory=list)
    _said: list[str] = field(default_factory=list)
    _deeper: dict[Path, int] = field(default_factory=dict)
    _names: dict[Path, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.root.is_dir():
            raise no_folder(self.root, "name a folder of classes")
        if any("idx3-ubyte" in path.name for path in visible(self.root)):
            raise BadFile(
                f"{self.root}: holds IDX files, not folders of classes",
                cure=f"use mnist --data {self.root}",
            )

    def say(self, note: str) -> None:
        """Add a sentence to the notes."""
        if note not in self._said:
            self._said.append(note)

    def notes(self) -> tuple[str, ...]:
        """Facts that the user should know, a sentence each, for all folders together."""
        notes = list(self._said)
        others = list(dict.fromkeys(self.passed_over))
        if others:
            places = {path.parent for path in others}
            where = next(iter(places)) if len(places) == 1 else self.root
            are = "is no picture" if len(others) == 1 else "are no pictures"
            first = others[0].name
            notes.append(f"passed over in {where}: {len(others):,} that {are}, first {first}")
        if self._deeper:
            folders = list(self._deeper)
            notes.append(
                f"{counted(sum(self._deeper.values()), 'picture')} in sub-folders are of the class "
                f"that holds them, first in {folders[0]}"
            )
        return tuple(notes)

    def spell(self, path: Path) -> str:
        """A file by its class and its name, the same on every system."""
        return self._names[path]

    def entries(self, folder: Path) -> Iterator[Path]:
        """The visible entries of ``folder``; a link out of the root raises BadFile."""
        for entry in visible(folder):
            check_link(entry, self.root)
            yield entry

    def folders(self, folder: Path) -> list[Path]:
        """The folders in ``folder``."""
        return [entry for entry in self.entries(folder) if entry.is_dir()]

    def holds_pictures(self, folder: Path) -> bool:
        """Whether pictures lie directly in ``folder``."""
        return any(is_picture(entry) and entry.is_file() for entry in self.entries(folder))

    def open_wrappers(self, folder: Path, known: Collection[str] = ()) -> Path:
        """The folder itself, or the only folder in it if that contains folders and no pictures."""
        inside = self.folders(folder)
        if len(inside) != 1 or self.holds_pictures(folder):
            return folder
        only = inside[0]
        named = part_of(only.name) or same_name(only.name) in known
        if named or self.holds_pictures(only) or not self.folders(only):
            return folder
        self.say(f"{folder} contains only one folder: {only} was opened")
        return self.open_wrappers(only, known)

    def parts(self, top: Path) -> dict[str, Path]:
        """The folder of each part; empty if ``top`` is a flat tree of classes.

        A class may be called ``train`` too: it contains pictures, and a part contains folders.
        """
        folders = self.folders(top)
        named = [(part_of(folder.name), folder) for folder in folders]
        if folders and all(part and self.holds_pictures(folder) for part, folder in named):
            raise BadFile(
                f"{top}: {listed([folder.name for folder in folders])} hold pictures and no "
                "folders of classes",
                cure="put the pictures of each class into a separate folder",
            )
        parts: dict[str, Path] = {}
        for part, folder in named:
            if part is None or (part == "train" and not self._is_part(folder)):
                continue
            if part in parts:
                both = f"{parts[part].name} and {folder.name}"
                raise BadFile(f"{top}: has both {both}", cure="keep one of them")
            parts[part] = folder
        others = [folder for part, folder in named if part is None]
        if "train" not in parts:
            return self._held_out_alone(parts, others)
        if len(parts) == 1 and any(self.holds_pictures(folder) for folder in others):
            return {}
        if others:
            self.say(f"not read: {listed([folder.name for folder in others])}")
        return parts

    def _is_part(self, folder: Path) -> bool:
        return bool(self.folders(folder)) and not self.holds_pictures(folder)

    def _held_out_alone(self, parts: dict[str, Path], others: list[Path]) -> dict[str, Path]:
        """Parts without a train part: they are a test set if there are no other folders."""
        alone = parts and not others and all(self._is_part(one) for one in parts.values())
        return parts if alone else {}

    def classes(self, folder: Path, known: Collection[str] = ()) -> _Classes:
        """The files of each class of ``folder``.

        Args:
            folder: contains a folder for each class.
            known: the names of the classes if they are known; then a class may be absent or empty.
                Otherwise there must be two or more, each with pictures.

        Raises:
            BadFile: there are fewer classes, or one of them is empty.
        """
        inside = self.open_wrappers(folder, known)
        found: _Classes = {}
        for entry in self.folders(inside):
            files = self.pictures(entry)
            if not files and not known:
                raise BadFile(f"{entry}: holds no pictures", cure=_no_pictures_cure(self))
            _merge(found, {same_name(entry.name): files})
        if not found:
            raise self._no_classes(inside)
        if len(found) == 1 and not known:
            tables = [one.name for one in self.entries(inside) if one.suffix.lower() in _TABLES]
            cure = f"make a folder per class with {tables[0]}, which is not read" if tables else ""
            raise BadFile(
                f"{inside}: holds one class only, {next(iter(found))!r}",
                cure=cure or "add a second class",
            )
        return {name: found[name] for name in sorted(found)}

    def _no_classes(self, folder: Path) -> BadFile:
        entries = list(self.entries(folder))
        loose = sum(is_picture(entry) for entry in entries)
        tables = [entry.name for entry in entries if entry.suffix.lower() in _TABLES]
        holds = f"holds {counted(loose, 'picture')} but no" if loose else "holds no"
        beside = f" by {tables[0]}, which is not read" if loose and tables else ""
        return BadFile(
            f"{folder}: {holds} folders of classes", cure=f"make one folder a class{beside}"
        )

    def pictures(self, top: Path) -> list[Path]:
        """The pictures in the folder of a class and below it."""
        found: list[Path] = []
        opened: set[Path] = set()
        waiting = [top]
        while waiting:
            folder = waiting.pop()
            if folder.resolve() in opened:
                continue  # a link to a folder above it
            opened.add(folder.resolve())
            for entry in self.entries(folder):
                if entry.is_dir():
                    waiting.append(entry)
                elif is_picture(entry):
                    found.append(entry)
                    self._names[entry] = same_name(str(entry.relative_to(top.parent).as_posix()))
                else:
                    self.passed_over.append(entry)
        deeper = [path for path in found if path.parent != top]
        if deeper:
            self._deeper[top] = len(deeper)
        return sorted(found)
