"""A network's output for a whole image, and evaluations shown in notebooks.

In this file:

- :class:`Answer`: a network's output for a whole image of any size, aligned with its target;
- the ``..._piece`` functions: evaluations and predictions as pieces of HTML, for notebooks.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from eyeshot.data.pairs import Pair, PairReader
from eyeshot.engine.networks import Traced
from eyeshot.engine.running import run
from eyeshot.errors import BadValue
from eyeshot.frontends.net_geometry import InputSizes, NetGeometry
from eyeshot.pages import Bars, Fact, Matrix, Section, Table, Text, render_piece

if TYPE_CHECKING:
    from eyeshot.evaluation.labels import Evaluation, Prediction
    from eyeshot.evaluation.pairs import MaskEvaluation, RestorationEvaluation

_HELD = 2**28
"""The largest answer, in bytes, that stays in memory; a larger one is written to a file."""
_WINDOW = 2**21
"""The number of positions that are compared at a time."""


@dataclass(frozen=True)
class Answer:
    """A network's output for an image.

    Attributes:
        samples: (C, h, w), in memory or in a file; (C, d, h, w) for a volume, (C, l) for a signal.
        offset: the image's pixel (row, column) that ``samples[:, 0, 0]`` belongs to. It is (0, 0),
            unless the network's output is smaller than the image: then its geometry tells.
    """

    samples: NDArray[Any]
    offset: tuple[int, ...]

    @property
    def size(self) -> tuple[int, ...]:
        """(h, w)."""
        return self.samples.shape[1:]

    @property
    def plane(self) -> tuple[int, int]:
        """(h, w) of the answer for an image."""
        height, width = self.size
        return height, width

    def bands(self, halo: int = 0) -> Iterator[tuple[slice, slice]]:
        """For each band of rows: the rows with ``halo`` rows around the band; the band within them.

        The halo ends at the answer's border.
        """
        height, *rest = self.size
        step = max(1, _WINDOW // math.prod(rest))
        for start in range(0, height, step):
            stop = min(height, start + step)
            top, bottom = max(0, start - halo), min(height, stop + halo)
            yield slice(top, bottom), slice(start - top, stop - top)

    def truth(self, reader: PairReader, rows: slice) -> NDArray[Any]:
        """The target of the answer's ``rows``: (rows, w) class numbers, or (C, rows, w) samples."""
        down, *others = self.offset
        rest = ((lo, lo + n) for lo, n in zip(others, self.size[1:], strict=True))
        return reader.target((down + rows.start, down + rows.stop), *rest)


@contextmanager
def answered(
    net: Traced, pair: Pair, reader: PairReader, *, channels: int | None = None
) -> Iterator[Answer]:
    """Run a network on a whole image by :func:`eyeshot.run`; use the answer inside the context.

    If the network's outputs are several pixels apart, each is repeated for the pixels that it
    covers. If the network takes certain sizes only, the largest such part of the image is used,
    from the top left.

    Args:
        net: the network, with the mean and deviation of its samples.
        pair: the image and its target.
        reader: the open reader of the pair.
        channels: the number of channels of a float32 answer; None for class numbers.

    Raises:
        BadValue: the image is too small for the network.
        BadFile: the image cannot be read.
    """
    image: Any = pair.image
    size = _accepted_size(net.sizes, pair)
    if size != pair.size:
        image = reader.corner(*size)
    form = "argmax" if channels is None else "float32"
    if math.prod(size) * 4 * (channels or 1) <= _HELD:
        yield _placed(net, run(net, image, output_format=form), size)
        return
    with tempfile.TemporaryDirectory(prefix="eyeshot-") as folder:
        path = Path(folder) / "answer.npy"
        run(net, image, path, output_format=form)
        yield _placed(net, np.load(path, mmap_mode="r", allow_pickle=False), size)


def _placed(net: Traced, samples: NDArray[Any], size: tuple[int, ...]) -> Answer:
    """An answer (C, h, w), where it belongs in its image (height, width)."""
    offset = (0,) * len(size)
    if any(n > m for n, m in zip(size, samples.shape[1:], strict=True)):
        output = net.geometry.output
        pairs = zip(size, samples.shape[1:], strict=True)
        offset = tuple(output.place(axis, n, m) for axis, (n, m) in enumerate(pairs))
        for axis, step in enumerate(output.stride, start=1):
            if step > 1:
                samples = np.repeat(samples, int(step), axis)
        samples = samples[(slice(None), *map(slice, size))]
    return Answer(samples, offset)


def tell_sizes(geometry: NetGeometry) -> tuple[str, ...]:
    """Notes for the evaluation of a network whose answers are smaller than images."""
    off, notes = geometry.output.margin, []
    if any(step != 1 for step in geometry.output.stride):
        apart = "×".join(str(step) for step in geometry.output.stride)
        notes.append(f"the network answers once for {apart} pixels, and each of them is judged")
    if not off:
        return tuple(notes)
    return (
        *notes,
        f"the network answers without {off} pixels at each side, and pictures are judged without "
        "them; one of a size that it does not take, by the largest part that it does, from the top "
        "left",
    )


