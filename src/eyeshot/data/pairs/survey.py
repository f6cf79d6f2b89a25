"""Read every pair once, by bands, before training starts.

One pass reads every file. It detects damaged files before training time is lost, records sizes and
channels, computes the sums for the mean, the deviation and the class weights, and computes a digest
of all samples.

Masks without a ``classes.yaml`` get their legend from the values found here.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eyeshot.data.pairs.listing import Files, Report
from eyeshot.data.pairs.pair import FILE, Legend, encode, open_mask, open_picture, read_palette
from eyeshot.data.tree import Problem, Unfit, as_problem
from eyeshot.errors import EyeshotError
from eyeshot.images import Source
from eyeshot.images.layouts import MOST_CHANNELS
from eyeshot.images.whole import to_unit, unit_of

_BAND = 2**21  # samples that are read together
_MOST_VALUES = 2**12  # a mask with more values is a photograph by mistake

_PICTURE = 2  # spatial axes of a picture; floats of volumes and signals may have any scale

_FLOAT_CURE = "scale them to 0…1 first"


class Moments:
    """Count, mean and squared deviations of each channel, joined by the formula of Chan et al.

    Chan, Golub and LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing Sample
    Variances", 1979: no large sums are subtracted, so none of their digits are lost.
    """

    def __init__(self, channels: int) -> None:
        self.count = 0
        self.mean = np.zeros(channels)
        self.squares = np.zeros(channels)

    def add(self, samples: NDArray[Any]) -> None:
        """Add samples (C, …) with their stored type; they are scaled to 0…1."""
        flat = samples.reshape(len(samples), -1)
        means, squares = np.array([_moments(channel) for channel in flat]).T
        self._join(flat.shape[1], means, squares)

    def join(self, other: Moments) -> None:
        """Add the moments of ``other``."""
        self._join(other.count, other.mean, other.squares)

    def _join(self, count: int, mean: NDArray[Any], squares: NDArray[Any]) -> None:
        total = self.count + count
        apart = mean - self.mean
        self.squares = self.squares + squares + apart**2 * (self.count * count / total)
        self.mean = self.mean + apart * (count / total)
        self.count = total

    @property
    def std(self) -> NDArray[np.float64]:
        """The population's deviation; 1 for a constant channel, because it is a divisor."""
        std = np.sqrt(self.squares / max(self.count, 1))
        return np.where(std > 1e-9, std, 1.0)  # 16 bits vary by 1.5e-5 or not at all


def _moments(samples: NDArray[Any]) -> tuple[float, float]:
    """Mean and sum of squared deviations of samples (N,), scaled to 0…1.

    Integers of up to 16 bits are counted by value, which is exact and takes a quarter of the time.
    """
    if samples.dtype.kind == "u" and samples.dtype.itemsize <= 2:
        counts = np.bincount(samples)
        values = np.arange(len(counts)) / unit_of(samples.dtype)
    else:
        counts, values = np.ones(len(samples), np.int64), to_unit(samples).astype(np.float64)
    mean = float(counts @ values / len(samples))
    return mean, float(counts @ (values - mean) ** 2)


