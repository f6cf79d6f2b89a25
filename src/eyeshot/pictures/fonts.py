"""Fonts for text inside pictures: one that always exists, and one for scripts that it lacks."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from PIL import ImageFont

from eyeshot.extras import extra

with extra("report"):
    import matplotlib
    from matplotlib import font_manager

_WIDE = (
    *("NotoSansCJK", "NotoSansSC", "SourceHanSans", "msyh", "PingFang", "Hiragino Sans GB"),
    *("simhei", "wqy-microhei", "wqy-zenhei", "DroidSansFallback", "Arial Unicode"),
)
"""How files of fonts with Chinese characters are called on Linux, Windows and macOS."""


def font_for(text: str, size: int) -> tuple[ImageFont.FreeTypeFont, str]:
    """A font that can draw a text, and the text; characters that no font here has are escaped.

    DejaVu Sans comes with matplotlib; Pillow's own font has no ×.

    Args:
        text: what is to be drawn.
        size: in pixels.
    """
    for path in (_plain(), _wide()):
        if path is not None and all(ord(char) in _characters(path) for char in text):
            return ImageFont.truetype(path, size), text
    known = _characters(_plain())
    escaped = "".join(
        char if ord(char) in known else char.encode("unicode_escape").decode() for char in text
    )
    return ImageFont.truetype(_plain(), size), escaped


def _plain() -> str:
    return str(Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf"))


@cache
def _wide() -> str | None:
    """A font of this machine that has Chinese characters; None where there is none."""
    files = sorted(font_manager.findSystemFonts(), key=lambda file: ("Bold" in file, file))
    named = ((name, file) for name in _WIDE for file in files)
    return next((file for name, file in named if Path(file).name.startswith(name)), None)


@cache
def _characters(path: str) -> frozenset[int]:
    font = font_manager.get_font(path)
    return frozenset(font.get_charmap())
