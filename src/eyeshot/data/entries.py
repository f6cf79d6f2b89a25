"""The entries of a folder, sorted by name, without hidden files."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from pathlib import Path

from eyeshot.errors import BadFile
from eyeshot.files import explain_os_error

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
    """Refuse a link out of ``root``, or to nowhere.

    Raises:
        BadFile: ``entry`` is one.
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
