"""Small changes of a copy of the code are tried, and what the tests noticed is counted."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tools import mutants

_CODE = """
def half(number):
    return number // 2

def scale(number):
    return number * 1

def unused(number):
    return -number

WIDTH = half(6)
"""
_TESTS = """
from eyeshot.toy import WIDTH, half, scale

def test_half(): assert half(5) == 2
def test_scale(): assert scale(0) == 0
def test_width(): assert WIDTH == 3
def test_broken(): assert scale(3) == 4
"""


def test_the_copy_holds_what_the_tests_read(tmp_path: Path) -> None:
    mutants.copy_checkout(tmp_path)
    for name in ("docs/architecture.md", "tools/mutants.py", "src/eyeshot/axes/maps.py"):
        assert (tmp_path / name).is_file()
    assert not (tmp_path / ".git").exists()


def test_mutants_are_noticed_or_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """``-number`` becomes ``+number`` where no test looks; ``0 / 1`` is 0 as ``0 * 1`` is."""
    pytest.importorskip("mutmut")
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    _toy(tmp_path)
    differences = mutants.mutate(tmp_path, "toy", 100, 0)
    tally = mutants.judge(tmp_path, differences, ["test_toy.py"], 5)
    assert {differences[name]: status for name, status in tally.status.items()} == {
        "-    return number // 2\n+    return number / 2": "killed",
        "-    return number // 2\n+    return number // 3": "killed",
        "-    return number * 1\n+    return number / 1": "survived",
        "-    return number * 1\n+    return number * 2": "survived",
        "-    return -number\n+    return +number": "no tests",
    }
    printed = capfd.readouterr().out
    assert "fail without a mutant:\n  test_toy.py::test_broken\n" in printed
    assert "survived by 3 tests \n-    return number * 1\n+    return number / 1\n" in printed


def test_tests_that_cannot_be_imported_are_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mutmut")
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    _toy(tmp_path)
    (tmp_path / "test_toy.py").write_text("import no_module_of_this_name\n")
    with pytest.raises(subprocess.CalledProcessError):
        mutants.judge(tmp_path, mutants.mutate(tmp_path, "toy", 1, 0), ["test_toy.py"], 5)


def test_the_same_seed_chooses_the_same_mutants(tmp_path: Path) -> None:
    pytest.importorskip("mutmut")
    chosen = []
    for run, seed in enumerate((3, 3, 4)):
        _toy(tmp_path / str(run))
        found = mutants.mutate(tmp_path / str(run), "toy", 3, seed)
        assert len(found) == 3
        chosen.append(sorted(found.values()))
    assert chosen[0] == chosen[1] != chosen[2]


def _toy(folder: Path) -> None:
    """A package that looks like a checkout."""
    package = folder / "src" / "eyeshot" / "toy"
    package.mkdir(parents=True)
    (folder / "tools").mkdir()
    shutil.copy(mutants.__file__, folder / "tools" / "mutants.py")
    (package.parent / "__init__.py").touch()
    (package / "__init__.py").write_text(_CODE)
    (folder / "test_toy.py").write_text(_TESTS)


def test_the_fastest_tests_come_first_and_one_at_least() -> None:
    seconds = {"a": 1.0, "b": 2.0, "c": 4.0}
    assert mutants.within("abc", seconds, 3.0) == {"a", "b"}
    assert mutants.within("c", seconds, 3.0) == {"c"}
    assert mutants.within((), seconds, 3.0) == set()


def test_the_score_counts_what_was_noticed() -> None:
    tally = mutants.Tally({"a": "killed", "b": "survived", "c": "crashed", "d": "no tests"})
    assert tally.score == 0.5
    assert str(tally).startswith("50.0% of 4 noticed")
