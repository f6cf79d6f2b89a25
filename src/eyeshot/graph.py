"""A network as a graph: nodes in execution order, connected by edges that carry axis maps.

A :class:`Graph` holds one network at one input size. A front end makes it. Only each node's
:class:`Call`, which says how to compute the node, depends on the front end.

An operator's parameters (kernel, stride, groups and others) are typed records.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Self, cast

from eyeshot.axes import AxisMap
from eyeshot.errors import Failure, UnknownName

if TYPE_CHECKING:
    import torch

Sizes = tuple[int, ...]


class Params:
    """The settings of any operator, with defaults for those that it does not have.

    Sizes have one number for each spatial axis. Each kind of operator has its own class with its
    settings; ``node.params.groups`` works for any node.
    """

    kernel: Sizes = ()
    stride: Sizes = ()
    padding: tuple[Any, ...] = ()
    dilation: Sizes = ()
    groups: int = 1
    in_channels: int = 0
    out_channels: int = 0
    in_features: int = 0
    out_features: int = 0
    bias: bool = False
    activation: str | None = None
    scalars: tuple[float, ...] | None = None
    parts: int | None = None
    adds: bool | None = None
    count_include_pad: bool | None = None
    output_size: tuple[int | None, ...] = ()
    dim: int = 0
    start: int = 0
    step: int = 1
    length: int = 0
    repeats: int = 1
    order: Sizes = ()
    mode: str = ""
    value: float | None = None
    factor: tuple[float, ...] | None = None
    size: Sizes | None = None
    measure: str = ""
    training: bool = False

    def to_dict(self) -> dict[str, Any]:
        """The settings by name; None values are left out."""
        names = getattr(self, "__dataclass_fields__", ())
        found = {name: getattr(self, name) for name in names}
        return {name: value for name, value in found.items() if value is not None}

    def but(self, **changes: Any) -> Self:
        """The same settings with some replaced."""
        found: Self = replace(cast(Any, self), **changes)
        return found

    def __repr__(self) -> str:
        return f"Params({self.to_dict()})"

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and repr(self) == repr(other)

    def __hash__(self) -> int:
        return hash(repr(self))


@dataclass(frozen=True, kw_only=True, repr=False)
class ConvolutionParams(Params):
    """The settings of a convolution or a transposed convolution.

    Attributes:
        padding: (before, after) of each axis.
        activation: fused into it: ``relu``, ``hardtanh``, ``leaky_relu`` or ``gate``.
        scalars: of the activation: its limits, or its slope.
        parts: the number of inputs that it reads instead of their concatenation.
        adds: whether it adds its last input to the sum, before the activation.
        method: how it is computed; None for the sum of products itself.
    """

    kernel: Sizes
    stride: Sizes
    padding: tuple[tuple[int, int], ...]
    output_padding: Sizes | None = None
    dilation: Sizes
    groups: int
    in_channels: int
    out_channels: int
    bias: bool
    activation: str | None = None
    scalars: tuple[float, ...] | None = None
    parts: int | None = None
    adds: bool | None = None
    method: str | None = None


@dataclass(frozen=True, kw_only=True, repr=False)
class BlockParams(Params):
    """Of several convolutions that are computed together.

    Attributes:
        layers: them, in their order, each of which reads the one before.
        adds: whether the last one adds the block's last input to its sum.
    """

    layers: tuple[Node, ...]
    adds: bool


@dataclass(frozen=True, kw_only=True, repr=False)
class PoolParams(Params):
    """The settings of a pooling with a window. Only an average has ``count_include_pad``."""

    kernel: Sizes
    stride: Sizes
    padding: tuple[tuple[int, int], ...]
    dilation: Sizes
    ceil_mode: bool
    count_include_pad: bool | None = None


@dataclass(frozen=True, kw_only=True, repr=False)
class AdaptivePoolParams(Params):
    """The settings of an adaptive pooling; None keeps the size of an axis."""

    output_size: tuple[int | None, ...]


@dataclass(frozen=True, kw_only=True, repr=False)
class LinearParams(Params):
    """Of a linear layer."""

    in_features: int
    out_features: int
    bias: bool


@dataclass(frozen=True, kw_only=True, repr=False)
class ProductParams(Params):
    """Of a matrix product or an einsum: how many products are added up."""

    in_features: int


@dataclass(frozen=True, kw_only=True, repr=False)
class ResizeParams(Params):
    """Of an interpolation, by a factor or to a size."""

    mode: str
    align_corners: bool
    factor: tuple[float, ...] | None
    size: Sizes | None


@dataclass(frozen=True, kw_only=True, repr=False)
class PadParams(Params):
    """Of a padding: amounts as torch takes them, the last dimension's first."""

    padding: Sizes
    mode: str
    value: float | None = None


