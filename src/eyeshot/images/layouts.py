"""Which axis of an array counts channels, and which are space: one canonical order for all.

Whatever a file or array looks like, the rest of Eyeshot sees (C, H, W), or (C, L) for a signal
and (C, D, H, W) for a volume. What was understood is kept as text, to be shown.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eyeshot.errors import BadFile, BadValue

Span = tuple[int, int]
"""A half-open range [lo, hi) of positions along one axis."""

MOST_CHANNELS = 4
"""An axis of unknown meaning counts channels when it is no longer than this."""

SPACE = {1: "L", 2: "HW", 3: "DHW"}
DROPPED = "1"


@dataclass(frozen=True)
class Layout:
    """How a stored array is understood.

    Attributes:
        stored: its shape as it lies.
        axes: one letter an axis of it: ``C``, a letter of space (``L``, ``HW``, ``DHW``), or
            ``1`` for an axis of length one that is dropped.
        why: what this was concluded from.
    """

    stored: tuple[int, ...]
    axes: str
    why: str

    @property
    def channel_axis(self) -> int | None:
        """Where the stored array counts channels; None when it has one and no axis for it."""
        return self.axes.index("C") if "C" in self.axes else None

    @property
    def space(self) -> tuple[int, ...]:
        """The stored axes that are space, in the canonical order."""
        return tuple(self.axes.index(letter) for letter in "DHWL" if letter in self.axes)

    @property
    def shape(self) -> tuple[int, ...]:
        """The canonical shape: (C, H, W), (C, L) or (C, D, H, W)."""
        channel = self.channel_axis
        channels = 1 if channel is None else self.stored[channel]
        return (channels, *(self.stored[axis] for axis in self.space))

    def box(self, spans: tuple[Span, ...]) -> tuple[Span, ...]:
        """The range of every stored axis that holds a window given along the axes of space."""
        box = [(0, length) for length in self.stored]
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
        plural = "" if count == 1 else "s"
        return f"({', '.join(names)}) read as {count} channel{plural} of {size}: {self.why}"


def understand(
    stored: tuple[int, ...],
    *,
    metadata: str | None = None,
    layout: str | None = None,
    space: int | None = None,
    first: bool = False,
) -> Layout:
    """Decide what the axes of an array of shape ``stored`` mean.

    An explicit ``layout`` decides. Else metadata does, where it names the axes. Else the number
    of axes of space (``space``, from the network; 2 for an array of 2 or 3 axes, 1 for 1, 3 for
    4) leaves at most one axis over, which counts channels: the last one if it is at most 4 long,
    else the first. With ``first`` (torch's order) the first one is tried before the last.

    Args:
        stored: the array's shape.
        metadata: letters from the file such as ``"TCZYX"`` (OME) or ``"YXS"`` (TIFF).
        layout: letters from the user: ``"HWC"``, ``"CHW"``, ``"HW"``, ``"DHW"``, ``"CL"`` …
        space: how many axes of space the caller expects.
        first: prefer channels first where both ends could count them.

    Raises:
        BadValue: ``layout`` does not fit the shape.
        BadFile: the array has more axes than can be understood, or none of some length.
    """
    if math.prod(stored) == 0:
        raise BadFile(f"an array of shape {stored} holds nothing", cure="check how it was made")
    if layout is not None:
        return _from_user(stored, layout)
    if metadata is not None:
        known = _from_metadata(stored, metadata)
        if known is not None and (space is None or len(known.space) == space):
            return known
    return _from_shape(stored, space, first)


def _from_user(stored: tuple[int, ...], layout: str) -> Layout:
    letters = layout.upper()
    inner = letters.replace("C", "", 1)
    if inner not in SPACE.values() and sorted(inner) not in [sorted(s) for s in SPACE.values()]:
        raise BadValue(f"layout {layout!r} is not known", cure="use HW, HWC, CHW, DHW, CDHW, L, CL")
    extra = len(stored) - len(letters)
    if extra < 0 or any(length != 1 for length in stored[:extra]):
        raise BadValue(
            f"layout {layout!r} names {len(letters)} axes and the array is {_times(stored)}",
            cure="name one letter an axis",
        )
    return Layout(stored, DROPPED * extra + letters, "as asked")


_MEANING = {"C": "C", "S": "C", "Z": "D", "D": "D", "Y": "H", "X": "W", "H": "H", "W": "W"}


def _from_metadata(stored: tuple[int, ...], metadata: str) -> Layout | None:
    """What the file's own letters say; None when they do not settle it."""
    axes = ""
    for letter, length in zip(metadata.upper(), stored, strict=True):
        meaning = _MEANING.get(letter, "?")
        if length == 1 and (meaning in "C?D" or meaning in axes):
            axes += DROPPED
        elif letter == "T":
            raise BadFile(
                f"holds {length} moments in time, and one image is wanted", cure="extract one"
            )
        elif meaning == "?":
            return None
        elif meaning in axes:
            raise BadFile(
                f"axes {metadata} of lengths {_times(stored)} count channels twice",
                cure="say which by layout=, or store one channel axis",
            )
        else:
            axes += meaning
    if sorted(axes.replace("C", "").replace(DROPPED, "")) not in (["H", "W"], ["D", "H", "W"]):
        return None
    return Layout(stored, axes, f"the file names its axes {metadata}")


def _from_shape(stored: tuple[int, ...], space: int | None, first: bool) -> Layout:
    extra = 0
    wanted = space if space is not None else {1: 1, 2: 2, 3: 2}.get(len(stored), 3)
    while len(stored) - extra > wanted + 1 and stored[extra] == 1:
        extra += 1  # a batch of one, a single moment
    left = stored[extra:]
    if wanted not in SPACE or len(left) not in (wanted, wanted + 1):
        raise BadFile(
            f"an array of {_times(stored)} is not an image with {wanted} axes of space",
            cure="use (H, W), (H, W, C) or (C, H, W), or give layout=",
        )
    letters = SPACE[wanted]
    if len(left) == wanted:
        return Layout(stored, DROPPED * extra + letters, "it has no axis for channels")
    few_first, few_last = left[0] <= MOST_CHANNELS, left[-1] <= MOST_CHANNELS
    if few_last and not (first and few_first):
        why = f"its last axis is at most {MOST_CHANNELS} long"
        return Layout(stored, DROPPED * extra + letters + "C", why)
    why = f"its first axis is at most {MOST_CHANNELS} long"
    if not few_first:
        why = "channels come first unless something says otherwise (layout=)"
    return Layout(stored, DROPPED * extra + "C" + letters, why)


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
