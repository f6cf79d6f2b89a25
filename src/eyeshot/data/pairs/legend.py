"""The meaning of a mask's samples: values or colors, and their classes.

In this file:

- masks with a palette: the same index must have the same color in every file;
- other ways to store a mask: soft edges, which are thresholded, and gray values saved as colors.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from eyeshot import plain_yaml
from eyeshot.data.tree import Problem, Unfit
from eyeshot.errors import BadFile, BadValue, shorten
from eyeshot.images import Source, Span, understand
from eyeshot.images.limits import TIFF_STARTS, damage_named
from eyeshot.images.pillow import open_image

if TYPE_CHECKING:
    from eyeshot.data.pairs.survey import Seen

FILE = "classes.yaml"
IGNORE = "ignore"
"""The name in ``classes.yaml`` for unlabeled pixels, which are not a class."""

IGNORED = -1
"""The class number of an unlabeled pixel."""

_EXAMPLE = "write lines such as 'membrane: 128', or 'membrane: [255, 0, 0]' for a color"
_LARGEST = 2**16 - 1


@dataclass(frozen=True)
class Legend:
    """The mapping from samples to classes.

    Attributes:
        classes: their names; a class number is an index into them.
        codes: the value of each class; a color is one number, red · 65536 + green · 256 + blue.
        colors: whether the codes are colors.
        ignore: the code of unlabeled pixels, if there is one.
        palette: for masks with a palette, the color of each class's index, -1 if no mask has it.
        threshold: the gray value from which a mask with many values becomes 255, and below it 0;
            0 if masks contain the codes themselves.

    The text of a legend omits the last two: fingerprints are of that text and of the masks.
    """

    classes: tuple[str, ...]
    codes: tuple[int, ...]
    colors: bool = False
    ignore: int | None = None
    palette: tuple[int, ...] = field(default=(), repr=False)
    threshold: int = field(default=0, repr=False)

    def knows(self, code: int) -> bool:
        """Whether ``code`` is a class or ignored."""
        return code in self.codes or code == self.ignore

    def number(self, samples: NDArray[Any]) -> NDArray[np.int64]:
        """Class numbers (H, W) of a mask's samples (C, H, W); -1 for what is ignored.

        Raises:
            BadValue: a sample belongs to no class.
        """
        codes = encode(samples, colors=self.colors)
        order, numbers = _tables(self)
        place = np.minimum(np.searchsorted(order, codes), len(order) - 1)
        unknown = order[place] != codes
        if unknown.any():
            code = int(codes[unknown][0])
            raise BadValue(f"{self.spell(code)} stands for no class", cure=f"name it in {FILE}")
        return np.asarray(numbers[place])

    def spell(self, code: int) -> str:
        """A code as a person would write it."""
        if self.colors:
            return str([code >> 16, code >> 8 & 255, code & 255])
        return str(code)


@cache
def _tables(legend: Legend) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The codes of a legend in order, and the class number of each."""
    known = {code: number for number, code in enumerate(legend.codes)}
    if legend.ignore is not None:
        known[legend.ignore] = IGNORED
    order = sorted(known)
    return np.array(order), np.array([known[code] for code in order])


def encode(samples: NDArray[Any], *, colors: bool) -> NDArray[np.int64]:
    """Codes (H, W) of a mask's samples (C, H, W); gray counts as a color, opacity is ignored."""
    first: NDArray[np.int64] = samples[0].astype(np.int64)
    if not colors:
        return first
    second, third = (samples[1], samples[2]) if len(samples) >= 3 else (first, first)
    return np.asarray(first << 16 | second.astype(np.int64) << 8 | third)


def read_legend(folder: Path) -> Legend | None:
    """The legend in ``folder``/``classes.yaml``; None if there is no such file.

    Raises:
        BadFile: it is not YAML, or does not list names with values or with colors.
    """
    path = folder / FILE
    try:
        tree, nodes = plain_yaml.read(path)
        _check_names(nodes, tree)
        return _understand(tree)
    except FileNotFoundError:
        return None
    except BadValue as error:
        raise BadFile(f"{path}: {error.fact}", cure=error.cure or _EXAMPLE) from None


