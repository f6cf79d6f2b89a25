"""Where a kernel comes from: a name, a text file, or an array. All become checked kernels."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from eyeshot.errors import BadFile, BadValue
from eyeshot.files import explain_os_error
from eyeshot.filters.kernels import Kernels, build, freeze
from eyeshot.filters.options import Weights

_LARGEST_FILE = 16 * 2**20
_SUFFIXES = {".txt", ".csv", ".tsv", ".kernel"}


@dataclass(frozen=True, eq=False)
class KernelSet:
    """What is to be laid on the picture. Two kernels are joined as a magnitude."""

    name: str
    kernels: Kernels

    @property
    def shape(self) -> tuple[int, int]:
        """(kh, kw), which all kernels of a set share."""
        height, width = self.kernels[0].shape
        return height, width

    def turned(self) -> KernelSet:
        """Each kernel turned by 180°: cross-correlation with these is true convolution."""
        return KernelSet(self.name, tuple(freeze(kernel[::-1, ::-1]) for kernel in self.kernels))


KernelSource = str | os.PathLike[str] | ArrayLike | KernelSet


def resolve(source: KernelSource) -> KernelSet:
    """The kernels of a name (``"sobel"``, ``"mean:5"``), a text file, or a (kh, kw) array.

    A string is a file if it looks like a path (it contains a folder, or a suffix such as ``.txt``).

    Raises:
        UnknownName: no kernel has that name.
        BadValue: a size or an array that cannot be a kernel.
        BadFile: a text file that is missing or does not contain a table of numbers.
    """
    if isinstance(source, KernelSet):
        return source
    if isinstance(source, os.PathLike):
        return KernelSet(Path(source).name, (read_kernel(Path(source)),))
    if isinstance(source, str):
        if _looks_like_path(source):
            return KernelSet(Path(source).name, (read_kernel(Path(source)),))
        return KernelSet(source, build(*_split_size(source)))
    return KernelSet("array", (check_kernel(source),))


def check_kernel(values: ArrayLike) -> Weights:
    """``values`` as a read-only (kh, kw) float64 array.

    Raises:
        BadValue: not two axes, no weights, or a weight that is not a finite real number.
    """
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise BadValue("the kernel's rows differ in length", cure="give a full table") from error
    if array.dtype.kind not in "buif":
        raise BadValue(f"the kernel holds {array.dtype}, not numbers", cure="give real numbers")
    if array.ndim != 2:
        cure = "give rows and columns, such as numpy.reshape(kernel, (1, -1)) for one row"
        raise BadValue(f"the kernel has {array.ndim} axes, shape {array.shape}", cure=cure)
    if array.size == 0:
        raise BadValue(f"the kernel is empty, shape {array.shape}", cure="give at least one weight")
    if not np.isfinite(array).all():
        raise BadValue("the kernel holds NaN or infinity", cure="give finite weights")
    return freeze(array)


def read_kernel(path: Path) -> Weights:
    """Read a (kh, kw) kernel from a text file.

    One row a line; weights separated by blanks or commas, written as ``0.5``, ``-1``, ``2e-3`` or
    ``1/9``; ``#`` starts a comment.

    Raises:
        BadFile: missing, not text, not a table of finite numbers.
    """
    rows = []
    for number, line in enumerate(_read_text(path).splitlines(), start=1):
        words = line.partition("#")[0].replace(",", " ").split()
        if words:
            rows.append([_number(word, f"{path}, line {number}") for word in words])
            if len(rows[-1]) != len(rows[0]):
                fact = f"{path}, line {number}: {len(rows[-1])} weights where the first row has "
                raise BadFile(fact + str(len(rows[0])), cure="give each row as many weights")
    if not rows:
        raise BadFile(f"{path}: holds no weights", cure="write one row of numbers a line")
    return freeze(rows)


def _looks_like_path(text: str) -> bool:
    return any(mark in text for mark in "/\\") or Path(text).suffix.lower() in _SUFFIXES


def _split_size(text: str) -> tuple[str, int | None]:
    name, colon, size = text.partition(":")
    if not colon:
        return name, None
    if not re.fullmatch(r"[0-9]{1,9}", size):
        raise BadValue(f"kernel size {size!r} in {text!r}", cure="write NAME:SIZE, such as mean:5")
    return name, int(size)


def _read_text(path: Path) -> str:
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise BadFile(f"{path}: too large for a kernel", cure="name a text file of numbers")
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadFile(f"{path}: is not text", cure="name a text file of numbers") from error
    except OSError as error:
        raise explain_os_error(error, path) from error


def _number(word: str, place: str) -> float:
    above, slash, below = word.partition("/")
    try:
        value = float(above) / float(below) if slash else float(word)
    except (ValueError, ZeroDivisionError) as error:
        raise BadFile(f"{place}: {word!r} is not a number", cure="write 0.5, -1 or 1/9") from error
    if not np.isfinite(value):
        raise BadFile(f"{place}: {word!r} is not finite", cure="write 0.5, -1 or 1/9")
    return value
