"""A module becomes a graph: names, weights, memory that is shared, what cannot be read."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import eyeshot
from eyeshot.errors import BadValue, Unsupported
from eyeshot.frontends.repair import trace
from eyeshot.frontends.torch import graph_of
from eyeshot.frontends.trials import runs_on_shapes
from eyeshot.geometry import Fields, footprint
from eyeshot.graph import Kind, Ref, Weight
from tests.frontends.poking import Apply, Function, check
from tests.networks import make_positive


def left(x: Tensor) -> Tensor:
    return F.pad(x, (1, -1))


def add_in_place(x: Tensor) -> Tensor:
    y = x * 2
    y += left(x)
    return y * 1


def relu_in_place_of_a_view(x: Tensor) -> Tensor:
    y = x * 2
    z = y.view(1, 1, 2, 6)
    z = z + 1
    return F.relu(y, inplace=True) + z.reshape(1, 2, 6)


def read_before_and_after(x: Tensor) -> Tensor:
    y = x + 0.5
    before = y * 2
    y.add_(left(left(x)))
    return before + y


def twice_in_place(x: Tensor) -> Tensor:
    y = x * 1.5
    y.mul_(2).add_(left(x))
    return y


@pytest.mark.parametrize(
    "function", [add_in_place, relu_in_place_of_a_view, read_before_and_after, twice_in_place]
)
def test_in_place_operators_change_every_name_of_their_value(
    function: Callable[[Tensor], Tensor],
) -> None:
    graph = check(Apply(function).eval(), 2, 6)
    x = torch.rand(1, 2, 6)
    values = run(graph, x)
    assert torch.equal(values, function(x.clone()))


def run(graph: object, x: Tensor) -> Tensor:
    """The graph's own calls, one after another: what its edges and Refs say it computes."""
    from eyeshot.graph import Graph

    assert isinstance(graph, Graph)
    values: dict[str, Tensor] = {graph.inputs[0]: x}

    def put(value: object) -> object:
        if isinstance(value, Ref):
            return values[value.node]
        if isinstance(value, Weight):
            return graph.tensors[value.name]
        if isinstance(value, (list, tuple)):
            return [put(one) for one in value]
        return value

    with torch.no_grad():
        for node in graph:
            if node.call is not None:
                arguments = [put(one) for one in node.call.args]
                options = {name: put(value) for name, value in node.call.kwargs.items()}
                values[node.name] = node.call.target(*arguments, **options)
    return values[graph.outputs[0]]


def write_through_a_view(x: Tensor) -> Tensor:
    y = x * 2
    part = y[:, :, :3]
    part += 1
    return y * 1


def test_writing_through_a_view_changes_what_it_looks_at() -> None:
    x = torch.randn(1, 2, 6)
    graph = graph_of(Apply(write_through_a_view), (2, 6))
    assert torch.equal(run(graph, x), write_through_a_view(x))


class Standardized(nn.Conv2d):
    """Weight standardization: a weight computed from the weight at every pass."""

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        weight = weight / (weight.std((1, 2, 3), keepdim=True) + 1e-5)
        return F.conv2d(x, weight, self.bias, padding=1)


def test_weights_computed_from_weights_are_folded() -> None:
    net = nn.Sequential(Standardized(2, 4, 3), nn.ReLU())
    graph = graph_of(net, (2, 6, 5))
    assert [node.operator for node in graph] == ["input", "conv2d", "relu"]
    (folded,) = [
        name for name in graph[graph.inputs[0]].weights or graph["0"].weights if "bias" not in name
    ]
    assert folded not in graph.parameters
    assert graph.made_of[folded] == ("0.weight",)
    assert graph.parameters == {"0.weight", "0.bias"}
    x = torch.rand(1, 2, 6, 5)
    torch.testing.assert_close(run(graph, x), net(x))


