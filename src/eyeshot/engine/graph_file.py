"""A lowered graph as bytes: plain JSON and raw tensors, so that another process can run it.

The file is in the safetensors format, with the graph in its header. Reading it executes no code and
unpickles nothing: operators are looked up by name in torch, and all other objects are instances of
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
from eyeshot.operators.module_calls import ItemOfCall

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
    "log_sum": moments.log_sum_of,
    "softmax": moments.softmax_from,
    "log_softmax": moments.log_softmax_from,
}
_TORCH = {"dtype": torch.dtype, "layout": torch.layout, "memory_format": torch.memory_format}
_GRAPH = ("inputs", "outputs", "training", "unchecked", "left_out")
"""Attributes of a graph that are stored as plain data."""


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
        target = node.call.target if node.call is not None else None
        if isinstance(target, ItemOfCall):
            raise Unsupported(
                f"{target.call.name} cannot be traced, and no Python code is sent to workers",
                cure="run it without a client",
            )
    header = {
        "nodes": [_to_json(node) for node in graph],
        "parameters": sorted(graph.parameters),
        "made_of": _to_json(dict(graph.made_of)),
        "batch": _to_json(dict(graph.batch)),
        **{name: _to_json(getattr(graph, name)) for name in _GRAPH},
        "tensors": {
            # torch multiplies some matrices in another way if they require a gradient.
            name: [_memory_order(tensor), tensor.requires_grad]
            for name, tensor in graph.tensors.items()
        },
    }
    tensors = {
        name: tensor.detach().cpu().permute(_memory_order(tensor)).contiguous().clone()
        for name, tensor in graph.tensors.items()
    }
    return save(tensors, {"graph": json.dumps(header)})


def read_graph(path: Path) -> Graph:
    """The graph in a file that holds :func:`graph_bytes`.

    Raises:
        BadFile: the file is missing or damaged.
        Unsupported: an operator that this torch does not have.
    """
    try:
        with safe_open(path, "pt") as file:
            header = json.loads((file.metadata() or {})["graph"])
            tensors = {
                name: _restored(file.get_tensor(name).clone(), order).requires_grad_(learned)
                for name, (order, learned) in header["tensors"].items()
            }
        nodes = [_from_json(one) for one in header["nodes"]]
        found = Graph(
            nodes={node.name: node for node in nodes},
            tensors=tensors,
            parameters=frozenset(header["parameters"]),
            made_of=_from_json(header["made_of"]),
            batch=_from_json(header["batch"]),
            **{name: _from_json(header[name]) for name in _GRAPH},
        )
    except OSError as error:
        raise explain_os_error(error, path) from error
    except (SafetensorError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadFile(
            f"{path}: damaged, or written by another version", cure="start again with --force"
        ) from error
    check(found)
    return found


def _memory_order(tensor: torch.Tensor) -> list[int]:
    """The dimensions in their order in memory, such as channels last."""
    strides = tensor.stride()
    return sorted(range(tensor.ndim), key=lambda dim: (-strides[dim], dim))


def _restored(tensor: torch.Tensor, order: list[int]) -> torch.Tensor:
    """A tensor whose dimensions were stored in the order ``order``, with its own order again."""
    if order == list(range(tensor.ndim)):
        return tensor  # not a view, because torch multiplies views in another way
    return tensor.permute(sorted(range(len(order)), key=lambda place: order[place]))


def _to_json(value: Any) -> Any:
    """A value as plain JSON; other types become an object with one item, named by the type."""
    if value is None or isinstance(value, bool) or type(value) in (int, str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": str(value)}
    for name in _ENUMS:
        if type(value).__name__ == name:
            return {"enum": [name, str(value)]}
    if isinstance(value, tuple):
        return {"tuple": [_to_json(one) for one in value]}
    if isinstance(value, list):
        return [_to_json(one) for one in value]
    if isinstance(value, Mapping):
        return {"mapping": [[_to_json(key), _to_json(one)] for key, one in value.items()]}
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
        content = {name: _to_json(getattr(value, name)) for name in names}
        return {"object": [type(value).__name__, content]}
    raise Unsupported(
        f"an argument {value!r} ({type(value).__name__}) that cannot be sent to another process",
        cure="run the network without a client",
    )


def _from_json(stored: Any) -> Any:
    """The value that :func:`_to_json` converted."""
    if isinstance(stored, list):
        return [_from_json(one) for one in stored]
    if not isinstance(stored, dict):
        return stored
    ((kind, content),) = stored.items()
    if kind == "float":
        return float(content)
    if kind == "enum":
        return _ENUMS[content[0]](content[1])
    if kind == "tuple":
        return tuple(_from_json(one) for one in content)
    if kind == "mapping":
        return {_from_json(key): _from_json(one) for key, one in content}
    if kind in _TORCH:
        found = getattr(torch, content)
        if not isinstance(found, _TORCH[kind]):
            raise ValueError(f"{content} is not a torch.{kind}")
        return found
    if kind == "device":
        return torch.device(content)
    if kind == "operator":
        return _operator(*content)
    if kind == "function":
        return _FUNCTIONS[content]
    if kind == "object":
        name, values = content
        return _CLASSES[name](**{key: _from_json(one) for key, one in values.items()})
    raise ValueError(f"{kind} is an unknown type")


def _operator(library: str, name: str, overload: str) -> OpOverload:
    packet = getattr(getattr(torch.ops, library), name, None)
    found = getattr(packet, overload, None)
    if not isinstance(found, OpOverload):
        raise Unsupported(
            f"{library}::{name}: an operator that this worker's torch does not have",
            cure="give the workers the same packages as the client",
        )
    return found
