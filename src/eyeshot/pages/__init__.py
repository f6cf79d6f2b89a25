"""Pages that need no other file: run reports, inspections, maps, and what notebooks show."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import jinja2

from eyeshot.pages.parts import Fact, Section

__all__ = ["render_page", "render_piece"]


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