@dataclass
class Seen:
    """The contents of one pair.

    Attributes:
        files: the pair.
        channels: of the picture.
        size: (height, width) of the picture; one length for each axis of volumes and signals.
        moments: of the picture's samples, scaled to 0…1.
        scale: what a sample of 1 means: ``"share"`` of whole numbers, which are divided by the
            largest of their type; ``"own"`` of floats outside 0…1; empty for floats within.
        digest: of the picture's samples.
        target_digest: of the target's samples.
        tally: pixels of each code in the mask; empty for ``restore``.
        palette: the color of each index in the mask; empty if it has no palette.
        problems: the problems of either file, in the order of detection.
        notes: facts about either file that the user should know.
        turns: the orientation of each file, the picture's first.
        directions: the sides of the body towards which the axes of each file run; empty if unknown.
    """

    files: Files
    channels: int = 0
    size: tuple[int, ...] = (0, 0)
    moments: Moments = field(default_factory=lambda: Moments(0))
    scale: str = ""
    digest: str = ""
    target_digest: str = ""
    tally: dict[int, int] = field(default_factory=dict)
    palette: dict[int, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    notes: list[tuple[Path, str]] = field(default_factory=list)
    turns: list[int] = field(default_factory=list)
    directions: list[tuple[str | None, ...]] = field(default_factory=list)

    @property
    def mark(self) -> str:
        """The first part of the picture's digest, enough to identify it."""
        return self.digest[:16]


def look(
    files: Files, task: str, *, colors: bool | None, threshold: int = 0, space: int = 2
) -> Seen:
    """Read both files of a pair once; the ``problems`` of the result list what is wrong.

    Args:
        files: the pair.
        task: one of :data:`eyeshot.data.TASKS`.
        colors: whether masks are colored; None if unknown.
        threshold: of masks, see :func:`eyeshot.data.pairs.pair.open_mask`.
        space: the number of spatial axes: 2 for pictures, 3 for volumes, 1 for signals.
    """
    seen = Seen(files)
    shape = _guarded(partial(_look_at_image, space=space), seen, files.image)
    read_target = (
        partial(_look_at_target_picture, space=space)
        if task == "restore"
        else partial(look_at_mask, colors=colors, threshold=threshold, space=space)
    )
    other = _guarded(read_target, seen, files.target)
    if shape is None or other is None:
        return seen
    if _check_turns(seen, shape[1:] == other[1:]) or _check_directions(seen):
        return seen
    if shape[1:] != other[1:]:
        message = f"is {_times(other[1:])}, and {files.image} is {_times(shape[1:])}"
        seen.problems.append(Problem(files.target, message, "make both of one size"))
    if task == "restore" and shape[0] != other[0]:
        message = f"has {_channels(other[0])}, and {files.image} has {shape[0]}"
        seen.problems.append(Problem(files.target, message, "save both in the same colors"))
    return seen


_UPRIGHT_CURE = (
    "save both upright and without the tag (mogrify -auto-orient FILE), or take the tag out where "
    "the mask lies as the pixels do (exiftool -Orientation= FILE)"
)


def _check_turns(seen: Seen, same_size: bool) -> bool:
    """Whether the orientation tags of picture and target differ; this is added to the problems.

    Then it is unknown how they lie on one another, with one exception: if the tag turns a picture
    by 90° and the sizes agree after that, the target was drawn on the upright picture.
    """
    turn, other = seen.turns
    on_its_side = (turn >= 5) != (other >= 5)
    square = len(set(seen.size)) == 1
    if turn == other or (on_its_side and same_size and not square):
        return False
    files = seen.files
    message = (
        f"is turned by its orientation tag ({turn}), and {files.target} by another ({other})"
        if turn > 1 < other
        else f"is turned by its orientation tag ({turn}), and {files.target} has none"
        if turn > 1
        else f"has no orientation tag, and {files.target} is turned by its own ({other})"
    )
    seen.problems.append(Problem(files.image, message, _UPRIGHT_CURE))
    return True


def _check_directions(seen: Seen) -> bool:
    """Whether the axes of picture and target run towards other sides of the body: a problem."""
    ours, theirs = (
        tuple(letter for letter in one if letter is not None) for one in seen.directions
    )
    if not ours or not theirs or ours == theirs:
        return False
    here, there = ", ".join(ours), ", ".join(theirs)
    message = f"has axes towards {there}, and {seen.files.image} towards {here}"
    cure = "store both in one orientation, such as with nibabel.as_closest_canonical"
    seen.problems.append(Problem(seen.files.target, message, cure))
    return True


def _guarded(
    read: Callable[[Path, Seen], tuple[int, ...]], seen: Seen, path: Path
) -> tuple[int, ...] | None:
    """The shape, from ``read``; if that fails, None, and the error is added to the problems."""
    try:
        return read(path, seen)
    except EyeshotError as error:
        damaged = not isinstance(error, Unfit)
        seen.problems.append(as_problem(error, path, unreadable=damaged))
        return None


def _note_facts(path: Path, source: Source, seen: Seen) -> tuple[int, ...]:
    """Add the orientation and the notes of a file to ``seen``, and return its shape."""
    seen.turns.append(source.turn)
    seen.directions.append(source.directions)
    seen.notes += ((path, note) for note in source.notes)
    return source.shape


def _look_at_image(path: Path, seen: Seen, *, space: int) -> tuple[int, ...]:
    with open_picture(path, space) as source:
        seen.channels = source.shape[0]
        seen.size = source.shape[1:]
        seen.moments = Moments(seen.channels)
        seen.digest, within = _read_samples(path, source, seen.moments)
        if source.dtype.kind == "u":
            seen.scale = "share"
        elif not within:
            seen.scale = "own"
        return _note_facts(path, source, seen)


def _look_at_target_picture(path: Path, seen: Seen, *, space: int) -> tuple[int, ...]:
    with open_picture(path, space) as source:
        seen.target_digest, _ = _read_samples(path, source, Moments(source.shape[0]))
        return _note_facts(path, source, seen)


def look_at_mask(
    path: Path, seen: Seen, *, colors: bool | None, threshold: int, space: int = _PICTURE
) -> tuple[int, ...]:
    """Read a mask once, enter what it holds in ``seen``, and return its shape.

    Arguments are as for :func:`look`.

    Raises:
        BadFile: it is damaged, or no mask.
    """
    with open_mask(path, colors=colors, threshold=threshold, space=space) as source:
        _check_mask(path, source, colors)
        seen.target_digest = _read_codes(path, source, seen.tally, bool(colors))
        if not colors and not threshold and space == _PICTURE:
            seen.palette = read_palette(path, seen.tally)
        return _note_facts(path, source, seen)


def _read_samples(path: Path, source: Source, moments: Moments) -> tuple[str, bool]:
    """Read a picture and add it to ``moments``.

    Returns:
        Its digest, and whether all samples lie in 0…1 as they are.
    """
    channels, kind = source.shape[0], source.dtype.kind
    if channels > MOST_CHANNELS:
        cure = f"store one picture a file, of at most {MOST_CHANNELS} channels"
        raise Unfit(f"{path}: has {channels} channels, as a stack of pictures has", cure=cure)
    if kind not in "uf":
        cure = "save it in 8 or 16 bits, unsigned"
        raise Unfit(f"{path}: holds {source.dtype} samples", cure=cure)
    digest, within = _digest(source), True
    for band in _bands(source):
        digest.update(np.ascontiguousarray(band).data)
        if kind == "f" and not np.isfinite(band).all():
            cure = "fill them, such as with the mean of those around"
            raise Unfit(f"{path}: holds numbers that are not finite", cure=cure)
        low, high = band.min(), band.max()
        within = within and low >= 0 and high <= 1
        if kind == "f" and len(source.shape) == 1 + _PICTURE and not (low >= 0 and high <= 1):
            raise Unfit(f"{path}: holds floats from {low:g} to {high:g}", cure=_FLOAT_CURE)
        moments.add(band)
    return str(digest.hexdigest()), bool(within)


def _read_codes(path: Path, source: Source, tally: dict[int, int], colors: bool) -> str:
    """Read a mask, count its codes in ``tally``, and return its digest."""
    digest = _digest(source)
    for band in _bands(source):
        digest.update(np.ascontiguousarray(band).data)
        if band.min() < 0:
            tally.clear()
            cure = "count classes from 0, and save it in 8 bits"
            raise Unfit(f"{path}: holds {band.min()}, and no class is below 0", cure=cure)
        for code, count in _count(band, colors):
            tally[code] = tally.get(code, 0) + count
        if len(tally) > _MOST_VALUES:
            tally.clear()
            cure = "draw one value for each class"
            raise Unfit(
                f"{path}: holds more than {_MOST_VALUES} values, as no mask does", cure=cure
            )
    return str(digest.hexdigest())


def _count(band: NDArray[Any], colors: bool) -> Iterator[tuple[int, int]]:
    """The codes in a band of a mask (C, rows, W), and the number of pixels of each."""
    if not colors and band.dtype.itemsize <= 2 and band.dtype.kind == "u":
        counts = np.bincount(band[0].reshape(-1))
        codes = np.nonzero(counts)[0]
        yield from zip(codes.tolist(), counts[codes].tolist(), strict=True)
    else:
        codes, counts = np.unique(encode(band, colors=colors), return_counts=True)
        yield from zip(codes.tolist(), counts.tolist(), strict=True)


def _check_mask(path: Path, source: Source, colors: bool | None) -> None:
    channels, dtype = source.shape[0], source.dtype
    if channels != 1 and not (colors is not False and channels in (3, 4)):
        cure = "store it with 3" if colors else "save it with one channel"
        raise Unfit(f"{path}: is a mask with {_channels(channels)}", cure=cure)
    if dtype.kind not in "biu" or (colors and dtype != np.uint8):
        raise Unfit(f"{path}: is a mask of {dtype}", cure="save it in 8 bits")


def _digest(source: Source) -> Any:
    return hashlib.blake2b(repr((source.shape, str(source.dtype))).encode(), digest_size=16)


def _bands(source: Source) -> Iterator[NDArray[Any]]:
    """The whole image from the top in bands of rows, aligned to the rows that its file stores
    together.
    """
    channels, height, *rest = source.shape
    rows = max(1, _BAND // (channels * math.prod(rest)))
    native = source.native_rows
    rows = max(native, rows // native * native) if native < height else rows
    for top in range(0, height, rows):
        yield source.read((top, min(top + rows, height)))


def _channels(count: int) -> str:
    return "1 channel" if count == 1 else f"{count} channels"


def _times(size: tuple[int, ...]) -> str:
    return "×".join(map(str, size))


_WHITE = 255
_NEAR = 32  # JPEG changes black and white by at most this
_MANY = 4  # values between black and white: fewer are probably classes
_MOST_CLASSES = 64  # more values without names are probably the numbers of objects

TWO = Legend(("background", "foreground"), (0, _WHITE))


def deduce_legend(masks: Sequence[Seen], report: Report) -> Legend:
    """The legend that most of ``masks`` follow; those that do not are reported."""
    soft = [seen for seen in masks if _is_soft(seen)]
    if soft:
        _report_soft(soft, report)
        report_unknown([seen for seen in masks if seen not in soft], TWO, report)
        return TWO
    black_and_white = [seen for seen in masks if _WHITE in seen.tally and _is_two(seen)]
    numbered = [seen for seen in masks if not _is_two(seen)]
    if len(black_and_white) > len(numbered) or not numbered:
        report_unknown(masks, TWO, report)
        return TWO
    for seen in black_and_white:
        message = f"holds 0 and {_WHITE} alone, and {numbered[0].files.target} other numbers"
        cure = f"write {FILE}, with 'ignore: {_WHITE}' if that stands for no class"
        report(Problem(seen.files.target, message, cure))
    return _deduce_numbers(masks, report)


def report_unknown(
    masks: Sequence[Seen], legend: Legend, report: Report, *, named: bool = False
) -> None:
    """Report the masks with values outside ``legend``; ``named`` adds the names of its classes."""
    codes = [legend.spell(code) for code in legend.codes]
    if named:
        codes = [f"{code} ({name})" for code, name in zip(codes, legend.classes, strict=True)]
    known = ", ".join(codes)
    for seen in masks:
        unknown = [code for code in sorted(seen.tally) if not legend.knows(code)]
        if unknown:
            first = unknown[0]
            more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
            message = (
                f"holds {legend.spell(first)} ({seen.tally[first]} pixels){more}, "
                f"which is none of the classes {known}"
            )
            cure = f"repaint it, or name the value in {FILE}"
            if legend is TWO and seen.tally.keys() == {0, unknown[0]}:
                cure = f"repaint it, or make all masks two-valued with --threshold {unknown[0]}"
            report(Problem(seen.files.target, message, cure))


def _deduce_numbers(masks: Sequence[Seen], report: Report) -> Legend:
    used = {code for seen in masks for code in seen.tally}
    ignore = _WHITE if _WHITE in used else None
    used.discard(_WHITE)
    gap = next(number for number in range(len(used) + 1) if number not in used)
    if gap < len(used):
        beyond = next(seen for seen in masks if any(_is_beyond(c, gap) for c in seen.tally))
        value = next(code for code in sorted(beyond.tally) if _is_beyond(code, gap))
        message = f"holds {value} ({beyond.tally[value]} pixels), and no mask holds {gap}"
        cure = f"count classes from 0 without a gap, or name the values in {FILE}"
        if _number_objects(masks):
            message = f"holds {value}, and other masks other numbers: do they number objects?"
            cure = f"learn objects against background with --threshold 1, or name classes in {FILE}"
        report(Problem(beyond.files.target, message, cure))
    elif len(used) > _MOST_CLASSES:
        most = max(masks, key=lambda seen: max(seen.tally))
        message = f"holds numbers up to {max(used)}: do they number objects, not classes?"
        report(Problem(most.files.target, message, f"if they are classes, name them in {FILE}"))
    codes = tuple(sorted(used))
    return Legend(tuple(f"class {code}" for code in codes), codes, False, ignore)


def _number_objects(masks: Sequence[Seen]) -> bool:
    """Whether most of the masks' values occur in only one mask each."""
    found = Counter(code for seen in masks for code in seen.tally if code)
    alone = sum(count == 1 for count in found.values())
    return len(masks) > 2 and len(found) > len(masks) and 2 * alone > len(found)


def _is_soft(seen: Seen) -> bool:
    """Whether a mask is black and white with values in between, as JPEG or smoothing produces."""
    codes = sorted(seen.tally.keys() - {0, _WHITE})
    if not codes or codes == list(range(1, len(codes) + 1)) or max(codes) > _WHITE:
        return False  # numbers of classes, or more than 8 bits
    ends = sum(n for code, n in seen.tally.items() if code <= _NEAR or code >= _WHITE - _NEAR)
    both = min(seen.tally) <= _NEAR and max(seen.tally) >= _WHITE - _NEAR
    return both and len(codes) >= _MANY and 2 * ends > sum(seen.tally.values())


def _report_soft(soft: Sequence[Seen], report: Report) -> None:
    for seen in soft:
        between = {code: n for code, n in seen.tally.items() if code not in (0, _WHITE)}
        share = sum(between.values()) / sum(seen.tally.values())
        message = (
            f"holds {len(between)} values between 0 and {_WHITE}, in {share:.1%} of its pixels: "
            "soft edges, or a JPEG's noise"
        )
        cure = "cut them with --threshold 128, or save the mask without smoothing"
        report(Problem(seen.files.target, message, cure))


def _is_beyond(code: int, gap: int) -> bool:
    return code > gap and code != _WHITE


def _is_two(seen: Seen) -> bool:
    """Whether a mask may be black and white."""
    return seen.tally.keys() <= {0, _WHITE}
