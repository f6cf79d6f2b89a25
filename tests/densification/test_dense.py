"""The dense form of a classifier: its value at each position is the classifier's on that crop."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from tests.networks import examples, randomize
from tests.runs.test_folders import make_config
from torch import nn

import eyeshot
from eyeshot import runs
from eyeshot.axes import Interval
from eyeshot.densification import DenseForm
from eyeshot.errors import BadValue, Unsupported
from eyeshot.frontends.torch import graph_of
from eyeshot.geometry.fields import Fields
from eyeshot.nets import digit_cnn, small_vgg

_CONVOLUTIONS: tuple[Any, ...] = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_MAX_POOLS: tuple[Any, ...] = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
_AVERAGE_POOLS: tuple[Any, ...] = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
_BATCH_NORMS: tuple[Any, ...] = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_MEANS: tuple[Any, ...] = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)
_LARGEST: tuple[Any, ...] = (nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d)
SIDES = {1: st.integers(6, 24), 2: st.integers(6, 14), 3: st.integers(5, 8)}


@st.composite
def features(draw: st.DrawFn, axes: int, sides: tuple[int, ...]) -> tuple[list[nn.Module], Any]:
    """Layers without padding that leave at least one place of the crop, and what they leave."""
    layers: list[nn.Module] = []
    channels = 2
    for _ in range(draw(st.integers(0, 4))):
        kind = draw(st.sampled_from(["conv", "conv", "max", "average", "norm", "relu"]))
        kernel, stride = draw(st.integers(1, 3)), draw(st.integers(1, 2))
        dilation = draw(st.sampled_from([1, 1, 2])) if kind == "conv" else 1
        left = tuple((n - dilation * (kernel - 1) - 1) // stride + 1 for n in sides)
        if kind == "norm":
            layers.append(_BATCH_NORMS[axes - 1](channels))
        elif kind == "relu":
            layers.append(nn.ReLU(inplace=draw(st.booleans())))
        elif min(n - dilation * (kernel - 1) for n in sides) >= 1:
            sides = left
            if kind == "conv":
                wider, bias = draw(st.integers(1, 4)), draw(st.booleans())
                layers.append(
                    _CONVOLUTIONS[axes - 1](
                        channels, wider, kernel, stride, dilation=dilation, bias=bias
                    )
                )
                channels = wider
            else:
                pools = _MAX_POOLS if kind == "max" else _AVERAGE_POOLS
                layers.append(pools[axes - 1](kernel, stride))
    return layers, (channels, *sides)


@st.composite
def heads(draw: st.DrawFn, axes: int, shape: tuple[int, ...]) -> list[nn.Module]:
    """Flatten and linear layers, or a pool over everything, with what may stand between them."""
    count = 1
    for n in shape:
        count *= n
    layers: list[nn.Module] = []
    pool = draw(st.sampled_from([None, None, _MEANS, _LARGEST]))
    if pool is not None:
        layers.append(pool[axes - 1](1))
        count = shape[0]
    layers.append(nn.Flatten())
    if draw(st.booleans()):
        layers.append(draw(st.sampled_from([nn.ReLU(), nn.Dropout(), nn.BatchNorm1d(count)])))
    for _ in range(draw(st.integers(1, 2))):
        wider = draw(st.integers(1, 5))
        layers.append(nn.Linear(count, wider, bias=draw(st.booleans())))
        count = wider
        between = [nn.ReLU(), nn.Dropout(), nn.BatchNorm1d(count), nn.PReLU(count), nn.GELU()]
        layers.append(draw(st.sampled_from([*between, nn.Softmax(-1), nn.LogSoftmax(1)])))
    return layers


@st.composite
def classifiers(draw: st.DrawFn, axes: int) -> tuple[nn.Module, tuple[int, ...]]:
    """A random classifier without padding, in eval mode, and the sides of its pictures."""
    sides = tuple(draw(SIDES[axes]) for _ in range(axes))
    layers, shape = draw(features(axes, sides))
    net = nn.Sequential(*layers, *draw(heads(axes, shape))).eval()
    randomize(net, draw(st.integers(0, 2**16)))
    return net, sides


def crops_agree(net: nn.Module, form: DenseForm, page: torch.Tensor, tolerance: float) -> int:
    """Compare the dense form with the classifier on each crop that fits; how many there are."""
    with torch.no_grad():
        scores = form(page)
        scale = float(scores.abs().max()) or 1.0
        compared = 0
        for place in torch.cartesian_prod(*map(torch.arange, scores.shape[2:])).reshape(
            -1, page.ndim - 2
        ):
            crop, score = page, scores
            for axis, i in enumerate(place.tolist()):
                start = i * form.stride[axis]
                crop = crop[(slice(None),) * (2 + axis) + (slice(start, start + form.crop[axis]),)]
                score = score.select(2, i)
            if crop.shape[2:] == form.crop:
                difference = float((net(crop) - score).abs().max())
                assert difference <= tolerance * max(1.0, scale)
                compared += 1
    return compared


@pytest.mark.parametrize("every_pixel", [False, True], ids=["strided", "every pixel"])
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_each_value_is_the_classifiers_on_its_crop(axes: int, every_pixel: bool) -> None:
    @examples({1: 8, 2: 10, 3: 4}[axes])
    @given(given_net=classifiers(axes), double=st.booleans(), data=st.data())
    def holds(
        given_net: tuple[nn.Module, tuple[int, ...]], double: bool, data: st.DataObject
    ) -> None:
        net, crop = given_net
        net = net.double() if double else net
        try:
            form = eyeshot.dense(net, (2, *crop), every_pixel=every_pixel)
        except Unsupported as refused:
            assume("averages behind a stride" not in str(refused))  # and is said to be refused
            raise
        sides = [n + data.draw(st.integers(0, 5)) for n in crop]
        page = torch.randn(2, 2, *sides, generator=torch.Generator().manual_seed(1))
        page = page.double() if double else page
        positions = 1
        for n, side, stride in zip(crop, sides, form.stride, strict=True):
            positions *= (side - n) // stride + 1
        assert form.exact
        assert crops_agree(net, form, page, 1e-12 if double else 1e-5) == positions
        if every_pixel:
            assert set(form.stride) == {1}

    holds()


@pytest.mark.parametrize("every_pixel", [False, True], ids=["strided", "every pixel"])
@pytest.mark.parametrize(
    "head",
    [
        [nn.BatchNorm1d(2), nn.Linear(2, 1, bias=False), nn.ReLU()],
        [nn.Linear(2, 2, bias=False), nn.BatchNorm1d(2)],
    ],
    ids=["before the linear layer", "after it"],
)
def test_one_row_of_one_channel_is_flattened_before_a_batch_norm(
    head: list[nn.Module], every_pixel: bool
) -> None:
    """Flattened, 1×1×2 is still a row of two places: batch norm refused it as no channels."""
    layers = [nn.MaxPool2d(1, 2), nn.Conv2d(2, 1, 2, 2, bias=False), nn.Flatten()]
    net = nn.Sequential(*layers, *copy.deepcopy(head)).eval()
    randomize(net, 1)
    form = eyeshot.dense(net, (2, 6, 7), every_pixel=every_pixel)
    page = torch.randn(2, 2, 9, 11, generator=torch.Generator().manual_seed(1))
    assert crops_agree(net, form, page, 1e-5) == (20 if every_pixel else 2)


@examples(10)
@given(given_net=classifiers(2), every_pixel=st.booleans())
def test_the_geometry_is_that_of_the_form_itself(
    given_net: tuple[nn.Module, tuple[int, ...]], every_pixel: bool
) -> None:
    net, crop = given_net
    try:
        form = eyeshot.dense(net, (2, *crop), every_pixel=every_pixel)
    except Unsupported as refused:
        assume("averages behind a stride" not in str(refused))
        raise
    graph = graph_of(form, (2, *(n + 9 for n in crop)))
    phases = Fields(graph).phases(graph.outputs[0])
    for one, stride, field in zip(phases, form.stride, form.field, strict=True):
        assert one is not None
        assert (one.outputs, one.inputs) == (1, stride)
        assert Interval(*one.one(0)) == field


class Branches(nn.Module):
    """Branches that meet, tensors of its own, channels last, and functions in place of layers."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)
        self.mix = nn.Conv2d(8, 4, 1)
        self.head, self.last = nn.Linear(4 * 6 * 5, 6), nn.Linear(10, 3)
        self.mean: torch.Tensor
        self.register_buffer("mean", torch.randn(3, 1, 1))
        self.scale = nn.Parameter(torch.randn(1, 3, 1, 1))
        self.gain = nn.Parameter(torch.randn(10))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = (x - self.mean) * self.scale
        a, b = self.one(x), self.other(x)
        x = torch.relu(self.mix(torch.cat([a, b], 1)) + a * 0.5 - 0.2)
        x = nn.functional.avg_pool2d(x, 2)
        hidden = self.head(x.permute(0, 2, 3, 1).reshape(len(x), -1))
        largest = nn.functional.adaptive_max_pool2d(x, 1).flatten(1)
        both = torch.cat([hidden, largest], 1) * self.gain
        return nn.functional.softmax(self.last(both), -1)


