"""Compute a network's graph on one batch, and compare the result with the network's own output.

It returns the map of each operator, or the calls in execution order, grouped into steps.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from eyeshot.errors import BadValue, EyeshotError
from eyeshot.features.maps import (
    LayerMaps,
    Step,
    changes_nothing,
    first_maps,
    follows,
    unknown_layer,
)
from eyeshot.frontends.agreement import difference
from eyeshot.frontends.memory import hushed
from eyeshot.frontends.refusals import in_brief
from eyeshot.frontends.torch import traced_for
from eyeshot.graph import Graph, Node
from eyeshot.interpreter import values
from eyeshot.nets.unet import place_of
from eyeshot.untouched import untouched


def compute_by_graph(
    net: nn.Module,
    inputs: Sequence[Tensor],
    choose: Callable[[Graph], Collection[str]],
    keep: Callable[[Node, Tensor], None],
    *,
    full: bool = False,
) -> str:
    """Compute chosen nodes of a network's graph, in eval mode and without gradients.

    The network itself also runs once. It does not change.

    Args:
        net: any module.
        inputs: the inputs of ``forward``, with their batch.
        choose: gets the graph and returns the names of the requested nodes.
        keep: gets each requested node with its value, in execution order, when it is computed.
        full: compute in full precision, even if the network's own kernels round more.

    Returns:
        The reason if the graph cannot be made or differs from the network; "" on success.

    Raises:
        BadValue: the network refuses the inputs.
    """
    # Not during tracing: export reads the settings that this changes.
    precision = full_precision if full else nullcontext
    with precision():
        expected = _answer(net, inputs)
    try:
        with untouched(net, computes=False):
            net.eval()
            graph = traced_for(net, *inputs)
    except EyeshotError as reason:
        return str(reason)
    chosen = choose(graph)
    with precision():
        return _computed(net, graph, inputs, expected, chosen, keep)


def _answer(net: nn.Module, inputs: Sequence[Tensor]) -> list[Tensor]:
    """Every tensor that the network returns."""
    with in_passing(net, inputs):
        # Clones: a forward that works in place would change the graph's inputs.
        result = net(*(one.clone() for one in inputs))
        leaves = torch.utils._pytree.tree_leaves(result)
        return [one.detach() for one in leaves if isinstance(one, Tensor)]


def _computed(
    net: nn.Module,
    graph: Graph,
    inputs: Sequence[Tensor],
    expected: list[Tensor],
    chosen: Collection[str],
    keep: Callable[[Node, Tensor], None],
) -> str:
    outputs: dict[str, Tensor] = {}
    with hushed(), untouched(net), torch.no_grad():
        steps = values(graph, inputs, {*chosen, *graph.outputs})
        while True:
            try:
                node, value = next(steps)
            except StopIteration:
                break
            except Exception as error:  # a user's operator may raise anything
                return f"its traced graph cannot be computed: {in_brief(error)}"
            if node.name in graph.outputs:
                outputs[node.name] = value
            if node.name in chosen:
                keep(node, value)
    fact = difference(expected, [outputs[name] for name in graph.outputs])
    return f"its traced graph gives {fact}" if fact else ""


@contextmanager
def in_passing(net: nn.Module, inputs: Sequence[Tensor]) -> Iterator[None]:
    """One pass of the network in eval mode, without gradients; the network does not change.

    Raises:
        BadValue: the network refuses the inputs.
    """
    if any(one.is_meta for one in (*net.parameters(), *net.buffers())):
        raise BadValue(
            "the network's weights are on the meta device, where there are no numbers",
            cure="call net.to_empty(device='cpu') and load its weights",
        )
    try:
        with untouched(net), torch.no_grad():
            net.eval()
            yield
    except EyeshotError:
        raise
    except Exception as error:  # a user's forward may raise anything
        shapes = ", ".join(f"{tuple(one.shape)}, {one.dtype}" for one in inputs)
        lines = str(error).strip().splitlines()
        fact = lines[0] if lines and isinstance(error, RuntimeError) else in_brief(error)
        several = isinstance(error, TypeError) and "required positional argument" in fact
        cure = (
            "wrap it in a module that takes one tensor, and makes or keeps the others"
            if several
            else "give the size, channels and type that it was trained with"
        )
        raise BadValue(
            f"the network refused an input of shape {shapes}: {fact}", cure=cure
        ) from error


@contextmanager
def full_precision() -> Iterator[None]:
    """Disable TensorFloat-32 inside the context: on a GPU it rounds factors to ten bits."""
    kinds = (torch.backends.cudnn.conv, torch.backends.cuda.matmul)  # type: ignore[attr-defined]
    saved = [kind.fp32_precision for kind in kinds]
    for kind in kinds:
        kind.fp32_precision = "ieee"
    try:
        yield
    finally:
        for kind, precision in zip(kinds, saved, strict=True):
            kind.fp32_precision = precision


@dataclass
class Call:
    """One output of one call; ``chained`` if its input is the output of the call before."""

    base: str
    name: str
    kind: str
    chained: bool
    layer: LayerMaps | None  # None if its maps were not requested


def set_places(net: nn.Module, calls: Sequence[Call]) -> None:
    """Add each layer's position in words, if the network has levels."""
    for call in calls:
        if call.layer is not None:
            call.layer = replace(call.layer, place=place_of(net, call.layer.name))


