"""Pairs of pictures: a picture and its target, which is a mask of classes or another picture.

A pair is read by windows: samples in the form of the network, and class numbers. The training pairs
stay in memory if they fit. ``Corner`` reads only the top left part of an image.

The meaning of a mask's samples, values or colors, and their classes, is here too:

- masks with a palette: the same index must have the same color in every file;
- other ways to store a mask: soft edges, which are thresholded, and gray values saved as colors.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from eyeshot import plain_yaml
from eyeshot.data.tree import Problem, Unfit, is_picture, visible
from eyeshot.errors import BadFile, BadValue, UnknownName, shorten
from eyeshot.images import Source, Span, understand
from eyeshot.images.limits import TIFF_STARTS, damage_named
from eyeshot.images.sources import open_file
from eyeshot.images.sources.arrays import ArraySource
from eyeshot.images.sources.source import Selection
from eyeshot.images.whole import open_image, to_unit

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
_THOUSANDTHS = np.array([299.0, 587.0, 114.0])
"""Of gray, by color: ITU-R BT.601. Their sums are exact, those of 0.299, 0.587 and 0.114 are not:
gray of 128 in three channels would be 127.99999999999999."""


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
        if len(samples) < 3:
            reached = samples[0] >= self._threshold
        else:
            gray = np.tensordot(_THOUSANDTHS, samples[:3].astype(np.float64), 1)
            reached = gray >= self._threshold * 1000
        return np.where(reached, WHITE, 0).astype(np.uint8)[np.newaxis]

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


TASKS = ("segment", "restore")
"""``segment``: the target is a mask of classes. ``restore``: it is a picture."""


@dataclass(frozen=True)
class Pair:
    """One picture and its target, as files.

    Attributes:
        name: the common name of both files, without their suffixes.
        image: the picture's file.
        target: the file of the mask, or of the target picture.
        size: (height, width) of both; (depth, height, width) of volumes, (length,) of signals.
        digest: of the picture's samples, 16 hexadecimal digits; "" if it was not computed.
    """

    name: str
    image: Path
    target: Path
    size: tuple[int, ...]
    digest: str = ""

    @property
    def plane(self) -> tuple[int, int]:
        """(height, width) of a picture; volumes and signals have no such size."""
        height, width = self.size
        return height, width


@dataclass(frozen=True)
class Pairs:
    """A folder of pairs with its parts: the result of :func:`eyeshot.data.load_pairs`.

    Attributes:
        name: the folder.
        task: one of :data:`TASKS`.
        train: the training pairs.
        validation: the validation pairs.
        classes: the names of the classes, empty for ``restore``; a mask's numbers index them.
        channels: C of every picture, as in its file: 1 for gray, 3 for color.
        mean: the mean of the training samples scaled to 0…1, for each channel.
        std: their standard deviation, for each channel, never 0.
        counts: the number of pixels of each class in the training masks; may be 0.
        fingerprint: 16 hexadecimal digits that change with any pixel, name or class.
        legend: the mapping from a mask's samples to classes; None for ``restore``.
        notes: the decisions made while loading, a sentence each.
        own_scale: whether a picture holds floats outside 0…1, whose scale is their own.
    """

    name: str
    task: str
    train: tuple[Pair, ...]
    validation: tuple[Pair, ...]
    classes: tuple[str, ...]
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    counts: tuple[int, ...]
    fingerprint: str
    legend: Legend | None = None
    notes: tuple[str, ...] = ()
    own_scale: bool = False

    @property
    def dims(self) -> int:
        """The number of spatial axes: 2 for pictures, 3 for volumes, 1 for signals."""
        return len((self.train or self.validation)[0].size)


def check_task(task: str) -> str:
    """Return ``task`` if it is one of :data:`TASKS`.

    Raises:
        UnknownName: it is not.
    """
    if task not in TASKS:
        raise UnknownName("task", task, TASKS)
    return task


class Corner(Source):
    """The first rows and columns of another source. Closing it does not close the other source.

    Args:
        whole: (C, H, W), or with another number of spatial axes.
        size: the size of the part along each spatial axis.
    """

    def __init__(self, whole: Source, size: tuple[int, ...]) -> None:
        shape = (whole.shape[0], *size)
        layout = {2: "CL", 3: "CHW", 4: "CDHW"}[len(shape)]
        super().__init__(whole.name, understand(shape, layout=layout), whole.dtype)
        self._whole = whole
        self.native_rows = whole.native_rows
        self.memory, self.open_memory = whole.memory, whole.open_memory

    def _read(self, spans: tuple[Span, ...]) -> NDArray[Any]:
        self._whole.keep_rows = self.keep_rows  # set by the reader of windows
        samples = self._whole.read(*spans)
        self.decoded_chunks = self._whole.decoded_chunks
        return samples

    def identity(self) -> dict[str, Any]:
        """The identity of the whole, and the size of the part."""
        return {**self._whole.identity(), "corner": list(self.shape[1:])}


class PairReader:
    """Reads windows of one picture and of its target.

    Close it after use, or use it in a ``with`` statement.
    """

    def __init__(self, image: Source, target: Source, legend: Legend | None) -> None:
        self._image = image
        self._target = target
        self._legend = legend

    @property
    def size(self) -> tuple[int, ...]:
        """(height, width); (depth, height, width) of a volume, (length,) of a signal."""
        return self._image.shape[1:]

    @property
    def bytes(self) -> int:
        """The memory that picture and target take with their stored types."""
        return sum(
            int(np.prod(source.shape)) * source.dtype.itemsize
            for source in (self._image, self._target)
        )

    def image(self, *window: Span) -> NDArray[np.float32]:
        """A window of the picture, (C, H, W) float32 in 0…1.

        Args:
            window: half open, (first, one past the last), for each axis; omitted axes are read
                whole.

        Raises:
            BadValue: the window is empty or leaves the picture.
            BadFile: the file is damaged, or has changed.
        """
        return to_unit(self._image.read(*window))

    def target(self, *window: Span) -> NDArray[np.int64] | NDArray[np.float32]:
        """A window of the target; arguments as for :meth:`image`.

        Returns:
            For ``segment``, class numbers (H, W) int64, -1 for unlabeled pixels; for
            ``restore``, samples (C, H, W) float32 in 0…1.

        Raises:
            BadValue: the window is empty or reaches outside the picture.
            BadFile: the file is damaged, or has changed.
        """
        samples = self._target.read(*window)
        if self._legend is None:
            return to_unit(samples)
        try:
            return self._legend.number(samples)
        except BadValue as error:
            raise BadFile(f"{self._target.name}: {error.fact}", cure=error.cure) from None

    def corner(self, *size: int) -> Source:
        """The picture's first rows and columns, to be read by windows while the reader is open."""
        return Corner(self._image, size)

    def hold(self) -> PairReader:
        """The same pair with all its samples in memory; the files are closed."""
        layout = channels_first(len(self.size))
        with self:
            in_memory = [
                ArraySource(samples, understand(samples.shape, layout=layout), source.name)
                for source in self._sources
                for samples in [source.read().copy()]
            ]
        return PairReader(in_memory[0], in_memory[1], self._legend)

    @property
    def _sources(self) -> tuple[Source, Source]:
        return self._image, self._target

    def close(self) -> None:
        """Close the files."""
        for source in self._sources:
            source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def open_pair(pair: Pair, pairs: Pairs) -> PairReader:
    """Open one pair of ``pairs`` to be read by windows; large files are never read whole.

    Raises:
        BadFile: a file is missing or damaged, or its size or its channels have changed.
    """
    legend, space = pairs.legend, len(pair.size)
    with ExitStack() as stack:
        image = stack.enter_context(open_picture(pair.image, space))
        target = stack.enter_context(
            open_picture(pair.target, space)
            if legend is None
            else open_mask(
                pair.target, colors=legend.colors, threshold=legend.threshold, space=space
            )
        )
        for source, path in ((image, pair.image), (target, pair.target)):
            if source.shape[1:] != pair.size:
                raise BadFile(
                    f"{path}: is {_times(source.shape[1:])} and was {_times(pair.size)} before",
                    cure="put the file back as it was, or start again",
                )
        if image.shape[0] != pairs.channels:
            raise BadFile(
                f"{pair.image}: has {image.shape[0]} channels and had {pairs.channels} before",
                cure="put the file back as it was, or start again",
            )
        stack.pop_all()
    return PairReader(image, target, pairs.legend)


