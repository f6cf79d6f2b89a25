"""The Chinese pages beside the English ones: which section fell behind, and what to do about it.

    python -m tools.twins                            list what fell behind; exit status 1 if any
    python -m tools.twins --accept docs/zh/learn.md  after translating: this page is up to date
    python -m tools.twins --mark                     without Chinese: note it there, copy the code

Below each heading of a Chinese page stands ``<!-- en: anchor fingerprint -->``: the English section
that it translates, and a fingerprint of that section's prose when it was translated. Spaces, line
breaks and code do not count. A section whose English prose has changed since has fallen behind,
unless a note below its heading says so to the reader. ``--mark`` writes these notes, so a change of
the English pages can land without a translator.

Code is compared block by block. Comments, strings and ``--lang zh`` may differ, nothing else.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

CURE = (
    "Translate these, then: python -m tools.twins --accept PAGE. "
    "If you do not write Chinese: python -m tools.twins --mark"
)

_FENCE = re.compile(  # and the mark above that keeps it from running
    r"(?P<mark>^<!-- not run: (?:(?!-->).)+? -->\n+)?^```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_SPLIT = re.compile(r"^(?=#{1,6} )", re.MULTILINE)
_SOURCE = re.compile(r"^<!-- en: (\S+) ([0-9a-f]{8}) -->\n", re.MULTILINE)
_NOTE = re.compile(r"^> \*\*待更新\*\*.*\n\n?", re.MULTILINE)
_LANGUAGE_LINK = re.compile(r"^English \| .*\n", re.MULTILINE)


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it, up to the next heading of any level."""

    heading: str
    body: str

    @property
    def title(self) -> str:
        """The heading without its marks."""
        return self.heading.lstrip("# ")

    @property
    def anchor(self) -> str:
        """The name by which the heading is linked to."""
        return re.sub(r"[^\w\- ]", "", self.title.lower()).replace(" ", "-")

    @property
    def fingerprint(self) -> str:
        """Eight digits that change with the words of the section, not with its spaces or code."""
        prose = _LANGUAGE_LINK.sub("", _FENCE.sub("", f"{self.heading}\n{self.body}"))
        return hashlib.sha256(" ".join(prose.split()).encode()).hexdigest()[:8]

    @property
    def source(self) -> tuple[str, str] | None:
        """Anchor and fingerprint of the English section that this one translates."""
        found = _SOURCE.search(self.body)
        return (found[1], found[2]) if found else None

    @property
    def noted(self) -> bool:
        """Whether the page says that this section has fallen behind."""
        return _NOTE.search(self.body) is not None

    @property
    def code(self) -> list[tuple[str, str]]:
        """Language and text of each block."""
        return [(block["language"], block["text"]) for block in _FENCE.finditer(self.body)]

    @property
    def kinds(self) -> list[tuple[str, bool]]:
        """Language of each block, and whether a mark keeps it from running."""
        return [(block["language"], bool(block["mark"])) for block in _FENCE.finditer(self.body)]


@dataclass(frozen=True)
class Twins:
    """An English page and its Chinese twin."""

    english: Path
    chinese: Path
    root: Path = ROOT

    @property
    def note(self) -> str:
        """What a reader of a section that has fallen behind is to know; ``{}`` is its anchor."""
        up = "../" * (len(self.chinese.relative_to(self.english.parent).parts) - 1)
        link = f"[英文页]({up}{self.english.name}#{{}})"
        return f"> **待更新**：本节的英文原文后来有改动，以{link}为准。\n\n"

    def sections(self) -> list[tuple[Section | None, Section | None]]:
        """English and Chinese sections side by side; None where one has no partner.

        They are matched by the anchor in the comment; a run of sections that match nowhere
        has been renamed if it is as long in both pages.
        """
        english, chinese = (read(page) for page in (self.english, self.chinese))
        sources = [
            one.source[0] if one.source else f"?{place}" for place, one in enumerate(chinese)
        ]
        pairs: list[tuple[Section | None, Section | None]] = []
        matcher = SequenceMatcher(None, [one.anchor for one in english], sources, autojunk=False)
        for _, first, last, start, stop in matcher.get_opcodes():
            if last - first == stop - start:
                pairs += zip(english[first:last], chinese[start:stop], strict=True)
            else:
                pairs += [(one, None) for one in english[first:last]]
                pairs += [(None, one) for one in chinese[start:stop]]
        return pairs


def pages(root: Path = ROOT) -> list[Twins]:
    """Every Chinese page with its twin."""
    found = [Twins(root / "README.md", root / "README.zh-CN.md", root)]
    found += [
        Twins(root / "docs" / page.name, page, root)
        for page in sorted((root / "docs" / "zh").glob("*.md"))
    ]
    return [twins for twins in found if twins.chinese.exists()]


def read(page: Path) -> list[Section]:
    """The sections of a page. A ``#`` within a block of code is no heading."""
    text = page.read_text()
    covered = _FENCE.sub(lambda block: re.sub(r"[^\n]", " ", block[0]), text)
    starts = [found.start() for found in _SPLIT.finditer(covered)]
    parts = [text[start:stop] for start, stop in zip(starts, [*starts[1:], None], strict=True)]
    return [Section(*part.split("\n", 1)) for part in parts]