def _check_names(nodes: Any, tree: Any) -> None:
    """Refuse names that are not text or occur twice: YAML would silently use the last of two."""
    if not isinstance(tree, dict):
        raise BadValue("holds no names of classes with their values")
    for name in tree:
        if not isinstance(name, str) or not name.strip():
            cure = f"the name comes first; put it in quotes if it is {shorten(name)}"
            raise BadValue(f"{shorten(name)} is no name of a class", cure=cure)
    written = [key.value for key, _ in nodes.value]
    twice = next((name for name, count in Counter(written).items() if count > 1), None)
    if twice is not None:
        raise BadValue(f"names {shorten(twice)} twice", cure="give every class a name of its own")


def _understand(tree: dict[str, Any]) -> Legend:
    codes = {name: _code(name, value) for name, value in tree.items()}
    kinds = {isinstance(value, list) for value in tree.values()}
    if len(kinds) > 1:
        raise BadValue("mixes values and colors", cure="give every class a value, or all a color")
    firsts: dict[int, str] = {}
    for name, code in codes.items():
        first = firsts.setdefault(code, name)
        if first != name:
            both = f"{shorten(first)} and {shorten(name)}"
            raise BadValue(f"{both} have one value", cure="give each its own")
    ignore = codes.pop(IGNORE, None)
    if len(codes) < 2:
        raise BadValue(f"names {len(codes)} classes", cure="name two or more")
    return Legend(tuple(codes), tuple(codes.values()), True in kinds, ignore)


def _code(name: str, value: Any) -> int:
    if _is_whole(value, _LARGEST):
        return int(value)
    if isinstance(value, list) and len(value) == 3 and all(_is_whole(part, 255) for part in value):
        return int(value[0] << 16 | value[1] << 8 | value[2])
    raise BadValue(
        f"{shorten(name)} is {shorten(value)}",
        cure=f"give a value from 0 to {_LARGEST}, or a color as [red, green, blue] from 0 to 255",
    )


