"""A copy of the checkout is set up for mutmut, and what it found is counted."""

from __future__ import annotations

import configparser
import json
from pathlib import Path

from tools import mutants


def test_the_copy_holds_what_the_tests_read_and_names_it(tmp_path: Path) -> None:
    mutants.copy_checkout(tmp_path)
    mutants.configure(tmp_path, ["axes"], ["tests/axes"])
    settings = configparser.ConfigParser()
    settings.read(tmp_path / "setup.cfg")
    assert settings["mutmut"]["only_mutate"].split() == ["src/eyeshot/axes/*"]
    copied = set(settings["mutmut"]["also_copy"].split())
    assert {"docs", "examples", "tools", "README.md"} <= copied
    assert not copied & {"src", "tests"}  # which mutmut copies by itself
    assert (tmp_path / "src/eyeshot/axes/maps.py").is_file()
    assert not (tmp_path / ".git").exists()


def test_the_same_seed_chooses_the_same_mutants() -> None:
    names = [f"x_{number}" for number in range(50)]
    chosen = mutants.chosen(names, 10, 3)
    assert chosen == mutants.chosen(reversed(names), 10, 3)
    assert chosen != mutants.chosen(names, 10, 4)
    assert mutants.chosen(names[:4], 10, 3) == names[:4]


def test_exit_codes_are_read_and_the_score_counts_what_was_noticed(tmp_path: Path) -> None:
    place = tmp_path / "mutants" / "src" / "a.py.meta"
    place.parent.mkdir(parents=True)
    place.write_text(json.dumps({"exit_code_by_key": {"a": 1, "b": None}}))
    assert mutants.read(tmp_path) == {"a": 1, "b": None}
    tally = mutants.Tally({"a": "killed", "b": "survived", "c": "timeout", "d": "no tests"})
    assert tally.score == 0.5
    assert str(tally).startswith("50.0% of 4 noticed")