def steps_of(calls: Sequence[Call]) -> tuple[Step, ...]:
    """Combine each normalization, activation or dropout with the layer before it.

    Its input must *be* that layer's output, the same tensor, so that branches are never combined
    by mistake. A step is omitted if the maps at its end were not requested.
    """
    groups: list[list[Call]] = []
    for call in calls:
        if groups and call.chained and follows(call.kind):
            groups[-1].append(call)
        else:
            groups.append([call])
    steps = []
    for group in groups:
        shown = [c for c in group if not changes_nothing(c.kind)] or group[:1]
        layers = [call.layer for call in shown if call.layer is not None]
        if shown[-1].layer is not None:
            steps.append(Step(tuple(layers)))
    return tuple(steps)


def calls_by_graph(
    net: nn.Module, batch: Tensor, layers: Sequence[str] | None
) -> tuple[list[Call], str]:
    """The calls of a network, and the reason if its graph cannot be used, else "".

    Args:
        net: any module.
        batch: (N, C, …), the network's input.
        layers: the names of the layers whose maps are stored; None for all.

    Raises:
        UnknownName: no layer has such a name.
        BadValue: the network refuses the batch, or a module computes nothing.
    """
    recorder = _GraphRecorder(net, len(batch), layers)
    reason = compute_by_graph(net, [batch], recorder.choose, recorder.keep)
    return ([], reason) if reason else (recorder.calls(), "")


class _GraphRecorder:
    """The requested nodes, and their maps when they are computed."""

    def __init__(self, net: nn.Module, batch: int, layers: Sequence[str] | None) -> None:
        self._net, self._batch, self._layers = net, batch, layers
        self._labels: dict[str, list[str]] = {}  # for each node, the names of its maps
        self._maps: dict[str, list[LayerMaps]] = {}
        self._graph: Graph | None = None

    def choose(self, graph: Graph) -> Collection[str]:
        """The nodes to keep."""
        self._graph = graph
        labels: dict[str, dict[str, None]] = {}
        for layer in self._layers or ():
            named = graph.named(layer)
            if not named:
                raise unknown_layer(graph, self._net, layer)
            for label, node in named.items():
                labels.setdefault(node.name, {})[label] = None
        if self._layers is None:
            labels = {node.name: {node.name: None} for node in graph if not node.is_input}
        self._labels = {name: list(named) for name, named in labels.items()}
        return self._labels

    def keep(self, node: Node, value: Tensor) -> None:
        """Copy a node's maps."""
        maps, dead = first_maps(value, self._batch)
        self._maps[node.name] = [
            LayerMaps(
                name=label,
                kind=self._kind(node, label),
                maps=maps,
                dead=dead,
                input_shape=self._input_shape(node),
                parameters=self._parameters(node) if label == node.name else 0,
            )
            for label in self._labels[node.name]
        ]

    def calls(self) -> list[Call]:
        """Every operator in execution order, the requested ones with their maps."""
        calls: list[Call] = []
        before = ""
        for node in self._graph or ():
            maps = {layer.name: layer for layer in self._maps.get(node.name, ())}
            if not node.is_input or node.name in maps:
                chained = bool(node.edges) and node.edges[0].source == before
                own = maps.pop(node.name, None)
                calls.append(Call(node.name, node.name, node.operator, chained, own))
            before = node.name
            calls += [Call(name, name, layer.kind, False, layer) for name, layer in maps.items()]
        return calls

    def _kind(self, node: Node, label: str) -> str:
        if label == node.name:
            return node.operator
        return type(self._net.get_submodule(label.partition("#")[0])).__name__

    def _input_shape(self, node: Node) -> tuple[int, ...]:
        """The shape of the first input tensor, without the batch."""
        assert self._graph is not None
        sources = self._graph.sources(node)
        return sources[0].shape[1:] if sources else ()

    def _parameters(self, node: Node) -> int:
        """The number of learned values in an operator's weights, or in their sources."""
        graph = self._graph
        assert graph is not None
        own = {name for w in node.weights for name in graph.made_of.get(w, (w,))}
        return sum(graph.tensors[name].numel() for name in own if name in graph.parameters)
