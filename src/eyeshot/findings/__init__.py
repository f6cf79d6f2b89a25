"""Mistakes and smells of a network, each with its cause in numbers and its cure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from eyeshot.findings.borders import checkerboards, covering, padded_units, short_sighted
from eyeshot.findings.finding import (
    Finding,
    Severity,
    empty_maps,
    folded_batches,
    not_compared,
    remainders,
    without_rule,
)
from eyeshot.findings.shapes import of_mismatch
from eyeshot.findings.weights import (
    dead_channels,
    duplicate_kernels,
    heaviest,
    in_training,
    single_values,
    useless_biases,
)
from eyeshot.geometry import Fields
from eyeshot.graph import Graph
from eyeshot.operators.repaired import Mismatch, Problem

if TYPE_CHECKING:
    import torch

__all__ = ["Finding", "Mismatch", "Problem", "Severity", "find"]


def find(
    graph: Graph,
    net: torch.nn.Module | None = None,
    mismatches: Iterable[Mismatch] = (),
) -> list[Finding]:
    """Everything found in a network at one size, errors first.

    Args:
        graph: the network at this size.
        net: the module it was made of, if its mode is to be looked at and not that in which it
            was traced.
        mismatches: shape mistakes met on the way, from ``frontends.repair.trace``.
    """
    findings = [of_mismatch(graph, mismatch) for mismatch in mismatches]
    findings += _facts(graph, net)
    places = {name: place for place, name in enumerate(graph.nodes)}
    ranks = {severity: rank for rank, severity in enumerate(Severity)}
    return sorted(findings, key=lambda one: (ranks[one.severity], places.get(one.layer, -1)))


def _facts(graph: Graph, net: torch.nn.Module | None) -> Iterator[Finding]:
    fields = Fields(graph)
    yield from not_compared(graph)
    yield from without_rule(graph)
    yield from empty_maps(graph)
    yield from folded_batches(graph)
    yield from remainders(graph, fields)
    yield from checkerboards(graph)
    yield from covering(graph, fields)
    yield from short_sighted(graph, fields)
    yield from padded_units(graph, fields)
    yield from heaviest(graph)
    yield from in_training(graph, net)
    yield from single_values(graph)
    yield from useless_biases(graph)
    yield from dead_channels(graph)
    yield from duplicate_kernels(graph)
