"""The networks: the shapes they promise, at any size, and the same numbers however they run."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.networks import examples
from torch import Tensor, nn

from eyeshot import nets
from eyeshot.errors import BadValue, UnknownName
from eyeshot.nets.unet import Classifier


def test_digit_cnn_is_the_network_of_the_tutorials() -> None:
    net = nets.digit_cnn()
    shapes: dict[str, tuple[int, ...]] = {}
    for name, layer in net.named_children():
        layer.register_forward_hook(
            lambda _layer, _args, out, name=name: shapes.update({name: tuple(out.shape)})
        )
    net.eval()(torch.zeros(3, 1, 28, 28))
    assert shapes == {
        "conv1": (3, 16, 28, 28),
        "relu1": (3, 16, 28, 28),
        "pool1": (3, 16, 14, 14),
        "conv2": (3, 32, 14, 14),
        "relu2": (3, 32, 14, 14),
        "pool2": (3, 32, 7, 7),
        "flatten": (3, 1568),
        "fc1": (3, 128),
        "relu3": (3, 128),
        "fc2": (3, 10),
    }
    counts = {name: sum(p.numel() for p in net.get_submodule(name).parameters()) for name in shapes}
    assert counts["conv1"] == 16 * 9 + 16
    assert counts["conv2"] == 32 * 16 * 9 + 32
    assert counts["fc1"] == 128 * 1568 + 128
    assert counts["fc2"] == 10 * 128 + 10
    assert sum(counts.values()) == sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize("name", nets.CLASSIFIERS)
@given(
    channels=st.integers(1, 4),
    classes=st.integers(2, 6),
    height=st.integers(8, 21),
    width=st.integers(8, 21),
    depth=st.integers(1, 3),
    wide=st.integers(1, 5),
)
@examples(20)
def test_any_size_channels_classes_and_depth(
    name: str, channels: int, classes: int, height: int, width: int, depth: int, wide: int
) -> None:
    net = nets.build(
        name, in_channels=channels, classes=classes, size=(height, width), depth=depth, width=wide
    )
    assert net(torch.randn(2, channels, height, width)).shape == (2, classes)


def gradients(net: nn.Module, images: Tensor, *, as_written: bool) -> list[Tensor]:
    net.zero_grad()
    # The same layers in a plain nn.Sequential, which knows no short cut.
    scores = nn.Sequential(*net.children())(images) if as_written else net(images)
    scores.square().sum().backward()
    return [scores.detach()] + [p.grad.clone() for p in net.parameters() if p.grad is not None]


@pytest.mark.parametrize("name", nets.CLASSIFIERS)
@given(seed=st.integers(0, 1000), flat=st.booleans())
@examples(15)
def test_pooling_before_relu_changes_no_bit(name: str, seed: int, flat: bool) -> None:
    torch.manual_seed(seed)
    net = nets.build(name, width=3).train()
    images = torch.randn(4, 1, 28, 28)
    if flat:  # every window a tie, as on the black ground around a digit
        images[:, :, :20] = 0.25
    fast = gradients(net, images, as_written=False)
    slow = gradients(net, images, as_written=True)
    assert len(fast) == 1 + len(list(net.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(fast, slow, strict=True))


def test_in_eval_mode_layers_run_as_written() -> None:
    net = nets.digit_cnn(width=2)
    order: list[str] = []
    for name, layer in net.named_children():
        layer.register_forward_hook(lambda *_args, name=name: order.append(name))
    net.eval()(torch.zeros(1, 1, 28, 28))
    assert order == [name for name, _ in net.named_children()]


@pytest.mark.parametrize("name", [*nets.CLASSIFIERS, *nets.PER_PIXEL])
def test_a_network_can_be_exported(name: str) -> None:
    net = nets.build(name, in_channels=2, classes=4, size=(16, 20)).eval()
    images = torch.randn(2, 2, 16, 20)
    exported = torch.export.export(net, (images,)).module()
    torch.testing.assert_close(exported(images), net(images))


def test_small_vgg_takes_other_sizes_than_it_was_made_for() -> None:
    net = nets.small_vgg(size=(28, 28)).eval()
    assert net(torch.zeros(1, 1, 50, 31)).shape == (1, 10)


def test_an_unknown_model_offers_the_nearest() -> None:
    with pytest.raises(UnknownName, match="did you mean 'digit_cnn'"):
        nets.build("digits_cnn")


def test_an_unknown_argument_is_named() -> None:
    with pytest.raises(
        UnknownName, match="unknown argument of digit_cnn 'widht'; did you mean 'width'"
    ):
        nets.build("digit_cnn", widht=3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"width": 0}, "width is 0"),
        ({"depth": 0}, "depth is 0"),
        ({"in_channels": -1}, "in_channels is -1"),
        ({"size": (28, 3)}, "28×3 cannot be halved 2 times"),
    ],
)
def test_arguments_out_of_range_are_named(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(BadValue, match=message):
        nets.build("digit_cnn", **arguments)


def test_the_seed_decides_the_weights() -> None:
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(nets.digit_cnn().get_parameter("conv1.weight"))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_what_is_built_is_plain() -> None:
    assert isinstance(nets.build("small_vgg"), Classifier)
    kinds = {type(layer).__module__ for layer in nets.build("small_vgg").children()}
    assert all(kind.startswith("torch.nn.") for kind in kinds)
