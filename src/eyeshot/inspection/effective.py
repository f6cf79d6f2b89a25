"""The effective receptive field: where the gradient of one unit really comes from.

Luo et al. 2016, "Understanding the effective receptive field": within the box that a unit can
see, most of what moves it lies near the middle. The box follows from the network's shape; this
follows from its weights and from the picture.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from eyeshot.errors import BadValue, Unsupported
from eyeshot.geometry.footprints import checked_unit
from eyeshot.graph import Graph
from eyeshot.interpreter import value


def effective_field(
    graph: Graph, x: torch.Tensor, layer: str, unit: Sequence[int] | None = None
) -> NDArray[np.float32]:
    """How strongly each input position moves one unit, averaged over the unit's channels.

    Args:
        graph: the network at the size of ``x``, with its weights.
        x: the picture as the network takes it, (C, H, W) or (1, C, H, W).
        layer: a node's name or a module's path.
        unit: its position along each spatial axis; None for the middle.

    Returns:
        |∂ mean over channels of the unit / ∂ x|, averaged over the input's channels: (H, W).

    Raises:
        UnknownName: no such layer.
        BadValue: ``x`` has another size than the graph, or the unit lies outside its layer.
        Unsupported: no gradient reaches the input from this layer.
    """
    node = graph[layer]
    place = checked_unit(node, unit)
    source = graph.nodes[graph.inputs[0]]
    shape = (1, *x.shape) if x.ndim == len(source.shape) - 1 else tuple(x.shape)
    if shape != source.shape:
        raise BadValue(f"a picture of shape {tuple(x.shape)}", cure=f"give {source.shape[1:]}")
    given = x.detach().reshape(shape).clone().requires_grad_(True)
    with torch.enable_grad():
        output = value(graph, [given], node.name)
    if not output.requires_grad:
        raise Unsupported(f"no gradient reaches the input from {node.name}", cure="choose another")
    chosen = output[0]
    # From the last axis down, so that a dimension taken away leaves the others in their place.
    dims = [(dim - 1, i) for dim, i in zip(node.dims, place, strict=True) if dim is not None]
    for dim, index in sorted(dims, reverse=True):
        chosen = chosen.select(dim, index)
    (gradient,) = torch.autograd.grad(chosen.mean(), given)
    strength: NDArray[np.float32] = gradient[0].abs().mean(0).float().cpu().numpy()
    return strength