def problems(twins: Twins) -> list[str]:
    """One line for each section that has fallen behind or lacks its partner."""
    name, source = (
        page.relative_to(twins.root).as_posix() for page in (twins.chinese, twins.english)
    )
    found = []
    for english, chinese in twins.sections():
        if chinese is None:
            assert english is not None
            found.append(f"{name}: no translation of the section '{english.title}' of {source}")
        elif english is None:
            found.append(f"{name}: '{chinese.title}' translates no section of {source}")
        else:
            where = f"{name}: '{chinese.title}'"
            if chinese.source != (english.anchor, english.fingerprint) and not chinese.noted:
                found.append(f"{where}: '{english.title}' of {source} has changed since")
            if chinese.source == (english.anchor, english.fingerprint) and chinese.noted:
                found.append(f"{where}: is up to date, and a note says that it is not")
            if not same_code(english, chinese):
                found.append(f"{where}: its code is not that of '{english.title}' of {source}")
    return found


def same_code(english: Section, chinese: Section) -> bool:
    """Whether both have the same blocks, but for comments, strings and ``--lang zh``."""
    if english.kinds != chinese.kinds:
        return False
    differs = False  # does the Python above print other words than in English?
    for (language, ours), (_, theirs) in zip(english.code, chinese.code, strict=True):
        if language == "python":
            if _tree(ours, strings=False) != _tree(theirs, strings=False):
                return False
            differs = _tree(ours) != _tree(theirs)
        elif language == "console":
            if not _same_commands(ours, theirs):
                return False
        elif language == "":  # not run: the words behind the first are descriptions
            if _first_words(ours) != _first_words(theirs):
                return False
        elif ours != theirs and not differs:
            return False
    return True


def runs_otherwise(twins: Twins) -> bool:
    """Whether a block of the Chinese page does something that its twin does not: run it, too."""
    for english, chinese in twins.sections():
        for (language, ours), (_, theirs) in zip(
            english.code if english else [], chinese.code if chinese else [], strict=False
        ):
            if language == "python" and _tree(ours) != _tree(theirs):
                return True
            if language == "console" and _commands(ours) != _commands(theirs):
                return True
    return False


def accept(twins: Twins) -> str:
    """The Chinese page with fingerprints of the English as it is now, and without notes."""
    fresh = []
    for english, chinese in twins.sections():
        if english is None or chinese is None:
            raise SystemExit("\n".join(problems(twins)))
        fresh.append(_signed(chinese, english, ""))
    return _joined(fresh)


def mark(twins: Twins) -> str:
    """The Chinese page with a note in each section that has fallen behind, and the English code."""
    fresh = []
    for english, chinese in twins.sections():
        if english is None:
            continue
        current = (english.anchor, english.fingerprint)
        chinese = _with_code(chinese or Section(english.heading, "\n"), english)
        if chinese.source == current:
            fresh.append(_signed(chinese, english, ""))
        else:
            fresh.append(_noted(chinese, english, twins.note.format(english.anchor)))
    return _joined(fresh)


def _with_code(chinese: Section, english: Section) -> Section:
    """With the English blocks in place of its own; without its prose where their numbers differ."""
    if same_code(english, chinese):
        return chinese
    blocks = [block[0] for block in _FENCE.finditer(english.body)]
    if len(blocks) == len(chinese.code):
        fresh = iter(blocks)
        return replace(chinese, body=_FENCE.sub(lambda _: next(fresh), chinese.body))
    return replace(chinese, body="\n\n".join(blocks))


def _signed(chinese: Section, english: Section, note: str) -> Section:
    """With the fingerprint of the English section, and this note in place of any other."""
    body = _NOTE.sub("", _SOURCE.sub("", chinese.body)).lstrip("\n")
    comment = f"<!-- en: {english.anchor} {english.fingerprint} -->"
    return replace(chinese, body=f"{comment}\n\n{note}{body}")


def _noted(chinese: Section, english: Section, note: str) -> Section:
    """With the note, and the fingerprint of the English from which it was translated."""
    fingerprint = chinese.source[1] if chinese.source else "0" * 8
    signed = _signed(chinese, english, note)
    return replace(signed, body=signed.body.replace(english.fingerprint, fingerprint, 1))


def _joined(sections: Iterable[Section]) -> str:
    return "\n\n".join(f"{one.heading}\n{one.body.rstrip()}" for one in sections) + "\n"


def _tree(code: str, strings: bool = True) -> str:
    """The program without comments, and on request without what its strings say."""
    tree = ast.parse(code)
    for node in ast.walk(tree):
        if not strings and isinstance(node, ast.Constant) and isinstance(node.value, str):
            node.value = ""
    return ast.dump(tree)


def _commands(block: str) -> list[tuple[str, str]]:
    """Each command without its comment, and what is shown below it."""
    parts = re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]
    pairs = [part.replace("\\\n", " ").partition("\n") for part in parts]
    return [(re.sub(r"\s+# .*", "", line), shown) for line, _, shown in pairs]


def _same_commands(english: str, chinese: str) -> bool:
    ours, theirs = _commands(english), _commands(chinese)
    return len(ours) == len(theirs) and all(
        a[0] == b[0].replace(" --lang zh", "") and (a[1] == b[1] or " --lang zh" in b[0])
        for a, b in zip(ours, theirs, strict=True)
    )


def _first_words(block: str) -> list[list[str]]:
    return [line.split()[:1] for line in block.splitlines()]


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    """List, accept or mark; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.twins", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    way = parser.add_mutually_exclusive_group()
    way.add_argument(
        "--accept", nargs="+", type=Path, metavar="PAGE", help="pages that are up to date"
    )
    way.add_argument("--mark", action="store_true", help="mark what fell behind, and copy the code")
    options = parser.parse_args(arguments)
    every = pages(root)
    for twins in every:
        if options.mark:
            twins.chinese.write_text(mark(twins))
        elif twins.chinese.resolve() in [page.resolve() for page in options.accept or []]:
            twins.chinese.write_text(accept(twins))
    found = [line for twins in every for line in problems(twins)]
    print("\n".join([*found, CURE]) if found else f"All {len(every)} Chinese pages keep up")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
