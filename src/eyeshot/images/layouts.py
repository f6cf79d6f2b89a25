"""Which axis of an array counts channels, and which axes are spatial: a single canonical order.

For any file or array, the rest of Eyeshot sees (C, H, W), or (C, L) for a signal and (C, D, H, W)
for a volume. The interpretation is kept as text for messages.

The EXIF orientation is read here too: how a viewer must rotate a picture.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eyeshot.errors import BadFile, BadValue
from eyeshot.language import ntr, tr

Span = tuple[int, int]
"""A half-open range [lo, hi) of positions along one axis."""

MOST_CHANNELS = 4
"""An axis of unknown meaning counts channels when it is no longer than this."""

SPACE = {1: "L", 2: "HW", 3: "DHW"}
_PART = {1: "line", 2: "plane"}
DROPPED = "1"


@dataclass(frozen=True)
class Layout:
    """The interpretation of a stored array.

    Attributes:
        stored: its stored shape.
        axes: one letter per axis: ``C``, a spatial letter (``L``, ``HW``, ``DHW``), or ``1`` for
            an axis that is dropped: of length one, or with a chosen position.
        why: the reason for this interpretation.
        chosen: (axis, position) of each axis with a chosen position.
        pages: the file's letter for the axis that is read as channels, if it is not ``C``.
    """

    stored: tuple[int, ...]
    axes: str
    why: str
    chosen: tuple[tuple[int, int], ...] = ()
    pages: str = ""

    @property
    def channel_axis(self) -> int | None:
        """The axis of channels in the stored array; None if there is no such axis."""
        return self.axes.index("C") if "C" in self.axes else None

    @property
    def space(self) -> tuple[int, ...]:
        """The spatial axes of the stored array, in the canonical order."""
        return tuple(self.axes.index(letter) for letter in "DHWL" if letter in self.axes)

    @property
    def shape(self) -> tuple[int, ...]:
        """The canonical shape: (C, H, W), (C, L) or (C, D, H, W)."""
        channel = self.channel_axis
        channels = 1 if channel is None else self.stored[channel]
        return (channels, *(self.stored[axis] for axis in self.space))

    def box(self, spans: tuple[Span, ...]) -> tuple[Span, ...]:
        """The range of every stored axis for a window along the spatial axes."""
        box = [(0, length) for length in self.stored]
        for axis, position in self.chosen:
            box[axis] = (position, position + 1)
        for axis, span in zip(self.space, spans, strict=True):
            box[axis] = span
        return tuple(box)

    def arrange(self, block: NDArray[Any]) -> NDArray[Any]:
        """A block with the stored axes as a view with the canonical ones."""
        channel = self.channel_axis
        order = [*([] if channel is None else [channel]), *self.space]
        dropped = [axis for axis in range(block.ndim) if axis not in order]
        lengths = [block.shape[axis] for axis in order]
        moved = block.transpose([*dropped, *order]).reshape(lengths)
        return moved[np.newaxis] if channel is None else moved

    def __str__(self) -> str:
        names = [axis for axis in self.axes if axis != DROPPED]
        size = " x ".join(map(str, self.shape[1:]))
        count = self.shape[0]
        read = ntr(
            "({axes}) read as {n} channel of {size}: {why}",
            "({axes}) read as {n} channels of {size}: {why}",
            count,
            axes=", ".join(names),
            size=size,
            why=self.why,
        )
        return read + (
            tr("; --index {letter}=N reads one page", letter=self.pages) if self.pages else ""
        )


Index = str | Mapping[str, int]
"""Positions along axes by their letters: ``"T=3"``, ``"T=3,C=0"`` or ``{"T": 3, "C": 0}``."""


def parse_index(index: Index | None) -> dict[str, int]:
    """``index`` as positions by letters; empty for None.

    Raises:
        BadValue: it cannot be read.
    """
    if index is None:
        return {}
    if isinstance(index, str):
        parts = re.fullmatch(r"\s*[A-Za-z]\s*=\s*\d+\s*(,\s*[A-Za-z]\s*=\s*\d+\s*)*", index)
        if parts is None:
            raise BadValue(f"index {index!r}", cure="write AXIS=POSITION, such as T=3 or T=3,C=0")
        pairs = (part.split("=") for part in index.split(","))
        return {axis.strip().upper(): int(position) for axis, position in pairs}
    return {axis.upper(): int(position) for axis, position in index.items()}


def understand(
    stored: tuple[int, ...],
    *,
    metadata: str | None = None,
    layout: str | None = None,
    space: int | None = None,
    first: bool = False,
    index: Index | None = None,
) -> Layout:
    """Decide what the axes of an array of shape ``stored`` mean.

    Axes with a position in ``index`` are removed first. An explicit ``layout`` decides. Otherwise
    metadata decides, if it names the axes. Otherwise the number of spatial axes (``space``, from
    the network; 2 for an array of 2 or 3 axes, 1 for 1, 3 for 4) leaves at most one more axis,
    which counts channels: the last axis if its length is at most 4, else the first. With ``first``
    (torch's order) the first axis is tried before the last.

    Args:
        stored: the array's shape.
        metadata: letters from the file such as ``"TCZYX"`` (OME) or ``"YXS"`` (TIFF).
        layout: letters from the user: ``"HWC"``, ``"CHW"``, ``"HW"``, ``"DHW"``, ``"CL"`` …; with
            other letters for the axes that ``index`` chooses from, such as ``"THW"``.
        space: the number of spatial axes that the caller expects.
        first: prefer channels first if the first and the last axis could both count channels.
        index: a position on each axis that is not read whole, by the axis's letter in ``layout``
            or in the metadata.

    Raises:
        BadValue: ``layout`` or ``index`` does not fit the shape.
        BadFile: the array has too many axes, or an axis of length 0.
    """
    if math.prod(stored) == 0:
        raise BadFile(f"an array of shape {stored} is empty", cure="check how it was made")
    whole_layout = layout is not None and len(layout) == len(stored)
    names = layout if whole_layout else metadata
    chosen = _choose(stored, names, parse_index(index))
    if not chosen:
        return _named(_understand_all(stored, metadata, layout, space, first), metadata, layout)
    others = [axis for axis in range(len(stored)) if axis not in chosen]
    rest = _understand_all(
        tuple(stored[axis] for axis in others),
        _letters(metadata, others),
        _letters(layout, others) if whole_layout else layout,
        space,
        first,
    )
    axes = [DROPPED] * len(stored)
    for axis, letter in zip(others, rest.axes, strict=True):
        axes[axis] = letter
    choices = ", ".join(
        f"{_letters(names, [axis])}={chosen[axis]} of {stored[axis]}" for axis in sorted(chosen)
    )
    order = Layout(stored, "".join(axes), f"{rest.why}; {choices}", tuple(sorted(chosen.items())))
    return _named(order, metadata, layout)


def _named(order: Layout, metadata: str | None, layout: str | None) -> Layout:
    """``order``, with the letter of pages that are read as channels although it is not ``C``."""
    axis = order.channel_axis
    if axis is None or metadata is None or layout is not None or order.stored[axis] == 1:
        return order
    letter = metadata[axis].upper()
    return order if letter in "CS" else replace(order, pages=letter)


def _letters(names: str | None, axes: list[int]) -> str | None:
    return None if names is None else "".join(names[axis] for axis in axes).upper()


def _choose(stored: tuple[int, ...], names: str | None, index: Mapping[str, int]) -> dict[int, int]:
    """The chosen position along each axis that ``index`` names."""
    if not index:
        return {}
    if names is None or len(names) != len(stored):
        raise BadValue(
            f"an index into {_times(stored)}, whose axes have no names",
            cure="give layout with one letter per axis, such as TCHW",
        )
    chosen = {}
    for letter, position in index.items():
        axis = names.upper().find(letter)
        if axis < 0:
            raise BadValue(
                f"no axis {letter!r} to choose from: the axes are {names}",
                cure=f"choose from {', '.join(dict.fromkeys(names.upper()))}",
            )
        if not 0 <= position < stored[axis]:
            raise BadValue(
                f"index {letter}={position}",
                cure=f"it has {letter}=0 to {letter}={stored[axis] - 1}",
            )
        chosen[axis] = position
    return chosen


def _understand_all(
    stored: tuple[int, ...],
    metadata: str | None,
    layout: str | None,
    space: int | None,
    first: bool,
) -> Layout:
    if layout is not None:
        return _from_user(stored, layout)
    if metadata is not None:
        known = _from_metadata(stored, metadata)
        if known is not None and (space is None or len(known.space) == space):
            return known
        if (
            known is not None
            and space is not None
            and len(known.space) > space
            and "C" in known.axes
        ):
            raise BadFile(
                f"axes {metadata} of lengths {_times(stored)} hold {len(known.space)} axes of "
                f"space, and the network slides over {space}",
                cure=f"choose one {_PART[space]} by --index, such as "
                f"{_first(metadata, known.axes[known.space[0]])}=0",
            )
    try:
        return _from_shape(stored, space, first)
    except BadFile:
        apart = _pages_apart(stored, metadata or "")
        if apart is None:
            raise
        letter, length = apart
        raise BadFile(
            f"holds {length} pages (axes {metadata}), and one image is read",
            cure=f"choose one by --index: {letter}=0 to {letter}={length - 1}",
        ) from None


def _pages_apart(stored: tuple[int, ...], metadata: str) -> tuple[str, int] | None:
    """The first axis that is neither space nor channels, and its length."""
    for letter, length in zip(metadata.upper(), stored, strict=False):
        if length > 1 and letter not in _MEANING:
            return letter, length
    return None


def _from_user(stored: tuple[int, ...], layout: str) -> Layout:
    letters = layout.upper()
    inner = letters.replace("C", "", 1)
    if inner not in SPACE.values() and sorted(inner) not in [sorted(s) for s in SPACE.values()]:
        raise BadValue(f"layout {layout!r} is not known", cure="use HW, HWC, CHW, DHW, CDHW, L, CL")
    extra = len(stored) - len(letters)
    if extra < 0 or any(length != 1 for length in stored[:extra]):
        raise BadValue(
            f"layout {layout!r} names {len(letters)} axes and the array is {_times(stored)}",
            cure="give one letter per axis",
        )
    return Layout(stored, DROPPED * extra + letters, tr("as asked"))


_MEANING = {"C": "C", "S": "C", "Z": "D", "D": "D", "Y": "H", "X": "W", "H": "H", "W": "W"}

_APART = {"T": "time points", "R": "regions", "M": "mosaic tiles", "A": "angles",
          "P": "positions", "V": "events"}  # fmt: skip
"""Axes of separate images, not of channels or slices of one image."""


def _from_metadata(stored: tuple[int, ...], metadata: str) -> Layout | None:
    """The layout from the file's own letters; None if they are not sufficient."""
    axes = ""
    for letter, length in zip(metadata.upper(), stored, strict=True):
        meaning = _MEANING.get(letter, "?")
        if length == 1 and (meaning in "C?D" or meaning in axes):
            axes += DROPPED
        elif letter in _APART:
            raise BadFile(
                f"holds {length} {_APART[letter]} (axes {metadata}), and one image is read",
                cure=f"choose one by --index: {letter}=0 to {letter}={length - 1}",
            )
        elif meaning == "?":
            return None
        elif meaning in axes:
            twice = "count channels twice" if meaning == "C" else "name a spatial axis twice"
            raise BadFile(
                f"axes {metadata} of lengths {_times(stored)} {twice}",
                cure=f"choose one position by --index, such as {_first(metadata, meaning)}=0",
            )
        else:
            axes += meaning
    if sorted(axes.replace("C", "").replace(DROPPED, "")) not in (["H", "W"], ["D", "H", "W"]):
        return None
    return Layout(stored, axes, tr("the file names its axes {axes}", axes=metadata))


def _first(metadata: str, meaning: str) -> str:
    return next(letter for letter in metadata.upper() if _MEANING.get(letter) == meaning)


def _from_shape(stored: tuple[int, ...], space: int | None, first: bool) -> Layout:
    extra = 0
    expected = space if space is not None else {1: 1, 2: 2, 3: 2}.get(len(stored), 3)
    while len(stored) - extra > expected + 1 and stored[extra] == 1:
        extra += 1  # a batch of one, or a single time point
    left = stored[extra:]
    if expected not in SPACE or len(left) not in (expected, expected + 1):
        raise BadFile(
            f"an array of {_times(stored)} is not an image with {expected} spatial axes",
            cure=f"use {_arrays_of(expected)}, or give layout=",
        )
    letters = SPACE[expected]
    if len(left) == expected:
        return Layout(stored, DROPPED * extra + letters, tr("it has no axis for channels"))
    few_first, few_last = left[0] <= MOST_CHANNELS, left[-1] <= MOST_CHANNELS
    if few_last and not (first and few_first):
        why = f"its last axis is at most {MOST_CHANNELS} long"
        return Layout(stored, DROPPED * extra + letters + "C", why)
    why = f"its first axis is at most {MOST_CHANNELS} long"
    if not few_first:
        why = "by default channels come first (layout= changes it)"
    return Layout(stored, DROPPED * extra + "C" + letters, why)


def _arrays_of(space: int) -> str:
    """The arrays that are images with so many axes of space."""
    letters = SPACE.get(space, SPACE[2])
    plain, last, first = (", ".join(one) for one in (letters, letters + "C", "C" + letters))
    comma = "," if space == 1 else ""
    return f"({plain}{comma}), ({last}) or ({first})"


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "no axes"


# EXIF 2.32, tag 0x0112: value -> (rows and columns swapped, then rows flipped, columns flipped)
_MOVES = {
    1: (False, False, False),
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}
TAG = 0x0112


def turn_upright(picture: NDArray[Any], orientation: int) -> NDArray[Any]:
    """``picture`` (H, W), (H, W, C) or (D, H, W, C), rotated upright.

    An unknown value changes nothing.
    """
    swap, rows, columns = _MOVES.get(orientation, _MOVES[1])
    row_axis = 1 if picture.ndim == 4 else 0
    upright = picture.swapaxes(row_axis, row_axis + 1) if swap else picture
    before = (slice(None),) * row_axis
    flips = (slice(None, None, -1 if flip else 1) for flip in (rows, columns))
    return np.ascontiguousarray(upright[(*before, *flips)])
