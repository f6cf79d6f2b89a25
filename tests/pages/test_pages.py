"""Pages and pieces: every part is drawn, every name is escaped, and a notebook's rules lose."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import get_args

import pytest

from eyeshot import pages
from eyeshot.pages import (
    Cell,
    Fact,
    Grids,
    Lines,
    Lists,
    Part,
    Section,
    Severities,
    Table,
    Text,
    render_page,
    render_piece,
)

NAME = "<b>&"
PARTS: list[Part] = [
    Text(NAME),
    Table(["a", "b"], [["x", Cell(NAME, NAME, 0.5, "warning")]], ["all", Cell("7")], dense=True),
    Severities([("error", NAME, ["why", NAME])]),
    Lists([(NAME, ["one", "two"])]),
    Lines(NAME, ["1 + 1 = 2"]),
    Grids([("patch", [[("1", 0.5, ""), (NAME, -1.0, "made")]]), ("", "×"), ("k", [])], NAME),
]


class Outline(HTMLParser):
    """The text and the tags of a piece; every tag that is opened is closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.kind)
@pytest.mark.parametrize("render", [render_page, render_piece])
def test_names_are_escaped_and_shown(render: type, part: Part) -> None:
    shown = Outline(
        render(NAME, facts=[Fact(NAME, NAME)], sections=[Section("s", NAME, NAME, [part])])
    )
    assert shown.text.count(NAME) >= 5
    assert not any(tag == "b" for tag, _ in shown.tags)


def test_every_kind_of_part_is_known_to_the_template() -> None:
    template = Path(pages.__file__).with_name("page.html.j2").read_text(encoding="utf-8")
    known = set(re.findall(r'part\.kind == "(\w+)"', template))
    assert known == {kind.kind for kind in get_args(Part)}


def test_a_piece_keeps_its_style_to_itself_and_outranks_that_of_a_notebook() -> None:
    piece = render_piece("title", sections=[Section("s", "t", "", [PARTS[1]])])
    (style,) = re.findall(r"<style>(.*?)</style>", piece, re.DOTALL)
    rules = re.sub(r"/\*.*?\*/", "", style, flags=re.DOTALL).strip()
    assert rules.startswith(".eyeshot.eyeshot.eyeshot {")
    assert rules.endswith("}")
    depth = 0
    for place, char in enumerate(rules):
        depth += (char == "{") - (char == "}")
        assert depth > 0 or place == len(rules) - 1 or place < len(".eyeshot.eyeshot.eyeshot ")
    for property_of_jupyter in ("table-layout", "white-space", "text-align", "vertical-align"):
        assert property_of_jupyter in rules
    assert " id=" not in piece, "two pieces in one notebook would share it"
