"""The tables of the page on operators say what the code does."""

from __future__ import annotations

from eyeshot.frontends.onnx import COMPUTE
from eyeshot.operators import OPERATORS
from tools import list_operators


def _row(page: str, title: str) -> list[str]:
    (line,) = [one for one in page.splitlines() if one.startswith(f"| {title} |")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_page_holds_the_tables_of_the_code() -> None:
    page = list_operators.PAGE.read_text()
    assert page == list_operators.written(page), "run: python -m tools.list_operators"
    for name in {*COMPUTE, *(one.partition(".")[0] for one in OPERATORS)} - {"input"}:
        assert "::" in name or f"`{name}`" in page, name


def test_an_operator_is_treated_by_how_it_is_called() -> None:
    page = list_operators.PAGE.read_text()
    assert _row(page, "convolution")[1] == "windowed"
    assert _row(page, "relu")[1] == "local"
    assert _row(page, "mean")[1] == "local, statistic"
    assert _row(page, "sort")[1] == "local, held"
    assert _row(page, "attention")[1] == "held"


def test_tables_are_written_between_the_marks() -> None:
    begin, end = list_operators.MARKS
    page = list_operators.written(f"before\n{begin}OLD TEXT\n{end}after\n")
    assert page.startswith(f"before\n{begin}")
    assert page.endswith(f"{end}after\n")
    assert "OLD TEXT" not in page
