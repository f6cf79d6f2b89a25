"""Compare a traced graph with its network: both compute the same small image of noise.

A ``forward`` may behave differently while it is traced: it may check whether it is being exported,
catch an error that only a trace raises, or check a tensor's class. The graph is then that of
another network, and everything computed from it would be wrong. So the outputs of both are
compared, once for each network and graph.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from eyeshot.cost import costs, total
from eyeshot.errors import EyeshotError, Unsupported
from eyeshot.frontends.aliasing import hushed
from eyeshot.frontends.refusals import in_brief
from eyeshot.graph import Graph
from eyeshot.interpreter import values, with_last_uses
from eyeshot.untouched import untouched

Sizes = tuple[tuple[int, ...], ...]

_CHEAP = (1 << 23, 10**10)
"""(Numbers held at once, multiply-adds) up to which the comparison runs at any size."""
_AT_ONCE = (1 << 21, 2 * 10**8)
"""The same limits, up to which the requested size is compared before smaller ones are tried."""
_MOST = (1 << 25, 5 * 10**10)
"""The same limits, up to which the requested size is computed if no smaller size works."""
_GRID = 32
_SIDES = (32, 64, 128, 192, 256, 384)
_SHARES = (8, 4, 2)
_TRIES = 2
"""The number of smaller sizes at which the graph is tried without tracing it again."""
_APART = 1e-3
"""Tolerance relative to the largest value. Both run the same kernels, so real errors exceed it."""
_COARSE = {torch.float16: 2e-2, torch.bfloat16: 1e-1}

_known: WeakKeyDictionary[nn.Module, dict[int, str]] = WeakKeyDictionary()


def compared_with_network(net: nn.Module, graph: Graph, again: Callable[[Sizes], Graph]) -> Graph:
    """Compare the graph's outputs on noise with the network's.

    Args:
        net: the network.
        graph: its traced graph.
        again: traces the network at other sizes; used to compare on a smaller image.

    Returns:
        The graph; if the comparison was not possible, ``unchecked`` says why.

    Raises:
        Unsupported: the outputs differ.
    """
    known = _of_network(net)
    kind = hash(tuple((node.operator, node.layer, node.weights) for node in graph))
    if kind not in known:
        known[kind] = _not_compared(net, graph, again)
    return dataclasses.replace(graph, unchecked=known[kind]) if known[kind] else graph


def _of_network(net: nn.Module) -> dict[int, str]:
    """The results for a network so far, by the hash of the graph."""
    try:
        return _known.setdefault(net, {})
    except TypeError:  # the class defines __eq__ and so has no hash
        return {}


def _not_compared(net: nn.Module, graph: Graph, again: Callable[[Sizes], Graph]) -> str:
    """Why graph and network could not be compared; "" if they were compared and agree."""
    members = (*net.parameters(), *net.buffers(), *graph.tensors.values())
    if any(one.is_meta for one in members):
        return "its weights are on the meta device"
    effort = _effort(graph)
    asked: Sizes = tuple(graph.nodes[name].shape[1:] for name in graph.inputs)
    if not _within(effort, _AT_ONCE) and any(
        _agrees_at(net, graph, sizes) for sizes in islice(_smaller(asked), _TRIES)
    ):
        return ""
    if _within(effort, _CHEAP):
        return _compare(net, graph, graph)
    for sizes in _smaller(asked):
        share = math.prod(map(math.prod, sizes)) / math.prod(map(math.prod, asked))
        if not _within([one * share for one in effort], _CHEAP):
            continue
        if _compare_at(net, graph, sizes, again):
            return ""
    if _within(effort, _MOST):
        return _compare(net, graph, graph)
    return "none of the smaller sizes that were tried works, and this size is too large to compute"


def _agrees_at(net: nn.Module, graph: Graph, sizes: Sizes) -> bool:
    """Whether the graph, traced at another size, gives the network's outputs at these sizes.

    Most graphs do, because few operators have a size in them. False proves nothing: the caller
    then traces the network again and compares.
    """
    inputs = _noise(graph, sizes)
    try:
        expected = _called(net, inputs)
        actual = _of_graph(net, graph, inputs)
    except TimeoutError:  # a caller's alarm says nothing of the network
        raise
    except Exception:  # this size may not work; _compare, which follows, reports real errors
        return False
    return not difference(expected, actual)


def _compare_at(
    net: nn.Module, graph: Graph, sizes: Sizes, again: Callable[[Sizes], Graph]
) -> bool:
    """Compare network and graph at these sizes; False if either cannot run there."""
    try:
        _called(net, _noise(graph, sizes))
        small = again(sizes)
    except TimeoutError:  # a caller's alarm says nothing of the network
        raise
    except Exception:  # somebody's forward may raise anything at a size it does not take
        return False
    return not _compare(net, graph, small)


def _compare(net: nn.Module, asked: Graph, graph: Graph) -> str:
    """Compare both at the graph's own size; the reason if that is not possible, else "".

    Raises:
        Unsupported: the outputs differ, or the graph cannot be computed.
    """
    inputs = _noise(asked, tuple(graph.nodes[name].shape[1:] for name in graph.inputs))
    try:
        expected = _called(net, inputs)
    except TimeoutError:  # a caller's alarm says nothing of the network
        raise
    except Exception as error:  # somebody's forward may raise anything; the reason is returned
        return f"called on noise, it raises {in_brief(error)}"
    try:
        actual = _of_graph(net, graph, inputs)
    except TimeoutError:  # a caller's alarm says nothing of the network
        raise
    except Exception as error:  # any failure here means that the graph is not the network's
        raise _differ(net, f"its traced graph cannot be computed: {in_brief(error)}") from error
    fact = difference(expected, actual)
    if fact:
        raise _differ(net, f"its traced graph gives {fact}")
    return ""


def difference(expected: list[Tensor], actual: list[Tensor]) -> str:
    """How a graph's outputs differ from the network's own, in words; "" where they agree."""
    for one, other in _pairs(expected, actual):
        if one.shape != other.shape:
            return f"another shape: {tuple(other.shape)} for {tuple(one.shape)}"
        apart, largest = _distance(one, other)
        if apart > _COARSE.get(one.dtype, _APART) * largest:
            return f"other numbers: {apart:.2g} off, of at most {largest:.2g}"
    return ""


def _differ(net: nn.Module, fact: str) -> EyeshotError:
    return Unsupported(
        f"{type(net).__name__} does something else when traced than when called: {fact}",
        cure="remove from forward checks for tracing or compiling, checks of a tensor's class, "
        "and except clauses that catch torch's errors",
    )


def _called(net: nn.Module, inputs: Sequence[Tensor]) -> list[Tensor]:
    """Every tensor in the network's output for these inputs, in order."""
    with hushed(), untouched(net), torch.no_grad():
        torch.manual_seed(0)
        result = net(*(one.clone() for one in inputs))  # forward may write into them
        leaves = torch.utils._pytree.tree_leaves(result)
        return [one.detach().clone() for one in leaves if isinstance(one, Tensor)]


