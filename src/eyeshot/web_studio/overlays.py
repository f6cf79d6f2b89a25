"""What a network says at each pixel, beside what is true: class numbers over a picture.

The prediction is the class of the largest score, as ``eyeshot run --as argmax`` writes it; of one
score, class 1 where it is above 0, which is a probability above a half. The truth is a mask in the
values that the run was trained on. The error compares both where a score stands on a whole pixel.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eyeshot.data.pairs.legend import IGNORED, Legend, SingleChannel, Thresholded, read_palette
from eyeshot.errors import BadFile, BadValue
from eyeshot.images import Source, open_source
from eyeshot.inspection import Inspection
from eyeshot.web_studio.subjects import Subject

KINDS = ("prediction", "truth", "error")
UNLABELED = 255
"""The number of a pixel that the mask leaves unlabeled, and of one without a prediction."""
_MOST_CLASSES = 100


def classes_of(subject: Subject, inspection: Inspection) -> tuple[str, ...]:
    """The names of the classes of each pixel; () of a network that gives something else."""
    run, graph = subject.run, inspection.graph
    node = graph[graph.outputs[0]]
    if len(node.shape) != 4 or len(graph.outputs) != 1:
        return ()
    if run is not None:
        return run.config.classes if run.config.task == "segment" else ()
    count = max(2, node.shape[1])
    return tuple(str(i) for i in range(count)) if count <= _MOST_CLASSES else ()


def predicted(scores: NDArray[Any]) -> NDArray[np.uint8]:
    """Class numbers (h, w) of scores (K, h, w)."""
    if len(scores) == 1:
        return np.asarray(scores[0] > 0, np.uint8)
    if not scores.size:
        return np.zeros(scores.shape[1:], np.uint8)
    return np.asarray(scores.argmax(0), np.uint8)


class Truth:
    """The mask of one picture.

    Args:
        path: a file.
        size: height and width of its picture.
        classes: how many there are.
        legend: which values stand for which class; where there is none, values below ``classes``
            are class numbers, and of two classes 255 is the second.

    Raises:
        BadFile: not a picture, or one of another size.
    """

    def __init__(
        self, path: str | Path, size: tuple[int, int], classes: int, legend: Legend | None
    ) -> None:
        source: Source = open_source(path, space=2)
        if source.shape[1:] != size:
            high, wide = source.shape[1:]
            source.close()
            raise BadFile(
                f"{path}: a mask of {high}×{wide} pixels, and {size[0]}×{size[1]} are looked at",
                cure="give the mask of this picture",
            )
        if legend is not None and legend.palette:
            _check_palette(Path(path), legend)
        self.name = Path(path).name
        self._legend, self._classes = legend, classes
        if legend is not None and legend.threshold:
            source = Thresholded(source, legend.threshold)
        elif source.shape[0] > 1 and not (legend is not None and legend.colors):
            source = SingleChannel(source, "save it in gray")
        self._source = source

    def read(self, rows: tuple[int, int], columns: tuple[int, int]) -> NDArray[np.uint8]:
        """Class numbers of a part of it.

        Raises:
            BadFile: a value that stands for no class.
        """
        samples = self._source.read(rows, columns)
        try:
            if self._legend is not None:
                numbers = self._legend.number(samples)
            else:
                numbers = self._by_value(samples[0])
        except BadValue as error:
            raise BadFile(f"{self.name}: {error.fact}", cure=error.cure) from None
        return np.where(numbers == IGNORED, UNLABELED, numbers).astype(np.uint8)

    def _by_value(self, samples: NDArray[Any]) -> NDArray[np.int64]:
        numbers = np.asarray(samples, np.int64)
        if self._classes == 2 and numbers.max(initial=0) == 255:
            numbers = np.where(numbers == 255, 1, numbers)
        if samples.size and (numbers.min() < 0 or numbers.max() >= self._classes):
            wrong = int(numbers.min() if numbers.min() < 0 else numbers.max())
            raise BadValue(
                f"{wrong} stands for no class",
                cure=f"use a mask of class numbers, 0 to {self._classes - 1}",
            )
        return numbers


def _check_palette(path: Path, legend: Legend) -> None:
    """Refuse a mask whose indices stand for other colors than in training.

    Raises:
        BadFile: so.
    """
    known = {index: color for index, color in enumerate(legend.palette) if color >= 0}
    for index, color in read_palette(path, known).items():
        if known[index] != color:
            raise BadFile(
                f"{path}: index {index} of its palette is another color than in training",
                cure="save it with the palette of the training masks",
            )


def pixel_under(inspection: Inspection, layer: str) -> tuple[int, int] | None:
    """The pixel that the first unit of a layer stands on, where each unit stands on one; or None.

    The units of a map as large as the picture stand on its pixels, as ``eyeshot.run`` writes them;
    those of a smaller one in the middle of what they see.
    """
    graph = inspection.graph
    (row,) = (one for one in inspection.rows if one.name == layer)
    axes = row.to_dict()["receptive_field"]
    if len(axes) != 2 or any(axis["stride"] != 1 for axis in axes):
        return None
    if graph[layer].extents == graph[graph.inputs[0]].extents:
        return 0, 0
    centers = [float(axis["center"]) for axis in axes]
    if not all(center.is_integer() for center in centers):
        return None
    return int(centers[0]), int(centers[1])


def differing(
    said: NDArray[np.uint8], truth: NDArray[np.uint8]
) -> tuple[NDArray[np.uint8], int, int]:
    """1 where two masks differ, 0 where they agree, and :data:`UNLABELED`; wrong and labeled."""
    labeled = truth != UNLABELED
    wrong = (said != truth) & labeled
    shown = np.where(labeled, wrong, UNLABELED).astype(np.uint8)
    return shown, int(wrong.sum()), int(labeled.sum())
