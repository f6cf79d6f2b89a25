"""The page's own files: its modules one by one on disk, and as one script for a browser.

One request paints the page sooner than a dozen, each of which waits for the one that imports it.
The server, the single file and the notebook begin that script in different ways.
"""

from __future__ import annotations

import re
from functools import cache
from importlib import resources

from eyeshot.errors import Failure
from eyeshot.language import preferred

PAGE = "eyeshot.web_studio"
SCRIPTS = (
    "words.js",
    "dom.js",
    "colors.js",
    "sources.js",
    "views.js",
    "beside.js",
    "network.js",
    "evidence.js",
    "unit.js",
    "play.js",
    "walks.js",
    "drawn_sum.js",
    "saving.js",
    "overlays.js",
    "studio.js",
)
"""In an order in which each reads only those before it."""
PAGE_FILES = ("index.html", "studio.css", "page.js")
"""What the server serves; page.js is all scripts in one."""

_IMPORT = re.compile(r"^import\s[^;]*?;\n", re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?function|class|const|let)", re.MULTILINE)


def html_tag() -> str:
    """``<html lang="en">``, or with the language that ``EYESHOT_LANG`` names to begin with.

    Raises:
        UnknownName: ``EYESHOT_LANG`` names no language.
    """
    name = preferred()
    return f'<html lang="{name}" data-language="{name}">' if name else '<html lang="en">'


def read_page_file(name: str) -> str:
    """One of the page's files.

    Raises:
        Failure: the package is damaged.
    """
    try:
        return resources.files(PAGE).joinpath("page", name).read_text(encoding="utf-8")
    except OSError:
        raise Failure(f"the page's {name} is missing", cure="install eyeshot again") from None


@cache
def one_script() -> str:
    """All modules as one, which exports ``mount`` and what else the last one exports.

    Names at the top of the modules are different from each other, so that nothing but the lines
    with ``import`` and the word ``export`` has to go.
    """
    parts = []
    for name in SCRIPTS:
        text = _IMPORT.sub("", read_page_file(name))
        parts.append(f"// {name}\n{_EXPORT.sub('', text)}")
    return "\n".join(parts)


_START = """
mount(document.getElementById("studio"), new ServerSource(new URL(".", location.href)));
"""


@cache
def served_file(name: str) -> bytes:
    """A file of :data:`PAGE_FILES` as a browser gets it."""
    return (one_script() + _START if name == "page.js" else read_page_file(name)).encode()
