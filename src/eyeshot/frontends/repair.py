"""Trace a network whose forward fails on shapes: each mistake is recorded and repaired.

The export runs under a ``TorchFunctionMode``, which intercepts every torch function. A call that
fails because of its shapes is recorded as a :class:`Mismatch`, repaired
(:mod:`eyeshot.operators.repaired`) and called again, so that the layers after it are traced too. A
failure that cannot be repaired ends the trace; the graph then holds the layers before it.

For a network without mistakes, the graph is that of a plain export.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
from collections.abc import Mapping, Sequence
from inspect import signature
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import torch
from torch._subclasses.fake_tensor import (
    DynamicOutputShapeException,
    UnsupportedFakeTensorException,
)
from torch.fx.traceback import annotate, preserve_node_meta
from torch.overrides import TorchFunctionMode

from eyeshot.frontends.agreement import compared_with_network
from eyeshot.frontends.refusals import (
    asks_for_values,
    files_of,
    not_the_network,
    refuse_unreadable,
)
from eyeshot.frontends.torch import Walk, checked_sizes, export, traced, training_layers
from eyeshot.frontends.trials import nearest_accepted, without_channels
from eyeshot.graph import Graph, Node, check
from eyeshot.operators import REPAIRS
from eyeshot.operators.repaired import Mismatch, Problem, Repaired

_MARK = "eyeshot_repair"
# ArithmeticError: torch divides by zero for a map that has no positions.
_FAILURES = (RuntimeError, ValueError, IndexError, AssertionError, ArithmeticError)
_NOT_SHAPES = (DynamicOutputShapeException, UnsupportedFakeTensorException)

_NO_NUMBERS = (".numpy()", "data is not allocated", "data pointer")
"""Parts of messages of errors that a tensor without memory raises, whatever its shape."""

Frames = list[tuple[FrameType, int]]
"""Python frames and the line each is at, innermost first."""


def trace(net: torch.nn.Module, *sizes: Sequence[int]) -> tuple[Graph, list[Mismatch]]:
    """The graph of ``net``, and the calls in it whose shapes do not match.

    In the graph, the node of a repaired call has ``mismatch`` (the problem). A node that the repair
    added has ``repairs`` (the name of the repaired node). Every node after a mismatch has
    ``after_mismatch`` (the name of the mismatched node), and the shapes that it would have if the
    mistake were corrected.

    Args:
        net: any module that ``torch.export`` can trace, apart from its shapes.
        sizes: for each input, its size without the batch, (C, H, W) for an image.

    Returns:
        The graph, and the mismatches in execution order; empty for a network without mistakes.

    Raises:
        BadValue: a size has no channels or no positions.
        Unsupported: the network cannot be exported, for a reason other than its shapes.
    """
    refuse_unreadable(net)
    checked_sizes(sizes)
    watch = _Watch(net)
    with preserve_node_meta(), watch:
        program = export(net, *sizes, guarded=watch.guarded(net))
    walk = Walk(program)
    graph = walk.graph(training_layers(net))
    if not watch.faults and watch.stopped is None:
        return compared_with_network(net, graph, lambda smaller: traced(net, smaller)), []
    graph, mismatches = _marked(graph, walk, watch.faults)
    if watch.stopped is not None:
        last = list(graph.nodes)[-1]
        options: dict[str, Any] = {}
        if len(sizes) == 1:
            wrapped = without_channels(net, sizes[0])
            options = {"wrap": wrapped} if wrapped else {"takes": nearest_accepted(net, sizes[0])}
        mismatches.append(dataclasses.replace(watch.stopped, node=last, options=options))
    return graph, mismatches


def _no_shape_mistake(error: Exception) -> bool:
    """Whether the trace failed for lack of values (data-dependent code, NumPy), not on shapes."""
    if isinstance(error, _NOT_SHAPES) or asks_for_values(error):
        return True
    return any(mark in str(error) for mark in _NO_NUMBERS)


class _Watch(TorchFunctionMode):
    """Intercepts each call of a torch function; records and repairs those that fail on shapes."""

    def __init__(self, net: torch.nn.Module) -> None:
        super().__init__()
        self.faults: list[Mismatch] = []
        self.stopped: Mismatch | None = None
        self._modules = {id(module): name for name, module in net.named_modules()}
        self._unread: dict[int, torch.Tensor] = {}
        self._files = files_of(net)

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Make the call; if it fails on shapes, repair it and call again."""
        kwargs = kwargs or {}
        name = str(getattr(func, "__name__", func))
        try:
            result = func(*args, **kwargs)
        except _FAILURES as error:
            if _no_shape_mistake(error):
                raise
            result = self._repaired(func, name.strip("_"), args, kwargs, error)
        if not name.startswith("__"):
            self._follow(args, kwargs, result)
        return result

    def guarded(self, net: torch.nn.Module) -> torch.nn.Module:
        """``net`` with a forward that, if it fails beyond repair, returns its unread values."""
        own = "forward" in vars(net)
        forward = net.forward if own else type(net).forward

        @functools.wraps(forward)
        def until_it_fails(*args: Any, **kwargs: Any) -> Any:
            values = torch.utils._pytree.tree_leaves((args, kwargs))
            self._unread = {id(one): one for one in values if isinstance(one, torch.Tensor)}
            self.faults.clear()  # of an attempt before, if there was one
            try:
                return forward(*args, **kwargs)
            except _FAILURES as error:
                if _no_shape_mistake(error) or not self._unread:
                    raise
                layer, line = self._place(_frames_of(error.__traceback__))
                message = f"{type(error).__name__}: {_first_line(error)}"
                self.stopped = Mismatch(
                    Problem.STOPPED, "", layer, "", (), error=message, line=line
                )
                return tuple(self._unread.values())

        # functools.wraps would keep a __signature__ of forward, which may not fit.
        until_it_fails.__signature__ = signature(forward)  # type: ignore[attr-defined]
        kind, members = type(net), dict(vars(net))
        if own:
            members["forward"] = until_it_fails
        else:  # a method, so that it gets the module that torch traces, with its layers' paths
            names = {"__module__": kind.__module__, "__qualname__": kind.__qualname__}
            make: Any = type(kind)
            kind = make(kind.__name__, (kind,), {**names, "forward": until_it_fails})
        guarded: torch.nn.Module = object.__new__(kind)  # some classes refuse copy.copy
        guarded.__dict__.update(members)
        return guarded

    def _repaired(
        self, func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], error: Exception
    ) -> Any:
        word = name.removesuffix("_")
        if word not in REPAIRS:
            raise error
        repair = REPAIRS[word]
        with annotate({_MARK: len(self.faults)}):
            repaired: Repaired | None = repair.make(func, repair.named(args, kwargs))
        if repaired is None:
            raise error
        layer, line = self._place(_frames_above(sys._getframe(2)))
        self.faults.append(
            Mismatch(
                problem=repaired.problem,
                node="",
                layer=layer,
                operator=word,
                inputs=repaired.inputs,
                weight=repaired.weight,
                options=repaired.options,
                error=_first_line(error),
                line=line,
            )
        )
        return repaired.result

    def _follow(self, args: Any, kwargs: Any, result: Any) -> None:
        """Update the values that no call has read yet: the outputs if the trace ends here."""
        leaves = torch.utils._pytree.tree_leaves
        made = [value for value in leaves(result) if isinstance(value, torch.Tensor)]
        if made:  # a call without a tensor result, such as x.dim(), does not count as reading
            for value in leaves((args, kwargs)):
                self._unread.pop(id(value), None)
        self._unread.update((id(value), value) for value in made)

    def _place(self, frames: Frames) -> tuple[str, str]:
        """The dotted path of the module that was running, and ``file:line`` in its own code."""
        layers = (self._modules.get(id(frame.f_locals.get("self"))) for frame, _ in frames)
        layer = next((name for name in layers if name is not None), "")
        places = [
            (frame.f_code.co_filename, number)
            for frame, number in frames
            if not not_the_network(frame.f_code.co_filename)
        ]
        own = [place for place in places if place[0] in self._files] or places
        return layer, f"{Path(own[0][0]).name}:{own[0][1]}" if own else ""