@dataclass(frozen=True, kw_only=True, repr=False)
class JoinParams(Params):
    """Of a concatenation."""

    dim: int


@dataclass(frozen=True, kw_only=True, repr=False)
class SliceParams(Params):
    """Of a slice, or a write into one."""

    dim: int
    start: int
    step: int = 1
    length: int


@dataclass(frozen=True, kw_only=True, repr=False)
class RepeatParams(Params):
    """Of a repetition of each position."""

    dim: int
    repeats: int


@dataclass(frozen=True, kw_only=True, repr=False)
class UnfoldParams(Params):
    """Of windows cut along one dimension."""

    dim: int
    window: int
    step: int


@dataclass(frozen=True, kw_only=True, repr=False)
class ShuffleParams(Params):
    """Of depth to space and back: the side of a block."""

    block: int


@dataclass(frozen=True, kw_only=True, repr=False)
class PermuteParams(Params):
    """Of a new order of the dimensions."""

    order: Sizes


@dataclass(frozen=True, kw_only=True, repr=False)
class GroupParams(Params):
    """Of a normalization of groups of channels."""

    groups: int


@dataclass(frozen=True, kw_only=True, repr=False)
class MomentsParams(Params):
    """Of the mean and the deviation that a normalization takes.

    Attributes:
        over: dimensions of features over which they are taken, beside the positions.
        groups: of channels that count as one; 0 for none.
        eps: added to the variance.
        centered: False where the mean counts as zero.
        rounded: the type that a variance without eps is rounded to before its root is taken, with
            0 as the inverse of 0; empty where neither is done.
    """

    over: Sizes
    groups: int
    eps: float
    centered: bool
    rounded: str = ""


@dataclass(frozen=True, kw_only=True, repr=False)
class MeasureParams(Params):
    """Of a statistic whose operator gives several, or that is no number of the map's own type.

    Attributes:
        measure: ``largest``, ``smallest``, ``place of largest``, ``place of smallest``, ``any``,
            ``all``, ``count``, ``mean``, ``variance`` or ``deviation``; ``logarithm`` of a softmax.
    """

    measure: str


@dataclass(frozen=True, kw_only=True, repr=False)
class TrainingParams(Params):
    """Of a layer that was read in training mode."""

    training: bool = True


NO_PARAMS = Params()


class Kind(StrEnum):
    """What an operator does to positions, and so how it can be run over a large image."""

    LOCAL = "local"
    """Every output position depends on a bounded patch: it streams."""
    GLOBAL_STATISTIC = "statistic"
    """Mixes all positions through a statistic that a separate pass can compute."""
    NONLOCAL = "nonlocal"
    """Attention, a flattened map, a random or stateful layer: no exact answer by parts."""
    UNSUPPORTED = "unsupported"
    """There is no rule for this operator."""
    HELD = "held"
    """Runs unchanged: its whole inputs stay in memory, and it is called as the network calls it."""


