"""Facts about the traced values of a network in memory: sharing, types and layout.

In this file:

- which traced values share memory (an in-place operator changes all of them);
- a traced value's type and memory layout;
- :class:`Held`: operators that will be called on whole inputs, and the axes of their outputs;
- :func:`hushed`: runs a user's forward without its prints and warnings;
- :func:`small_tensors_known`: follows sizes that forward puts into small tensors and reads again.
"""

from __future__ import annotations

import contextlib
import io
import logging
import math
import operator as python_operator
import warnings
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import torch
from torch._subclasses import fake_tensor
from torch.fx.experimental import proxy_tensor

from eyeshot.axes import Global
from eyeshot.graph import Edge, Family, Kind, Node
from eyeshot.operators.call import Described, Site
from eyeshot.untouched import ONE_AT_A_TIME


def writes_in_place(fx_node: torch.fx.Node) -> bool:
    """Whether the operator writes into its first argument (``relu_``, ``add_``)."""
    schema = getattr(fx_node.target, "_schema", None)
    if schema is None or not schema.arguments:
        return False
    alias = schema.arguments[0].alias_info
    return alias is not None and bool(alias.is_write)


def is_view(fx_node: torch.fx.Node) -> bool:
    """Whether the operator's output may be a view of its first argument."""
    schema = getattr(fx_node.target, "_schema", None)
    if schema is None or not schema.returns or not fx_node.args:
        return False
    alias = schema.returns[0].alias_info
    return alias is not None and not alias.is_write


_LISTS = frozenset({"chunk", "split", "split_with_sizes", "unbind", "tensor_split"})
_GIVE_BACK = frozenset({"dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout"})
"""Operators that return their input itself in eval mode, which their schema does not say."""


def source_of(fx_node: torch.fx.Node) -> torch.fx.Node | None:
    """The value that this one is a view of, or writes into; None if it has its own memory."""
    origin: Any = fx_node
    if fx_node.target is python_operator.getitem:
        origin = fx_node.args[0]
        if getattr(origin.target, "_opname", "") not in _LISTS:
            return None
    elif not (writes_in_place(fx_node) or _gives_view(fx_node)):
        return None
    source = origin.args[0]
    return source if isinstance(source, torch.fx.Node) else None


def _gives_view(fx_node: torch.fx.Node) -> bool:
    """Whether the operator returns a view of its first argument, or that argument itself."""
    if getattr(fx_node.target, "_opname", "") in _GIVE_BACK:
        return not fx_node.args[2]
    one = isinstance(fx_node.meta.get("val"), torch.Tensor)
    return one and is_view(fx_node) and not _copies(fx_node)


def _copies(fx_node: torch.fx.Node) -> bool:
    """Whether an operator that may give a view (``reshape``, ``contiguous``) had to copy here."""
    source: Any = fx_node.args[0]
    value = source.meta.get("val") if isinstance(source, torch.fx.Node) else None
    if not isinstance(value, torch.Tensor) or not callable(fx_node.target):
        return False
    if any(isinstance(one, torch.fx.Node) for one in fx_node.args[1:]):
        return False  # expand_as, view_as
    like = torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="meta")
    args, kwargs = torch.utils._pytree.tree_map(_without_memory, (fx_node.args[1:], fx_node.kwargs))
    result = fx_node.target(like, *args, **kwargs)
    return bool(result.untyped_storage()._cdata != like.untyped_storage()._cdata)


def _without_memory(argument: Any) -> Any:
    """The argument, with any device replaced by the meta device."""
    return torch.device("meta") if isinstance(argument, torch.device) else argument


def family(fx_node: torch.fx.Node) -> list[torch.fx.Node]:
    """All values that share memory with this one, starting with the one that owns the memory."""
    root = fx_node
    while (source := source_of(root)) is not None:
        root = source
    found, waiting = [root], [root]
    while waiting:
        users = [one for user in waiting.pop().users for one in (user, *user.users)]
        for user in users:
            if user not in found and source_of(user) in found:
                found.append(user)
                waiting.append(user)
    return found


def links(fx_node: torch.fx.Node) -> tuple[Any, ...]:
    """The chain of views from a value to its memory; equal chains mean the same part of it."""
    found: list[Any] = []
    while (source := source_of(fx_node)) is not None:
        if not writes_in_place(fx_node):
            item = fx_node.target is python_operator.getitem
            origin: Any = fx_node.args[0] if item else fx_node
            key = fx_node.args[1] if item else None
            found.append((origin.target, origin.args[1:], tuple(origin.kwargs.items()), key))
        fx_node = source
    return (fx_node, *found)


