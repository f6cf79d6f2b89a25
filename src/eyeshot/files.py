"""Files written so that a reader finds the old one or the new, never a half of one; and locks.

Nothing is written through a symbolic link that somebody put in a predictable place: a new file is
made by ``O_EXCL``, which follows none.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import mmap
import os
import re
import secrets
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import IO

from eyeshot.errors import BadFile, BadValue, EyeshotError, Failure
from eyeshot.language import tr


@contextmanager
def write_aside(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it over ``path`` when the block succeeds.

    The temporary exists, empty, under a name that nobody can guess. It keeps the suffix of
    ``path``, since many writers choose a format by it, and the permissions of the file that it
    takes the place of. It is removed when the block fails, and the old file, if any, is untouched.

    Raises:
        BadFile: the path names no file, or the folder does not exist or may not be written to.
        Failure: the disk is full.
    """
    path = Path(path)
    if not path.name:
        raise BadFile(tr("{path}: is a folder", path=path), cure=tr("name a file"))
    try:
        aside = _empty_beside(path)
    except OSError as error:
        raise explain_os_error(error, path) from error
    try:
        yield aside
        with aside.open("rb") as written:
            os.fsync(written.fileno())
        aside.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise explain_os_error(error, path) from error
    except EyeshotError as error:
        error.fact = error.fact.replace(str(aside), str(path))
        raise
    finally:
        aside.unlink(missing_ok=True)


def make_folder(path: Path) -> None:
    """Make a folder in one that exists, if it is not there yet.

    Raises:
        BadFile: the folder around it does not exist or may not be written to, or a file is there.
        Failure: the disk is full.
    """
    try:
        path.mkdir(exist_ok=True)
    except FileExistsError as error:
        raise BadFile(f"{path}: is a file", cure="remove it, or choose another folder") from error
    except OSError as error:
        raise explain_os_error(error, path) from error


def check_not_input(out: Path, *inputs: Path | str) -> None:
    """Refuse to write over one of the inputs.

    Raises:
        BadValue: ``out`` is one of them, maybe by another name.
    """
    for path in map(Path, inputs):
        if out.exists() and path.exists() and path.samefile(out):
            raise BadValue(f"{out}: the output is the input itself", cure="choose another name")


def check_free(out: Path, *, force: bool) -> None:
    """Refuse to replace what is there, unless ``force`` is set.

    Raises:
        BadFile: something of that name exists.
    """
    if not force and os.path.lexists(out):
        raise BadFile(tr("{path}: exists already", path=out), cure=tr("--force replaces it"))


def check_page(out: Path) -> None:
    """Refuse a name that is no page's, such as that of a picture or of a run's configuration.

    Raises:
        BadValue: it does not end in .html or .htm.
    """
    if out.suffix.lower() not in (".html", ".htm"):
        raise BadValue(f"{out}: a page", cure="end its name in .html")


def _empty_beside(path: Path) -> Path:
    """A new empty file in the folder of ``path``, of a random name."""
    # Names are bytes to the system: leave room for the rest within its usual 255.
    stem = os.fsdecode(os.fsencode(path.stem)[:180])
    while True:
        aside = path.with_name(f".{stem}.{secrets.token_hex(4)}.part{path.suffix}")
        with suppress(FileExistsError):
            os.close(create(aside, mode_of(path)))
            return aside


