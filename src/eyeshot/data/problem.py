"""Problems of a training folder: each one separately, and all on one line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from eyeshot.errors import BadFile, EyeshotError

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