def dtype_name(dtype: torch.dtype) -> str:
    """Torch's name of a type, such as ``float32``."""
    return str(dtype).removeprefix("torch.")


def is_channels_last(origin: torch.fx.Node) -> bool:
    """Whether an operator's first argument is a tensor in channels-last memory layout."""
    first = origin.args[0] if origin.args else None
    value = first.meta.get("val") if isinstance(first, torch.fx.Node) else None
    if not isinstance(value, torch.Tensor) or value.ndim not in (4, 5):
        return False
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    return value.is_contiguous(memory_format=formats[value.ndim])


def mixes_types(graph: torch.fx.Graph) -> bool:
    """Whether an operator has inputs of two float types that torch would refuse at run time.

    Pointwise operators and ``cat`` convert to the wider type. A convolution does not, but a trace
    computes nothing and so does not fail.
    """
    return any(
        len(_real_types(node)) > 1 and not _converts(node.target)
        for node in graph.nodes
        if node.op == "call_function"
    )


def _real_types(node: torch.fx.Node) -> set[torch.dtype]:
    values = [one.meta.get("val") for one in node.all_input_nodes]
    tensors = [one for one in values if isinstance(one, torch.Tensor) and one.ndim]
    return {one.dtype for one in tensors if one.is_floating_point()}


def _converts(target: object) -> bool:
    tags = getattr(target, "tags", ())
    return torch.Tag.pointwise in tags or getattr(target, "_opname", "") == "cat"


Dims = tuple[int | None, ...]

_OVER_MAPS = (
    *(Family.CONVOLUTION, Family.TRANSPOSED_CONVOLUTION, Family.MAX_POOL, Family.AVERAGE_POOL),
    *(Family.RESIZE, Family.PIXEL_SHUFFLE, Family.ADAPTIVE_AVERAGE_POOL),
)
"""Operators whose last output dimensions are always positions."""


class Held:
    """Finds the axes of values after an operator without a rule, so that a run can go on there.

    Such an operator is called on its whole inputs, which are held in memory. Whether its output is
    a map again, and along which dimensions, is judged by the sizes of the maps before it.
    """

    def __init__(self) -> None:
        self._grids: dict[tuple[int, ...], tuple[int, ...]] = {}
        """From a map's sizes, in the order of its dimensions, to the place of each axis there."""
        self._lost: set[str] = set()
        """Names of nodes whose positions are not known."""

    def settled(self, site: Site, family: Family, described: Described) -> Described:
        """The rule's answer, or one for a call on whole inputs if the rule does not suffice."""
        lost = [source for source in site.sources if source.name in self._lost]
        if described.kind is Kind.UNSUPPORTED:
            return _whole(site, described, self._dims(site))
        regained = len(lost) == len(site.sources) and all(dim is None for dim in described.dims)
        if not regained or described.kind is not Kind.LOCAL or not self._is_map(site, family):
            return described
        return _whole(site, described, self._dims(site))

    def noted(self, node: Node, sources: Sequence[Node]) -> None:
        """Record a new node: its grid, or that its positions are not known."""
        if all(dim is not None for dim in node.dims):
            if math.prod(node.extents) > 1:
                self._note_grid(node)
            return
        if self.stands_before(node) or any(source.name in self._lost for source in sources):
            self._lost.add(node.name)

    def _note_grid(self, node: Node) -> None:
        order = sorted(range(len(node.dims)), key=lambda axis: node.dims[axis] or 0)
        sizes = tuple(node.extents[axis] for axis in order)
        places = tuple(order.index(axis) for axis in range(len(order)))
        if places == tuple(range(len(order))):  # has priority over a transposed map of this size
            self._grids[sizes] = places
        self._grids.setdefault(sizes, places)

    def stands_before(self, node: Node) -> bool:
        """Whether positions were lost at this node or before it."""
        return node.kind in (Kind.NONLOCAL, Kind.HELD) or node.name in self._lost

    def _is_map(self, site: Site, family: Family) -> bool:
        """Whether a call's output is a map, judged by its operator or by its size."""
        axes = len(site.sources[0].dims)
        if len(site.shape) != axes + 2 or math.prod(site.shape[2:]) == 1:
            return False
        return family in _OVER_MAPS or self._on_grid(site.shape, axes) is not None

    def _dims(self, site: Site) -> Dims:
        """The dimension of each axis in a call's output; None for each if it is not known."""
        shape, axes = site.shape, len(site.sources[0].dims)
        for source in site.sources:
            dims = [dim for dim in source.dims if dim is not None]
            alike = all(dim < len(shape) and shape[dim] == source.shape[dim] for dim in dims)
            if len(dims) == axes and alike:
                return source.dims
        found = self._on_grid(shape, axes)
        if found is None and len(shape) == axes + 2 and math.prod(shape[2:]) > 1:
            found = tuple(range(2, axes + 2))
        return found or (None,) * axes

    def _on_grid(self, shape: Sequence[int], axes: int) -> tuple[int, ...] | None:
        """Adjacent dimensions with the sizes of an earlier map, the last such; None if none."""
        for first in range(len(shape) - axes, 0, -1):
            places = self._grids.get(tuple(shape[first : first + axes]))
            if places is not None:
                return tuple(first + place for place in places)
        return None