def open_picture(path: Path, space: int = 2) -> Source:
    """Open a picture (C, H, W) to be read by windows; ``space`` is its number of spatial axes."""
    return open_file(path, Selection(space=space, offered=False))


def channels_first(space: int) -> str:
    """The layout of an array (C, …) with ``space`` spatial axes."""
    return {1: "CL", 2: "CHW", 3: "CDHW"}[space]


_GRAY_CURE = (
    "save it with one channel, name its colors in classes.yaml, or make it two-valued with "
    "--threshold 128"
)


def open_mask(path: Path, *, colors: bool | None, threshold: int = 0, space: int = 2) -> Source:
    """Open a mask (C, H, W) to be read by windows. A palette gives indices unless ``colors``.

    If ``colors`` is False the mask has one channel: gray that was saved as color is reduced to one,
    and reading a pixel that is not gray raises BadFile. None leaves the channels as they are.

    With a ``threshold``, values from it on become 255 and all others 0. A folder of masks, one for
    each object of a picture, is 255 wherever one of them is: without a threshold, not 0.
    """
    if path.is_dir() and path.suffix.lower() != ".zarr":
        return _open_objects(path, threshold)
    if threshold:
        return Thresholded(open_picture(path, space), threshold)
    mask = open_file(path, Selection(space=space, indices=not colors, offered=False))
    gray = colors is False and mask.shape[0] in (2, 3, 4)
    return SingleChannel(mask, _GRAY_CURE) if gray else mask


