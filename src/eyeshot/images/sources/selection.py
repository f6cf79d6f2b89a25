"""Which of the images of a file is read, and how its axes are to be understood."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eyeshot.errors import BadValue, EyeshotError
from eyeshot.images.layouts import Index, Layout, parse_index, understand


@dataclass(frozen=True)
class Selection:
    """The requested part of a file.

    Attributes:
        series: the number of the image, from 0; None for the first.
        level: the level of a pyramid, 0 is the largest.
        index: positions along axes, by their letters.
        layout: the order of the axes, if the user gives it.
        space: the expected number of spatial axes.
        indices: whether to read the indices of a palette and not its colors.
        offered: whether the user has ``--series`` and ``--index``, so that messages can name them.
    """

    series: int | None = None
    level: int = 0
    index: Mapping[str, int] = field(default_factory=dict)
    layout: str | None = None
    space: int | None = None
    indices: bool = False
    offered: bool = True

    def understand(self, path: Path, stored: tuple[int, ...], metadata: str | None) -> Layout:
        """The layout of the stored array; messages begin with ``path``.

        Raises:
            BadValue: the requested layout or index does not fit.
            BadFile: the axes cannot be understood.
        """
        try:
            return understand(
                stored,
                metadata=metadata,
                layout=self.layout,
                space=self.space,
                index=self.index,
            )
        except EyeshotError as error:
            raise error.at(str(path)) from error

    def check_series(self, path: Path, count: int, kind: str = "series") -> int:
        """The series that is read, of ``count``.

        Raises:
            BadValue: there is no such series.
        """
        series = self.series or 0
        if not 0 <= series < count:
            raise BadValue(f"{path}: no {kind} {series}", cure=f"it has {kind} 0 to {count - 1}")
        return series

    def check_level(self, path: Path, count: int) -> int:
        """The level that is read, of ``count``.

        Raises:
            BadValue: there is no such level.
        """
        if not 0 <= self.level < count:
            cure = f"it has levels 0 to {count - 1}" if count > 1 else "it has only level 0"
            raise BadValue(f"{path}: no level {self.level}", cure=cure)
        return self.level

    def check_flat(self, path: Path) -> None:
        """Refuse a level or a series for a file with a single image.

        Raises:
            BadValue: a level or a series is requested.
        """
        self.check_level(path, 1)
        self.check_series(path, 1)

    def page_cure(self, letter: str, length: int) -> str:
        """The cure that says how to choose a page along an axis."""
        if self.offered:
            return (
                f"choose one by --index, {letter}=0 to {letter}={length - 1}, or store each in a "
                "separate file"
            )
        return (
            "store the page in a separate file, such as with eyeshot filter FILE "
            f"-k identity --index {letter}=0 -o PAGE.png"
        )

    def page_note(self, letter: str, length: int) -> str:
        """That pages of a file are taken for the channels of one picture."""
        more = f"; --index {letter}=N reads page N" if self.offered else ""
        return f"its {length} pages (axis {letter}) are read as channels of one picture{more}"

    def part(self, series: int = 0) -> dict[str, Any]:
        """What was chosen, as plain data."""
        return {"series": series, "level": self.level, "index": dict(self.index)}


def select(
    series: int | None, level: int, index: Index | None, layout: str | None, space: int | None
) -> Selection:
    """A selection from a caller's arguments.

    Raises:
        BadValue: ``index`` cannot be read.
    """
    return Selection(series, level, parse_index(index), layout, space)