def _whole(site: Site, described: Described, dims: Dims) -> Described:
    """A description in which every output position depends on all of every input."""
    sizes = [1 if dim is None else site.shape[dim] for dim in dims]
    sources = dict.fromkeys(source.name for source in site.sources)
    edges = tuple(Edge(name, tuple(Global(n) for n in sizes)) for name in sources)
    return Described(edges, dims, Kind.HELD, described.params, described.reason)


@contextlib.contextmanager
def hushed() -> Iterator[None]:
    """Silence torch's logs and warnings during an export, and everything that is printed.

    That includes what the network's own forward prints, since a trace is no real run. Other threads
    wait: a trace changes state of the process, and for a moment the network. So this comes before
    :func:`eyeshot.untouched.untouched` in a ``with``.
    """
    with ONE_AT_A_TIME, _silence():
        yield


_CHATTY = (
    "torch._subclasses.fake_tensor",
    "torch.fx",
    "torch.onnx._internal.exporter._registration",  # that torchvision is not installed
)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    logs = [logging.getLogger(name) for name in _CHATTY]
    logs = [log for log in logs if log.level <= logging.CRITICAL]  # setting a level takes 1 ms
    levels = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            with contextlib.redirect_stderr(io.StringIO()):
                yield
    finally:
        for log, level in zip(logs, levels, strict=True):
            log.setLevel(level)


FEW_NUMBERS = 1024


@contextlib.contextmanager
def small_tensors_known(most: int = FEW_NUMBERS) -> Iterator[None]:
    """Keep the values of constant tensors of so many numbers in a trace, for ``.item()``.

    ``torch.tensor(x.shape)`` is a constant at the traced size, and so is everything that is
    computed from it alone. torch keeps the values of tensors with one number only.
    """
    limits = [(module, module.CONSTANT_NUMEL_LIMIT) for module in (fake_tensor, proxy_tensor)]
    try:
        for module, _ in limits:
            setattr(module, "CONSTANT_NUMEL_LIMIT", most)  # noqa: B010, mypy: a constant
        yield
    finally:
        for module, limit in limits:
            setattr(module, "CONSTANT_NUMEL_LIMIT", limit)  # noqa: B010


def writes_into_known(graph: torch.fx.Graph, inputs: Collection[str] | None = None) -> bool:
    """Whether values that depend on the input are written into a small constant tensor.

    The trace kept the tensor's old values, and may have used them after the write.

    Args:
        graph: of an exported program.
        inputs: the names of its inputs if the values of any tensor that does not depend on them
            were kept; None if only those of tensors of numbers were.
    """
    known: set[torch.fx.Node] = set()
    for node in graph.nodes:
        if inputs is not None and node.op == "placeholder" and node.name not in inputs:
            known.add(node)
        if node.op != "call_function":
            continue
        sources = node.all_input_nodes
        constant = known.issuperset(sources) and (bool(sources) or inputs is not None)
        if "lift_fresh" in str(node.target) or constant:
            known.add(node)
        elif any(one in known and _holds_few(one) for one in _written(node)):
            return True
    return False


def _holds_few(fx_node: torch.fx.Node) -> bool:
    found = fx_node.meta.get("val")
    return not isinstance(found, torch.Tensor) or found.numel() <= FEW_NUMBERS


def _written(fx_node: torch.fx.Node) -> list[torch.fx.Node]:
    """The values that a call writes into: of one tensor, of several, or of a list of them."""
    schema = getattr(fx_node.target, "_schema", None)
    found: list[torch.fx.Node] = []
    for place, argument in enumerate(schema.arguments if schema is not None else ()):
        if argument.alias_info is not None and argument.alias_info.is_write:
            here = place < len(fx_node.args) and not argument.kwarg_only
            value = fx_node.args[place] if here else fx_node.kwargs.get(argument.name)
            torch.fx.node.map_arg(value, found.append)
    if getattr(fx_node.target, "_opname", "") in (
        "batch_norm",
        "instance_norm",
    ):  # its schema does not say
        *_, mean, variance, uses_input = fx_node.args[:6]
        if uses_input:
            torch.fx.node.map_arg((mean, variance), found.append)
    return found
