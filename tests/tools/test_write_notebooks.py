"""The notebooks hold the page's words and the whole program, and run from top to bottom."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest
from tests.documents import ROOT

from tools import write_notebooks

STEMS = list(write_notebooks.sections())
QUICK = "06_upsampling"
"""Run here; `make notebooks` runs all. The programs all run in tests/test_examples.py."""


def test_every_program_of_the_page_has_a_notebook(tmp_path: Path) -> None:
    paths = write_notebooks.write(tmp_path)
    assert [path.stem for path in paths] == STEMS
    assert STEMS[0] == "01_edges"
    assert len(STEMS) >= 11
    for path in paths:
        cells = json.loads(path.read_text())["cells"]
        assert cells[0]["source"].startswith("# ")
        assert "](" not in cells[0]["source"]  # links lead nowhere from a notebook


@pytest.mark.parametrize("stem", STEMS)
def test_no_statement_of_the_program_is_lost(stem: str) -> None:
    script = ROOT / "examples" / f"{stem}.py"
    text = "\n".join(write_notebooks.pieces(script))
    whole = [one for one in ast.parse(script.read_text()).body[1:] if not isinstance(one, ast.If)]
    assert [ast.dump(one) for one in ast.parse(text).body] == [ast.dump(one) for one in whole]


def test_it_runs_and_shows_its_picture(tmp_path: Path) -> None:
    pytest.importorskip("nbclient")
    (path,) = [one for one in write_notebooks.write(tmp_path) if one.stem == QUICK]
    write_notebooks.run(path)
    cells = json.loads(path.read_text())["cells"]
    assert all(cell["execution_count"] for cell in cells[1:])
    shown = [output.get("data", {}) for output in cells[-1]["outputs"]]
    assert any("image/png" in data for data in shown)


def test_a_cell_that_fails_is_noticed(tmp_path: Path) -> None:
    nbclient = pytest.importorskip("nbclient")
    script = tmp_path / "bad.py"
    script.write_text('"""Bad."""\nraise RuntimeError("broken")\n')
    path = tmp_path / "bad.ipynb"
    path.write_text(json.dumps(write_notebooks.notebook("# Bad", script)))
    with pytest.raises(nbclient.exceptions.CellExecutionError, match="broken"):
        write_notebooks.run(path)