def create(path: Path, mode: int | None = None) -> int:
    """Make a file that is not there, and open it to be read and written.

    Args:
        path: of the file; a symbolic link in its place is a file that is there.
        mode: its permissions; None for the usual ones.

    Raises:
        FileExistsError: it is there.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666 if mode is None else mode)
    if mode is not None:
        os.chmod(path, mode)  # noqa: PTH101  (the umask had its say above)
    return handle


def mode_of(path: Path) -> int | None:
    """The permissions of what is at ``path``; None where there is nothing."""
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return None


class Lock:
    """A file that one process holds, to say that it alone writes something.

    The system lets go of it when the process ends, however it ends: a lock is never left behind,
    and no process number is taken for the one of a process that is long gone.
    """

    def __init__(self, path: Path, written: Path) -> None:
        """Hold ``path`` until :meth:`release`; a message says that ``written`` is being written.

        Raises:
            BadFile: another process holds it.
            Failure: the file system knows no locks.
            OSError: the file cannot be made.
        """
        self._path = path
        self._file: IO[bytes] | None = None
        while self._file is None:
            file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666), "r+b")
            try:
                self._take(file, written)
            except BaseException:
                file.close()
                raise
            if self._is_current(file):
                self._file = file
            else:
                file.close()  # its owner removed it just then: the next one is ours to make
        self._file.truncate(0)
        self._file.write(str(os.getpid()).encode())
        self._file.flush()

    def _take(self, file: IO[bytes], written: Path) -> None:
        import fcntl

        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            number = file.read(20).decode("ascii", "replace")
            owner = f"process {number}" if number.isdecimal() else "another process"
            raise BadFile(
                f"{written}: {owner} is still writing it",
                cure="wait for it, stop it, or choose another name",
            ) from None
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
                raise
            raise Failure(
                f"{written}: its file system cannot lock files, so two processes could write it "
                "at once",
                cure="write to a local disk",
            ) from error

    def _is_current(self, file: IO[bytes]) -> bool:
        try:
            return os.path.samestat(os.fstat(file.fileno()), self._path.lstat())
        except FileNotFoundError:
            return False

    def release(self) -> None:
        """Remove the file and let go of it; a second time does nothing."""
        if self._file is not None:
            self._path.unlink(missing_ok=True)
            self._file.close()
            self._file = None


_NUMPY_ON_FULL_DISKS = re.compile(r"^\d+ requested and \d+ written|^Not enough free space to write")
"""What NumPy says in an error without a number."""


def explain_os_error(error: OSError, path: Path) -> BadFile | Failure:
    """The one-line form of what the operating system refused."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT) or _NUMPY_ON_FULL_DISKS.search(str(error)):
        return Failure(
            tr("{path}: the disk is full", path=path),
            cure=tr("free some space; nothing was overwritten"),
        )
    if error.errno == errno.EFBIG:
        cure = "use another disk, or raise the limit on file sizes"
        return Failure(f"{path}: larger than this disk or user may hold", cure=cure)
    if isinstance(error, FileNotFoundError):
        return BadFile(tr("{path}: no such file or folder", path=path), cure=tr("check the path"))
    if isinstance(error, PermissionError):
        return BadFile(
            tr("{path}: permission denied", path=path), cure=tr("choose a place you may write to")
        )
    if isinstance(error, IsADirectoryError):
        return BadFile(tr("{path}: is a folder", path=path), cure=tr("name a file"))
    if isinstance(error, NotADirectoryError):
        return BadFile(f"{path}: a part of the path is a file", cure="check the path")
    if error.errno == errno.ELOOP:
        return BadFile(f"{path}: is a symbolic link", cure="remove it, or choose another name")
    return BadFile(f"{path}: {error.strerror or error}", cure="check the path")


def replace_file(new: Path, old: Path) -> None:
    """Rename a file over another one, whose blocks are freed behind.

    Freeing a gigabyte takes the system about a second. It begins when nothing refers to the old
    file any more: here, when another thread closes it. A process that ends before has the same
    files.
    """
    handle = _opened(old)
    try:
        new.replace(old)
    except BaseException:
        if handle is not None:
            os.close(handle)
        raise
    if handle is not None:
        try:
            Thread(target=os.close, args=(handle,), name="eyeshot-free", daemon=True).start()
        except RuntimeError:  # no new thread: at the end of Python, or too many of them
            os.close(handle)


def _opened(path: Path) -> int | None:
    """A handle that keeps a large plain file; None for anything else, and where none is possible.

    Windows replaces no file that is open.
    """
    if os.name == "nt":
        return None
    try:
        found = path.lstat()
        if not stat.S_ISREG(found.st_mode) or found.st_size < _LARGE:
            return None
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None


_LARGE = 16 << 20
"""Bytes of a file that are freed behind."""


def begin_writing_back(handle: int) -> None:
    """Let the system begin to put on disk what was written to a file, where it can (Linux).

    A later fsync then waits for less.
    """
    begin = getattr(c_library(), "sync_file_range", None)
    if begin is not None:
        begin(ctypes.c_int(handle), ctypes.c_int64(0), ctypes.c_int64(0), ctypes.c_uint(_WRITE))


_WRITE = 2
"""SYNC_FILE_RANGE_WRITE of fcntl.h: begin, and do not wait."""


def forget(first: int, end: int) -> None:
    """Let the system take the memory between two addresses, which reads as zeros from then on.

    Only whole pages of it, on Linux; elsewhere nothing happens.
    """
    advise = getattr(c_library(), "madvise", None)
    page = mmap.PAGESIZE
    first, end = -(-first // page) * page, end // page * page
    if advise is not None and first < end:
        advise(ctypes.c_void_p(first), ctypes.c_size_t(end - first), ctypes.c_int(_DROP))


_DROP = 4
"""MADV_DONTNEED of sys/mman.h."""


@functools.cache
def c_library() -> ctypes.CDLL | None:
    """The C library of this process, on Linux."""
    return ctypes.CDLL(None) if sys.platform == "linux" else None


def _sync_folder(folder: Path) -> None:
    """Make the rename itself survive a power cut, where the system can open a folder."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