class Family(StrEnum):
    """The kind of an operator, independent of its name; set by the table in
    :mod:`eyeshot.operators`."""

    INPUT = "input"
    CONVOLUTION = "convolution"
    TRANSPOSED_CONVOLUTION = "transposed convolution"
    BLOCK = "block"
    """Several convolutions that are computed together."""
    MAX_POOL = "max pool"
    AVERAGE_POOL = "average pool"
    ADAPTIVE_MAX_POOL = "adaptive max pool"
    ADAPTIVE_AVERAGE_POOL = "adaptive average pool"
    RESIZE = "resize"
    PAD = "pad"
    CROP = "crop"
    """A slice, or one part of a split."""
    SELECT = "select"
    """One place of a dimension, which vanishes."""
    SCATTER = "scatter"
    """A slice exchanged for other values."""
    CONCATENATE = "concatenate"
    STACK = "stack"
    RESHAPE = "reshape"
    PERMUTE = "permute"
    SQUEEZE = "squeeze"
    UNSQUEEZE = "unsqueeze"
    EXPAND = "expand"
    REPEAT = "repeat"
    REPEAT_EACH = "repeat each"
    PIXEL_SHUFFLE = "pixel shuffle"
    UNFOLD = "unfold"
    CHANNELS = "channels"
    """Channels moved or gated: flip, roll, glu, a channel shuffle."""
    INDEX = "index"
    ALIAS = "alias"
    """The same values under another name."""
    POINTWISE = "pointwise"
    RELU = "relu"
    PRELU = "prelu"
    DROPOUT = "dropout"
    LINEAR = "linear"
    PRODUCT = "product"
    """A matrix product or an einsum."""
    ATTENTION = "attention"
    MEAN = "mean"
    SUM = "sum"
    LARGEST = "largest"
    SMALLEST = "smallest"
    VARIANCE = "variance"
    DEVIATION = "deviation"
    MAGNITUDE = "magnitude"
    """The root of a sum of squares, or another norm."""
    LOG_SUM = "log sum"
    """The logarithm of a sum of exponentials."""
    STATISTIC = "statistic"
    """Any other number for many: a median, a product, the place of the largest."""
    SOFTMAX = "softmax"
    MOMENTS = "moments"
    """The mean and the deviation that a norm takes, apart from the norm itself."""
    BATCH_NORM = "batch norm"
    INSTANCE_NORM = "instance norm"
    GROUP_NORM = "group norm"
    LAYER_NORM = "layer norm"
    RMS_NORM = "rms norm"
    SCAN = "scan"
    """A sum or product of all that comes before."""
    SORT = "sort"
    RECURRENCE = "recurrence"
    """A layer that carries a state from each position to the next."""
    CUSTOM = "custom"
    """One that its owner has registered."""
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Ref:
    """In a call's arguments: the value of another node."""

    node: str


@dataclass(frozen=True, slots=True)
class Weight:
    """In a call's arguments: a tensor of the network, by its dotted name."""

    name: str


@dataclass(frozen=True, slots=True)
class Call:
    """How to compute a node: ``target(*args, **kwargs)``, after Ref and Weight are replaced.

    Attributes:
        target: the function.
        args: arguments by position.
        kwargs: arguments by name.
        names: the names of the positional arguments.
    """

    target: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    names: tuple[str, ...] = ()

    def argument(self, name: str, default: Any = None) -> Any:
        """The argument with that name; ``default`` if it is absent."""
        if name in self.kwargs:
            return self.kwargs[name]
        return dict(zip(self.names, self.args, strict=False)).get(name, default)

    @property
    def arguments(self) -> dict[str, Any]:
        """All arguments that have a name, by it."""
        return {**dict(zip(self.names, self.args, strict=False)), **self.kwargs}

    def with_arguments(self, /, **new: Any) -> Call:
        """The same call with other values of some positional arguments."""
        pairs = zip(self.names, self.args, strict=True)
        return replace(self, args=tuple(new.get(name, value) for name, value in pairs))

    def substituted(self, put: Callable[[Any], Any]) -> Call:
        """The same call, with each Ref, Weight and number replaced by ``put`` of it."""
        kwargs = {name: substitute(value, put) for name, value in self.kwargs.items()}
        return replace(self, args=substitute(self.args, put), kwargs=kwargs)

    @property
    def refs(self) -> tuple[str, ...]:
        """The nodes whose values it takes, in the order of its arguments."""
        return tuple(one.node for one in self.leaves if isinstance(one, Ref))

    @property
    def weights(self) -> tuple[str, ...]:
        """The tensors of the network that it takes."""
        return tuple(one.name for one in self.leaves if isinstance(one, Weight))

    @property
    def leaves(self) -> tuple[Any, ...]:
        """Everything it takes, out of its lists, tuples and mappings."""
        return tuple(_leaves([self.args, self.kwargs]))

    def __call__(self) -> Any:
        """Call the function, after values have replaced every Ref and Weight."""
        return self.target(*self.args, **self.kwargs)


