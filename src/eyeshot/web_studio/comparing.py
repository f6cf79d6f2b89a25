"""The classes that a network predicts at each pixel, and the true ones, over a picture.

The prediction is the class of the largest score, as ``eyeshot run --as argmax`` writes it; of one
score, class 1 where its probability is above a half: above 0.5 if the network ends in a sigmoid,
above 0 otherwise. The truth is a mask in the
values that the run was trained on. The error compares both where a score stands on a whole pixel.

A second network is compared with the first on the same pictures. Layers are matched by their names,
and compared where their shapes are equal. A difference is the first network's number minus the
second's.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eyeshot.data.pairs.listing import Files
from eyeshot.data.pairs.pair import IGNORED, Legend, compare_palettes, open_mask
from eyeshot.data.pairs.survey import TWO, Seen, look_at_mask
from eyeshot.data.tree import Unfit
from eyeshot.errors import BadFile, BadValue, UnknownName
from eyeshot.graph import Graph
from eyeshot.images import Span
from eyeshot.inspection import Inspection
from eyeshot.operators import gives_probabilities
from eyeshot.runs import LAST_WEIGHTS, WEIGHTS, load_weights, read_tensors, weights_standing
from eyeshot.web_studio.payloads import Payload, samples
from eyeshot.web_studio.subjects import Subject, fill

KINDS = ("prediction", "truth", "error")
UNLABELED = 255
"""The number of a pixel that the mask leaves unlabeled, and of one without a prediction."""
_MOST_CLASSES = 100
_MOST_OF_A_RUN = UNLABELED - 1


def classes_of(subject: Subject, inspection: Inspection) -> tuple[str, ...]:
    """The names of the classes of each pixel; () if there is nothing to lay over a picture."""
    run, graph = subject.run, inspection.graph
    node = graph[graph.outputs[0]]
    if len(node.shape) != 4 or len(graph.outputs) != 1:
        return ()
    if run is not None:
        fits = run.config.task == "segment" and len(run.config.classes) <= _MOST_OF_A_RUN
        return run.config.classes if fits else ()
    count = max(2, node.shape[1])
    return tuple(str(i) for i in range(count)) if count <= _MOST_CLASSES else ()


def check_classes(subject: Subject, inspection: Inspection, asked: str) -> tuple[str, ...]:
    """As :func:`classes_of`.

    Args:
        subject: the network.
        inspection: of it.
        asked: what needs the classes.

    Raises:
        BadValue: there are none, or more than a byte numbers.
    """
    classes, run = classes_of(subject, inspection), subject.run
    if classes:
        return classes
    count = len(run.config.classes) if run is not None and run.config.task == "segment" else 0
    if count > _MOST_OF_A_RUN:
        raise BadValue(
            f"{asked} of {count} classes: the studio lays at most {_MOST_OF_A_RUN} over a picture",
            cure="write the prediction by eyeshot run --as argmax",
        )
    raise BadValue(asked, cure="use a network of classes a pixel")


def predicted(scores: NDArray[Any], graph: Graph) -> NDArray[np.uint8]:
    """Class numbers (h, w) of the scores (K, h, w) that are the first output of ``graph``."""
    if len(scores) == 1:
        half = 0.5 if gives_probabilities(graph, graph.outputs[0]) else 0.0
        return np.asarray(scores[0] > half, np.uint8)
    if not scores.size:
        return np.zeros(scores.shape[1:], np.uint8)
    return np.asarray(scores.argmax(0), np.uint8)


class Truth:
    """The mask of one picture; it is read once in whole, as before a training.

    Args:
        path: a file, or a folder with a mask for each object.
        size: height and width of its picture.
        classes: how many there are.
        legend: the mapping from values to classes. If there is none, values below ``classes`` are
            class numbers and 255 is unlabeled; a mask of two classes that holds only 0 and 255 is
            black and white.

    Raises:
        BadFile: not a mask, one of another size, or one with a value that stands for no class.
    """

    def __init__(
        self, path: str | Path, size: tuple[int, int], classes: int, legend: Legend | None
    ) -> None:
        path = Path(path)
        colors, threshold = (legend.colors, legend.threshold) if legend else (False, 0)
        seen = Seen(Files(path.name, path, path))
        values = "the values of the training masks" if legend else "class numbers"
        try:
            high, wide = look_at_mask(path, seen, colors=colors, threshold=threshold)[1:]
        except Unfit as error:
            raise BadFile(error.fact, cure=f"save it with {values}, in 8 bits") from None
        if (high, wide) != size:
            raise BadFile(
                f"{path}: a mask of {high}×{wide} pixels, and {size[0]}×{size[1]} are looked at",
                cure="give the mask of this picture",
            )
        self.name = path.name
        self._legend = legend or _by_value(seen, classes)
        for code in sorted(seen.tally):
            if not self._legend.knows(code):
                until = "" if legend else f", 0 to {classes - 1}"
                raise BadFile(
                    f"{path}: {self._legend.spell(code)} stands for no class",
                    cure=f"use a mask of {values}{until}",
                )
        for problem in compare_palettes([seen], legend)[1] if legend else ():
            raise BadFile(
                f"{path}: {problem.message}", cure="save it with the palette of the training masks"
            )
        self._source = open_mask(path, colors=colors, threshold=threshold)

    def read(self, rows: Span, columns: Span) -> NDArray[np.uint8]:
        """Class numbers of a part; what lies outside the picture is :data:`UNLABELED`."""
        spans = (rows, columns)
        inside = [
            (min(max(lo, 0), n), max(min(hi, n), 0))
            for (lo, hi), n in zip(spans, self._source.shape[1:], strict=True)
        ]
        shape = [max(0, hi - lo) for lo, hi in spans]
        numbers = np.full(shape, UNLABELED, np.uint8)
        if all(lo < hi for lo, hi in inside):
            part = self._legend.number(self._source.read(*inside))
            place = [
                slice(lo - first, hi - first)
                for (lo, hi), (first, _) in zip(inside, spans, strict=True)
            ]
            numbers[*place] = np.where(part == IGNORED, UNLABELED, part)
        return numbers


def _by_value(seen: Seen, classes: int) -> Legend:
    """The meaning of a mask's values if no run says it."""
    if classes == len(TWO.codes) and seen.tally.keys() <= set(TWO.codes):
        return TWO
    numbers = tuple(range(classes))
    return Legend(tuple(map(str, numbers)), numbers, ignore=UNLABELED)


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


