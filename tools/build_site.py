"""Build the documentation site: the pages as they are, one navigation, and what the code knows.

``make docs`` runs it. The pages of the repository are the source. They are staged in a folder with
their links turned to the site's own, together with pages written from the code (the API and the
commands), and Sphinx builds that folder. Every warning is an error. The site needs no server and
no network: its search works from a file.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import eyeshot
from tools import write_notebooks

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("nets", "data", "runs", "report", "images", "filters", "reference", "axes", "errors")
"""The public modules whose names the API lists."""

_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)\s]+)\)")
_PICTURE = re.compile(r"(!\[[^\]]*\]\()([^)\s]+)(\))")
_CODE = re.compile(r"(^```.*?^```$|`[^`\n]+`)", re.MULTILINE | re.DOTALL)
_PROGRAM = re.compile(r"`examples/(\w+)\.py`")
_STAR = re.compile(r"(?<=[(, ])\*(?=\w+[,)])")
r"""The star of a shape such as (N, C, \*sizes)."""
_GROUP = re.compile(r"^## (.+)$|^\| \[[^\]]+\]\(([^)#]+\.md)\)", re.MULTILINE)

SETTINGS: dict[str, Any] = {
    "project": "Eyeshot",
    "author": "The Eyeshot developers",
    "copyright": "the Eyeshot developers, Apache-2.0",
    "version": eyeshot.__version__,
    "release": eyeshot.__version__,
    "extensions": ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "tools.build_site"],
    "myst_heading_anchors": 4,
    "myst_links_external_new_tab": False,
    "autodoc_member_order": "bysource",
    "autodoc_typehints": "signature",
    "autodoc_preserve_defaults": True,
    "napoleon_google_docstring": True,
    "napoleon_numpy_docstring": False,
    "napoleon_use_ivar": True,
    "napoleon_use_rtype": False,
    "python_maximum_signature_line_length": 80,
    "python_use_unqualified_type_names": True,
    "add_module_names": False,
    "toc_object_entries_show_parents": "hide",
    "html_theme": "furo",
    "html_title": f"Eyeshot {eyeshot.__version__}",
    "html_show_sourcelink": False,
    "html_copy_source": False,
    "html_search_language": "mixed",
    "html_show_search_summary": False,  # a browser does not fetch other pages from a file
    "html_static_path": ["_static"],
    "html_css_files": ["site.css"],
    "pygments_style": "friendly",
    "pygments_dark_style": "monokai",
    "exclude_patterns": [],
    "suppress_warnings": [
        "misc.highlighting_failure",  # "..." stands for omitted lines
        "myst.header",  # the glossary's terms are headings of the third level, one after another
    ],
}

STYLE = """\
body { --font-stack: system-ui, "Noto Sans", "Noto Sans CJK SC", "PingFang SC", sans-serif; }
body { --color-brand-primary: #0b6e78; --color-brand-content: #0b6e78; }
body[data-theme="dark"] { --color-brand-primary: #4fc3cf; --color-brand-content: #4fc3cf; }
@media (prefers-color-scheme: dark) {
  body:not([data-theme="light"]) { --color-brand-primary: #4fc3cf; --color-brand-content: #4fc3cf; }
}
article img { background: #fff; border-radius: 4px; }
table.docutils { font-size: 0.9rem; }
article h1 { font-size: 2.1em; }
article h2 { font-size: 1.5em; }
article h3 { font-size: 1.2em; }
dl.py { margin-bottom: 2rem; }
html[lang="zh-CN"] em { font-style: normal; font-weight: 600; }
"""


CHINESE = re.compile("([\u3400-\u9fff]+)")
SPLITTER = """\
var splitQuery = (query) =>
  query
    .split(/[^\\p{Letter}\\p{Number}_\\p{Emoji_Presentation}]+/gu)
    .flatMap((word) => word.split(/([\u3400-\u9fff]+)/))
    .flatMap((part) =>
      /^[\u3400-\u9fff]{2}/.test(part)
        ? Array.from(part.slice(1), (second, index) => part[index] + second)
        : part)
    .filter((term) => term);
"""
"""How the search splits what a reader types: Chinese into its pairs of characters."""


def words(text: str) -> Iterator[str]:
    """What the search finds a text by: its words, and of Chinese each character and each pair.

    Chinese has no spaces, so that a whole clause would otherwise be one word. Every pair of a
    phrase that a reader types is on the pages that hold the phrase.
    """
    for part in (part for word in re.findall(r"\w+", text) for part in CHINESE.split(word)):
        if CHINESE.match(part):
            yield from part
            yield from map("".join, pairwise(part))
        elif part:
            yield part


def sources(root: Path = ROOT) -> dict[Path, str]:
    """Where each page of the repository is on the site, without ``.md``."""
    places = {
        root / "README.md": "index",
        root / "README.zh-CN.md": "zh/index",
        root / "CHANGELOG.md": "changelog",
        root / "CONTRIBUTING.md": "contributing",
        root / "SECURITY.md": "security",
        root / "docs" / "index.md": "pages",
    }
    for page in (root / "docs").rglob("*.md"):
        places.setdefault(page, page.relative_to(root / "docs").with_suffix("").as_posix())
    return {page: place for page, place in places.items() if page.exists()}


def translate(page: Path, places: dict[Path, str], root: Path = ROOT) -> str:
    """A page's text, its links as they are on the site.

    A link to a page leads to its place, one to a picture to the site's copy. A link to a file of
    the source becomes its text, since the site has no copy of the source. The name of an example
    becomes a link to the site's copy of it, and to its notebook if there is one.
    """
    here = Path(places[page]).parent
    notebooks = write_notebooks.sections()

    def turn(match: re.Match[str]) -> str:
        text, target = match.groups()
        name, mark, anchor = target.partition("#")
        if not name or "://" in target:
            return match.group()
        place = places.get((page.parent / name).resolve())
        if place is None:
            return text
        return f"[{text}]({os.path.relpath(f'{place}.md', here)}{mark}{anchor})"

    def show(match: re.Match[str]) -> str:
        picture = (page.parent / match[2]).resolve().relative_to(root / "docs")
        return f"{match[1]}{os.path.relpath(picture, here)}{match[3]}"

    def lead(match: re.Match[str]) -> str:
        name, top = match[1], os.path.relpath(".", here)
        link = f'<a href="{top}/examples/{name}.py"><code>{match[0][1:-1]}</code></a>'
        if name in notebooks:
            word = "笔记本" if here.name == "zh" else "notebook"
            link += f' (<a href="{top}/notebooks/{name}.ipynb" download>{word}</a>)'
        return link

    def prose(text: str) -> str:  # a link's text may hold code, so code is put aside meanwhile
        aside: list[str] = []

        def put(match: re.Match[str]) -> str:
            aside.append(match.group())
            return f"\0{len(aside) - 1}\0"

        text = _LINK.sub(turn, _PICTURE.sub(show, _CODE.sub(put, text)))
        return re.sub(r"\0(\d+)\0", lambda match: _PROGRAM.sub(lead, aside[int(match[1])]), text)

    return prose(page.read_text())


def groups(root: Path = ROOT) -> dict[str, list[Path]]:
    """The navigation: each heading of ``docs/index.md`` and the pages that its table links to.

    Chinese pages come last, in the order of the pages that they translate.
    """
    index = root / "docs" / "index.md"
    found: dict[str, list[Path]] = {"Start": [index]}
    heading = ""
    for match in _GROUP.finditer(index.read_text()):
        if match[1]:
            heading = match[1]
        else:
            found.setdefault(heading, []).append((root / "docs" / match[2]).resolve())
    order = [page.name for pages in found.values() for page in pages]
    twins = sorted((root / "docs" / "zh").glob("*.md"), key=lambda page: order.index(page.name))
    return {**found, "中文": [root / "README.zh-CN.md", *twins]}


def navigation(places: dict[Path, str]) -> str:
    """The site's tables of contents, one for each group, as text for the end of its first page."""
    written = []
    for caption, pages in groups().items():
        lines = "\n".join(places[page] for page in pages)
        written.append(f"```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{lines}\n```\n")
    return "\n".join(written)


def api_pages() -> Iterator[tuple[str, str]]:
    """The name and text of each page of the API: every public name with its docstring."""
    functions = [n for n in eyeshot.__all__ if inspect.isroutine(getattr(eyeshot, n))]
    classes = [n for n in eyeshot.__all__ if inspect.isclass(getattr(eyeshot, n))]
    yield (
        "api/functions",
        "# Functions\n\n" + "\n".join(_entry("eyeshot", name) for name in functions),
    )
    yield "api/results", "# Results\n\n" + "\n".join(_entry("eyeshot", name) for name in classes)
    for room in ROOMS:
        module = importlib.import_module(f"eyeshot.{room}")
        names = getattr(module, "__all__", None) or _own(module)
        body = "\n".join(_entry(f"eyeshot.{room}", name) for name in names)
        yield (
            f"api/{room}",
            f"# eyeshot.{room}\n\n```{{eval-rst}}\n.. automodule:: eyeshot.{room}\n"
            f"   :no-members:\n```\n\n{body}",
        )


def _own(module: Any) -> list[str]:
    """The classes and functions that a module without ``__all__`` defines."""
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", "") == module.__name__
    ]


def _entry(module: str, name: str) -> str:
    value = getattr(importlib.import_module(module), name)
    if module != "eyeshot" and getattr(eyeshot, name, None) is value:
        return f"`{name}` is [eyeshot.{name}](#eyeshot.{name}).\n"
    if hasattr(value, "__origin__"):  # a name for a type: its docstring is that of the type
        text = str(value).replace("typing.", "")
        return f"```{{eval-rst}}\n.. py:data:: {module}.{name}\n\n   Stands for ``{text}``.\n```\n"
    if inspect.isclass(value):
        kind, options = "class", "   :members:\n"
    elif inspect.isroutine(value):
        kind, options = "function", ""
    elif inspect.ismodule(value):
        return ""
    else:
        kind, options = "data", "   :no-value:\n"
    return f"```{{eval-rst}}\n.. auto{kind}:: {module}.{name}\n{options}```\n"


def setup(app: Any) -> None:
    """What Sphinx calls, since this module is one of its extensions."""
    from sphinx import search

    class Mixed(search.SearchEnglish):  # type: ignore[misc]  # sphinx is not followed
        js_splitter_code = SPLITTER

        def split(self, input: str) -> list[str]:
            return [*words(input)]

    search.languages["mixed"] = Mixed
    app.connect("autodoc-process-docstring", _process_docstring, priority=400)
    app.connect("html-page-context", _speak, priority=900)  # after the theme


def _speak(app: Any, page: str, template: str, context: dict[str, Any], tree: Any) -> None:
    """Name the language of a Chinese page, and begin its navigation with the Chinese pages."""
    if page.startswith("zh/"):
        context["language"] = "zh-CN"
        context["furo_navigation_tree"] = chinese_first(context["furo_navigation_tree"])


def chinese_first(navigation: str) -> str:
    """The navigation's HTML with its last group, the Chinese pages, before the others."""
    first, last = navigation.find(_CAPTION), navigation.rfind(_CAPTION)
    end = navigation.rfind("</ul>") + len("</ul>")
    parts = navigation[:first], navigation[last:end], navigation[first:last], navigation[end:]
    return "".join(parts)


_CAPTION = '<p class="caption"'


def _process_docstring(
    app: Any, what: str, name: str, value: Any, options: Any, lines: Any
) -> None:
    """Keep what ``help()`` shows plainly and means something else in a page's markup."""
    lines[:] = [_STAR.sub(r"\*", line) for line in lines]
    if what in ("attribute", "data", "property"):
        lines[:0] = ["..", ""]  # or napoleon takes what comes before a colon for a type


def stage(folder: Path) -> None:
    """Write all that the site is built from into ``folder``."""
    places = sources()
    api = dict(api_pages())
    for page, place in places.items():
        text = translate(page, places)
        if place == "index":
            text += "\n" + navigation(places)
        if place == "api":
            names = "\n".join(api)
            text += f"\n## Every name\n\n```{{toctree}}\n:maxdepth: 1\n\n{names}\n```\n"
        _write(folder / f"{place}.md", text)
    for name, text in api.items():
        _write(folder / f"{name}.md", text)
    shutil.copytree(ROOT / "docs" / "images", folder / "images")
    _write(folder / "_static" / "site.css", STYLE)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def build(out: Path, *, quiet: bool = True) -> None:
    """Build the site into ``out``.

    Raises:
        SystemExit: Sphinx warns of something; it has printed what.
    """
    with TemporaryDirectory() as folder:
        staged = Path(folder) / "pages"
        stage(staged)
        _write(staged / "conf.py", "\n".join(f"{k} = {v!r}" for k, v in SETTINGS.items()) + "\n")
        command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-b", "html"]
        done = subprocess.run(
            [*command, *(["-q"] if quiet else []), "-d", f"{folder}/doctrees", staged, out],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
    if done.returncode:
        raise SystemExit(done.returncode)
    write_notebooks.write(out / "notebooks")
    (out / "examples").mkdir(exist_ok=True)
    for program in sorted((ROOT / "examples").glob("*.py")):
        shutil.copy(program, out / "examples")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "site")
    arguments = parser.parse_args()
    build(arguments.out)
    print(arguments.out / "index.html")
