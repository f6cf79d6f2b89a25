"""``cat`` and ``stack``: maps joined along channels, along an axis, or along a new dimension."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from eyeshot.axes import (
    Identity,
    Pad,
)
from eyeshot.errors import Unsupported
from eyeshot.graph import Edge, Family, JoinParams, Node
from eyeshot.operators.call import (
    Described,
    NoRule,
    Site,
    Tensors,
    along,
    calling,
)
from eyeshot.operators.record import Operator, nothing
from eyeshot.operators.repaired import (
    Arguments,
    Problem,
    Repair,
    Repaired,
    cropped,
    shape_of,
)
from eyeshot.operators.scratch import copied
from eyeshot.operators.tile import (
    Box,
    Computation,
    Tile,
)


def concatenation_geometry(site: Site) -> Described:
    """``cat``: along channels, positions stay; along a spatial axis, each input is shifted."""
    parts = site.arguments["tensors"]
    sources = site.sources
    if not sources:
        raise NoRule("no part depends on the input")
    dim = int(site.arguments["dim"]) % len(site.shape)
    dims = sources[0].dims
    if any(source.dims != dims for source in sources):
        raise NoRule("its parts hold an axis in different dimensions")
    lengths = [
        part.shape[dim] if isinstance(part, Node) else site.weight_shapes[part.name][dim]
        for part in parts
    ]
    edges, before = [], 0
    for part, length in zip(parts, lengths, strict=True):
        after = site.shape[dim] - before - length
        if isinstance(part, Node):
            edges.append(along(part, {dim: Pad(before, after)}))
        before += length
    return Described(tuple(edges), dims, params=JoinParams(dim=dim))


def stack_geometry(site: Site) -> Described:
    """``stack``: the parts along a new dimension, which holds no positions."""
    sources = site.sources
    place = int(site.arguments["dim"]) % len(site.shape)
    if any(source.dims != sources[0].dims for source in sources):
        raise NoRule("its parts hold an axis in different dimensions")
    dims = tuple(None if d is None else d + (d >= place) for d in sources[0].dims)
    edges = tuple(Edge(source.name, (Identity(),) * len(dims)) for source in sources)
    return Described(edges, dims)


def concatenation_on_tile(node: Node, tensors: Tensors) -> Computation:
    """Along channels, all parts; along a spatial axis, those that overlap the requested box."""
    dim = int(node.params.dim)
    if dim not in node.dims:
        return calling(node, tensors)
    if node.weights:
        raise Unsupported(
            f"{node.name}: joins a constant along a spatial axis", cure="pad in place of cat"
        )

    def compute(inputs: list[Tile], box: Box, room: torch.Tensor | None = None) -> torch.Tensor:
        parts = [given.value for given in inputs if given.value.shape[dim]]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim)

    return compute


def repaired_concatenation(call: Callable[..., Any], arguments: Arguments) -> Repaired | None:
    """``cat`` of maps whose sizes differ: all are cropped to the smallest."""
    parts = list(arguments["tensors"])
    if len({part.dim() for part in parts}) != 1:
        return None
    dim = arguments.get("dim", 0) % parts[0].dim()
    sizes = [min(sides) for sides in zip(*(part.shape for part in parts), strict=True)]
    fitted = [cropped(part, sizes, skip=dim) for part in parts]
    shapes = tuple(shape_of(part) for part in parts)
    result = call(**{**arguments, "tensors": fitted})
    return Repaired(Problem.BRANCHES, shapes, result, options={"dim": dim})


OPERATORS = (
    Operator(
        "cat concat concatenate",
        Family.CONCATENATE,
        concatenation_geometry,
        concatenation_on_tile,
        other_operations=nothing,
        scratch=copied,
        repair=Repair("tensors dim", repaired_concatenation),
    ),
    Operator("stack", Family.STACK, stack_geometry, other_operations=nothing),
)