def _leaves(value: Any) -> Iterator[Any]:
    """Each thing in lists, tuples and mappings, however deep."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for one in value:
            yield from _leaves(one)
    else:
        yield value


def substitute(value: Any, put: Callable[[Any], Any]) -> Any:
    """An argument of a call, with each item in its nested lists replaced by ``put`` of it."""
    if isinstance(value, tuple):
        return tuple([substitute(one, put) for one in value])
    if isinstance(value, list):
        return [substitute(one, put) for one in value]
    if isinstance(value, dict):
        return {name: substitute(one, put) for name, one in value.items()}
    return put(value)


@dataclass(frozen=True, slots=True)
class Edge:
    """One input of a node, with one axis map for each spatial axis.

    Attributes:
        source: the node that is read.
        axes: a map for each spatial axis.
        beside: maps along dimensions of the source that hold no positions, such as the bands under
            a conv3d or the channels under a conv1d, if they are not the identity. Such a dimension
            is never cut, but the operator pads, strides and resizes along it as along any axis.
    """

    source: str
    axes: tuple[AxisMap, ...]
    beside: tuple[tuple[int, AxisMap], ...] = ()


@dataclass(frozen=True, slots=True)
class Node:
    """One call of an operator in the network.

    Attributes:
        name: unique, dotted, and numbered where a module is used again (``relu``, ``relu#2``).
        layer: dotted path of the module that computes it; "" for the network itself.
        operator: its name for printing, such as ``conv2d``; ``input`` for an input of the
            network. Decisions use ``family``.
        kind: how it mixes positions.
        edges: the nodes that it reads. Weights are not edges.
        shape: the shape of its output, (N, C, H, W) for a picture.
        dims: for each spatial axis, its dimension in ``shape``; None if the axis has vanished (a
            global pool, a flattened map), which counts as one position.
        params: the operator's own numbers: kernel, stride, padding, dilation, groups ….
        weights: dotted names of the tensors of the network that it uses.
        call: how to compute it; None for an input.
        reason: why it is not local, in words.
        line: the line of the network's code, ``net.py:12``, if it is not local and it is known.
        dtype: the type of its values, by torch's name, such as ``float64``.
        family: the kind of operator.
        mismatch: the shape mistake, if the node was repaired so that later nodes can be checked.
        repairs: the node that it repairs from before; it is not part of the user's network.
        after_mismatch: the first repaired node that its values pass through.
        again: the node that it repeats, for a later pass over the rows.
        after: nodes that must be complete before its first row is computed.
        calls: the calls of modules around it, outermost first: (dotted path, a key of the call).
    """

    name: str
    layer: str
    operator: str
    kind: Kind
    edges: tuple[Edge, ...]
    shape: tuple[int, ...]
    dims: tuple[int | None, ...]
    params: Params = NO_PARAMS
    weights: tuple[str, ...] = ()
    call: Call | None = None
    reason: str = ""
    line: str = field(default="", compare=False)
    dtype: str = "float32"
    family: Family = Family.UNKNOWN
    mismatch: str = ""
    repairs: str = ""
    after_mismatch: str = ""
    again: str = ""
    after: tuple[str, ...] = ()
    calls: tuple[tuple[str, str], ...] = field(default=(), compare=False)

    @property
    def is_input(self) -> bool:
        """Whether it is an input of the network."""
        return self.family is Family.INPUT

    @property
    def is_convolution(self) -> bool:
        """Whether it is a convolution, a transposed one, or several."""
        families = (Family.CONVOLUTION, Family.TRANSPOSED_CONVOLUTION, Family.BLOCK)
        return self.family in families

    @property
    def is_adaptive(self) -> bool:
        """Whether it is an adaptive pooling."""
        return self.family in (Family.ADAPTIVE_MAX_POOL, Family.ADAPTIVE_AVERAGE_POOL)

    @property
    def slides(self) -> bool:
        """Whether it is a convolution or a pooling with a window of fixed size."""
        return self.family in (Family.CONVOLUTION, Family.MAX_POOL, Family.AVERAGE_POOL)

    def call_of(self, path: str) -> str | None:
        """The key of the module's call that it is part of; None if it is in no call of it."""
        inside = self.layer == path or self.layer.startswith(f"{path}.")
        return dict(self.calls).get(path, "" if inside else None)

    @property
    def extents(self) -> tuple[int, ...]:
        """How many positions there are along each spatial axis."""
        return tuple(1 if dim is None else self.shape[dim] for dim in self.dims)

    @property
    def channels(self) -> int:
        """Numbers at each position."""
        return math.prod(self.shape) // max(1, math.prod(self.extents))


@dataclass(frozen=True)
class Graph:
    """A network at one input size. ``nodes`` is in execution order: sources come first.

    ``tensors`` holds the network's parameters and buffers by dotted name, not copies of them.
    ``parameters`` names the trained tensors. ``made_of`` lists, for a tensor that is computed from
    others (a normalized weight), the network's tensors behind it. ``batch`` has the batch dimension
    of each output, or None if it is gone; the batch size is 1. ``unchecked`` says why the graph was
    not compared with the network's own numbers; "" if it was. ``left_out`` are the indices of the
    returned tensors that do not depend on the input, and ``constants`` holds those of them that are
    the same at each call, by their index.
    """

    nodes: Mapping[str, Node]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    tensors: Mapping[str, torch.Tensor]
    parameters: frozenset[str]
    training: tuple[str, ...] = ()
    made_of: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    batch: Mapping[str, int | None] = field(default_factory=dict)
    unchecked: str = ""
    left_out: tuple[int, ...] = ()
    constants: Mapping[int, torch.Tensor] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes.values())

    def __len__(self) -> int:
        return len(self.nodes)

    def __getitem__(self, name: str) -> Node:
        """The node with that name; a module's dotted path gives the output of its first call.

        Raises:
            UnknownName: there is no such node; the message suggests the nearest name.
        """
        if name in self.nodes:
            return self.nodes[name]
        found = self.named(name)
        if not found:
            raise UnknownName("layer", name, self.nodes)
        return next(iter(found.values()))

    def named(self, name: str) -> dict[str, Node]:
        """The nodes that a name means, each with the name of that call.

        ``conv`` means every call of it, ``conv`` and ``conv#2``; ``conv#2`` means only that call.
        The path of a module with layers inside means its outputs: call by call, a node for each
        output that is read outside the call, named ``block``, ``block#2`` and so on. Other names
        give an empty result.
        """
        calls = re.compile(re.escape(name) + r"(#\d+)?")
        found = {
            node.name: node
            for node in self
            # A module may be named conv#2 itself; then it is no call of conv.
            if calls.fullmatch(node.name) and (node.name == name or node.name != node.layer)
        }
        if found:
            return found
        path, _, number = name.rpartition("#")
        if number.isdigit() and path and (outputs := self._outputs_of(path)):
            place = int(number) - 1
            return {name: outputs[place]} if 0 <= place < len(outputs) else {}
        outputs = self._outputs_of(name)
        return {name if i == 0 else f"{name}#{i + 1}": node for i, node in enumerate(outputs)}

    def _outputs_of(self, path: str) -> list[Node]:
        """The outputs of a module with layers inside, call by call."""
        calls: dict[str, list[Node]] = {}
        for node in self:
            key = node.call_of(path)
            if key is not None:
                calls.setdefault(key, []).append(node)
        readers = self.consumers() if calls else {}
        found = []
        for inside in calls.values():
            own = {node.name for node in inside}
            leaving = [
                node
                for node in inside
                if node.name in self.outputs
                or any(reader.name not in own for reader in readers[node.name])
            ]
            found += leaving or inside[-1:]  # nothing reads it where a trace ended at a mistake
        return found

    @property
    def spatial_axes(self) -> int:
        """How many spatial axes the (first) input has: 1, 2 or 3."""
        return len(self.nodes[self.inputs[0]].dims)

    def sources(self, node: Node) -> tuple[Node, ...]:
        """The nodes that a node reads, one for each edge."""
        return tuple(self.nodes[edge.source] for edge in node.edges)

    def consumers(self) -> dict[str, list[Node]]:
        """For each node, the nodes that read it."""
        found: dict[str, list[Node]] = {name: [] for name in self.nodes}
        for node in self:
            for source in dict.fromkeys(edge.source for edge in node.edges):
                found[source].append(node)
        return found


