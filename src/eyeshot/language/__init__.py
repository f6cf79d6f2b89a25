"""The language of messages: English, which the code holds, or a translation in a .po file.

``tr("{layer} gives {n:,} maps", layer=name, n=8)`` is the English text with its values put in, or
its translation while another language is spoken. ``ntr`` chooses between one and many. ``mark``
and ``plural`` change nothing: they mark texts that are translated later, for ``make messages``,
which collects all marked texts into the .po files.

The .po files are read as they are, by :class:`Catalog`, and not compiled to .mo files: a checkout,
an editable installation and a wheel then all show what the source says, without a build step. One
takes a few milliseconds, and only where it is spoken.
"""

from __future__ import annotations

import ast
import gettext
import os
import re
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path

from eyeshot.errors import UnknownName

__all__ = [
    "LANGUAGES",
    "VARIABLE",
    "Catalog",
    "language_of",
    "mark",
    "ntr",
    "plural",
    "preferred",
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
