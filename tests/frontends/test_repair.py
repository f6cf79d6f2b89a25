"""Tracing past mistakes: a network without any is seen exactly as by a plain export."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from eyeshot.findings import Problem
from eyeshot.frontends.repair import trace
from eyeshot.frontends.torch import graph_of
from eyeshot.nets import digit_cnn, small_vgg
from tests.findings.networks import Both, LeNet, Through, UNet
from tests.frontends.menus import LINE, PLANE, VOLUME
from tests.frontends.poking import menu_of
from tests.frontends.test_torch import Standardized, TwoInTwoOut


@pytest.mark.parametrize(
    ("net", "sizes"),
    [
        (digit_cnn(), [(1, 28, 28)]),
        (small_vgg(), [(1, 28, 28)]),
        (small_vgg().eval(), [(1, 33, 20)]),
        (UNet(), [(3, 32, 48)]),
        (LeNet(), [(1, 32, 32)]),
        (nn.Sequential(Standardized(2, 4, 3), nn.ReLU(inplace=True)), [(2, 6, 5)]),
        (TwoInTwoOut(), [(2, 6, 8), (1, 3, 4)]),
        (menu_of(LINE), [(2, 6)]),
        (menu_of(PLANE), [(2, 4, 6)]),
        (menu_of(VOLUME), [(1, 3, 3, 3)]),
    ],
)
def test_a_correct_network_gives_the_same_graph_by_both_paths(
    net: nn.Module, sizes: list[tuple[int, ...]]
) -> None:
    plain = graph_of(net, *sizes)
    graph, mismatches = trace(net, *sizes)
    assert mismatches == []
    assert list(graph.nodes.values()) == list(plain.nodes.values())
    assert (graph.inputs, graph.outputs) == (plain.inputs, plain.outputs)
    assert (graph.parameters, graph.training) == (plain.parameters, plain.training)
    assert graph.tensors.keys() == plain.tensors.keys()
    assert all(torch.equal(tensor, plain.tensors[name]) for name, tensor in graph.tensors.items())


def test_nothing_of_the_network_is_changed() -> None:
    net = UNet(joined=32).train()
    before, names = copy.deepcopy(net.state_dict()), set(vars(net))
    trace(net, (3, 50, 64))
    assert net.training
    assert set(vars(net)) == names
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_what_a_mismatch_tells() -> None:
    graph, (mismatch,) = trace(UNet(joined=32).eval(), (3, 64, 64))
    assert mismatch.problem is Problem.CHANNELS
    assert (mismatch.node, mismatch.layer, mismatch.operator) == ("dec2", "dec2", "conv2d")
    assert mismatch.inputs == ((1, 64, 32, 32),)
    assert mismatch.weight == (32, 32, 3, 3)
    assert mismatch.error.startswith("Given groups=1")
    assert mismatch.line.startswith("networks.py:")
    assert graph["dec2"].params.in_channels == 64  # as it would be, once cured
    assert "dec2.weight" in graph.parameters  # as it is


def test_what_a_repair_adds_is_marked() -> None:
    graph, (mismatch, *_) = trace(UNet().eval(), (3, 50, 64))
    assert mismatch.problem is Problem.BRANCHES
    added = [node for node in graph if node.repairs]
    assert {node.operator for node in added} == {"narrow"}
    assert {node.repairs for node in added} == {"cat", "cat#2"}
    assert graph.nodes[graph.outputs[0]].shape == (1, 16, 48, 64)


def test_faults_inside_modules_inside_modules() -> None:
    inner = nn.Sequential(
        nn.ReLU(), nn.Sequential(nn.Conv2d(9, 4, 3), nn.InstanceNorm2d(7, affine=True))
    )
    graph, mismatches = trace(Through(8, inner).eval(), (3, 9, 9))
    assert [(one.problem, one.layer) for one in mismatches] == [
        (Problem.CHANNELS, "then.1.0"),
        (Problem.STOPPED, "then.1.1"),
    ]
    assert list(graph.nodes) == ["x", "conv", "then.0", "then.1.0"]


def test_a_fault_whose_result_is_never_used_is_no_part_of_the_graph() -> None:
    class Unused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.wrong = nn.Conv2d(1, 2, 1), nn.Conv2d(5, 2, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.conv(x)
            self.wrong(y)
            return y

    graph, mismatches = trace(Unused(), (1, 4, 4))
    assert [one.node for one in mismatches] == ["wrong"]
    assert graph.outputs == ("conv",)


def test_a_sum_of_channels_and_of_sizes() -> None:
    graph, (mismatch,) = trace(Both(nn.Conv2d(1, 2, 3), nn.Conv2d(1, 4, 1)).eval(), (1, 8, 8))
    assert mismatch.inputs == ((1, 2, 6, 6), (1, 4, 8, 8))
    assert graph.nodes["add"].shape == (1, 4, 6, 6)


def test_a_network_that_is_a_parametrized_layer_itself() -> None:
    net = nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3)).eval()
    graph, mismatches = trace(net, (3, 9, 9))
    assert not mismatches
    assert graph.nodes[graph.outputs[0]].shape == (1, 4, 7, 7)