def reaching(graph: Graph, outputs: tuple[str, ...], extra_inputs: Iterable[str] = ()) -> Graph:
    """The part of a graph that ``outputs`` need, with the nodes ``extra_inputs`` as inputs."""
    known = set(extra_inputs)
    nodes = {name: _as_input(node) if name in known else node for name, node in graph.nodes.items()}
    needed = set(outputs)
    for name in reversed(list(nodes)):
        if name in needed:
            needed.update(edge.source for edge in nodes[name].edges)
    selected = {
        name: node for name, node in nodes.items() if name in needed or name in graph.inputs
    }
    inputs = (*graph.inputs, *(name for name in selected if name in known))
    read = {name for node in selected.values() for name in node.weights}
    found = replace(
        graph,
        nodes=selected,
        inputs=inputs,
        outputs=outputs,
        tensors={name: tensor for name, tensor in graph.tensors.items() if name in read},
    )
    check(found)
    return found


def _as_input(node: Node) -> Node:
    return replace(
        node,
        operator="input",
        kind=Kind.LOCAL,
        edges=(),
        params=NO_PARAMS,
        weights=(),
        call=None,
        family=Family.INPUT,
    )


def check(graph: Graph) -> None:
    """Check the graph against its own rules: after a front end has made it, and after each change.

    Raises:
        Failure: a rule is broken; that is a mistake in Eyeshot, not in the network.
    """
    seen: set[str] = set()
    for node in graph:
        for edge in node.edges:
            if edge.source not in seen:
                raise _broken(node, f"reads {edge.source}, which does not come before it")
            if node.kind is not Kind.UNSUPPORTED:
                _check_edge(graph, node, edge)
        _check_call(graph, node)
        seen.add(node.name)
    for name in (*graph.inputs, *graph.outputs):
        if name not in seen:
            raise Failure(f"the graph names {name}, no node of it", cure="please report it")