def _is_whole(value: Any, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most


_SUFFIXES = {".png", ".gif", ".bmp", ".dib", ".pcx", ".tif", ".tiff", ".tga"}


def read_palette(path: Path, indices: Iterable[int]) -> dict[int, int]:
    """The colors, red · 65536 + green · 256 + blue, that a file gives to ``indices``.

    Empty if the file has no palette.

    Raises:
        BadFile: the file is damaged.
    """
    if not path.is_file() or path.suffix.lower() not in _SUFFIXES:
        return {}
    with path.open("rb") as file:
        start = file.read(4)
    with damage_named(path):
        colors = _of_tiff(path) if start.startswith(TIFF_STARTS) else _of_pillow(path)
    return {index: colors[index] for index in indices if index < len(colors)}


def _of_pillow(path: Path) -> list[int]:
    with open_image(path) as image:
        if image.mode != "P":
            return []
        flat = image.getpalette("RGB") or []
    return [_coded(flat[at : at + 3]) for at in range(0, len(flat) - 2, 3)]


def _of_tiff(path: Path) -> list[int]:
    import tifffile

    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages.first
        if page.photometric != tifffile.PHOTOMETRIC.PALETTE or page.colormap is None:
            return []
        table = np.asarray(page.colormap).T
    return [_coded((row >> 8).tolist()) for row in table]


def _coded(color: Sequence[int]) -> int:
    red, green, blue = color
    return red << 16 | green << 8 | blue


def compare_palettes(masks: Iterable[Seen], legend: Legend) -> tuple[Legend, list[Problem]]:
    """The legend with the color of each index, and the masks with a different palette.

    Args:
        masks: in any order.
        legend: of indices; masks are compared with its palette, if it has one.
    """
    known = {
        code: color for code, color in zip(legend.codes, legend.palette, strict=False) if color >= 0
    }
    first = dict.fromkeys(known, "the masks that were learned from")
    problems = []
    for mask in masks:
        for index, color in mask.palette.items():
            if known.setdefault(index, color) != color:
                problems.append(_problem(mask, index, known[index], first[index]))
                break
            first.setdefault(index, str(mask.files.target))
    if not known:
        return legend, problems
    palette = tuple(known.get(code, -1) for code in legend.codes)
    return replace(legend, palette=palette), problems


def _problem(mask: Seen, index: int, before: int, where: str) -> Problem:
    there, here = (
        f"[{color >> 16}, {color >> 8 & 255}, {color & 255}]"
        for color in (before, mask.palette[index])
    )
    message = f"its palette gives {index} the color {here}, and that of {where} {there}"
    cure = f"indices are no classes here: write {FILE} with colors, such as 'cell: {here}'"
    return Problem(mask.files.target, message, cure)


WHITE = 255
_WEIGHTS = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601


class Thresholded(Source):
    """A mask as 0 and 255: 255 where its gray value reaches a threshold. Opacity is ignored.

    Args:
        mask: (C, H, W), which is closed together with this source.
        threshold: in the units of the mask's samples.
    """

    def __init__(self, mask: Source, threshold: int) -> None:
        shape = (1, *mask.shape[1:])
        layout = {2: "CL", 3: "CHW", 4: "CDHW"}[len(shape)]
        super().__init__(mask.name, understand(shape, layout=layout), np.dtype(np.uint8))
        self._mask, self._threshold = mask, threshold
        self.native_rows = mask.native_rows
        self.memory, self.open_memory = mask.memory, mask.open_memory
        self.notes, self.turn, self.directions = mask.notes, mask.turn, mask.directions

    def _read(self, spans: tuple[Span, ...]) -> NDArray[Any]:
        samples = self._mask.read(*spans)
        if samples.dtype.kind == "f" and not np.isfinite(samples).all():
            raise Unfit(f"{self.name}: holds numbers that are not finite", cure="fill them")
        gray = samples[0] if len(samples) < 3 else np.tensordot(_WEIGHTS, samples[:3], 1)
        return np.where(gray >= self._threshold, WHITE, 0).astype(np.uint8)[np.newaxis]

    def identity(self) -> dict[str, Any]:
        """The mask's identity and the threshold."""
        return {**self._mask.identity(), "threshold": self._threshold}

    def close(self) -> None:
        """Close the mask."""
        self._mask.close()


class SingleChannel(Source):
    """A gray mask that was saved in several channels: as color, or with full opacity.

    Args:
        mask: (C, H, W) with C from 2 to 4, which is closed together with this source.
        cure: what to do if a pixel is colored or transparent.
    """

    def __init__(self, mask: Source, cure: str) -> None:
        shape = (1, *mask.shape[1:])
        layout = {2: "CL", 3: "CHW", 4: "CDHW"}[len(shape)]
        super().__init__(mask.name, understand(shape, layout=layout), mask.dtype)
        self._mask, self._cure = mask, cure
        self.native_rows = mask.native_rows
        self.memory, self.open_memory = mask.memory, mask.open_memory
        self.turn, self.directions = mask.turn, mask.directions
        self.notes = (*mask.notes, f"gray saved in {mask.shape[0]} channels; one is read")

    def _read(self, spans: tuple[Span, ...]) -> NDArray[Any]:
        samples = self._mask.read(*spans)
        colors = samples[: 3 if len(samples) > 2 else 1]
        opacity = samples[len(colors) :]
        full = np.iinfo(samples.dtype).max if samples.dtype.kind in "ui" else 1
        if (colors[1:] != colors[0]).any() or (opacity != full).any():
            fact = f"{self.name}: is a mask with {len(samples)} channels"
            raise Unfit(fact, cure=self._cure)
        return colors[:1]

    def identity(self) -> dict[str, Any]:
        """The mask's identity."""
        return self._mask.identity()

    def close(self) -> None:
        """Close the mask."""
        self._mask.close()
