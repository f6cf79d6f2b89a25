"""A lowered graph as bytes: plain JSON and raw tensors, so that another process can run it.

The file is in the safetensors format; the graph stands in its header. Reading it runs nothing and
unpickles nothing: operators are looked up by name among torch's own, and everything else is one of
the classes listed here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch._ops import OpOverload

from eyeshot import axes, graph
from eyeshot.axes.resize import Arithmetic, Resize
from eyeshot.axes.translation import Placed, Spared
from eyeshot.engine import moments
from eyeshot.errors import BadFile, Unsupported
from eyeshot.files import explain_os_error
from eyeshot.frontends.calls import TupleItem, strided
from eyeshot.graph import Call, Edge, Family, Graph, Kind, Node, Params, Ref, Weight, check

_CLASSES: Mapping[str, type] = {
    kind.__name__: kind
    for kind in (
        *(Node, Edge, Call, Ref, Weight, TupleItem, Params),
        *(one for one in vars(graph).values() if isinstance(one, type) and issubclass(one, Params)),
        *(axes.Adaptive, axes.Broadcast, axes.Global, axes.Identity, axes.Interval, axes.Pad),
        *(axes.Transpose, axes.Window, Arithmetic, Placed, Resize, Spared),
    )
}
_ENUMS: Mapping[str, Callable[[str], Any]] = {"Kind": Kind, "Family": Family}
_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "narrow": torch.narrow,
    "select": torch.select,
    "strided": strided,
    "repeat_interleave": torch.repeat_interleave,
    "moments": moments.moments_of,
    "normalized": moments.normalized,
}
_TORCH = {"dtype": torch.dtype, "layout": torch.layout, "memory_format": torch.memory_format}
_GRAPH = ("inputs", "outputs", "training", "unchecked", "left_out")
"""Attributes of a graph that are plain data."""


def graph_bytes(graph: Graph) -> bytes:
    """A lowered graph with its weights.

    Raises:
        Unsupported: an operator or an argument that another process cannot look up.
    """
    for node in graph:
        if node.family is Family.CUSTOM:
            raise Unsupported(
                f"{node.name} ({node.operator}): an operator that is registered in this process "
                "alone, and workers do not know it",
                cure="run it without a client",
            )
    told = {
        "nodes": [_told(node) for node in graph],
        "parameters": sorted(graph.parameters),
        "made_of": _told(dict(graph.made_of)),
        "batch": _told(dict(graph.batch)),
        **{name: _told(getattr(graph, name)) for name in _GRAPH},
        "tensors": {
            # torch multiplies some matrices in another way where a gradient may be asked for.
            name: [_laid_out(tensor), tensor.requires_grad]
            for name, tensor in graph.tensors.items()
        },
    }
    tensors = {
        name: tensor.detach().cpu().permute(_laid_out(tensor)).contiguous().clone()
        for name, tensor in graph.tensors.items()
    }
    return save(tensors, {"graph": json.dumps(told)})


def read_graph(path: Path) -> Graph:
    """The graph in a file that holds :func:`graph_bytes`.

    Raises:
        BadFile: the file is missing or damaged.
        Unsupported: an operator that this torch does not have.
    """
    try:
        with safe_open(path, "pt") as file:
            told = json.loads((file.metadata() or {})["graph"])
            tensors = {
                name: _as_it_lay(file.get_tensor(name).clone(), order).requires_grad_(learned)
                for name, (order, learned) in told["tensors"].items()
            }
        nodes = [_made(one) for one in told["nodes"]]
        found = Graph(
            nodes={node.name: node for node in nodes},
            tensors=tensors,
            parameters=frozenset(told["parameters"]),
            made_of=_made(told["made_of"]),
            batch=_made(told["batch"]),
            **{name: _made(told[name]) for name in _GRAPH},
        )
    except OSError as error:
        raise explain_os_error(error, path) from error
    except (SafetensorError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadFile(
            f"{path}: damaged, or written by another version", cure="start again with --force"
        ) from error
    check(found)
    return found


def _laid_out(tensor: torch.Tensor) -> list[int]:
    """The dimensions in the order in which they lie in memory, such as channels last."""
    strides = tensor.stride()
    return sorted(range(tensor.ndim), key=lambda dim: (-strides[dim], dim))


def _as_it_lay(tensor: torch.Tensor, order: list[int]) -> torch.Tensor:
    """A tensor whose dimensions were stored in another order."""
    if order == list(range(tensor.ndim)):
        return tensor  # and no view of one, by which torch would multiply in another way
    return tensor.permute(sorted(range(len(order)), key=lambda place: order[place]))


def _told(value: Any) -> Any:
    """A value as JSON; what JSON does not know is an object of one item, its kind."""
    if value is None or isinstance(value, bool) or type(value) in (int, str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": str(value)}
    for name in _ENUMS:
        if type(value).__name__ == name:
            return {"enum": [name, str(value)]}
    if isinstance(value, tuple):
        return {"tuple": [_told(one) for one in value]}
    if isinstance(value, list):
        return [_told(one) for one in value]
    if isinstance(value, Mapping):
        return {"mapping": [[_told(key), _told(one)] for key, one in value.items()]}
    for name, kind in _TORCH.items():
        if isinstance(value, kind):
            return {name: str(value).removeprefix("torch.")}
    if isinstance(value, torch.device):
        return {"device": str(value)}
    if isinstance(value, OpOverload):
        return {"operator": [value.namespace, value._opname, value._overloadname]}
    for name, function in _FUNCTIONS.items():
        if value is function:
            return {"function": name}
    if _CLASSES.get(type(value).__name__) is type(value):
        names = getattr(type(value), "__dataclass_fields__", ())
        content = {name: _told(getattr(value, name)) for name in names}
        return {"object": [type(value).__name__, content]}
    raise Unsupported(
        f"an argument {value!r} ({type(value).__name__}) that cannot be sent to another process",
        cure="run the network without a client",
    )


def _made(told: Any) -> Any:
    """The value of what :func:`_told` gave."""
    if isinstance(told, list):
        return [_made(one) for one in told]
    if not isinstance(told, dict):
        return told
    ((kind, content),) = told.items()
    if kind == "float":
        return float(content)
    if kind == "enum":
        return _ENUMS[content[0]](content[1])
    if kind == "tuple":
        return tuple(_made(one) for one in content)
    if kind == "mapping":
        return {_made(key): _made(one) for key, one in content}
    if kind in _TORCH:
        found = getattr(torch, content)
        if not isinstance(found, _TORCH[kind]):
            raise ValueError(f"{content} is no {kind}")
        return found
    if kind == "device":
        return torch.device(content)
    if kind == "operator":
        return _operator(*content)
    if kind == "function":
        return _FUNCTIONS[content]
    if kind == "object":
        name, values = content
        return _CLASSES[name](**{key: _made(one) for key, one in values.items()})
    raise ValueError(f"{kind} is not known")


def _operator(library: str, name: str, overload: str) -> OpOverload:
    packet = getattr(getattr(torch.ops, library), name, None)
    found = getattr(packet, overload, None)
    if not isinstance(found, OpOverload):
        raise Unsupported(
            f"{library}::{name}: an operator that this worker's torch does not have",
            cure="give the workers the same packages as the client",
        )
    return found