def test_branches_functions_and_channels_last() -> None:
    torch.manual_seed(0)
    net = Branches().double().eval()
    form = eyeshot.dense(net, (3, 14, 12))
    page = torch.randn(2, 3, 21, 25, dtype=torch.float64)
    assert crops_agree(net, form, page, 1e-12) == 4 * 7
    assert form.stride == (2, 2)


def test_the_digit_cnn_keeps_its_layers_names_and_numbers() -> None:
    net = digit_cnn(padding=0).train()
    form = eyeshot.dense(net, (1, 28, 28))
    assert net.training
    assert not form.training
    assert (form.crop, form.stride) == ((28, 28), (4, 4))
    own, others = dict(form.named_parameters()), dict(net.named_parameters())
    assert list(own) == list(others)
    for name, weights in others.items():
        assert torch.equal(own[name].flatten(), weights.flatten())
        assert own[name].data_ptr() != weights.data_ptr()
    assert tuple(form.get_parameter("fc1.weight").shape) == (128, 32, 5, 5)
    names = [node.name for node in graph_of(form, (1, 100, 90))]
    assert names[1:] == [
        "conv1",
        "relu1",
        "pool1",
        "conv2",
        "relu2",
        "pool2",
        "fc1",
        "relu3",
        "fc2",
    ]
    assert crops_agree(net.eval(), form, torch.randn(1, 1, 61, 45), 1e-5) == 9 * 5


