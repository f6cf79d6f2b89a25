"""Names in a terminal: shown as they are, and never acted on."""

from __future__ import annotations

import io
import json
import sys

import pytest
from rich.table import Table
from rich.text import Text

from eyeshot.cli.shared import print_json
from eyeshot.terminal import PlainConsole, never_fail


def shown(*things: object) -> str:
    out = io.StringIO()
    PlainConsole(file=out, width=200).print(*things, soft_wrap=True)
    return out.getvalue()


@pytest.mark.parametrize("name", ["[/x]", "[red]cat[/]", ":smile:", "[brackets]", "a[0]"])
def test_names_in_brackets_stay(name: str) -> None:
    table = Table("class", title=f"of {name}")
    table.add_column(name)
    table.add_row(name, name)
    assert shown(table).count(name) == 4
    assert shown(f"layer {name}") == f"layer {name}\n"


def test_no_name_steers_the_terminal() -> None:
    name = "a\x1b[31mb\x9b2J"
    table = Table("class")
    table.add_row(name)
    text = shown(table, name, Text(f"two\n{name}", style="bold"))
    assert "\x1b" not in text
    assert "\x9b" not in text
    assert text.count(r"a\x1b[31mb\x9b2J") == 3
    assert "two\n" in text


def test_a_console_in_color_still_colors() -> None:
    out = io.StringIO()
    PlainConsole(file=out, force_terminal=True, color_system="standard").print(Text("x", "bold"))
    assert out.getvalue() == "\x1b[1mx\x1b[0m\n"


def test_what_an_encoding_cannot_say_is_spelled() -> None:
    raw = io.BytesIO()
    ascii_only = io.TextIOWrapper(raw, encoding="ascii")
    never_fail(ascii_only)
    print("16×16 → 8 … ä \udcff", file=ascii_only, flush=True)
    assert raw.getvalue() == b"16x16 -> 8 ... \\xe4 \\xff\n"


def test_json_stays_json_in_ascii(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    data = {"name": "größe \udcff"}
    print_json(data)
    sys.stdout.flush()
    assert json.loads(raw.getvalue()) == data