def test_reused_modules_are_numbered() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.relu = nn.Conv2d(2, 2, 3), nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.relu(self.conv(self.relu(self.conv(x))))
            return y

    graph = graph_of(Twice(), (2, 9, 9))
    assert list(graph.nodes) == ["x", "conv", "relu", "conv#2", "relu#2"]
    assert graph["conv#2"].weights == graph["conv"].weights == ("conv.weight", "conv.bias")
    assert graph["conv#2"].layer == "conv"


def test_an_operator_without_a_rule_is_named_and_all_behind_it_is_unsupported() -> None:
    class Inner(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.cumsum(-1)

    net = nn.Sequential(nn.Conv2d(1, 2, 3), Inner(), nn.Conv2d(2, 2, 3), nn.ReLU())
    graph = graph_of(net, (1, 12, 12))
    fields = Fields(graph)
    assert fields.status("0") == "exact"
    assert graph["1"].kind is Kind.UNSUPPORTED
    assert graph["1"].layer == "1"
    for name in ("1", "2", "3"):
        assert fields.status(name) == "unsupported: cumsum at 1.cumsum"
        assert fields.field(name).box is None
    with pytest.raises(Unsupported, match="cumsum"):
        footprint(graph, "3")


def test_a_network_in_training_mode_says_so_and_is_left_as_it_was() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout(0.5))
    before = copy.deepcopy(net.state_dict())
    graph = graph_of(net, (1, 8, 8))
    assert net.training
    assert all(
        torch.equal(a, b) for a, b in zip(before.values(), net.state_dict().values(), strict=True)
    )
    assert set(graph.training) == {"", "0", "1", "2"}
    assert graph["1"].kind is Kind.NONLOCAL
    assert graph["2"].kind is Kind.NONLOCAL
    assert "net.eval()" in graph["1"].reason
    evaluated = graph_of(net.eval(), (1, 8, 8))
    assert evaluated.training == ()
    assert {node.kind for node in evaluated} == {Kind.LOCAL}


