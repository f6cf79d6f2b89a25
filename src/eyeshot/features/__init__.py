"""Feature maps: the output of every layer of a network for an image, as arrays and as pictures.

``see`` runs a network once and returns the maps of every layer. The network's graph is computed on
one batch and compared with the network's own output: this gives the map of each operator, and the
calls in execution order, grouped into steps. A network without a graph is run with hooks, which
record the output of every layer.
"""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from eyeshot.array_likes import check_unmasked, is_pillow
from eyeshot.errors import BadValue, EyeshotError, UnknownName, Unsupported
from eyeshot.features.feature_maps import (
    Features,
    LayerMaps,
    Step,
    bare,
    changes_nothing,
    first_maps,
    follows,
    is_layer_function,
    joins,
    unknown_layer,
)
from eyeshot.frontends.agreement import difference
from eyeshot.frontends.aliasing import hushed
from eyeshot.frontends.refusals import in_brief, refuse_autocast, refuse_unreadable
from eyeshot.frontends.torch import traced_for
from eyeshot.frontends.trials import as_batch, axes_by_layers, runs_on_shapes
from eyeshot.graph import Graph, Node
from eyeshot.interpreter import values
from eyeshot.nets.unet import place_of
from eyeshot.untouched import one_at_a_time, untouched

__all__ = ["Features", "LayerMaps", "Step", "see"]


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
        self._known = _Known()

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
        own, shared = self._known.count(self._parameters(node))
        self._maps[node.name] = [
            LayerMaps(
                name=label,
                kind=self._kind(node, label),
                maps=maps,
                dead=dead,
                input_shape=self._input_shape(node),
                parameters=own if label == node.name else 0,
                shared=shared if label == node.name else 0,
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

    def _parameters(self, node: Node) -> list[Tensor]:
        """The parameters among an operator's weights, or among their sources."""
        graph = self._graph
        assert graph is not None
        own = {name for w in node.weights for name in graph.made_of.get(w, (w,))}
        return [graph.tensors[name] for name in own if name in graph.parameters]


class _Known:
    """The parameters of the layers so far; one that is used again is counted, and told apart."""

    def __init__(self) -> None:
        self._tensors: dict[int, Tensor] = {}  # kept, so that no other gets the same number

    def count(self, parameters: Iterable[Tensor]) -> tuple[int, int]:
        """How many values a layer's parameters have, and how many of them are known."""
        own = {id(tensor): tensor for tensor in parameters}
        shared = sum(tensor.numel() for key, tensor in own.items() if key in self._tensors)
        self._tensors |= own
        return sum(tensor.numel() for tensor in own.values()), shared


_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


class Recorder:
    """Stores copies of the outputs, so that the network is not changed."""

    def __init__(self, batch: int, layers: frozenset[str] | None) -> None:
        self.calls: list[Call] = []
        self.path: list[str] = []  # the modules that are being called, outermost first
        self.in_layer = 0
        self.function: Any = None  # the function that was called last
        self._batch = batch
        self.layers = layers
        self._times_called: Counter[str] = Counter()
        self._known = _Known()
        self._last: Tensor | None = None

    def keep(
        self, base: str, kind: str, came_in: Any, output: Any, parameters: Iterable[Tensor]
    ) -> None:
        """Record one call: each tensor that it returned, under a separate name."""
        self._times_called[base] += 1
        times = self._times_called[base]
        name = base if times == 1 else f"{base}#{times}"
        first = next((tensor for _, tensor in tensors_in(came_in)), None)
        chained = first is not None and first is self._last
        shape = () if first is None else tuple(first.shape[1:])
        parameters = list(parameters)
        for suffix, tensor in tensors_in(output):
            layer = None
            if self.layers is None or not self.layers.isdisjoint((base, name, name + suffix)):
                self.in_layer += 1  # so that the functions that copy are not recorded
                maps, dead = first_maps(tensor, self._batch)
                self.in_layer -= 1
                own, shared = self._known.count(parameters)
                layer = LayerMaps(name + suffix, kind, maps, dead, shape, own, shared=shared)
            self.calls.append(Call(base, name + suffix, kind, chained and not suffix, layer))
            self._last = tensor


def tensors_in(value: Any, suffix: str = "") -> Iterator[tuple[str, Tensor]]:
    """Every tensor in nested tuples, lists and mappings, with its place: ``[1][0]``, ``[mask]``."""
    if isinstance(value, Tensor):
        yield suffix, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from tensors_in(item, f"{suffix}[{key}]")
    elif isinstance(value, (tuple, list)):
        for place, item in enumerate(value):
            yield from tensors_in(item, f"{suffix}[{place}]")


@contextmanager
def listening(net: nn.Module, recorder: Recorder) -> Iterator[None]:
    """Record calls of ``net`` inside the context; all hooks are removed afterwards."""
    with ExitStack() as stack:
        for name, module in net.named_modules():
            enter, leave = _hooks(name, module, recorder, root=module is net)
            for handle in (
                module.register_forward_pre_hook(enter),
                module.register_forward_hook(leave),
            ):
                stack.callback(handle.remove)
        stack.enter_context(_Functions(recorder))
        yield


def is_layer(module: nn.Module) -> bool:
    """A module without modules inside, or a PyTorch module whose parts are not separate layers."""
    # A computed weight (weight_norm, spectral_norm) is a module below the layer.
    parts = [name for name, _ in module.named_children() if name != "parametrizations"]
    return not parts or isinstance(module, nn.MultiheadAttention)


_Hook = Callable[..., None]


def _hooks(name: str, module: nn.Module, recorder: Recorder, *, root: bool) -> tuple[_Hook, _Hook]:
    """The hooks to call before and after ``module``."""
    # If the network is a single module of the user, its steps are inside; nn.Conv2d has none.
    own = type(module).__module__.startswith("torch.nn")
    layer = is_layer(module) and not isinstance(module, _CONTAINERS) and (own or not root)
    label = name or type(module).__name__
    kind = _class_name(module)
    parameters = tuple(module.parameters()) if layer else ()

    def enter(_module: nn.Module, _inputs: Any) -> None:
        recorder.path.append(name)
        recorder.in_layer += layer

    def leave(_module: nn.Module, inputs: Any, output: Any) -> None:
        recorder.path.pop()
        recorder.in_layer -= layer
        requested = not layer and not root and name in (recorder.layers or ())
        if (layer or requested) and not recorder.in_layer:
            recorder.keep(label, kind, inputs, output, parameters)

    return enter, leave


def _class_name(module: nn.Module) -> str:
    """``Conv2d``, also for the class that a parametrized layer is wrapped in."""
    return type(module).__name__.removeprefix("Parametrized")


class _Functions(TorchFunctionMode):
    """Observes functions that ``forward`` calls: ``F.relu(x)``, ``x + y``, ``x.mean((2, 3))``."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self._recorder = recorder

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        options = dict(kwargs or {})
        output = func(*args, **options)
        name = getattr(func, "__name__", "")
        recorder = self._recorder
        # `path` is empty outside of the network's own forward.
        if recorder.path and not recorder.in_layer and is_layer_function(name):
            inputs = [args, options]
            if _is_map(output) and not (joins(name) and _maps_in(inputs) < 2):
                owner = recorder.path[-1]
                short = name.strip("_").removesuffix("_with_indices")
                base = f"{owner}.{short}" if owner else short
                recorder.function = func
                recorder.keep(base, short, inputs, output, _weights_in(name, inputs))
        return output


def _is_map(output: Any) -> bool:
    """Whether a value is, or contains first, a tensor of two or more dimensions."""
    first = next((tensor for _, tensor in tensors_in(output)), None)
    return first is not None and first.ndim >= 2


def _maps_in(inputs: Any) -> int:
    return sum(tensor.ndim >= 2 for _, tensor in tensors_in(inputs))


def _weights_in(name: str, inputs: Any) -> list[Tensor]:
    """The parameters among a function's arguments, such as in ``F.conv2d(x, w, b)``."""
    if bare(name) not in ("conv", "convtranspose", "linear"):
        return []
    return [tensor for _, tensor in tensors_in(inputs) if isinstance(tensor, nn.Parameter)]


NO_GRAPH = "layers are found by hooks, under names that inspect may not know"
"""The warning for a network that cannot be traced."""


@one_at_a_time
def see(net: nn.Module, x: Tensor | NDArray[Any], layers: Sequence[str] | None = None) -> Features:
    """The feature maps of every layer of ``net`` for the image ``x``.

    The network is traced, and its graph is computed in eval mode and without gradients; the network
    does not change. Layers are the operators that ``inspect`` lists, under the same names. If a
    network cannot be traced, hooks record it, with a warning: modules without modules inside, and
    functions (``F.relu``, ``torch.cat``, ``+``) that ``forward`` calls between them.

    Args:
        net: any ``nn.Module`` that takes one tensor.
        x: the network's input (C, H, W) or (N, C, H, W), already normalized (for a run:
            ``run.normalize(...)``). With N images, the maps are those of the first image; a channel
            is dead if it is zero in all of them. Networks over one or three spatial axes take
            (N, C, W) and (N, C, D, H, W), also without N.
        layers: the names to keep; a module with layers inside means its output; None means all
            layers. ``conv`` is every call of ``conv``, ``conv#2`` is the second call.

    Raises:
        UnknownName: a name in ``layers`` does not exist.
        BadValue: the network refuses an input of this shape or type, or ``torch.autocast`` is on.
        Unsupported: the network computes nothing, or is scripted.
    """
    if isinstance(layers, str):
        layers = [layers]
    refuse_autocast()
    refuse_unreadable(net)
    batch = _as_batch(net, x).detach()
    calls, reason = calls_by_graph(net, batch, layers)
    if reason:
        warnings.warn(f"{NO_GRAPH}: {reason}", stacklevel=3)
        calls = _calls_by_hooks(net, batch, layers)
    if not calls:
        raise Unsupported(
            f"{type(net).__name__} computes nothing: it has no layer that can be seen",
            cure="give a network with layers",
        )
    set_places(net, calls)
    image = batch[0].detach().float().cpu().numpy().copy()
    maps = tuple(call.layer for call in calls if call.layer is not None)
    return Features(image, maps, steps_of(calls), len(batch))


def _calls_by_hooks(net: nn.Module, batch: Tensor, layers: Sequence[str] | None) -> list[Call]:
    """The calls of a network without a graph, recorded by hooks."""
    recorder = Recorder(len(batch), None if layers is None else frozenset(layers))
    with in_passing(net, [batch]), listening(net, recorder):
        net(batch.clone())
    known = {name for call in recorder.calls for name in (call.base, call.name)}
    for layer in layers or ():
        if layer not in known:
            if layer in dict(net.named_modules()):
                raise BadValue(f"layer {layer!r} exists but is not called for this input")
            raise UnknownName("layer", layer, dict.fromkeys(call.name for call in recorder.calls))
    return recorder.calls


def as_input(x: Any) -> Tensor:
    """A network's input as a tensor; an array is copied.

    Raises:
        BadValue: a file or a Pillow image, of which a network alone does not know how it learned
            to see it; no numbers; or a tensor without numbers, on the meta device.
    """
    if isinstance(x, str | os.PathLike) or is_pillow(x):
        name = f" {x}" if isinstance(x, str | os.PathLike) else ""
        raise BadValue(
            f"a network alone cannot read the picture{name}",
            cure="give a trained run, which knows how its pictures are prepared, or a tensor",
        )
    if isinstance(x, Tensor):
        if x.is_meta:
            raise BadValue("an input on the meta device holds no numbers", cure="give a CPU tensor")
        return x
    check_unmasked(x)
    array = np.asarray(x)
    if array.dtype.kind not in "biufc":
        raise BadValue(f"an input of {array.dtype}", cure="give an array of numbers")
    return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), order="C"))


def _as_batch(net: nn.Module, x: Tensor | NDArray[Any]) -> Tensor:
    """``x`` as a batch, on the device and in the precision of the network."""
    tensor = as_input(x)
    if tensor.ndim == 0 or tensor.numel() == 0:
        raise BadValue(f"an input of shape {tuple(tensor.shape)} is empty", cure="give an image")
    tensor = as_batch(net, tensor)
    axes = axes_by_layers(net)
    if axes is not None and tensor.ndim != axes + 2 and not runs_on_shapes(net)(tensor.shape):
        expected = {1: "(N, C, W)", 2: "(N, C, H, W)", 3: "(N, C, D, H, W)"}[axes]
        raise BadValue(
            f"an input of shape {tuple(tensor.shape)} has {tensor.ndim} axes",
            cure=f"this network takes {expected}, or the same without N",
        )
    weight = next((p for p in net.parameters() if p.is_floating_point()), None)
    if weight is None:
        return tensor.float() if tensor.dtype == torch.float64 else tensor
    return tensor.to(weight.device, weight.dtype if tensor.is_floating_point() else None)