def test_a_copy_of_the_form_is_on_its_own() -> None:
    form = eyeshot.dense(digit_cnn(padding=0), (1, 28, 28))
    twin = copy.deepcopy(form)
    page = torch.randn(1, 1, 40, 40)
    before = form(page)
    with torch.no_grad():
        twin.get_parameter("fc1.weight").zero_()
    assert torch.equal(form(page), before)
    assert not torch.equal(twin(page), before)
    form(page).sum().backward()
    assert form.get_parameter("conv1.weight").grad is not None


class Reused(nn.Module):
    """One pool and one activation used twice, a view, and layers called as the form's own facts."""

    def __init__(self) -> None:
        super().__init__()
        self.crop, self.stride = nn.Conv2d(3, 6, 5), nn.Conv2d(6, 16, 5)
        self.pool, self.notes = nn.MaxPool2d(2, 2), nn.Linear(16 * 5 * 5, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(nn.functional.relu(self.crop(x)))
        x = self.pool(nn.functional.relu(self.stride(x)))
        x = nn.functional.dropout(x.view(-1, 16 * 5 * 5), training=self.training)
        scores: torch.Tensor = self.notes(x)
        return scores


def test_shared_layers_and_names_that_exist() -> None:
    torch.manual_seed(4)
    net = Reused().eval()
    form = eyeshot.dense(net, (3, 32, 32))
    assert (form.crop, form.stride, form.notes) == ((32, 32), (4, 4), ())
    page = torch.randn(1, 3, 52, 44)
    assert crops_agree(net, form, page, 1e-5) == 6 * 4
    streamed = eyeshot.run(form, page[0].numpy(), band=7)
    with torch.no_grad():
        assert float((torch.from_numpy(streamed) - form(page)[0]).abs().max()) <= 1e-5
    other = eyeshot.dense(Reused(), (3, 32, 32))
    other.load_state_dict(form.state_dict())
    assert torch.equal(other(page), form(page))


def test_a_run_tells_its_own_size(tmp_path: Path) -> None:
    config = make_config(size=(12, 16), model_arguments={"padding": 0})
    config.save(tmp_path / runs.CONFIG)
    runs.save_tensors(tmp_path / runs.WEIGHTS, runs.build_net(config).state_dict())
    run = runs.load(tmp_path)
    form = eyeshot.dense(run)
    assert form.crop == (12, 16)
    assert crops_agree(run.net, form, torch.randn(1, 1, 20, 23), 1e-5) == 3 * 2


def test_no_random_number_is_used_up() -> None:
    net = digit_cnn(padding=0)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    eyeshot.dense(net, (1, 28, 28))
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    ("net", "layers", "field"),
    [
        (digit_cnn(), "conv1, conv2 pad", Interval(-3, 31)),
        (small_vgg(), "conv1, conv2a, conv2b, conv3a, conv3b pad", Interval(-13, 37)),
    ],
    ids=["digit_cnn", "small_vgg"],
)
def test_a_padded_classifier_says_where_its_form_differs(
    net: nn.Module, layers: str, field: Interval
) -> None:
    with pytest.warns(UserWarning, match=layers):
        form = eyeshot.dense(net, (1, 28, 28))
    assert not form.exact
    assert form.field == (field, field)
    net.eval()
    crop = torch.randn(1, 1, 28, 28)
    page = torch.zeros(1, 1, 92, 92)
    page[:, :, 32:60, 32:60] = crop
    i = 32 // form.stride[0]
    with torch.no_grad():
        # One crop alone is a page whose border is the crop's: there the two are the same.
        assert torch.allclose(form(crop)[..., 0, 0], net(crop), atol=1e-5)
        assert not torch.allclose(form(page)[..., i, i], net(crop), atol=1e-3)
        seen = slice(32 + field.lo, 32 + field.hi)
        outside = torch.randn_like(page)
        outside[:, :, seen, seen] = page[:, :, seen, seen]
        assert torch.allclose(form(outside)[..., i, i], form(page)[..., i, i], atol=1e-5)


