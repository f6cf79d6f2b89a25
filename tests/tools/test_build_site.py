"""The site holds every page and every public name; ``make docs`` builds it without a warning."""

from __future__ import annotations

import importlib
import re
import shutil
import subprocess
from pathlib import Path
from urllib.parse import quote

import pytest
from tests.documents import ROOT

import eyeshot
from tools import build_site

PLACES = build_site.sources()
API = dict(build_site.api_pages())


def test_the_navigation_leads_to_every_page() -> None:
    led = [PLACES[page] for pages in build_site.groups().values() for page in pages]
    assert len(led) == len({*led})
    assert {*led} == {*PLACES.values()} - {"index"}


def test_every_link_of_the_site_leads_to_a_page_of_it(tmp_path: Path) -> None:
    build_site.stage(tmp_path)
    links = 0
    for page in tmp_path.rglob("*.md"):
        text = build_site._CODE.sub("", page.read_text())
        for _, target in build_site._LINK.findall(text):
            name = target.partition("#")[0]
            if name and "://" not in target:
                links += 1
                assert (page.parent / name).exists(), f"{page.relative_to(tmp_path)}: {target}"
        for _, target, _ in build_site._PICTURE.findall(text):
            assert (page.parent / target).exists(), f"{page.relative_to(tmp_path)}: {target}"
    assert links > 100


def test_chinese_pages_begin_with_the_chinese_navigation() -> None:
    groups = [f'<p class="caption">{name}</p>\n<ul>{name}</ul>\n' for name in "abc"]
    moved = build_site.chinese_first("<div>" + "".join(groups) + "</div>")
    assert "".join(re.findall("<ul>(.)</ul>", moved)) == "cab"
    assert (moved[:5], moved[-6:], len(moved)) == ("<div>", "</div>", sum(map(len, groups)) + 11)


def test_a_link_to_the_source_becomes_its_text(tmp_path: Path) -> None:
    page = tmp_path / "docs" / "one.md"
    page.parent.mkdir()
    page.write_text("[code `a`](../src/a.py), [two](zh/two.md#b)\n`[x](y.md)` ![p](images/p.png)\n")
    places = {page: "one", tmp_path / "docs" / "zh" / "two.md": "zh/two"}
    assert build_site.translate(page, places, tmp_path) == (
        "code `a`, [two](zh/two.md#b)\n`[x](y.md)` ![p](images/p.png)\n"
    )


def test_the_name_of_an_example_leads_to_it_and_to_its_notebook() -> None:
    for name, top, word in [("learn.md", ".", "notebook"), ("zh/learn.md", "..", "笔记本")]:
        text = build_site.translate(ROOT / "docs" / name, PLACES)
        assert (
            f'<a href="{top}/examples/05_pooling.py"><code>examples/05_pooling.py</code></a> '
            f'(<a href="{top}/notebooks/05_pooling.ipynb" download>{word}</a>)' in text
        )
        assert "$ python examples/01_edges.py" in text
    text = build_site.translate(ROOT / "docs" / "gallery.md", PLACES)
    assert "12_denoise_photographs.ipynb" not in text


def test_every_public_name_is_in_the_api() -> None:
    text = "\n".join(API.values())
    rooms = [importlib.import_module(f"eyeshot.{room}") for room in build_site.ROOMS]
    public = {f"eyeshot.{name}" for name in eyeshot.__all__} | {
        f"{room.__name__}.{name}"
        for room in rooms
        for name in getattr(room, "__all__", None) or build_site._own(room)
    }
    listed = {*re.findall(r"^\.\. (?:auto\w+|py:data):: (\S+)$", text, re.MULTILINE)}
    same = {*re.findall(r"^`(\S+)` is \[", text, re.MULTILINE)}
    missing = {name for name in public - listed if name.rpartition(".")[2] not in same}
    assert not missing
    assert {f"eyeshot.{room}" for room in build_site.ROOMS} <= listed
    assert len(public) > 150


SHAPE = re.compile(r"\((N|C|H|O|K|D|lo), ?[\w*/ ,…]*\)|shape")


def test_functions_of_arrays_give_shapes() -> None:
    reference = importlib.import_module("eyeshot.reference")
    functions = [one for one in map(vars(reference).get, reference.__all__) if callable(one)]
    missing = {one.__name__ for one in functions if not SHAPE.search(one.__doc__ or "")}
    assert not missing
    for name in ("run", "stream", "see", "explain", "filter", "inspect", "dense"):
        assert SHAPE.search(getattr(eyeshot, name).__doc__), name


def test_the_star_of_a_shape_is_kept() -> None:
    lines = ["(N, C, *sizes) and (*lead, 3), *emphasis* and `2 * n`"]
    build_site._process_docstring(None, "function", "", None, None, lines)
    assert lines == [r"(N, C, \*sizes) and (\*lead, 3), *emphasis* and `2 * n`"]


def test_the_makefile_builds_what_ci_checks() -> None:
    makefile = (ROOT / "Makefile").read_text()
    assert re.search(r"^(test:|\t.*-j 2).* docs( |$)", makefile, re.MULTILINE)


def test_what_a_reader_types_finds_the_page_that_holds_it() -> None:
    """The index holds each Chinese character and pair; the search asks for all pairs."""
    held = {*build_site.words("先做转置卷积，步幅 2；核为 3×3，即 kernel_size")}
    assert {"转置", "置卷", "卷积", "步幅", "核", "kernel_size"} <= held
    assert not {"积步", "转置卷积", "为3"} & held
    browser = shutil.which("chromium") or pytest.skip("no chromium to run the search in")
    script = f"{build_site.SPLITTER}document.write(splitQuery('转置卷积 核 kernel_size').join('|'))"
    page = f"data:text/html;charset=utf-8,{quote(f'<script>{script}</script>')}"
    shown = subprocess.run(
        [browser, "--headless", "--no-sandbox", "--dump-dom", page], capture_output=True, text=True
    ).stdout
    asked = re.sub("<script>.*</script>|<[^>]*>", "", shown, flags=re.DOTALL).strip().split("|")
    assert asked == ["转置", "置卷", "卷积", "核", "kernel_size"]
