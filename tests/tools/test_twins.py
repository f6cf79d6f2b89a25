"""A section that fell behind is named, marked without Chinese, accepted after translating."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tools import twins

ENGLISH = """# Kernels

English | [简体中文](zh/kernels.md)

A kernel is a table.

## Edges

It finds edges.

```python
# the sum
print("sum", 1 + 1)
```

```text
sum 2
```

## Noise

It finds noise, too.

```console
$ eyeshot explain conv  # a comment
output
```
"""

CHINESE = """# 卷积核

[English](../kernels.md) | 简体中文

卷积核是一张表。

## 边缘

它找边缘。

```python
# 求和
print("sum", 1 + 1)
```

```text
sum 2
```

## 噪声

它也找噪声。

```console
$ eyeshot explain conv  # 注释
output
```
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "docs" / "zh").mkdir(parents=True)
    (tmp_path / "docs" / "kernels.md").write_text(ENGLISH)
    (tmp_path / "docs" / "zh" / "kernels.md").write_text(CHINESE)
    (pair,) = twins.pages(tmp_path)
    pair.chinese.write_text(twins.accept(pair))
    return tmp_path


def _change(root: Path, old: str, new: str, page: str = "docs/kernels.md") -> twins.Twins:
    text = (root / page).read_text()
    assert old in text
    (root / page).write_text(text.replace(old, new))
    (pair,) = twins.pages(root)
    return pair


def _mark(root: Path) -> str:
    assert twins.main(["--mark"], root) == 0, "after a mark nothing is wrong"
    text = (root / "docs" / "zh" / "kernels.md").read_text()
    assert twins.main(["--mark"], root) == 0
    assert (root / "docs" / "zh" / "kernels.md").read_text() == text, "twice is once"
    return text


def test_what_was_accepted_keeps_up(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert twins.main([], root) == 0
    assert capsys.readouterr().out == "All 1 Chinese pages keep up\n"
    text = (root / "docs" / "zh" / "kernels.md").read_text()
    assert len(re.findall("<!-- en: ", text)) == 3
    assert re.sub(r"<!-- en: .*\n", "", text) == CHINESE
    assert not twins.runs_otherwise(twins.pages(root)[0])


def test_a_changed_section_is_named_with_its_page(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pair = _change(root, "It finds edges.", "It finds dark edges.")
    (line,) = twins.problems(pair)
    assert line == "docs/zh/kernels.md: '边缘': 'Edges' of docs/kernels.md has changed since"
    assert twins.main([], root) == 1
    assert capsys.readouterr().out == f"{line}\n{twins.CURE}\n"


def test_lines_broken_elsewhere_are_no_change(root: Path) -> None:
    assert not twins.problems(_change(root, "A kernel is a", "A kernel\nis a"))


def test_marking_shows_a_note_and_keeps_the_translation(root: Path) -> None:
    _change(root, "It finds edges.", "It finds dark edges.")
    text = _mark(root)
    _, edges, noise = text.split("\n## ")
    assert "> **待更新**" in edges
    assert "(../kernels.md#edges)" in edges
    assert "它找边缘。" in edges
    assert "待更新" not in noise
    _change(root, "It finds dark edges.", "It finds edges.")
    assert "待更新" not in _mark(root), "the English section is again the one that was translated"


def test_accepting_takes_the_note_away(root: Path) -> None:
    _change(root, "It finds edges.", "It finds dark edges.")
    assert "待更新" in _mark(root)
    page = root / "docs" / "zh" / "kernels.md"
    page.write_text(page.read_text().replace("它找边缘。", "它找暗的边缘。"))
    assert twins.main(["--accept", str(page)], root) == 0
    assert "待更新" not in page.read_text()


def test_changed_code_is_found_and_copied_without_a_note(root: Path) -> None:
    pair = _change(root, '"sum", 1 + 1', '"sum", 1 + 2')
    (line,) = twins.problems(pair)
    assert line == "docs/zh/kernels.md: '边缘': its code is not that of 'Edges' of docs/kernels.md"
    text = _mark(root)
    assert "1 + 2" in text
    assert "它找边缘。" in text
    assert "待更新" not in text


def test_a_mark_that_keeps_a_block_from_running_is_copied(root: Path) -> None:
    pair = _change(root, "```console", "<!-- not run: it waits -->\n```console")
    assert len(twins.problems(pair)) == 1
    assert "<!-- not run: it waits -->\n```console" in _mark(root)


def test_another_number_of_blocks_leaves_the_code_and_a_note(root: Path) -> None:
    _change(root, "## Noise\n", "## Noise\n\n```python\nprint(3)\n```\n")
    _, edges, noise = _mark(root).split("\n## ")
    assert "它找边缘。" in edges
    assert "待更新" in noise
    assert "print(3)" in noise
    assert "$ eyeshot explain conv" in noise


def test_a_new_a_renamed_and_a_removed_section(root: Path) -> None:
    pair = _change(root, "## Noise", "## Grain\n\nIt finds grain.\n\n## Noise")
    (line,) = twins.problems(pair)
    assert line == "docs/zh/kernels.md: no translation of the section 'Grain' of docs/kernels.md"
    text = _mark(root)
    assert text.index("它找边缘。") < text.index("## Grain") < text.index("## 噪声")
    pair = _change(root, "## Edges", "## Steps")
    (line,) = twins.problems(pair)
    assert "'边缘': 'Steps' of docs/kernels.md has changed since" in line
    assert "它找边缘。" in _mark(root)
    pair = _change(root, "## Grain\n\nIt finds grain.\n\n", "")
    (line,) = twins.problems(pair)
    assert line == "docs/zh/kernels.md: 'Grain' translates no section of docs/kernels.md"
    assert "Grain" not in _mark(root)


def test_what_prints_other_words_is_run_and_may_show_them(root: Path) -> None:
    pair = _change(root, '"sum"', '"和"', "docs/zh/kernels.md")
    assert twins.runs_otherwise(pair)
    assert not twins.problems(_change(root, "\nsum 2", "\n和 2", "docs/zh/kernels.md"))
    assert twins.problems(_change(root, "1 + 1", "1 + 2", "docs/zh/kernels.md"))


def test_a_command_may_answer_in_chinese_and_nothing_else(root: Path) -> None:
    page = "docs/zh/kernels.md"
    assert twins.problems(_change(root, "\noutput", "\n输出", page))
    pair = _change(root, "explain conv", "explain conv --lang zh", page)
    assert not twins.problems(pair)
    assert twins.runs_otherwise(pair)
    assert twins.problems(_change(root, "conv --lang", "pool --lang", page))


def test_accepting_a_page_that_lacks_a_section_is_refused(root: Path) -> None:
    _change(root, "## Noise", "## Grain\n\nIt finds grain.\n\n## Noise")
    with pytest.raises(SystemExit, match="no translation of the section 'Grain'"):
        twins.main(["--accept", str(root / "docs" / "zh" / "kernels.md")], root)
