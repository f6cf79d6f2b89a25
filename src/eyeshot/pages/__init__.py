"""Pages that need no other file: run reports, inspections, maps, and what notebooks show.

The parts of a section are plain data, which the template knows how to draw. A new section is a
function that returns a :class:`Section`; the template needs no change as long as these parts are
enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import jinja2

__all__ = ["render_page", "render_piece"]


@dataclass(frozen=True)
class Image:
    """A picture inside the page.

    Attributes:
        address: a ``data:`` address.
        alt: what it shows, for people who cannot see it.
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
    """Curves as SVG text, which color (CSS class) is what, and a sentence."""

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
class Cell:
    """One cell of a table that is more than its text.

    Attributes:
        text: what stands in it.
        hint: shown when the pointer rests on it, such as all digits of a number.
        bar: a share 0…1, drawn as a bar below the text.
        style: ``soft``, ``warning`` or ``error``; "" for none.
    """

    text: str
    hint: str = ""
    bar: float | None = None
    style: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of words and numbers; all columns but the first ``words`` are set as numbers.

    ``total`` is a last row that stands out; ``folded`` hides the table behind this line; ``dense``
    sets many columns small, the first column and the head staying in sight.
    """

    kind: ClassVar[str] = "table"
    head: Sequence[str]
    rows: Sequence[Sequence[str | Cell]]
    total: Sequence[str | Cell] = ()
    words: int = 1
    folded: str = ""
    dense: bool = False


@dataclass(frozen=True)
class Matrix:
    """A square of counts, each cell the darker the larger its share of the row.

    ``cells[row][column]`` is (count or what else is to be written, share of the row, on the
    diagonal?).
    """

    kind: ClassVar[str] = "matrix"
    names: Sequence[str]
    cells: Sequence[Sequence[tuple[int | str, float, bool]]]
    rows_are: str
    columns_are: str


@dataclass(frozen=True)
class Bars:
    """Shares 0…1, each with its name, as bars."""

    kind: ClassVar[str] = "bars"
    title: str
    bars: Sequence[tuple[str, float]]


@dataclass(frozen=True)
class Strip:
    """The same place seen in several ways, side by side, each picture with its word above it.

    ``columns`` of them stand in a row; all do if it is 0.
    """

    kind: ClassVar[str] = "strip"
    title: str
    views: Sequence[tuple[str, Image]]
    note: str = ""
    columns: int = 0


@dataclass(frozen=True)
class Legend:
    """What colors mean: each ``#rrggbb``, and its meaning in words."""

    kind: ClassVar[str] = "legend"
    colors: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Shares:
    """Two shares 0…1 of each of several things, as bars beside one another.

    ``rows`` are (name, first share, second share, a word on it); ``heads`` name these columns.
    """

    kind: ClassVar[str] = "shares"
    heads: tuple[str, str, str, str]
    rows: Sequence[tuple[str, float, float, str]]
    title: str = ""

    @property
    def largest(self) -> float:
        """The share whose bar is the longest."""
        return max((max(first, second) for _, first, second, _ in self.rows), default=0.0) or 1.0


@dataclass(frozen=True)
class Severities:
    """Findings: (``error``, ``warning``, ``note`` or ``good``; a title; lines below it)."""

    kind: ClassVar[str] = "severities"
    items: Sequence[tuple[str, str, Sequence[str]]]


@dataclass(frozen=True)
class Lists:
    """Lists of lines side by side, each with its title."""

    kind: ClassVar[str] = "lists"
    lists: Sequence[tuple[str, Sequence[str]]]


@dataclass(frozen=True)
class Lines:
    """Numbered lines below a title; ``folded`` hides them behind it."""

    kind: ClassVar[str] = "lines"
    title: str
    lines: Sequence[str]
    folded: bool = True


GridCell = tuple[str, float, str]
"""What stands in a cell of a grid, its tone from -1 (blue) to 1 (red), and a style: ``made`` for
padding, ``seen`` for a cell that is read, or "" for none."""


@dataclass(frozen=True)
class Grids:
    """Small matrices of numbers side by side, each with its name; a string is a sign between."""

    kind: ClassVar[str] = "grids"
    grids: Sequence[tuple[str, Sequence[Sequence[GridCell]] | str]]
    title: str = ""


Part = (
    Text
    | Figure
    | Plot
    | Cards
    | Table
    | Matrix
    | Bars
    | Strip
    | Legend
    | Shares
    | Severities
    | Lists
    | Lines
    | Grids
)


@dataclass(frozen=True)
class Section:
    """One topic of a page: its anchor, its heading, one plain sentence, and what is shown."""

    name: str
    title: str
    says: str
    parts: Sequence[Part] = ()


@dataclass(frozen=True)
class Fact:
    """A figure at the head of the page, and what it is."""

    figure: str
    what: str


def render_page(
    title: str,
    *,
    kicker: str = "",
    facts: Sequence[Fact] = (),
    notes: Sequence[str] = (),
    sections: Sequence[Section] = (),
    language: str = "en",
) -> str:
    """A whole HTML page.

    Args:
        title: its heading.
        kicker: a small line above it.
        facts: figures at its head.
        notes: sentences below them.
        sections: what it shows, in order.
        language: of its words, such as ``zh``.
    """
    return _fill(
        whole=True,
        title=title,
        kicker=kicker,
        facts=facts,
        notes=notes,
        sections=sections,
        language=language,
    )


def render_piece(
    title: str,
    *,
    facts: Sequence[Fact] = (),
    notes: Sequence[str] = (),
    sections: Sequence[Section] = (),
) -> str:
    """The same without the frame of a page, for a notebook: its style is kept to itself."""
    return _fill(whole=False, title=title, kicker="", facts=facts, notes=notes, sections=sections)


def _fill(**values: Any) -> str:
    return _environment().get_template("page.html.j2").render(**values)


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("eyeshot.pages", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
