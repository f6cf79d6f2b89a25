"""YAML by hand: what stands for more than it says is refused, quickly and in few words."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from eyeshot import plain_yaml
from eyeshot.data.pairs.pair import read_legend
from eyeshot.errors import BadFile, BadValue
from eyeshot.runs import CONFIG, RunConfig

BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
DEEP = "[" * 5000


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, "line 1 holds an anchor or alias"),
        (DEEP, "too deep"),
        ("a: *b", "line 1 holds an anchor or alias"),
        ("- 1\n" * 70_000, "more than 65536 values"),
        ("a: " + "9" * 5000, "not YAML"),
        ("a: 2026-99-99", "not YAML"),
        ("a: [", "not YAML"),
        ("? [a]\n: 1", "not YAML"),
        ("a: \x00", "not YAML"),
    ],
)
def test_what_is_no_plain_yaml_is_refused(text: str, message: str) -> None:
    with pytest.raises(BadValue, match=message) as caught:
        plain_yaml.parse(text)
    assert len(str(caught.value)) < 2100


@pytest.mark.parametrize("text", [BOMB, DEEP, "a: " + "9" * 5000])
def test_a_bomb_of_400_bytes_is_named_at_once(text: str, tmp_path: Path) -> None:
    (tmp_path / CONFIG).write_text(text)
    (tmp_path / "classes.yaml").write_text(text)
    started = time.process_time()
    with pytest.raises(BadFile, match=CONFIG):
        RunConfig.read(tmp_path / CONFIG)
    with pytest.raises(BadFile, match=r"classes\.yaml"):
        read_legend(tmp_path)
    assert time.process_time() - started < 5


def test_plain_values_come_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("a: [1, 2.5, yes]\nb: 'ä'\n", encoding="utf-8")
    assert plain_yaml.read(path)[0] == {"a": [1, 2.5, True], "b": "ä"}
    path.write_bytes(b"a: \xff")
    with pytest.raises(BadValue, match="not UTF-8"):
        plain_yaml.read(path)
    assert plain_yaml.parse("") == (None, None)