def _open_objects(folder: Path, threshold: int) -> Source:
    """The union of the masks in a folder, in memory."""
    whole: NDArray[np.bool_] | None = None
    for path in visible(folder):
        if not is_picture(path):
            continue
        with open_mask(path, colors=False, threshold=threshold) as mask:
            inside = mask.read()[0] > 0
        if whole is not None and whole.shape != inside.shape:
            raise BadFile(f"{path}: is {_times(inside.shape)}, and others {_times(whole.shape)}")
        whole = inside if whole is None else whole | inside
    if whole is None:
        raise BadFile(f"{folder}: holds no masks", cure="draw one for each object")
    union = np.where(whole, WHITE, 0).astype(np.uint8)
    return ArraySource(union[np.newaxis], understand((1, *union.shape), layout="CHW"), str(folder))


def _times(size: tuple[int, ...]) -> str:
    return "×".join(map(str, size))


_MOST_OPEN = 4  # files that are read by windows and kept open


class Readers:
    """Readers of training pairs, opened when first needed.

    Args:
        pairs: the pairs whose training part is read.
        budget: the most bytes in memory; pairs are kept in the order in which they are first read.
    """

    def __init__(self, pairs: Pairs, budget: int) -> None:
        self._pairs = pairs
        self._budget = self._left = budget
        self._in_memory: dict[int, PairReader] = {}
        self._open: OrderedDict[int, PairReader] = OrderedDict()

    def get(self, number: int) -> PairReader:
        """The training pair with that number, kept in memory if it fits."""
        if number in self._in_memory:
            return self._in_memory[number]
        reader = self._open.pop(number, None)
        if reader is None:
            reader = open_pair(self._pairs.train[number], self._pairs)
            if reader.bytes <= self._left:
                self._left -= reader.bytes
                self._in_memory[number] = reader.hold()
                return self._in_memory[number]
        self._open[number] = reader
        if len(self._open) > _MOST_OPEN:
            _, oldest = self._open.popitem(last=False)
            oldest.close()
        return reader

    def close(self) -> None:
        """Release files and memory."""
        for reader in (*self._open.values(), *self._in_memory.values()):
            reader.close()
        self._open.clear()
        self._in_memory.clear()
        self._left = self._budget
