"""What must hold of a network, its images and a region of its output before a run begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from eyeshot.engine.gathering import refusal
from eyeshot.engine.lowering import lower
from eyeshot.engine.misfits import misfit
from eyeshot.engine.networks import Traced
from eyeshot.errors import BadValue, EyeshotError, Unsupported
from eyeshot.frontends.trials import channels_to_try, runs_on_shapes
from eyeshot.graph import Graph, Kind
from eyeshot.images import Source
from eyeshot.images.sources.grey import GreySource


def admit(
    traced: Traced, sources: Sequence[Source], device: str | torch.device | None = None
) -> tuple[Graph, torch.device]:
    """The network at the images' sizes, as it will be executed, and where.

    Raises:
        BadValue: sizes or channels that the network does not take, weights that are no numbers, a
            device that there is not, a mean for other channels.
        Unsupported: the network cannot be traced.
    """
    for source in sources:
        if len(traced.mean) not in (0, 1, source.shape[0]):
            raise BadValue(
                f"{source.name} has {source.shape[0]} channels, and there are "
                f"{len(traced.mean)} means",
                cure="give a mean and a deviation for each channel",
            )
    given = _graph(traced, sources)
    check_weights(given)
    graph = lower(given)
    weights = [tensor for tensor in graph.tensors.values() if tensor.is_floating_point()]
    place = _device(device) if device is not None else _device_of(weights)
    if any(tensor.device != place for tensor in graph.tensors.values()):
        graph = _moved(graph, place)
    return graph, place


def as_grey(traced: Traced, sources: Sequence[Source]) -> Sequence[Source]:
    """The sources; grey stored as color is read as one channel, if the network takes only that.

    Each window is checked when it is read: the channels must be equal.
    """
    if len(sources) != 1 or not GreySource.fits(sources[0]):
        return sources
    (source,) = sources
    if channels_to_try(traced.module)[:1] != (1,):
        return sources
    runs, space = runs_on_shapes(traced.module), source.shape[1:]
    if runs((1, *source.shape)) or not runs((1, 1, *space)) or not GreySource.starts_grey(source):
        return sources
    return [GreySource(source)]


def _graph(traced: Traced, sources: Sequence[Source]) -> Graph:
    try:
        dtype = dtype_of([source.dtype for source in sources])
        graph = traced.graph(*(source.shape for source in sources), dtype=dtype)
    except EyeshotError as error:
        if len(sources) > 1:
            raise
        (image,) = sources
        raise misfit(traced, image.name, image.shape, error, image.layout) from error
    refuse_whole(graph)
    return graph


def dtype_of(kinds: Sequence[np.dtype[Any]]) -> torch.dtype:
    """The type of images for a network that has none of its own: whole numbers become float32."""
    kinds = [kind if kind.kind == "f" else np.dtype(np.float32) for kind in kinds]
    widest = np.result_type(*kinds)
    dtype: torch.dtype = getattr(torch, "float64" if widest.itemsize > 4 else widest.name)
    return dtype


def refuse_whole(graph: Graph) -> None:
    """Refuse layers in training mode, which give another answer each time.

    Raises:
        Unsupported: an output depends on one; it is named.
    """
    if not graph.outputs:
        raise Unsupported(
            "forward returns nothing that depends on its input", cure="return a tensor made of it"
        )
    if graph.left_out:
        places = " and ".join(str(place + 1) for place in graph.left_out)
        raise Unsupported(
            f"of what forward returns, tensor {places} does not depend on its input",
            cure="leave that out of what forward returns",
        )
    needed = set(graph.outputs)
    for node in reversed(list(graph)):
        if node.name in needed:
            needed.update(edge.source for edge in node.edges)
    for node in graph:
        if node.name in needed and (node.params.training or node.kind is Kind.UNSUPPORTED):
            raise refusal(node, graph)


def _device_of(weights: list[torch.Tensor]) -> torch.device:
    return weights[0].device if weights else torch.device("cpu")


def _device(name: str | torch.device) -> torch.device:
    try:
        return torch.device(name)
    except RuntimeError:
        raise BadValue(f"device {str(name)!r}", cure="use cpu or cuda") from None


def _moved(graph: Graph, place: torch.device) -> Graph:
    if place.type == "cuda" and not torch.cuda.is_available():
        raise BadValue("--device cuda: there is none here", cure="use --device cpu")
    return replace(graph, tensors={name: t.to(place) for name, t in graph.tensors.items()})


def check_weights(graph: Graph) -> None:
    """Every weight that is read must be a number.

    Raises:
        BadValue: one is not; it is named.
    """
    used = dict.fromkeys(name for node in graph for name in node.weights)
    for name in used:
        tensor = graph.tensors[name]
        # A sum is finite only if all its terms are, and costs a fraction of asking each.
        fine = not tensor.is_floating_point() or bool(tensor.sum().isfinite())
        if not fine and not bool(tensor.isfinite().all()):
            raise BadValue(f"weight {name} holds NaN or infinity", cure="train the network again")
