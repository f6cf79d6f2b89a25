"""A traced graph held against its network: both compute one small noisy picture.

A ``forward`` may do something else while it is traced than when it is called: it may ask whether
it is being exported, catch an error that only a trace raises, or look at a tensor's class. Its
graph is then that of another network, and nothing may be claimed of it or run by it. So the numbers
of both are compared, once for each network and graph.
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
from eyeshot.frontends.memory import hushed
from eyeshot.frontends.refusals import in_brief
from eyeshot.graph import Graph
from eyeshot.interpreter import values, with_last_uses
from eyeshot.untouched import untouched

Sizes = tuple[tuple[int, ...], ...]

_CHEAP = (1 << 23, 10**10)
"""Numbers held at once, and multiply-adds: what may be computed without asking for less."""
_AT_ONCE = (1 << 21, 2 * 10**8)
"""Of these, what is computed at the size asked for before any other is tried."""
_MOST = (1 << 25, 5 * 10**10)
"""Of these, what is computed where no smaller picture will do."""
_GRID = 32
_SIDES = (32, 64, 128, 192, 256, 384)
_SHARES = (8, 4, 2)
_TRIES = 2
"""Sizes at which the graph is tried as it is, without being traced again."""
_APART = 1e-3
"""Beside the largest number; the same kernels ran, so that a real difference is far larger."""
_COARSE = {torch.float16: 2e-2, torch.bfloat16: 1e-1}

_known: WeakKeyDictionary[nn.Module, dict[int, str]] = WeakKeyDictionary()


def held_against(net: nn.Module, graph: Graph, again: Callable[[Sizes], Graph]) -> Graph:
    """The graph, which gives the network's own numbers, or says why that is not known.

    Args:
        net: the network.
        graph: what it was traced to.
        again: traces it at other sizes, for a smaller picture.

    Raises:
        Unsupported: the graph gives other numbers.
    """
    known = _of_network(net)
    kind = hash(tuple((node.operator, node.layer, node.weights) for node in graph))
    if kind not in known:
        known[kind] = _not_compared(net, graph, again)
    return dataclasses.replace(graph, unchecked=known[kind]) if known[kind] else graph


def _of_network(net: nn.Module) -> dict[int, str]:
    """What is known of its graphs."""
    try:
        return _known.setdefault(net, {})
    except TypeError:  # it defines equality, and so has no hash
        return {}


def _not_compared(net: nn.Module, graph: Graph, again: Callable[[Sizes], Graph]) -> str:
    """Why graph and network could not be compared; "" where they were."""
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
    return "it runs at no smaller size that was tried, and this one is too large to compute for it"


def _agrees_at(net: nn.Module, graph: Graph, sizes: Sizes) -> bool:
    """Whether the graph of another size gives the network's numbers at this one, too.

    Most do, for few operators name a size. One that does not may still be the network's graph.
    """
    inputs = _noise(graph, sizes)
    try:
        expected = _called(net, inputs)
        given = _of_graph(net, graph, inputs)
    except Exception:  # a size that either does not take, in whatever words
        return False
    return not difference(expected, given)


def _compare_at(
    net: nn.Module, graph: Graph, sizes: Sizes, again: Callable[[Sizes], Graph]
) -> bool:
    """Whether they could be compared at these sizes."""
    try:
        _called(net, _noise(graph, sizes))
        small = again(sizes)
    except Exception:  # a size that it does not take, in whatever words
        return False
    return not _compare(net, graph, small)


def _compare(net: nn.Module, asked: Graph, graph: Graph) -> str:
    """Compare them at the graph's own size; why that could not be done, if it could not.

    Raises:
        Unsupported: they give other numbers.
    """
    inputs = _noise(asked, tuple(graph.nodes[name].shape[1:] for name in graph.inputs))
    try:
        expected = _called(net, inputs)
    except Exception as error:
        return f"called on noise, it raises {in_brief(error)}"
    try:
        given = _of_graph(net, graph, inputs)
    except Exception as error:
        raise _differ(net, f"its traced graph cannot be computed: {in_brief(error)}") from error
    fact = difference(expected, given)
    if fact:
        raise _differ(net, f"its traced graph gives {fact}")
    return ""


def difference(expected: list[Tensor], given: list[Tensor]) -> str:
    """How a graph's outputs differ from the network's own, in words; "" where they agree."""
    for one, other in _pairs(expected, given):
        if one.shape != other.shape:
            return f"another shape: {tuple(other.shape)} for {tuple(one.shape)}"
        apart, largest = _distance(one, other)
        if apart > _COARSE.get(one.dtype, _APART) * largest:
            return f"other numbers: {apart:.2g} off, of at most {largest:.2g}"
    return ""


def _differ(net: nn.Module, fact: str) -> EyeshotError:
    return Unsupported(
        f"{type(net).__name__} does something else when traced than when called: {fact}",
        cure="let forward not ask whether it is traced or compiled, nor for a tensor's class, "
        "nor catch errors of torch",
    )


def _called(net: nn.Module, inputs: Sequence[Tensor]) -> list[Tensor]:
    """Every tensor that the network gives, called as it is."""
    with untouched(net), hushed(), torch.no_grad():
        torch.manual_seed(0)
        result = net(*(one.clone() for one in inputs))  # forward may write into them
        leaves = torch.utils._pytree.tree_leaves(result)
        return [one.detach().clone() for one in leaves if isinstance(one, Tensor)]


def _of_graph(net: nn.Module, graph: Graph, inputs: Sequence[Tensor]) -> list[Tensor]:
    """The graph's outputs, computed as :func:`_called` calls the network."""
    with untouched(net), hushed(), torch.no_grad():
        torch.manual_seed(0)
        return _computed(graph, inputs)