SIDES = ("other", "difference")
"""What ``of`` may be in a question: the second network's numbers, or the difference."""
KEPT: Mapping[str, str] = {"best": WEIGHTS, "last": LAST_WEIGHTS}
"""Weights that a run's folder may keep, by the words that name them."""
_WEIGHT_FILES = (".safetensors", ".pt", ".pth", ".ckpt", ".bin")


def other_weights(
    subject: Subject, where: str, say: Callable[[str], object] = str
) -> Subject | None:
    """The same network with other weights; None if ``where`` names no weights.

    Args:
        subject: the network.
        where: a file of weights, a checkpoint of a training, or ``best`` or ``last`` of the run.
        say: gets a line on what was loaded.

    Raises:
        BadFile: the file is missing, damaged, or of another network.
    """
    path = Path(where)
    if where in KEPT and subject.run is not None and not path.exists():
        folder = subject.run.path
        path = folder / KEPT[where]
        if not path.is_file():
            there = [word for word, name in KEPT.items() if (folder / name).is_file()]
            raise BadFile(
                f"{folder}: keeps no {where} weights",
                cure=f"it keeps: {', '.join(there)}" if there else "name a file of weights",
            )
    elif path.suffix.lower() not in _WEIGHT_FILES:
        return None
    if not path.is_file():
        raise BadFile(f"{path}: no such file", cure="check the path")
    net = copy.deepcopy(subject.net)
    if _is_checkpoint(path):
        fill(net, read_tensors(path)[0], path)
    else:
        say(load_weights(net, path))
    run = subject.run
    name = where if where in KEPT else path.stem
    epoch = weights_standing(path)[0]
    if epoch is not None:
        name = f"{name} (epoch {epoch})"
    return Subject(name, net, None if run is None else replace(run, net=net))


def _is_checkpoint(path: Path) -> bool:
    """Whether a file is what a training resumes from."""
    if path.suffix.lower() != ".safetensors":
        return False
    return "position" in read_tensors(path)[1]


def compare_layers(first: Graph, second: Graph) -> dict[str, Any]:
    """For each layer of the first graph: True if the second has it in the same shape.

    Otherwise its shape there, without the batch; or None if no layer has the name.
    """
    found: dict[str, Any] = {}
    for node in first:
        other = second.nodes.get(node.name)
        same = other is not None and other.shape[1:] == node.shape[1:]
        found[node.name] = True if same else None if other is None else list(other.shape[1:])
    return found


def refuse_layer(layer: str, known: Mapping[str, Any], name: str) -> None:
    """Refuse a layer that cannot be compared.

    Raises:
        UnknownName: the first network has no such layer.
        BadValue: the second has none of that name, or one of another shape.
    """
    if layer not in known:
        raise UnknownName("layer", layer, list(known))
    there = known[layer]
    if there is True:
        return
    fact = "no such layer" if there is None else f"{layer} is {'×'.join(map(str, there))}"
    raise BadValue(f"{name}: {fact}", cure="choose a layer that both networks have")


def subtract(mine: Payload, theirs: Payload) -> Payload:
    """Numbers of maps less those of the second network, at the same places."""
    one, two = _numbers(mine), _numbers(theirs)
    _refuse_shapes(one.shape, two.shape)
    with np.errstate(invalid="ignore"):
        change = one - two
    answer = samples(change, (0, change.shape[1], 0, change.shape[2]), 1)
    return Payload({**answer.data, "box": mine.data["box"], "step": mine.data["step"]}, answer.raw)


def compare_labels(mine: Payload, theirs: Payload) -> Payload:
    """Where two networks say different classes: 1, and 0 where they agree."""
    one, two = (np.frombuffer(p.raw, np.uint8).reshape(p.data["shape"]) for p in (mine, theirs))
    _refuse_shapes(one.shape, two.shape)
    changed = (one != two).astype(np.uint8)
    data = {**mine.data, "wrong": int(changed.sum()), "labeled": int(changed.size)}
    return Payload(data, changed.tobytes())


def _numbers(answer: Payload) -> np.ndarray[Any, np.dtype[Any]]:
    return np.frombuffer(answer.raw, answer.data["dtype"]).reshape(answer.data["shape"])


def _refuse_shapes(one: tuple[int, ...], two: tuple[int, ...]) -> None:
    if one != two:
        sizes = " and ".join("×".join(map(str, shape)) for shape in (one, two))
        raise BadValue(f"maps of {sizes}", cure="choose a layer that both networks have")
