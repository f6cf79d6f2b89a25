"""The graph computed node by node: the network's own numbers, and no more memory than is read."""

from __future__ import annotations

import weakref

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor, nn

from eyeshot.errors import Failure
from eyeshot.frontends.torch import traced
from eyeshot.interpreter import needed_for, value, values
from tests.features.networks import Functional
from tests.networks import CHANNELS, examples, graph_or_reject, networks, randomize, runs_at


@pytest.mark.parametrize("axes", [1, 2, 3])
@given(st.data())
@examples(10)
def test_random_networks_give_their_own_outputs_to_the_bit(axes: int, data: st.DataObject) -> None:
    net = data.draw(networks(axes))
    randomize(net, data.draw(st.integers(0, 9)))
    x = torch.randn(1, CHANNELS, *(data.draw(st.integers(6, 14)) for _ in range(axes)))
    y = runs_at(net, x)
    assume(y is not None)
    assert y is not None
    graph = graph_or_reject(net, tuple(x.shape[1:]))
    with torch.no_grad():
        assert torch.equal(value(graph, [x], graph.outputs[0]), y)


def test_a_value_is_let_go_when_nothing_reads_it_any_more() -> None:
    """Of a chain of eight only the newest is alive (and the input, which the caller holds)."""
    net = nn.Sequential(*(nn.Conv2d(1, 1, 1) for _ in range(8))).eval()
    graph, alive = traced(net, [(1, 4, 4)]), []
    with torch.no_grad():
        for _, found in values(graph, [torch.zeros(1, 1, 4, 4)]):
            alive.append(weakref.ref(found))
            del found
            assert sum(one() is not None for one in alive) <= 2


def test_a_skip_is_kept_until_it_is_read() -> None:
    class Skip(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y = x * 2
            z = torch.relu(torch.relu(y - 1) - 1)
            return y + z

    x = torch.randn(1, 1, 3, 3)
    found = {node.name: one for node, one in values(traced(Skip(), [(1, 3, 3)]), [x])}
    assert torch.equal(found["add"], found["mul"] + found["relu#2"])


def test_only_what_leads_to_the_requested_node_is_computed() -> None:
    graph = traced(Functional().eval(), [(1, 8, 8)])
    names = [node.name for node, _ in values(graph, [torch.zeros(1, 1, 8, 8)], ["relu"])]
    assert names == ["x", "conv1", "relu"]
    assert needed_for(graph, ["conv1"]) == {"x", "conv1"}
    with pytest.raises(Failure, match="no node other"):
        value(graph, [torch.zeros(1, 1, 8, 8)], "other")


def test_weights_get_no_gradient_and_inputs_do() -> None:
    net = nn.Conv2d(1, 1, 3)
    x = torch.randn(1, 1, 3, 3, requires_grad=True)
    with torch.enable_grad():
        made = value(traced(net, [(1, 3, 3)]), [x], "conv2d")
    torch.autograd.backward(made.sum())
    assert x.grad is not None
    assert net.weight.grad is None
