"""What a section of the report is made of: plain data, which the template knows how to draw.

A new section is a function that returns a :class:`Section`, and a line in
:mod:`eyeshot.report.sections`; the template needs no change as long as these parts are enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Image:
    """A picture inside the page.

    Attributes:
        address: a ``data:`` address.
        alt: what it shows, for whoever cannot see it.
        width: in CSS pixels; None as wide as there is room for, up to its own pixels.
        sharp: whether enlarged pixels stay squares (maps, digits) or are smoothed (photographs).
    """

    address: str
    alt: str
    width: int | None = None
    sharp: bool = True


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    kind: ClassVar[str] = "text"
    text: str


@dataclass(frozen=True)
class Figure:
    """One picture, with a heading and a sentence."""

    kind: ClassVar[str] = "figure"
    image: Image
    title: str = ""
    note: str = ""


@dataclass(frozen=True)
class Plot:
    """Curves as SVG text, which colour (CSS class) is what, and a sentence."""

    kind: ClassVar[str] = "plot"
    title: str
    svg: str
    legend: Sequence[tuple[str, str]]
    note: str = ""


@dataclass(frozen=True)
class Card:
    """A few small pictures with a title and a note below."""

    images: Sequence[Image]
    title: str
    note: str = ""


@dataclass(frozen=True)
class Cards:
    """Cards side by side, as many in a row as there is room for.

    ``width`` is that of a card in CSS pixels.
    """

    kind: ClassVar[str] = "cards"
    cards: Sequence[Card]
    width: int = 120


@dataclass(frozen=True)
class Table:
    """Rows of words and numbers; all columns but the first ``words`` are set as numbers.

    ``total`` is a last row that stands out; ``folded`` hides the table behind this line.
    """

    kind: ClassVar[str] = "table"
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    total: Sequence[str] = ()
    words: int = 1
    folded: str = ""


@dataclass(frozen=True)
class Matrix:
    """A square of counts, each cell the darker the larger its share of the row.

    ``cells[row][column]`` is (count, share of the row, on the diagonal?).
    """

    kind: ClassVar[str] = "matrix"
    names: Sequence[str]
    cells: Sequence[Sequence[tuple[int, float, bool]]]
    rows_are: str
    columns_are: str


@dataclass(frozen=True)
class Bars:
    """Shares 0…1, each with its name, as bars."""

    kind: ClassVar[str] = "bars"
    title: str
    bars: Sequence[tuple[str, float]]


Part = Text | Figure | Plot | Cards | Table | Matrix | Bars


@dataclass(frozen=True)
class Section:
    """One topic of the report: its anchor, its heading, one plain sentence, and what is shown."""

    name: str
    title: str
    says: str
    parts: Sequence[Part] = ()
