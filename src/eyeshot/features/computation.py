"""Compute a network's graph on one batch, and compare it with the network's own output."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn

from eyeshot.errors import BadValue, EyeshotError
from eyeshot.frontends.agreement import difference
from eyeshot.frontends.hushing import hushed
from eyeshot.frontends.refusals import in_brief
from eyeshot.frontends.torch import traced_for
from eyeshot.graph import Graph, Node
from eyeshot.interpreter import values
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
    """Every tensor that the network gives."""
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
    given: dict[str, Tensor] = {}
    with untouched(net), hushed(), torch.no_grad():
        steps = values(graph, inputs, {*chosen, *graph.outputs})
        while True:
            try:
                node, value = next(steps)
            except StopIteration:
                break
            except Exception as error:  # a user's operator may raise anything
                return f"its traced graph cannot be computed: {in_brief(error)}"
            if node.name in graph.outputs:
                given[node.name] = value
            if node.name in chosen:
                keep(node, value)
    fact = difference(expected, [given[name] for name in graph.outputs])
    return f"its traced graph gives {fact}" if fact else ""


@contextmanager
def in_passing(net: nn.Module, inputs: Sequence[Tensor]) -> Iterator[None]:
    """One pass of the network in eval mode, without gradients; the network does not change.

    Raises:
        BadValue: the network refuses the inputs.
    """
    try:
        with untouched(net), torch.no_grad():
            net.eval()
            yield
    except EyeshotError:
        raise
    except Exception as error:  # a user's forward may raise anything
        shapes = ", ".join(f"{tuple(one.shape)}, {one.dtype}" for one in inputs)
        said = str(error).strip().splitlines()
        fact = said[0] if said and isinstance(error, RuntimeError) else in_brief(error)
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
    """No TensorFloat-32 within the block: on a GPU it rounds factors to ten bits."""
    kinds = (torch.backends.cudnn.conv, torch.backends.cuda.matmul)  # type: ignore[attr-defined]
    kept = [kind.fp32_precision for kind in kinds]
    for kind in kinds:
        kind.fp32_precision = "ieee"
    try:
        yield
    finally:
        for kind, precision in zip(kinds, kept, strict=True):
            kind.fp32_precision = precision