def _check_call(graph: Graph, node: Node) -> None:
    """Check that the call's inputs are the node's edges."""
    unknown = [name for name in node.weights if name not in graph.tensors]
    if node.call is not None:
        read = {edge.source for edge in node.edges}
        unknown += [name for name in node.call.refs if name not in read]
        unknown += [name for name in node.call.weights if name not in graph.tensors]
    if unknown:
        raise _broken(node, f"takes {unknown[0]}, which it does not read")


def _check_edge(graph: Graph, node: Node, edge: Edge) -> None:
    source = graph.nodes[edge.source]
    if source.kind is Kind.UNSUPPORTED:
        return
    if len(edge.axes) != len(node.dims):
        raise _broken(node, f"has {len(edge.axes)} axis maps for {len(node.dims)} axes")
    for axis, n, extent in zip(edge.axes, source.extents, node.extents, strict=True):
        if axis.output_size(n) != extent:
            raise _broken(
                node, f"{axis} gives {axis.output_size(n)} of {n} inputs, and torch {extent}"
            )
    for dim, axis in edge.beside:
        n, extent = source.shape[dim], node.shape[dim]
        if axis.output_size(n) != extent:
            raise _broken(
                node, f"{axis} gives {axis.output_size(n)} of {n} numbers, and torch {extent}"
            )


def _broken(node: Node, fact: str) -> Failure:
    return Failure(f"{node.name} ({node.operator}): {fact}", cure="please report this network")