def test_uneven_and_separate_padding() -> None:
    torch.manual_seed(2)
    net = nn.Sequential(
        nn.ReflectionPad2d((1, 0, 0, 2)), nn.Conv2d(1, 2, (2, 4), padding="same"), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(2 * 5 * 4, 3),
    ).eval()  # fmt: skip
    with pytest.warns(UserWarning, match=r"0\.pad, 1 pad|0, 1 pad"):
        form = eyeshot.dense(net, (1, 9, 8))
    crop = torch.randn(2, 1, 9, 8)
    with torch.no_grad():
        assert torch.allclose(form(crop)[..., 0, 0], net(crop), atol=1e-5)


def test_a_crop_that_ceil_mode_overhangs_is_padded_and_another_is_not() -> None:
    def net(side: int, left: int) -> nn.Module:
        return nn.Sequential(
            nn.MaxPool2d(2, ceil_mode=True), nn.Flatten(), nn.Linear(left * left, 2)
        ).eval()

    with pytest.warns(UserWarning, match="0 pads"):
        eyeshot.dense(net(7, 4), (1, 7, 7))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        form = eyeshot.dense(net(8, 4), (1, 8, 8))
    assert form(torch.zeros(1, 1, 9, 9)).shape == (1, 2, 1, 1)


@pytest.mark.filterwarnings("ignore:.*pads")
def test_pools_that_hang_over_or_pad_behind_a_stride_have_their_places_at_every_pixel() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 3, 3, 2), nn.MaxPool2d(3, 2, 1, ceil_mode=True), nn.Conv2d(3, 3, 2),
        nn.MaxPool2d((2, 3), ceil_mode=True), nn.Flatten(), nn.Linear(12, 5),
    ).eval()  # fmt: skip
    crop, page = torch.randn(2, 1, 19, 28), torch.randn(1, 1, 24, 33)
    every, strided = (
        eyeshot.dense(net, (1, 19, 28), every_pixel=True),
        eyeshot.dense(net, (1, 19, 28)),
    )
    with torch.no_grad():
        assert torch.allclose(every(crop)[..., 0, 0], net(crop), atol=1e-5)
        assert every(page).shape == (1, 5, 6, 7)  # a crop reads 27 of its 28 columns
        assert torch.allclose(strided(crop)[..., 0, 0], net(crop), atol=1e-5)
    average = nn.Sequential(nn.AvgPool2d(3, 2, ceil_mode=True), nn.Flatten(), nn.Linear(9, 2))
    with pytest.raises(Unsupported, match="0 averages a window that hangs over the crop"):
        eyeshot.dense(average, (1, 6, 6), every_pixel=True)


