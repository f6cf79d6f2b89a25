"""No block on a page that is not run, no output that is not printed, no link that leads nowhere."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib import cbook

from eyeshot import data, images
from eyeshot.cli.shared import SPIN_COUNT
from tests.documents import CHINESE, LANGUAGES, PAGES, ROOT, Block, blocks, commands, run_page
from tools import twins

BLOCKS = [block for page in PAGES for block in blocks(page)]
TWINS = twins.pages()
RUN = PAGES + [pair.chinese for pair in TWINS if twins.runs_otherwise(pair)]
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_CODE = re.compile(r"^```.*?^```$|`[^`\n]+`", re.MULTILINE | re.DOTALL)


def _name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.fixture
def desk(tmp_path: Path, digits_run: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What ``docs/index.md`` and the README say that a reader has: a photo, a digit, a run."""
    (tmp_path / "demo" / "pictures").mkdir(parents=True)
    shutil.copyfile(
        cbook.get_sample_data("grace_hopper.jpg", asfileobj=False), tmp_path / "photo.jpg"
    )
    digit = data.load("digits").test
    seven = int(np.flatnonzero(digit.labels.numpy() == 7)[0])
    images.write(tmp_path / "seven.png", 255 - digit.images[seven, 0].numpy())
    images.write(tmp_path / "demo" / "pictures" / "digit-7.png", digit.images[seven, 0].numpy())
    for run in ("runs/digits-digit_cnn-seed0", "demo/run"):
        shutil.copytree(digits_run, tmp_path / run)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", RUN, ids=_name)
def test_the_page_runs_and_prints_what_it_shows(page: Path, desk: Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        run_page(page)


@pytest.mark.parametrize(
    "block", [block for block in BLOCKS if block.not_run], ids=lambda block: block.where
)
def test_what_is_not_run_says_why(block: Block) -> None:
    assert block.language in ("python", "console"), "a mark above a block that would not run anyway"
    pytest.skip(f"{block.where}: {block.not_run}")


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.where)
def test_blocks_say_what_they_are(block: Block) -> None:
    assert block.language in LANGUAGES
    if block.language == "console":
        assert block.text.startswith("$ ")
        assert commands(block) or "$ eyeshot" not in block.text


@pytest.mark.parametrize("page", PAGES + CHINESE, ids=_name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in _LINK.findall(_CODE.sub("", page.read_text())):
        if link.startswith(("https://", "http://")):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), f"{page.name}: {link}"
        assert target.is_relative_to(ROOT), f"{page.name}: {link}"
        assert not anchor or anchor in _anchors(target), f"{page.name}: {link}: no such heading"


def test_the_index_leads_to_every_page() -> None:
    index = (ROOT / "docs" / "index.md").read_text()
    for page in PAGES[1:]:
        if page.name != "index.md":
            assert f"({page.relative_to(ROOT / 'docs').as_posix()})" in index
    chinese = (ROOT / "README.zh-CN.md").read_text()
    for page in CHINESE[1:]:
        assert f"({_name(page)})" in chinese


@pytest.mark.parametrize("pair", TWINS, ids=lambda pair: _name(pair.chinese))
def test_the_chinese_page_keeps_up_with_its_twin(pair: twins.Twins) -> None:
    fell_behind = twins.problems(pair)
    assert not fell_behind, "\n".join([*fell_behind, twins.CURE])


@pytest.mark.parametrize("pair", TWINS, ids=lambda pair: _name(pair.chinese))
def test_twins_lead_to_each_other(pair: twins.Twins) -> None:
    for page, other in ((pair.english, pair.chinese), (pair.chinese, pair.english)):
        (line,) = [line for line in page.read_text().splitlines()[:6] if "English" in line]
        (link,) = _LINK.findall(line)
        assert (page.parent / link).resolve() == other


def test_every_page_in_chinese_has_a_twin() -> None:
    assert [pair.chinese for pair in TWINS] == CHINESE


def test_the_glossaries_have_the_same_terms() -> None:
    pattern = re.compile(r"^### (.+)$", re.MULTILINE)
    english, chinese = (
        pattern.findall((ROOT / "docs" / folder / "glossary.md").read_text())
        for folder in ("", "zh")
    )
    for term, translated in zip(english, chinese, strict=True):
        assert translated.endswith(f" {term}"), f"{translated} is not {term}"


def test_every_picture_is_shown() -> None:
    text = "".join(page.read_text() for page in PAGES)
    for picture in (ROOT / "docs" / "images").iterdir():
        assert f"images/{picture.name})" in text, f"{picture.name} is on no page"


def test_the_page_on_training_gives_the_spin_count_that_is_set() -> None:
    text = " ".join((ROOT / "docs" / "training.md").read_text().split())
    assert f"{SPIN_COUNT:,} turns (`GOMP_SPINCOUNT`)" in text
    assert f"| eyeshot: {SPIN_COUNT} |" in text


def test_the_glossary_is_in_order_and_brief() -> None:
    text = (ROOT / "docs" / "glossary.md").read_text()
    terms = re.findall(r"^### (.+)$", text, re.MULTILINE)
    assert len(terms) > 40
    assert terms == sorted(terms, key=str.casefold)
    assert len(set(_anchors(ROOT / "docs" / "glossary.md"))) == len(terms) + 1
    for entry in text.split("\n### ")[1:]:
        _, _, meaning = entry.partition("\n")
        assert 20 < len(" ".join(meaning.split())) < 420, entry


def _anchors(page: Path) -> list[str]:
    """The names by which a page's headings are linked to."""
    headings = _HEADING.findall(re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S))
    return [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]