def _of_graph(net: nn.Module, graph: Graph, inputs: Sequence[Tensor]) -> list[Tensor]:
    """The graph's outputs, under the same settings as in :func:`_called`."""
    with hushed(), untouched(net), torch.no_grad():
        torch.manual_seed(0)
        return _computed(graph, inputs)


def _noise(graph: Graph, sizes: Sizes) -> list[Tensor]:
    """Random inputs (1, C, …) from 0 to 1, with the types and the device of the graph."""
    draw = torch.Generator().manual_seed(0)
    like = next((one for one in graph.tensors.values() if one.is_floating_point()), torch.empty(0))
    types = [getattr(torch, graph.nodes[name].dtype) for name in graph.inputs]
    return [
        torch.rand(1, *size, generator=draw).to(like.device, dtype)
        for size, dtype in zip(sizes, types, strict=True)
    ]


def _computed(graph: Graph, inputs: Sequence[Tensor]) -> list[Tensor]:
    """The graph's outputs."""
    found = {
        node.name: value
        for node, value in values(graph, inputs, graph.outputs)
        if node.name in graph.outputs
    }
    return [found[name] for name in graph.outputs]


def _pairs(expected: list[Tensor], actual: list[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    """Pairs of outputs to compare. The graph lacks outputs that depend on no input; skip those."""
    left = list(expected)
    for place, value in enumerate(actual):
        spare = len(left) - (len(actual) - place)
        while spare > 0 and left[0].shape != value.shape:
            left.pop(0)
            spare -= 1
        if left:
            yield left.pop(0), value


def _distance(one: Tensor, other: Tensor) -> tuple[float, float]:
    """The largest difference and the largest finite value; NaN equals NaN, and inf equals inf."""
    wide = torch.complex128 if one.is_complex() else torch.float64
    a, b = one.to(wide), other.to(wide)
    apart = torch.where((a == b) | (a.isnan() & b.isnan()), 0, (a - b).abs().nan_to_num(math.inf))
    size = torch.where(a.isfinite(), a.abs(), 0)
    return float(apart.max()) if apart.numel() else 0.0, float(size.max()) if size.numel() else 0.0


def _effort(graph: Graph) -> tuple[int, int]:
    """The largest count of numbers held at once, and the multiply-adds."""
    alive, most = 0, 0
    for node, last in with_last_uses(graph):
        alive += math.prod(node.shape)
        most = max(most, alive)
        alive -= sum(
            math.prod(graph.nodes[name].shape) for name in last if name not in graph.outputs
        )
    return most, total(costs(graph).values()).multiply_adds


def _within(effort: Iterable[float], most: Sequence[int]) -> bool:
    return all(one <= bound for one, bound in zip(effort, most, strict=True))


def _smaller(asked: Sizes) -> Iterator[Sizes]:
    """Sizes to try, from small to large: with the same remainder by 32, then 1/8, 1/4 and 1/2."""
    for side in _SIDES:
        sizes = tuple((c, *(min(n, n % _GRID + side) for n in axes)) for c, *axes in asked)
        if sizes != asked:
            yield sizes
    for share in _SHARES:
        yield tuple((c, *(max(1, n // share) for n in axes)) for c, *axes in asked)
