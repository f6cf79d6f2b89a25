"""A folder of classes as lists of files: which file belongs to which class and which part.

Two layouts are known::

    FOLDER/train/<class>/*.png        FOLDER/<class>/*.png
    FOLDER/test/<class>/*.png         (a fifth of each class is set aside as the test part)
    FOLDER/val/<class>/*.png

Everything is taken in the order of its name, hidden files are passed over, and a link that leads
out of the folder is refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from eyeshot.errors import BadFile
from eyeshot.files import explain_os_error

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".gif"})
TEST_SHARE = 5  # one in five is set aside
_VALIDATION_NAMES = ("val", "valid", "validation")

Part = tuple[tuple[Path, int], ...]  # file, label


@dataclass(frozen=True)
class Tree:
    """The files of a folder, split."""

    classes: tuple[str, ...]
    train: Part
    test: Part
    validation: Part
    notes: tuple[str, ...]


def find_files(folder: Path, seed: int) -> Tree:
    """Look through ``folder`` and split it.

    Raises:
        BadFile: the folder is missing or empty, has fewer than two classes, a class is empty or
            stands in one part alone, or a link leads out of it.
    """
    if not folder.is_dir():
        raise BadFile(f"{folder}: no such folder", cure="name a folder of classes")
    if _holds_idx(folder):
        raise BadFile(
            f"{folder}: holds IDX files, not folders of classes",
            cure=f"use mnist --data {folder}",
        )
    names = [entry.name for entry in _entries(folder, folder)]
    if "train" in names:
        return _find_split(folder, names)
    return _split(folder, seed)


def _find_split(root: Path, names: list[str]) -> Tree:
    validation = next((name for name in _VALIDATION_NAMES if name in names), None)
    held_out = "test" if "test" in names else validation
    if held_out is None:
        raise BadFile(
            f"{root}: has train but neither test nor val",
            cure=f"add one, or name {root / 'train'} to have a fifth of it set aside",
        )
    notes: list[str] = []
    train = _find_classes(root / "train", root, notes)
    test = _find_classes(root / held_out, root, notes)
    _check_same_classes(root / "train", train, root / held_out, test)
    checked: dict[str, list[Path]] = {}
    if validation and validation != held_out:
        checked = _find_classes(root / validation, root, notes)
        _check_same_classes(root / "train", train, root / validation, checked)
    elif validation:
        notes.append(f"there is no test folder: {validation} is the test part")
    return Tree(tuple(train), _label(train), _label(test), _label(checked), tuple(notes))


def _split(root: Path, seed: int) -> Tree:
    """One flat tree: in each class, a fifth is set aside.

    The files of a class are put in the order of a SHA-256 of the seed and their names. So the split
    does not depend on any library's random numbers, and a file that is added later moves few of the
    others from one part to the other.
    """
    notes: list[str] = []
    classes = _find_classes(root, root, notes)
    train, test = {}, {}
    for name, files in classes.items():
        if len(files) < 2:
            raise BadFile(
                f"{root / name}: holds {len(files)} picture, and at least 2 are needed, "
                "one to learn from and one to test with",
                cure="add pictures of this class",
            )
        mixed = sorted(files, key=lambda path: _hash(f"{seed}/{path.parent.name}/{path.name}"))
        held_out = max(1, round(len(files) / TEST_SHARE))
        train[name] = sorted(mixed[:-held_out])
        test[name] = sorted(mixed[-held_out:])
    notes.append(f"one in {TEST_SHARE} of each class was set aside for testing, by seed {seed}")
    return Tree(tuple(classes), _label(train), _label(test), (), tuple(notes))


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()


def _label(classes: dict[str, list[Path]]) -> Part:
    return tuple((path, label) for label, files in enumerate(classes.values()) for path in files)


def _find_classes(folder: Path, root: Path, notes: list[str]) -> dict[str, list[Path]]:
    """The files of each class of ``folder``, both in the order of their names."""
    entries = list(_entries(folder, root))
    classes = {
        entry.name: _find_pictures(entry, root, notes) for entry in entries if entry.is_dir()
    }
    if not classes:
        loose = sum(entry.suffix.lower() in SUFFIXES for entry in entries)
        holds = f"holds {loose} pictures but no" if loose else "holds no"
        raise BadFile(f"{folder}: {holds} folders of classes", cure="make one folder a class")
    if len(classes) == 1:
        raise BadFile(
            f"{folder}: holds one class only, {next(iter(classes))!r}", cure="add a second class"
        )
    return classes


def _find_pictures(folder: Path, root: Path, notes: list[str]) -> list[Path]:
    files = list(_entries(folder, root))
    pictures = [entry for entry in files if entry.suffix.lower() in SUFFIXES and entry.is_file()]
    if not pictures:
        kinds = ", ".join(sorted(suffix[1:] for suffix in SUFFIXES))
        raise BadFile(f"{folder}: holds no pictures", cure=f"put some directly in it ({kinds})")
    if others := len(files) - len(pictures):
        notes.append(f"passed over in {folder.relative_to(root)}: {others} that are no pictures")
    return pictures


def _entries(folder: Path, root: Path) -> Iterator[Path]:
    """What lies in ``folder``, by name, without what is hidden."""
    try:
        found = sorted(folder.iterdir(), key=lambda entry: entry.name)
    except OSError as error:
        raise explain_os_error(error, folder) from error
    real_root = root.resolve()
    for entry in found:
        if entry.name.startswith((".", "__")):
            continue
        if entry.is_symlink() and not entry.resolve().is_relative_to(real_root):
            raise BadFile(f"{entry}: is a link that leads out of {root}", cure="copy it in")
        yield entry


def _check_same_classes(
    first: Path, expected: dict[str, list[Path]], second: Path, found: dict[str, list[Path]]
) -> None:
    for name in expected:
        if name not in found:
            raise BadFile(
                f"{second}: has no class {name!r}, which {first} has", cure="add pictures of it"
            )
    for name in found:
        if name not in expected:
            raise BadFile(
                f"{second}: has a class {name!r}, which {first} has not",
                cure="add pictures of it to both or take it out",
            )


def _holds_idx(folder: Path) -> bool:
    return any("idx3-ubyte" in path.name for path in folder.iterdir())