def _accepted_size(sizes: InputSizes, pair: Pair) -> tuple[int, ...]:
    """The largest height and width, up to the image's, that the network takes."""
    if sizes.takes(*pair.size):
        return pair.size
    sizes_by_axis = []
    for axis, n in enumerate(pair.size):
        below, above = sizes.nearest(n, axis)
        if below is None:
            limit = f"takes none below {above}" if above else "takes no side near it"
            raise BadValue(
                f"{pair.image}: a side of {n} pixels, and the network {limit}",
                cure="train one with padding, or one of less depth",
            )
        sizes_by_axis.append(below)
    return tuple(sizes_by_axis)


_MOST_CLASSES = 20
_MOST_PICTURES = 50


def evaluation_piece(evaluation: Evaluation) -> str:
    """A classifier's evaluation as HTML: the overall figures, and those of each class."""
    facts = [
        Fact(f"{evaluation.accuracy:.2%}", f"of {evaluation.count:,} pictures right"),
        Fact(f"{evaluation.loss:.3f}", "loss (cross-entropy, nats)"),
    ]
    rows = [
        [one.name, f"{one.count:,}", _share(one.precision), _share(one.recall)]
        for one in evaluation.per_class
    ]
    table = Table(["class", "pictures", "precision", "recall"], rows)
    names = [one.name for one in evaluation.per_class]
    parts: list[Any] = [table, *_matrix(names, evaluation.confusion)]
    return _piece("Evaluation", facts, evaluation.notes, parts)


def masks_piece(evaluation: MaskEvaluation) -> str:
    """An evaluation of masks as HTML: for each class and each image."""
    facts = [
        Fact(f"{evaluation.accuracy:.2%}", "of pixels right"),
        Fact(f"{evaluation.dice:.2%}", "Dice, the mean over classes"),
        Fact(f"{evaluation.iou:.2%}", "IoU, the mean over classes"),
    ]
    head = ["class", "pixels", "Dice", "IoU", "precision", "recall", "boundary F1"]
    rows = [
        [
            *(one.name, f"{one.pixels:,}"),
            *map(_share, (one.dice, one.iou, one.precision, one.recall, one.boundary_f1)),
        ]
        for one in evaluation.per_class
    ]
    pictures = [[one.name, f"{one.accuracy:.2%}", f"{one.dice:.2%}"] for one in evaluation.pictures]
    parts: list[Any] = [Table(head, rows)]
    parts += _pictures(["picture", "accuracy", "Dice"], pictures)
    return _piece("Evaluation", facts, evaluation.notes, parts)


def restoration_piece(evaluation: RestorationEvaluation) -> str:
    """An evaluation of restored images as HTML, for each image."""
    facts = [
        Fact(f"{evaluation.psnr:.2f} dB", "PSNR, the mean over pictures"),
        Fact(f"{evaluation.ssim:.3f}", "SSIM, the mean over pictures"),
    ]
    head = ["picture", "PSNR", "SSIM", "PSNR of the input", "SSIM of the input"]
    rows = [
        [one.name, *(f"{n:.2f}" for n in (one.psnr,)), f"{one.ssim:.3f}", f"{one.given_psnr:.2f}",
         f"{one.given_ssim:.3f}"]
        for one in evaluation.pictures
    ]  # fmt: skip
    return _piece("Evaluation", facts, evaluation.notes, _pictures(head, rows))


def prediction_parts(prediction: Prediction) -> list[Any]:
    """HTML parts: the most likely classes as bars, and how the image was prepared."""
    return [Bars(prediction.name, prediction.classes), *(Text(note) for note in prediction.notes)]


def predictions_piece(predictions: Sequence[Prediction]) -> str:
    """Predictions as HTML, one below the other."""
    shown = [part for one in predictions[:_MOST_PICTURES] for part in prediction_parts(one)]
    if len(predictions) > _MOST_PICTURES:
        shown.append(Text(f"and {len(predictions) - _MOST_PICTURES} more"))
    title = "Prediction" if len(predictions) == 1 else f"{len(predictions)} predictions"
    return _piece(title, [], (), shown)


def _piece(title: str, facts: list[Fact], notes: Sequence[str], parts: list[Any]) -> str:
    return render_piece(title, facts=facts, notes=notes, sections=[Section("all", "", "", parts)])


def _share(share: float | None) -> str:
    return "·" if share is None else f"{share:.2%}"


def _pictures(head: list[str], rows: list[list[str]]) -> list[Any]:
    folded = f"{len(rows)} pictures" if len(rows) > _MOST_CLASSES else ""
    return [Table(head, rows, folded=folded)] if rows else []


def _matrix(names: list[str], confusion: NDArray[np.int64]) -> list[Any]:
    """The confusion matrix as HTML parts; empty if there are too many classes to read."""
    if len(names) > _MOST_CLASSES:
        return []
    rows = confusion.sum(1).clip(1)
    cells = [
        [(int(n), float(n / rows[i]), i == j) for j, n in enumerate(line)]
        for i, line in enumerate(confusion)
    ]
    return [Matrix(names, cells, "truth", "answer")]