def _noise(graph: Graph, sizes: Sizes) -> list[Tensor]:
    """Inputs of these sizes, 0 … 1, of the type and on the device of those of the graph."""
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


def _pairs(expected: list[Tensor], given: list[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    """What is to be equal; outputs that depend on no input are none of the graph's."""
    left = list(expected)
    for place, value in enumerate(given):
        spare = len(left) - (len(given) - place)
        while spare > 0 and left[0].shape != value.shape:
            left.pop(0)
            spare -= 1
        if left:
            yield left.pop(0), value


def _distance(one: Tensor, other: Tensor) -> tuple[float, float]:
    """The largest difference, and the largest number; what is infinite or no number is the same."""
    wide = torch.complex128 if one.is_complex() else torch.float64
    a, b = one.to(wide), other.to(wide)
    apart = torch.where((a == b) | (a.isnan() & b.isnan()), 0, (a - b).abs().nan_to_num(math.inf))
    size = torch.where(a.isfinite(), a.abs(), 0)
    return float(apart.max()) if apart.numel() else 0.0, float(size.max()) if size.numel() else 0.0


def _effort(graph: Graph) -> tuple[int, int]:
    """Numbers held at once, and multiply-adds."""
    held, most = 0, 0
    for node, last in with_last_uses(graph):
        held += math.prod(node.shape)
        most = max(most, held)
        held -= sum(
            math.prod(graph.nodes[name].shape) for name in last if name not in graph.outputs
        )
    return most, total(costs(graph).values()).multiply_adds


def _within(effort: Iterable[float], most: Sequence[int]) -> bool:
    return all(one <= bound for one, bound in zip(effort, most, strict=True))


def _smaller(asked: Sizes) -> Iterator[Sizes]:
    """Sizes to try, from small to large: of the same place on a grid of 32, then by halves."""
    for side in _SIDES:
        sizes = tuple((c, *(min(n, n % _GRID + side) for n in axes)) for c, *axes in asked)
        if sizes != asked:
            yield sizes
    for share in _SHARES:
        yield tuple((c, *(max(1, n // share) for n in axes)) for c, *axes in asked)
