"""`see` brings back exactly what the layers compute, and leaves the network as it was."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import eyeshot
from eyeshot import nets
from eyeshot.errors import BadValue, UnknownName, Unsupported
from tests.features.networks import Failing, Functional, Nested, Several
from tests.networks import examples


def _walk(net: nn.Sequential, x: Tensor) -> dict[str, np.ndarray[Any, Any]]:
    """The oracle for a plain chain: one layer after the other, by hand."""
    found = {}
    with torch.no_grad():
        for name, module in net.named_children():
            x = module.eval()(x)
            found[name] = x[0].numpy().copy()
    return found


@given(depth=st.integers(1, 3), width=st.integers(1, 5), seed=st.integers(0, 99))
@examples(20)
def test_every_layer_of_a_chain_equals_the_chain_walked_by_hand(
    depth: int, width: int, seed: int
) -> None:
    torch.manual_seed(seed)
    net = nets.digit_cnn(width=width, depth=depth, size=(16, 12), in_channels=2, hidden=5)
    x = torch.randn(2, 2, 16, 12)
    features = eyeshot.see(net, x)
    walked = _walk(net, x)
    assert list(features) == list(walked)
    for name, maps in walked.items():
        np.testing.assert_array_equal(features[name], maps)


def test_the_digit_cnn_has_four_steps() -> None:
    features = eyeshot.see(nets.digit_cnn(), torch.randn(1, 28, 28))
    assert [(step.title, step.maps.shape) for step in features.steps[:4]] == [
        ("convolution + ReLU", (16, 28, 28)),
        ("max pooling", (16, 14, 14)),
        ("convolution + ReLU", (32, 14, 14)),
        ("max pooling", (32, 7, 7)),
    ]
    assert features.steps[0].name == "conv1+relu1"
    assert (features.steps[0].maps >= 0).all()
    np.testing.assert_array_equal(features.steps[0].maps, np.maximum(features["conv1"], 0))


def test_functions_called_in_forward_are_layers_and_a_second_use_is_numbered() -> None:
    net = Functional().eval()
    x = torch.randn(1, 1, 8, 8)
    features = eyeshot.see(net, x)
    assert list(features) == [
        *("conv1", "relu", "pool", "conv2", "add", "relu#2", "pool#2", "div", "mean", "fc"),
    ]
    assert [step.name for step in features.steps][:4] == [
        "conv1+relu",
        "pool",
        "conv2",
        "add+relu#2",
    ]
    np.testing.assert_array_equal(features["relu"], np.maximum(features["conv1"], 0))
    with torch.no_grad():
        np.testing.assert_array_equal(features["fc"], net(x)[0].numpy())


def test_dotted_names_and_activations_in_place() -> None:
    net = Nested()
    features = eyeshot.see(net, torch.randn(2, 6, 6))
    block = "stem.block."
    assert list(features) == [*(f"{block}{part}" for part in "0123"), "head"]
    # The ReLU overwrote the tensor of the normalization; the copy was taken before.
    assert (features[f"{block}1"] < 0).any()
    np.testing.assert_array_equal(features[f"{block}2"], np.maximum(features[f"{block}1"], 0))
    assert features.steps[0].name == "stem.block.0+stem.block.1+stem.block.2"
    assert features.steps[0].title == "convolution + batch normalization + ReLU"


def test_a_module_with_several_outputs_appears_as_its_operators() -> None:
    x = torch.randn(1, 3, 4, 4)
    features = eyeshot.see(Several(), x, ["split"])
    assert list(features) == ["split"]
    np.testing.assert_array_equal(features["split"], x[0].numpy())
    assert features.layer("split").kind == "Split"


@pytest.mark.parametrize(
    ("net", "shape", "maps"),
    [
        (nn.Conv1d(2, 3, 3), (2, 9), (3, 7)),
        (nn.Conv3d(1, 2, 3), (1, 5, 6, 7), (2, 3, 4, 5)),
        (nn.Conv2d(1, 2, 3), (4, 1, 5, 6), (2, 3, 4)),
        (nn.Linear(4, 3), (2, 4), (3,)),
    ],
)
def test_one_two_and_three_axes_with_and_without_a_batch(
    net: nn.Module, shape: tuple[int, ...], maps: tuple[int, ...]
) -> None:
    features = eyeshot.see(net, torch.randn(shape))
    assert features[type(net).__name__.lower()].shape == maps


def test_pytorchs_own_layers_with_parts_are_one_layer_and_a_parametrized_one_too() -> None:
    encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    x = torch.randn(2, 3, 8)
    attended = eyeshot.see(encoder, x, ["self_attn"])["self_attn"]
    with torch.no_grad():
        expected, _ = encoder.eval().self_attn(x, x, x, need_weights=False)
    np.testing.assert_allclose(attended, expected[0].numpy(), atol=1e-6)
    conv = nn.utils.parametrizations.weight_norm(nn.Conv2d(1, 2, 3))
    assert list(eyeshot.see(nn.Sequential(conv), torch.randn(1, 5, 5))) == ["0.conv2d"]
    assert list(eyeshot.see(nn.Sequential(conv), torch.randn(1, 5, 5), ["0"])) == ["0"]


class Shares(nn.Module):
    """A layer that is called twice, and one with the weight of another."""

    def __init__(self, *, traced: bool) -> None:
        super().__init__()
        self.first, self.tied = (nn.Conv2d(2, 2, 3, padding=1) for _ in range(2))
        self.tied.weight = self.first.weight
        self._traced = traced

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.tied(self.first(self.first(x)))
        if not self._traced and y.sum() > 1e9:
            return x
        return y


@pytest.mark.parametrize("traced", [True, False])
@pytest.mark.filterwarnings("ignore:layers are found by hooks")
def test_parameters_that_an_earlier_layer_has_are_told_apart(traced: bool) -> None:
    net = Shares(traced=traced)
    layers = eyeshot.see(net, torch.randn(1, 2, 6, 6)).layers
    assert [(one.name, one.parameters, one.shared) for one in layers] == [
        ("first", 38, 0),
        ("first#2", 38, 38),
        ("tied", 38, 36),
    ]
    new = sum(one.parameters - one.shared for one in layers)
    assert new == sum(parameter.numel() for parameter in net.parameters())
    assert layers[2].to_dict()["shared"] == 36


def test_the_network_and_the_callers_random_numbers_do_not_change() -> None:
    net = Nested().train()
    net.head.eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    eyeshot.see(net, torch.zeros(2, 6, 6))
    assert torch.equal(torch.rand(3), expected)
    assert net.training
    assert net.stem.training
    assert not net.head.training
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert not _hooks(net)


def test_hooks_and_modes_are_restored_after_an_error() -> None:
    net = Failing().train()
    with pytest.raises(BadValue, match=r"refused an input of shape \(1, 1, 8, 8\)"):
        eyeshot.see(net, torch.zeros(1, 8, 8))
    assert net.training
    assert not _hooks(net)


def _hooks(net: nn.Module) -> list[Any]:
    return [
        hook
        for module in net.modules()
        for hook in (*module._forward_hooks.values(), *module._forward_pre_hooks.values())
    ]


def test_a_channel_is_dead_only_when_it_is_zero_in_all_images() -> None:
    net = nn.Sequential(nn.Conv2d(1, 3, 1), nn.ReLU())
    conv = net[0]
    assert isinstance(conv, nn.Conv2d)
    with torch.no_grad():
        conv.weight[:] = torch.tensor([1.0, -1.0, 0.0]).view(3, 1, 1, 1)
        conv.bias[:] = torch.tensor([0.0, 0.0, -1.0])  # type: ignore[index]
    up, down = torch.ones(1, 1, 4, 4), -torch.ones(1, 1, 4, 4)
    assert eyeshot.see(net, up).layer("1").dead.tolist() == [False, True, True]
    assert eyeshot.see(net, torch.cat([up, down])).layer("1").dead.tolist() == [False, False, True]


def test_chosen_layers_also_containers_and_repeated_ones() -> None:
    everything = eyeshot.see(Nested(), torch.ones(2, 6, 6), ["stem.block", "head"])
    assert list(everything) == ["stem.block", "head"]
    features = eyeshot.see(Functional(), torch.ones(1, 8, 8), ["pool"])
    assert list(features) == ["pool", "pool#2"]
    assert list(eyeshot.see(Functional(), torch.ones(1, 8, 8), ["pool#2"])) == ["pool#2"]


def test_an_unknown_layer_is_named_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match="unknown layer 'convl'; did you mean 'conv"):
        eyeshot.see(Functional(), torch.ones(1, 8, 8), ["convl"])
    with pytest.raises(UnknownName, match="did you mean 'conv1'"):
        eyeshot.see(Functional(), torch.ones(1, 8, 8))["conv_1"]


def test_inputs_that_are_refused() -> None:
    with pytest.raises(BadValue, match=r"takes \(N, C, H, W\)"):
        eyeshot.see(nn.Conv2d(1, 2, 3), torch.zeros(5, 5))
    with pytest.raises(BadValue, match="empty"):
        eyeshot.see(nn.Conv2d(1, 2, 3), torch.zeros(0, 1, 5, 5))
    for empty in (nn.Sequential(), nn.Sequential(nn.Identity())):
        with pytest.raises(Unsupported, match="computes nothing"):
            eyeshot.see(empty, torch.zeros(1, 1, 5, 5))


def test_half_precision_and_numpy_input() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3)).to(torch.bfloat16)
    features = eyeshot.see(net, np.ones((1, 5, 5)))
    assert features["0"].dtype == np.float32


def test_maps_are_copies_without_a_gradient() -> None:
    x = torch.ones(1, 1, 6, 6, requires_grad=True)
    net = nn.Sequential(nn.Dropout(0.5))
    features = eyeshot.see(net, x)
    features["0"][:] = 7
    assert x.grad is None
    assert float(x.detach().max()) == 1


def test_numbers_are_ready_for_json() -> None:
    data = eyeshot.see(nets.digit_cnn(), torch.zeros(2, 1, 28, 28)).to_dict()
    again = json.loads(json.dumps(data, allow_nan=False))
    assert again["images"] == 2
    first = again["layers"][0]
    assert (first["name"], first["shape"], first["parameters"]) == ("conv1", [16, 28, 28], 160)
    assert len(first["min"]) == len(first["mean"]) == len(first["max"]) == 16


def test_weights_without_numbers_are_refused() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval().to("meta")
    with pytest.raises(BadValue, match="on the meta device"):
        eyeshot.see(net, torch.rand(1, 3, 8, 8))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_scripted_network_is_refused_with_the_cure() -> None:
    scripted = torch.jit.script(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval())
    with pytest.raises(Unsupported, match=r"give the nn\.Module itself"):
        eyeshot.see(scripted, torch.rand(1, 3, 8, 8))
    with pytest.raises(Unsupported, match=r"give the nn\.Module itself"):
        eyeshot.explain(scripted, torch.rand(3, 8, 8), layer="0", unit=(0, 0, 0))
