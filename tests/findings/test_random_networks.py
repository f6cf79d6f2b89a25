"""Random networks at random sizes: errors are found exactly where torch fails."""

from __future__ import annotations

import pytest
import torch
from hypothesis import assume, event, given
from hypothesis import strategies as st
from torch import nn

from eyeshot.errors import Unsupported
from eyeshot.findings import Severity, find
from eyeshot.frontends.repair import trace
from eyeshot.frontends.torch import graph_of
from tests.networks import CHANNELS, examples, networks

SIZES = {1: st.integers(1, 30), 2: st.integers(1, 9), 3: st.integers(1, 4)}


def runs(net: nn.Module, *size: int) -> bool:
    try:
        with torch.no_grad():
            net(torch.rand(1, *size))
    except (RuntimeError, ValueError):
        return False
    return True


def break_a_layer(net: nn.Module, at: int) -> bool:
    """Give one convolution two channels too many; False where there is none to break."""
    convolutions = [m for m in net.modules() if isinstance(m, (nn.Conv1d, nn.Conv2d, nn.Conv3d))]
    dense = [conv for conv in convolutions if conv.groups == 1]
    if not dense:
        return False
    conv = dense[at % len(dense)]
    weight = conv.weight
    wider = torch.zeros(weight.shape[0], weight.shape[1] + 2, *weight.shape[2:])
    conv.weight = nn.Parameter(wider)
    conv.in_channels += 2
    return True


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_an_error_is_found_where_and_only_where_torch_fails(axes: int) -> None:
    @examples({1: 12, 2: 6, 3: 3}[axes])
    @given(net=networks(axes), size=st.tuples(*[SIZES[axes]] * axes), broken=st.integers(-4, 4))
    def holds(net: nn.Module, size: tuple[int, ...], broken: int) -> None:
        if broken > 0:
            break_a_layer(net, broken)
        fine = runs(net, CHANNELS, *size)
        try:
            graph, mismatches = trace(net, (CHANNELS, *size))
        except Unsupported:
            assume(False)  # it writes in place through a view, which is refused by name
        event(f"runs: {fine}")
        errors = [one for one in find(graph, net, mismatches) if one.severity is Severity.ERROR]
        assert bool(errors) == (not fine)
        if fine:
            plain = graph_of(net, (CHANNELS, *size))
            assert list(graph.nodes.values()) == list(plain.nodes.values())
        for one in errors:
            assert one.layer in graph.nodes or one.title == "forward fails"

    holds()