class Gated(nn.Module):
    """Squeeze-and-excite: every crop has a gate of its own."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gated: torch.Tensor = (x * x.mean((2, 3), keepdim=True)).flatten(1)
        return gated


class Places(nn.Module):
    """A number of its own for each place of the crop."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.randn(1, 6, 6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x * self.weights).flatten(1)


class Coordinates(nn.Module):
    """A channel that the network makes for itself."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = torch.linspace(-1, 1, x.shape[2]).view(1, 1, -1, 1)
        return torch.cat([x, rows.expand(len(x), 1, *x.shape[2:])], 1)


def _head(*before: nn.Module, features: int = 36) -> nn.Module:
    return nn.Sequential(*before, nn.Flatten(), nn.Linear(features, 2))


@pytest.mark.parametrize(
    ("net", "reason"),
    [
        (nn.Conv2d(1, 2, 3), "not a score for each class"),
        (nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten()), "not a score for each class"),
        (_head(Gated()), r"0\.mul .*repeats one value to the size of another"),
        (_head(Places()), r"0\.mul .*each place of the crop by a number of its own"),
        (_head(Coordinates(), features=72), r"0\.cat .*a tensor that every crop has of its own"),
        (
            _head(nn.InstanceNorm2d(1, affine=True)),
            "0 .*normalizes each channel over all positions",
        ),
        (_head(nn.Upsample(scale_factor=2), features=144), "0 .*only windows"),
        (_head(nn.AdaptiveAvgPool2d(4), features=16), "0 .*windows differ in size"),
        (nn.Sequential(nn.Linear(6, 2), nn.Flatten(), nn.Linear(12, 2)), "0 .*has no dense form"),
        (
            nn.Sequential(nn.Flatten(), nn.BatchNorm1d(36), nn.ReLU(), nn.Linear(36, 2)),
            "2 .*batch norm over a flattened map",
        ),
        (nn.Sequential(nn.Flatten(), nn.Softmax(1), nn.Linear(36, 2)), "1 .*not taken over chan"),
    ],
)
def test_what_has_no_dense_form_is_refused_by_name(net: nn.Module, reason: str) -> None:
    with pytest.raises(Unsupported, match=reason):
        eyeshot.dense(net, (1, 6, 6))


def test_a_module_alone_does_not_tell_its_size() -> None:
    with pytest.raises(BadValue, match=r"give \(C, H, W\)"):
        eyeshot.dense(digit_cnn())
