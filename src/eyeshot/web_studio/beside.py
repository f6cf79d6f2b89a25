"""A second network beside the first, on the same pictures: how their layers differ.

Layers are matched by their names, and compared where their shapes are equal. A difference is the
first network's number less the second's.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from eyeshot.errors import BadFile, BadValue, UnknownName
from eyeshot.graph import Graph
from eyeshot.runs import LAST_WEIGHTS, WEIGHTS, load_weights, read_tensors, weights_standing
from eyeshot.web_studio.payloads import Payload, samples
from eyeshot.web_studio.subjects import Subject, fill

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
