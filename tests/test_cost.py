"""Costs against counting by hand, and against what a wrapped forward pass really multiplies."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from eyeshot.cost import Cost, costs, total, unused_parameters
from eyeshot.frontends.torch import graph_of
from tests import zoo
from tests.networks import examples


def _total(net: nn.Module, *sizes: tuple[int, ...]) -> Cost:
    return total(costs(graph_of(net.eval(), *sizes)).values())


@pytest.mark.parametrize(
    ("net", "size", "multiply_adds", "bias_adds"),
    [
        (nn.Conv2d(3, 8, 5, 2, 2), (3, 9, 7), 8 * 5 * 4 * 25 * 3, 8 * 5 * 4),
        (nn.Conv2d(4, 8, 3, groups=4, bias=False), (4, 6, 6), 8 * 4 * 4 * 9, 0),
        (nn.Conv1d(2, 3, 4), (2, 10), 3 * 7 * 4 * 2, 3 * 7),
        (nn.Conv3d(2, 3, 2), (2, 3, 4, 5), 3 * 2 * 3 * 4 * 8 * 2, 3 * 2 * 3 * 4),
        (nn.ConvTranspose2d(4, 6, 3, 2, groups=2), (4, 5, 5), 4 * 25 * 9 * 3, 6 * 11 * 11),
        (nn.Sequential(nn.Flatten(), nn.Linear(12, 5)), (3, 2, 2), 60, 5),
        (nn.Sequential(nn.ReLU(), nn.MaxPool2d(2)), (3, 4, 4), 0, 0),
    ],
    ids=["strided", "grouped", "1 axis", "3 axes", "transposed", "linear", "no weights"],
)
def test_weighted_sums_are_counted_as_by_hand(
    net: nn.Module, size: tuple[int, ...], multiply_adds: int, bias_adds: int
) -> None:
    spent = _total(net, size)
    assert spent.multiply_adds == multiply_adds
    assert spent.flops == 2 * multiply_adds
    assert spent.bias_adds == bias_adds
    assert spent.parameters == sum(p.numel() for p in net.parameters())


class _Einsum(nn.Module):
    """An einsum of the image and of other operands: weights of a size, or the image again."""

    def __init__(self, equation: str, *sizes: tuple[int, ...]) -> None:
        super().__init__()
        self.equation = equation
        self.others = [torch.ones(size) if size else None for size in sizes]

    def forward(self, x: Tensor) -> Tensor:
        others = [x if one is None else one for one in self.others]
        y: Tensor = torch.einsum(self.equation, x, *others)
        return y


@pytest.mark.parametrize(
    ("equation", "sizes"),
    [
        ("bchw,dc->bdhw", [(5, 4)]),
        ("bchw,dc,ed->behw", [(5, 4), (6, 5)]),
        ("bchw,bdhw,bdij->bcij", [(), ()]),  # a Gram matrix by the image
        ("bchw,bdhw->bcd", [()]),
        ("bchw->bc", []),
        ("bchw->bhwc", []),
        ("b...w,...->bw", [(4, 6)]),
    ],
)
def test_an_einsum_costs_what_torch_multiplies(equation: str, sizes: list[tuple[int, ...]]) -> None:
    net = _Einsum(equation, *sizes)
    with FlopCounterMode(display=False) as counter:
        net(torch.zeros(1, 4, 6, 7))
    spent = _total(net, (4, 6, 7))
    assert spent.flops == counter.get_total_flops()
    assert spent.uncounted == ()


@examples(25)
@given(
    cin=st.integers(1, 4),
    cout=st.integers(1, 4),
    kernel=st.integers(1, 4),
    stride=st.integers(1, 3),
    side=st.integers(4, 9),
    transposed=st.booleans(),
)
def test_convolutions_cost_what_torch_counts(
    cin: int, cout: int, kernel: int, stride: int, side: int, transposed: bool
) -> None:
    kind = nn.ConvTranspose2d if transposed else nn.Conv2d
    net = kind(cin, cout, kernel, stride)
    with FlopCounterMode(display=False) as counter:
        net(torch.zeros(1, cin, side, side))
    assert _total(net, (cin, side, side)).flops == counter.get_total_flops()


class _Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(2).transpose(1, 2)
        mixed = nn.functional.scaled_dot_product_attention(self.query(x), x, x)
        return mixed @ mixed.transpose(1, 2)


def test_matrix_products_and_attention_are_counted() -> None:
    places = 4 * 5
    by_hand = places * 36 + 2 * places * places * 6 + places * places * 6
    assert _total(_Attention(), (6, 4, 5)).multiply_adds == by_hand


class _Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 3, padding=1)
        self.tied = nn.Conv2d(2, 2, 3, padding=1)
        self.tied.weight = self.conv.weight
        self.spare = nn.Linear(7, 3)

    def forward(self, x: Tensor) -> Tensor:
        tied: Tensor = self.tied(self.conv(self.conv(x)))
        return tied


def test_a_shared_weight_is_counted_once_and_named_where_it_is_used_again() -> None:
    graph = graph_of(_Shared().eval(), (2, 5, 5))
    spent = costs(graph)
    assert spent["conv"].parameters == 2 * 2 * 9 + 2
    assert spent["conv#2"].parameters == 0
    (weight,) = spent["tied"].shared
    assert weight in ("conv.weight", "tied.weight")  # two names of one tensor
    assert set(spent["conv#2"].shared) == {weight, "conv.bias"}
    assert spent["tied"].parameters == 2
    assert unused_parameters(graph) == {"spare.bias": 3, "spare.weight": 21}


def test_parameters_behind_a_computed_weight_are_counted() -> None:
    net = nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3))
    assert _total(net, (3, 6, 6)).parameters == sum(p.numel() for p in net.parameters())


def test_memory_is_that_of_the_outputs_and_views_take_none() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Dropout())
    spent = costs(graph_of(net.double().eval(), (1, 5, 5)))
    assert {name: cost.memory for name, cost in spent.items()} == {
        "input": 25 * 8,
        "0": 18 * 8,
        "1": 18 * 8,
        "2": 0,
        "3": 0,
    }


def test_the_fully_connected_twin_joins_every_input_to_every_output() -> None:
    spent = costs(graph_of(nn.Conv2d(3, 8, 3, padding=1), (3, 5, 6)))
    assert spent["conv2d"].linear_equal == (3 * 5 * 6) * (8 * 5 * 6)


def test_other_operations_stand_apart() -> None:
    net = nn.Sequential(nn.BatchNorm2d(2), nn.AvgPool2d(2), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
    spent = costs(graph_of(net.eval(), (2, 4, 4)))
    assert [cost.other_operations for cost in spent.values()] == [0, 2 * 32, 8 * 4, 8, 8]
    assert total(spent.values()).multiply_adds == 0


def test_an_operator_without_a_rule_is_named_and_not_counted() -> None:
    class Sorted(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cumsum(x, 2)

    assert _total(Sorted(), (1, 4, 4)).uncounted == ("cumsum",)


def test_costs_add_up_whatever_the_network() -> None:
    for net, size in ((zoo.UNet(2, 4), (1, 16, 16)), (zoo.se_net(), (3, 32, 32))):
        spent = list(costs(graph_of(net, size)).values())
        whole = total(spent)
        assert whole.parameters == sum(p.numel() for p in net.parameters())
        assert whole.memory == sum(cost.memory for cost in spent)
        with FlopCounterMode(display=False) as counter:
            net(torch.zeros(1, *size))
        assert whole.flops == counter.get_total_flops()