def _frames_above(frame: FrameType | None) -> Frames:
    """The frames of a running call, up to the network's forward, innermost first."""
    found: Frames = []
    while frame is not None and frame.f_code.co_name != "until_it_fails":
        found.append((frame, frame.f_lineno))
        frame = frame.f_back
    return found


def _frames_of(trace: TracebackType | None) -> Frames:
    """The frames that an error has passed through, innermost first."""
    found: Frames = []
    while trace is not None:
        found.insert(0, (trace.tb_frame, trace.tb_lineno))
        trace = trace.tb_next
    return found


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "")


def _marked(graph: Graph, walk: Walk, faults: list[Mismatch]) -> tuple[Graph, list[Mismatch]]:
    """The graph with its mismatches marked, and the mismatches with the names of their nodes."""
    made: dict[int, list[Node]] = {}
    for fx_node, value in walk.made.items():
        mark = fx_node.meta.get("custom", {}).get(_MARK)
        if mark is not None and isinstance(value, Node):
            made.setdefault(mark, []).append(value)
    mismatches: dict[str, str] = {}
    repairs: dict[str, str] = {}
    named: list[Mismatch] = []
    for index, fault in enumerate(faults):
        nodes = made.get(index, [])
        if not nodes:
            continue  # the call's result was never used, so it is not in the graph
        *added, call = nodes
        named.append(dataclasses.replace(fault, node=call.name))
        mismatches[call.name] = str(fault.problem)
        repairs.update({one.name: call.name for one in added})
    behind = _behind(graph, mismatches)
    nodes_marked = {
        node.name: dataclasses.replace(
            node,
            mismatch=mismatches.get(node.name, ""),
            repairs=repairs.get(node.name, ""),
            after_mismatch=behind.get(node.name, ""),
        )
        for node in graph
    }
    marked = dataclasses.replace(graph, nodes=nodes_marked)
    check(marked)
    return marked, named


def _behind(graph: Graph, mismatches: Mapping[str, str]) -> dict[str, str]:
    """For every node that depends on a mismatched node: the name of the first such node."""
    behind: dict[str, str] = {}
    for node in graph:
        sources = (edge.source for edge in node.edges)
        found = (behind.get(one, one if one in mismatches else "") for one in sources)
        first = next(filter(None, found), "")
        if first:
            behind[node.name] = first
    return behind