class TwoInTwoOut(nn.Module):
    """A picture at two scales in; a map and a score out."""

    def __init__(self) -> None:
        super().__init__()
        self.fine, self.coarse = nn.Conv2d(2, 2, 3, padding=1), nn.Conv2d(1, 2, 1)

    def forward(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        up = F.interpolate(self.coarse(y), scale_factor=2)
        both = self.fine(x) + up
        return {"map": both, "score": both.mean((2, 3))}


def test_several_inputs_and_outputs() -> None:
    net = TwoInTwoOut().eval()
    graph = graph_of(net, (2, 6, 8), (1, 3, 4))
    assert graph.inputs == ("x", "y")
    assert len(graph.outputs) == 2
    first, second = Fields(graph), Fields(graph, "y")
    assert first.field(graph.outputs[0], (2, 2)).sizes == (3, 3)
    assert second.field(graph.outputs[0], (2, 2)).sizes == (1, 1)
    assert footprint(graph, graph.outputs[0], (5, 7), "y").nonzero()[0].tolist() == [2]
    assert second.status(graph.outputs[1]) == "whole image"


def channels_last(x: Tensor, norm: nn.Module, mix: nn.Module) -> Tensor:
    y: Tensor = mix(norm(x.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
    return F.max_pool2d(y, 2)


def shuffle_channels(x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    return x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


def to_depth_and_back(x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    deep = (
        x.view(n, c, h // 2, 2, w // 2, 2).permute(0, 3, 5, 1, 2, 4).reshape(n, -1, h // 2, w // 2)
    )
    return F.pixel_shuffle(F.avg_pool2d(deep, 3, 1, 1), 2)


def depth_to_space_by_hand(x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    return x.view(n, c // 4, 2, 2, h, w).permute(0, 1, 4, 2, 5, 3).reshape(n, c // 4, 2 * h, 2 * w)


def heads_over_positions(x: Tensor) -> Tensor:
    rows = x.flatten(2).transpose(1, 2)
    return (rows @ rows.transpose(1, 2)).softmax(-1) @ rows


def gate(x: Tensor) -> Tensor:
    return x * torch.sigmoid(F.adaptive_avg_pool2d(x, 1) / 64)


def read_by_rows(x: Tensor, layer: nn.Module) -> Tensor:
    """Every row of the map in both directions, as separate lines."""
    n, c, h, w = x.shape
    read: Tensor = layer(x.permute(0, 2, 3, 1).reshape(n * h, w, c))[0]
    return read.reshape(n, h, w, -1).permute(0, 3, 1, 2)


def read_to_the_end(x: Tensor, layer: nn.Module) -> Tensor:
    """The state of one direction after the last column."""
    state: Tensor = layer(x.mean(2).permute(2, 0, 1))[1]
    return state


@pytest.mark.parametrize(
    "net",
    [
        Apply(channels_last, nn.LayerNorm(4), nn.Linear(4, 6)),
        Apply(shuffle_channels),
        Apply(to_depth_and_back),
        Apply(depth_to_space_by_hand),
        Apply(heads_over_positions),
        Apply(gate),
        Apply(read_by_rows, nn.LSTM(4, 3, batch_first=True, bidirectional=True)),
        Apply(read_to_the_end, nn.GRU(4, 3)),
        Apply(lambda x: (2 * x[..., ::2]).type_as(x.flatten(2).mean(2))),
        nn.Sequential(nn.Conv2d(4, 2, 3, stride=2), nn.Flatten(), nn.Linear(4, 3)),
    ],
    ids=[
        *("channels last", "shuffle", "to depth", "to space", "attention", "gate"),
        *("rows read both ways", "the last state", "a type", "flat"),
    ],
)
def test_reshaped_networks_against_poking(net: nn.Module) -> None:
    torch.manual_seed(0)  # the networks are made when the tests are listed, in any order
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear | nn.LayerNorm | nn.RNNBase):
            module.reset_parameters()
    net = net.eval()
    make_positive(net)
    check(net, 4, 6, 4)


def test_what_one_direction_reads_is_said_to_be_unknown() -> None:
    net = Apply(read_by_rows, nn.LSTM(4, 3, batch_first=True)).eval()
    graph = graph_of(net, (4, 6, 4))
    assert Fields(graph).status(graph.outputs[0]) == "unsupported: lstm at parts.0"


def test_memory_format_is_no_change_of_shape() -> None:
    net = nn.Conv2d(4, 4, 3).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    check(
        Apply(lambda x, conv: conv(x).contiguous(memory_format=torch.channels_last), net), 4, 6, 5
    )


def test_sizes_that_no_network_takes() -> None:
    for size in [(0, 4, 4), (1, -2, 4), ()]:
        with pytest.raises(BadValue, match="size"):
            graph_of(nn.Conv2d(1, 1, 1), size)
        with pytest.raises(BadValue, match="size"):
            trace(nn.Conv2d(1, 1, 1), size)


def test_a_branch_on_the_data_is_refused_by_both_paths() -> None:
    net = Apply(lambda x: x if x.sum() > 0 else -x)
    for read in (graph_of, trace):
        with pytest.raises(Unsupported, match=r"cannot be traced.*test_torch\.py"):
            read(net, (1, 4, 4))


def test_a_network_that_fails_on_shapes_leaves_nothing_on_stderr(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(Unsupported, match="expected input"):
        graph_of(nn.Conv2d(3, 4, 3), (5, 8, 8))
    trace(nn.Conv2d(3, 4, 3), (5, 8, 8))
    assert capfd.readouterr().err == ""


class CropsByTensors(nn.Module):
    """A skip cropped to another map, by sizes computed in tensors (as package ``unet`` does)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        crop = (torch.tensor(x.shape)[2:] - torch.tensor(y.shape)[2:]) / 2
        pad = -torch.stack((crop, crop)).t().flatten().int()
        y += F.pad(x, pad.tolist())
        return y


def test_sizes_computed_in_tensors_are_known() -> None:
    net = CropsByTensors().double()
    for size in ((1, 9, 12), (1, 31, 17)):
        image = torch.randn(size, dtype=torch.float64)
        with torch.no_grad():
            expected = net(image[None])[0]
        found = eyeshot.run(net.eval(), image, output_format="float64", band=4)
        assert torch.allclose(torch.from_numpy(found), expected, rtol=0, atol=1e-12)


class CropsByContent(nn.Module):
    """Part of a small tensor of numbers depends on the image."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3)

    def forward(self, x: Tensor) -> Tensor:
        pad = torch.tensor([1, 1, 1, 1])
        pad[0] = (x.mean() > 100).int()
        return F.pad(self.conv(x), pad.tolist())


class ListsByContent(nn.Module):
    """The same, written into a list of tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3)

    def forward(self, x: Tensor) -> Tensor:
        counts = torch.tensor([1.0, 2.0])
        torch._foreach_add_([counts], [((x.amax((0, 1, 2, 3)) > 50) * 1.0).expand(2)])
        y: Tensor = self.conv(x) * int(counts[1].item())
        return y


class Written(nn.Module):
    """x times a number that a call has written, which says so neither by version nor schema."""

    def __init__(self, kind: str, *, made: bool, view: bool = False) -> None:
        super().__init__()
        self.kind, self.made, self.view = kind, made, view

    def forward(self, x: Tensor) -> Tensor:
        count, other = torch.zeros(1), torch.ones(1)
        if not self.made:
            count, other = torch.tensor([0.0]), torch.tensor([1.0])
        read = count.view(1) if self.view else count
        if self.kind == "norm":
            F.batch_norm(x, count, other, training=True, momentum=1.0)
        else:
            getattr(torch, self.kind)([count], [x.mean()[None]])
        return x * int(read)


class ReadsBeyondASlice(nn.Module):
    """A slice of a batch of one lies in one piece, with more behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)[:, :2]
        area = y.shape[2] * y.shape[3]
        return y.as_strided((1, 4, *y.shape[2:]), (4 * area, area, y.shape[3], 1))


def test_a_view_beyond_a_slice_is_refused() -> None:
    with pytest.raises(Unsupported, match="as_strided beyond the 128 numbers of its tensor"):
        graph_of(ReadsBeyondASlice(), (1, 8, 8))


def test_numbers_that_depend_on_the_content_are_never_taken_for_known() -> None:
    with pytest.raises(Unsupported, match=r"values into Python numbers|content says"):
        graph_of(ListsByContent(), (1, 8, 8))
    with pytest.raises(Unsupported, match=r"values into Python numbers|content says"):
        graph_of(CropsByContent(), (1, 8, 8))


@pytest.mark.parametrize("kind", ["_foreach_add_", "_foreach_copy_", "norm"])
@pytest.mark.parametrize(("made", "view"), [(True, False), (True, True), (False, False)])
def test_a_number_that_a_call_writes_unseen_is_never_known(
    kind: str, made: bool, view: bool
) -> None:
    with pytest.raises(Unsupported, match="cannot be traced"):
        graph_of(Written(kind, made=made, view=view).eval(), (1, 8, 8))


class Keeps(nn.Module):
    """A function of the image and of two buffers, 3 and [1, 2]."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function
        self.size: Tensor
        self.pair: Tensor
        self.register_buffer("size", torch.tensor(3))
        self.register_buffer("pair", torch.tensor([1.0, 2.0]))

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def _padded_to_a_stride(n: Any, x: Tensor) -> Tensor:  # as EnCodec does
    ideal = (torch.ceil((x.shape[-1] - n.size) / 2 + 1).to(torch.int64) - 1) * 2 + n.size
    return F.pad(x, (n.size - 1, ideal - x.shape[-1]))


KNOWN: dict[str, Function] = {
    "dimensions of a norm": lambda n, x: x - x.mean(torch.arange(1, x.ndim).tolist(), keepdim=True),
    "a buffer": lambda n, x: x * int(n.size),
    "a branch": lambda n, x: x if n.size * x.shape[-1] > 20 else 2 * x,
    "an item of a buffer": lambda n, x: x * n.pair[1:].sum().item(),
    "a slice": lambda n, x: x[..., : int(torch.full((2,), 7)[0])],
    "padding": _padded_to_a_stride,
}


@pytest.mark.parametrize("name", KNOWN)
def test_numbers_that_no_input_changes_are_known(name: str) -> None:
    net, x = Keeps(KNOWN[name]).double().eval(), torch.randn(2, 12, 9, dtype=torch.float64)
    with torch.no_grad():
        expected = Keeps(KNOWN[name]).double()(x[None])[0]
    found = eyeshot.run(net, x, output_format="float64", band=4)
    assert torch.allclose(torch.from_numpy(found), expected, rtol=0, atol=1e-12)


def test_sizes_are_tried_with_known_numbers() -> None:
    """The batch of two too, by which the batch of an odd output is found."""

    def odd(n: Any, x: Tensor) -> Tensor:
        dims = torch.arange(2, x.ndim, device=x.device).tolist()
        y: Tensor = (x - x.mean(dims, keepdim=True)).flip(0, 1).cumsum(3)
        return y.reshape(len(x), 1, int(n.size) - 1, *x.shape[2:])

    net = Keeps(odd).eval()
    assert eyeshot.run(net, torch.randn(2, 12, 9)).shape == (1, 2, 12, 9)
    assert runs_on_shapes(net)((2, 2, 12, 9))


def _written(n: Any, x: Tensor) -> Tensor:
    n.size.copy_(x.mean() > 100)
    return x * int(n.size)


def _written_through_a_view(n: Any, x: Tensor) -> Tensor:
    numbers = torch.zeros(3)
    numbers[1:][0] = x.mean()
    return x * numbers[1].item()


def _written_by_out(n: Any, x: Tensor) -> Tensor:
    numbers = torch.ones(1)
    torch.add(numbers, x.mean(), out=numbers)
    return x * float(numbers)


def _written_to_data(n: Any, x: Tensor) -> Tensor:
    n.pair.data[0] = x.mean()
    return x * float(n.pair.sum())


UNKNOWN: dict[str, Function] = {
    "a buffer that was written": _written,
    "written through a view": _written_through_a_view,
    "written by out": _written_by_out,
    "written to its data": _written_to_data,
    "by chance": lambda n, x: x * int(torch.randint(5, (1,))),
    "chance in place": lambda n, x: x * float(torch.ones(1).uniform_()),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_numbers_that_may_change_are_not_taken_for_known(name: str) -> None:
    with pytest.raises(Unsupported):
        graph_of(Keeps(UNKNOWN[name]).eval(), (2, 8, 8))


class TriesTwice(nn.Module):
    """Calls each layer with lengths, and without if it does not take them, as SpeechBrain does."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Conv2d(2, 3, 3), nn.Sequential(nn.ReLU()), nn.ReLU()])

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            try:
                x = layer(x, lengths=None)
            except TypeError:
                x = layer(x)
        return x


def test_a_network_may_catch_the_error_of_a_layer() -> None:
    net, x = TriesTwice().eval(), torch.randn(2, 12, 9)
    with torch.no_grad():
        expected = net(x[None])[0]
    found = eyeshot.run(net, x, band=4)
    assert torch.allclose(torch.from_numpy(found), expected, rtol=0, atol=1e-5)
    assert [node.layer for node in graph_of(net, (2, 12, 9))][1:] == [
        "layers.0",
        "layers.1.0",
        "layers.2",
    ]
