"""Files written aside and renamed, so that a reader finds the old file or the new, never a half."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from eyeshot.errors import BadFile, Failure


@contextmanager
def write_aside(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it over ``path`` when the block succeeds.

    The temporary keeps the suffix of ``path``, since many writers choose a format by it. It is
    removed when the block fails, and the old file, if any, is untouched.

    Raises:
        BadFile: the path names no file, or the folder does not exist or may not be written to.
        Failure: the disk is full.
    """
    path = Path(path)
    if not path.name:
        raise BadFile(f"{path}: is a folder", cure="name a file")
    aside = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        yield aside
        with aside.open("rb") as written:
            os.fsync(written.fileno())
        aside.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise explain_os_error(error, path) from error
    finally:
        aside.unlink(missing_ok=True)


def explain_os_error(error: OSError, path: Path) -> BadFile | Failure:
    """The one-line form of what the operating system refused."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Failure(f"{path}: the disk is full", cure="free some space; nothing was overwritten")
    if error.errno == errno.EFBIG:
        cure = "use another disk, or raise the limit on file sizes"
        return Failure(f"{path}: larger than this disk or user may hold", cure=cure)
    if isinstance(error, FileNotFoundError):
        return BadFile(f"{path}: no such file or folder", cure="check the path")
    if isinstance(error, PermissionError):
        return BadFile(f"{path}: permission denied", cure="choose a place you may write to")
    if isinstance(error, IsADirectoryError):
        return BadFile(f"{path}: is a folder", cure="name a file")
    if isinstance(error, NotADirectoryError):
        return BadFile(f"{path}: a part of the path is a file", cure="check the path")
    return BadFile(f"{path}: {error.strerror or error}", cure="check the path")


def _sync_folder(folder: Path) -> None:
    """Make the rename itself survive a power cut, where the system can open a folder."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
