"""The language of messages: English, which the code holds, or a translation in a .po file.

``tr("{layer} gives {n:,} maps", layer=name, n=8)`` is the English text with its values put in, or
its translation while another language is spoken. ``ntr`` chooses between one and many. ``mark``
and ``plural`` change nothing: they mark texts that are translated later, for ``make messages``,
which collects all marked texts into the .po files. Numbers, counted things, sizes and lists are put
into words here too.

The .po files are read as they are, by :class:`Catalog`, and not compiled to .mo files: a checkout,
an editable installation and a wheel then all show what the source says, without a build step. One
takes a few milliseconds, and only where it is spoken.
"""

from __future__ import annotations

import ast
import gettext
import math
import os
import re
from collections.abc import Iterable, Iterator, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path

from eyeshot.errors import UnknownName

__all__ = [
    "AXES",
    "COUNTED",
    "LANGUAGES",
    "VARIABLE",
    "Catalog",
    "by",
    "counted",
    "joined",
    "language_of",
    "mark",
    "ntr",
    "plural",
    "preferred",
    "scaled",
    "speak",
    "speaking",
    "spoken",
    "tr",
]

LANGUAGES = ("en", "zh")
VARIABLE = "EYESHOT_LANG"
_spoken: ContextVar[str] = ContextVar("eyeshot_language", default="en")
_LINE = re.compile(r'(?:(msgctxt|msgid|msgid_plural|msgstr)(?:\[(\d+)\])? )?(".*")')


class Catalog(gettext.NullTranslations):
    """The translations of a .po file: msgid, msgid_plural and msgstr; one form for every number.

    Args:
        text: the content of the file. An entry that is empty, or marked as fuzzy, is no
            translation.

    Attributes:
        messages: the translations.
        waiting: the messages marked as fuzzy, which wait for a translator.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.messages: dict[str, str] = {}
        self.waiting: set[str] = set()
        for entry in re.split(r"\n\s*\n", text):
            self._read(entry)

    def _read(self, entry: str) -> None:
        parts: dict[str, str] = {}
        key = ""
        for line in entry.splitlines():
            if found := _LINE.fullmatch(line.strip()):
                key = found[1] or key
                parts[key] = parts.get(key, "") + str(ast.literal_eval(found[3]))
        message = parts.get("msgid", "")
        if re.search(r"^#,.*\bfuzzy\b", entry, re.MULTILINE):
            self.waiting.add(message)
        elif message and parts.get("msgstr"):
            self.messages[message] = parts["msgstr"]

    def gettext(self, message: str) -> str:
        """The translation, or the message itself where there is none."""
        return self.messages.get(message, message)

    def ngettext(self, msgid1: str, msgid2: str, n: int) -> str:
        """The translation, or the English for n where there is none."""
        return self.messages.get(msgid1) or (msgid1 if n == 1 else msgid2)


def tr(text: str, /, **values: object) -> str:
    """The text in the language spoken, its values put in as by ``str.format`` if there are any."""
    said = _catalog(_spoken.get()).gettext(text)
    return said.format(**values) if values else said


def ntr(one: str, many: str, n: int, /, **values: object) -> str:
    """The text for n things in the language spoken; ``{n}`` stands for their number."""
    return _catalog(_spoken.get()).ngettext(one, many, n).format(n=n, **values)


def mark(text: str) -> str:
    """The text itself, which ``tr`` translates later."""
    return text


def plural(one: str, many: str) -> tuple[str, str]:
    """Both texts, which ``ntr`` translates later."""
    return one, many


def spoken() -> str:
    """The language spoken: ``en`` or ``zh``."""
    return _spoken.get()


def speak(name: str) -> None:
    """Speak a language from now on, in this thread or task.

    Raises:
        UnknownName: not a language of :data:`LANGUAGES`.
    """
    _spoken.set(language_of(name))


@contextmanager
def speaking(name: str) -> Iterator[None]:
    """Speak a language within the block."""
    before = _spoken.set(language_of(name))
    try:
        yield
    finally:
        _spoken.reset(before)


def language_of(name: str) -> str:
    """The language that a name such as ``zh``, ``zh-CN`` or ``zh_CN.UTF-8`` means.

    Raises:
        UnknownName: not a language of :data:`LANGUAGES`.
    """
    short = re.split(r"[-_.@]", name.strip().lower())[0]
    if short not in LANGUAGES:
        raise UnknownName("language", name, LANGUAGES)
    return short


def preferred(environment: MutableMapping[str, str] = os.environ) -> str | None:
    """The language that ``EYESHOT_LANG`` names; None where it is not set.

    Raises:
        UnknownName: not a language of :data:`LANGUAGES`.
    """
    name = environment.get(VARIABLE)
    return language_of(name) if name else None


@cache
def _catalog(language: str) -> gettext.NullTranslations:
    if language == "en":
        return gettext.NullTranslations()
    return Catalog((Path(__file__).parent / f"{language}.po").read_text("utf-8"))


AXES = {
    1: (mark("positions"),),
    2: (mark("rows"), mark("columns")),
    3: (mark("slices"), mark("rows"), mark("columns")),
}
"""The names of positions along each spatial axis, in English."""


COUNTED = {
    one.removeprefix("{n:,} "): (one, many)
    for one, many in (
        plural("{n:,} bias value", "{n:,} bias values"),
        plural("{n:,} channel", "{n:,} channels"),
        plural("{n:,} error", "{n:,} errors"),
        plural("{n:,} feature", "{n:,} features"),
        plural("{n:,} input", "{n:,} inputs"),
        plural("{n:,} later layer", "{n:,} later layers"),
        plural("{n:,} layer", "{n:,} layers"),
        plural("{n:,} more layer", "{n:,} more layers"),
        plural("{n:,} note", "{n:,} notes"),
        plural("{n:,} number", "{n:,} numbers"),
        plural("{n:,} parameter", "{n:,} parameters"),
        plural("{n:,} picture", "{n:,} pictures"),
        plural("{n:,} row", "{n:,} rows"),
        plural("{n:,} time", "{n:,} times"),
        plural("{n:,} warning", "{n:,} warnings"),
    )
}
"""What is counted in messages that are translated: one and many."""


def counted(n: int, word: str) -> str:
    """``1 channel``, ``1,568 channels``."""
    return ntr(*COUNTED.get(word, (f"{{n:,}} {word}", f"{{n:,}} {word}s")), n)


def scaled(n: float) -> str:
    """``831``, ``24.5 k``, ``1.02 M``, ``7,430 G``: three digits and a prefix of the SI."""
    for prefix, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if n >= size * 0.9995:
            digits = max(0, 2 - int(math.log10(n / size * 1.0005)))
            return f"{n / size:,.{digits}f} {prefix}"
    return f"{n:.0f}"


_BETWEEN_HAN = re.compile(r"(?<=[\u4e00-\u9fff]) (?=[\u4e00-\u9fff])")
"""Names in Latin letters stand apart from Chinese words, and Chinese words do not."""


def by(sizes: Iterable[int]) -> str:
    """``32×7×7``."""
    return "×".join(str(n) for n in sizes)


def joined(words: Iterable[str], last: str = "and") -> str:
    """``a, b and c``; ``last`` is ``and`` or ``or``."""
    *front, end = words
    text = mark("{front} or {last}") if last == "or" else mark("{front} and {last}")
    if not front:
        return end
    return _BETWEEN_HAN.sub("", tr(text, front=tr(", ").join(front), last=end))
