"""An ONNX file is a network like any other, at every size; onnxruntime says what it gives."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
import torch
from onnx import helper

import eyeshot
from eyeshot.cli import main
from eyeshot.errors import BadValue, Unsupported
from eyeshot.frontends.onnx import load_onnx
from tests.frontends.onnx.files import (
    Array,
    apart,
    exporters_net,
    model_of,
    numbers,
    run_by_onnxruntime,
    saved,
)

node = helper.make_node


@pytest.fixture(scope="module")
def net_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(exporters_net((1, 3, 32, 32)), tmp_path_factory.mktemp("onnx") / "net.onnx")


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (64, 21)])
def test_a_file_made_for_one_size_runs_at_every_size(net_file: Path, size: tuple[int, int]) -> None:
    image = numbers(1, 3, *size, seed=5)
    with torch.no_grad():
        actual = load_onnx(net_file)(torch.from_numpy(image))
    (expected,) = run_by_onnxruntime(onnx.load(net_file), image)
    assert apart(actual, expected) < 1e-5


def test_it_is_streamed_inspected_seen_and_explained(net_file: Path, tmp_path: Path) -> None:
    net, image = eyeshot.load_onnx(net_file), numbers(3, 61, 75, seed=6)
    np.save(tmp_path / "image.npy", image)
    eyeshot.run(net, tmp_path / "image.npy", out=tmp_path / "out.npy", band=8)
    (expected,) = run_by_onnxruntime(onnx.load(net_file), image[None])
    assert apart(np.load(tmp_path / "out.npy"), expected[0]) < 1e-5

    inspection = eyeshot.inspect(net, (3, 61, 75))
    names = [row.name for row in inspection.rows]
    assert {"in_Conv", "in_Relu", "down", "norm", "up", "out"} <= set(names)
    assert inspection.total.parameters == sum(one.numel() for one in net.parameters())
    seen = eyeshot.see(net, image)
    assert {"down", "up"} <= {layer.name for layer in seen.layers}
    trace = eyeshot.explain(net, torch.from_numpy(image), layer="down", unit=(0, 3, 3))
    assert abs(trace.total - float(seen["down"][0, 3, 3])) < 1e-4


def test_every_command_takes_it(
    net_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", str(net_file), "--json"]) == 0
    reported = json.loads(capsys.readouterr().out)
    assert reported["sizes"] == [[3, 32, 32]]
    image = (np.abs(numbers(40, 44, 3)) * 60).clip(0, 255).astype(np.uint8)
    eyeshot.images.write(tmp_path / "image.png", image)
    words = ["run", str(net_file), str(tmp_path / "image.png"), "-o", str(tmp_path / "out.npy")]
    assert main(words) == 0
    scaled = image.transpose(2, 0, 1)[None].astype(np.float32) / 255
    (expected,) = run_by_onnxruntime(onnx.load(net_file), scaled)
    assert apart(np.load(tmp_path / "out.npy"), expected[0]) < 1e-5


def _reshaped(target: list[int], shape: tuple[int | str, ...] = (1, 3, 8, 8)) -> onnx.ModelProto:
    nodes = [
        node("Conv", ["x", "w"], ["a"], "conv", pads=[1, 1, 1, 1]),
        node("Reshape", ["a", "shape"], ["y"], "flat"),
    ]
    return model_of(nodes, {"w": numbers(4, 3, 3, 3), "shape": np.array(target)}, shape=shape)


@pytest.mark.parametrize("batch", [1, "N"])
@pytest.mark.parametrize(
    ("target", "size", "actual"),
    [
        ([1, 4, 64], (10, 12), (1, 4, 120)),
        ([1, 2, 2, 8, 8], (10, 12), (1, 2, 2, 10, 12)),
        ([1, -1], (10, 12), (1, 480)),
        ([-1, 4, 8, 8], (10, 12), (1, 4, 10, 12)),
        ([1, 4, 1, 8, 8], (10, 12), (1, 4, 1, 10, 12)),
        # Four times the pixels are one image still, and not a batch of four.
        ([-1, 256], (16, 16), (1, 1024)),
        ([-1, 4, 8, 8], (16, 16), (1, 4, 16, 16)),
    ],
)
def test_a_shape_written_for_one_size_is_derived_again(
    target: list[int],
    size: tuple[int, int],
    actual: tuple[int, ...],
    batch: int | str,
    tmp_path: Path,
) -> None:
    model = _reshaped(target, (batch, 3, 8, 8))
    net = load_onnx(saved(model, tmp_path / "net.onnx"))
    assert tuple(net(torch.rand(1, 3, *size)).shape) == actual
    if target[0] == -1 and batch == "N":  # in the file, too, the batch is open
        assert tuple(net(torch.rand(5, 3, *size)).shape) == (5, *actual[1:])


def test_a_constant_in_a_computed_shape_is_derived_again(tmp_path: Path) -> None:
    """As tf2onnx repeats rows: the number of rows is a constant, that of columns is not."""
    nodes = [
        node("Conv", ["x", "w"], ["a"], "conv", pads=[1, 1, 1, 1]),
        node("Unsqueeze", ["a", "three"], ["b"], "rows"),
        node("Concat", ["b", "b"], ["c"], "twice", axis=3),
        node("Shape", ["a"], ["shape"]),
        node("Slice", ["shape", "zero", "two"], ["front"], "front"),
        node("Slice", ["shape", "three", "four"], ["back"], "back"),
        node("Concat", ["front", "rows", "back"], ["target"], "target", axis=0),
        node("Reshape", ["c", "target"], ["y"], "repeated"),
    ]
    numbers_of = {"zero": 0, "two": 2, "three": 3, "four": 4, "rows": 16}
    tensors = {name: np.array([one]) for name, one in numbers_of.items()}
    model = model_of(nodes, {"w": numbers(4, 3, 3, 3), **tensors}, shape=("N", 3, 8, 8))
    net = load_onnx(saved(model, tmp_path / "net.onnx"))
    image = numbers(1, 3, 11, 9)
    model.graph.initializer[-1].CopyFrom(onnx.numpy_helper.from_array(np.array([22]), "rows"))
    assert apart(net(torch.from_numpy(image)).detach(), run_by_onnxruntime(model, image)[0]) < 1e-5


def _strided(shape: tuple[int | str, ...], **settings: Any) -> onnx.ModelProto:
    nodes = [
        node("Conv", ["x", "w"], ["a"], "conv", strides=[2, 2], **settings),
        node("MaxPool", ["a"], ["y"], "pool", kernel_shape=[3, 3], strides=[2, 2], **settings),
    ]
    return model_of(nodes, {"w": numbers(4, 3, 3, 3)}, shape=shape)


@pytest.mark.parametrize("pads", [[0, 0, 1, 1], [1, 1, 1, 1]])
@pytest.mark.parametrize("size", [(16, 17), (19, 17), (24, 20), (21, 25)])
def test_pads_that_same_and_explicit_ones_share_are_refused_where_the_two_differ(
    pads: list[int], size: tuple[int, int], tmp_path: Path
) -> None:
    """tf2onnx writes both as ``pads`` alone; at other sizes only explicit ones stay."""
    made_for = 16 if pads[0] == 0 else 17
    image = numbers(1, 3, *size)
    model = _strided(("N", 3, made_for, made_for), pads=pads)
    explicit = run_by_onnxruntime(model, image)[0]
    path = saved(model, tmp_path / "net.onnx")
    assert apart(load_onnx(path)(torch.from_numpy(image)).detach(), explicit) < 1e-5
    model.producer_name = "tf2onnx"
    net = load_onnx(saved(model, path))
    if any((n - made_for) % 4 for n in size):
        with pytest.raises(Unsupported, match=r"(conv|pool) \(\w+\): its pads .* open dimensions"):
            net(torch.from_numpy(image))
        return
    same = _strided(("N", 3, "H", "W"), auto_pad="SAME_UPPER")
    actual = net(torch.from_numpy(image)).detach()
    assert apart(actual, explicit) < 1e-5
    assert apart(actual, run_by_onnxruntime(same, image)[0]) < 1e-5


@pytest.mark.parametrize("settings", [{"pads": [0, 0, 0, 0]}, {}])
def test_pads_of_zero_are_same_and_none_are_valid(settings: Any, tmp_path: Path) -> None:
    def made(shape: tuple[int | str, ...], **pads: Any) -> onnx.ModelProto:
        both: dict[str, Any] = {"strides": [2, 2], **pads}
        nodes = [
            node("Conv", ["x", "w"], ["a"], "conv", **both),
            node("MaxPool", ["a"], ["y"], "pool", kernel_shape=[2, 2], **both),
        ]
        return model_of(nodes, {"w": numbers(4, 3, 2, 2)}, shape=shape)

    model = made((1, 3, 64, 64), **settings)
    model.producer_name = "tf2onnx"
    auto = "SAME_UPPER" if settings else "VALID"
    image = numbers(1, 3, 65, 66)
    actual = load_onnx(saved(model, tmp_path / "net.onnx"))(torch.from_numpy(image)).detach()
    assert actual.shape[2:] == ((17, 17) if settings else (16, 16))
    meant = made((1, 3, "H", "W"), auto_pad=auto)
    assert apart(actual, run_by_onnxruntime(meant, image)[0]) < 1e-5


def test_pads_that_an_exporter_names_explicit_stay(tmp_path: Path) -> None:
    """tf2onnx writes ``auto_pad`` as NOTSET where it takes a layer of zeros into a convolution."""
    model = _strided((1, 3, 16, 16), pads=[0, 0, 1, 1], auto_pad="NOTSET")
    model.producer_name = "tf2onnx"
    image = numbers(1, 3, 19, 17)
    actual = load_onnx(saved(model, tmp_path / "net.onnx"))(torch.from_numpy(image))
    assert apart(actual.detach(), run_by_onnxruntime(model, image)[0]) < 1e-5


def test_a_file_with_every_size_as_a_constant_is_refused_at_others(tmp_path: Path) -> None:
    model = _strided((1, 3, 16, 16), pads=[0, 0, 1, 1])
    model.producer_name = "jax2onnx"
    net = load_onnx(saved(model, tmp_path / "net.onnx"))
    assert tuple(net(torch.rand(1, 3, 16, 16)).shape) == (1, 4, 4, 4)
    with pytest.raises(Unsupported, match=r"made for 1x3x16x16: .* open dimensions"):
        net(torch.rand(1, 3, 32, 32))


@pytest.mark.parametrize(
    ("kind", "number", "stride", "refused"),
    [
        *(("Div", 16.0, 1, True), ("Mul", 16.0, 1, True), ("Max", 256.0, 1, True)),
        *(("Div", 15.0, 1, False), ("Mul", 4.0, 1, False)),
        # Of an image of 16 positions, the map has 8, which is a size only where it divides.
        *(("Div", 8.0, 2, True), ("Div", 64.0, 2, True), ("Mul", 8.0, 2, False)),
        *(("Max", 8.0, 2, False), ("Mul", 16.0, 2, True)),
    ],
)
def test_a_number_that_is_the_size_of_the_map_is_refused_at_others(
    kind: str, number: float, stride: int, refused: bool, tmp_path: Path
) -> None:
    """As exporters write ``x / x.shape[-1]``."""
    model = model_of(
        [
            node("Conv", ["x", "w"], ["a"], "conv", strides=[stride] * 2),
            node(kind, ["a", "n"], ["y"], "scaled"),
        ],
        {"w": numbers(4, 3, 1, 1), "n": np.array(number, np.float32)},
        shape=("N", 3, 16, 16),
    )
    net = load_onnx(saved(model, tmp_path / "net.onnx"))
    image = numbers(1, 3, 16, 16)
    right = run_by_onnxruntime(model, image)[0]
    assert apart(net(torch.from_numpy(image)).detach(), right) < 1e-5
    other = numbers(1, 3, 20, 24)
    if refused:
        with pytest.raises(Unsupported, match=rf"scaled \({kind}\): its constant .* size of the"):
            net(torch.from_numpy(other))
    else:
        right = run_by_onnxruntime(model, other)[0]
        assert apart(net(torch.from_numpy(other)).detach(), right) < 1e-5
    with pytest.warns(UserWarning, match="was exported for 3x16x16 alone"):
        eyeshot.run(
            load_onnx(saved(_strided((1, 3, 16, 16)), tmp_path / "b.onnx")), image[0][:, :9]
        )


@pytest.mark.parametrize(
    ("kind", "number", "size", "refused"),
    [
        *(("Div", 32.0, (24, 20), False), ("Div", 12.0, (24, 20), True)),
        *(("Mul", 16.0, (16, 20), False), ("Mul", 12.0, (16, 20), True)),
    ],
)
def test_the_channels_of_a_map_with_channels_last_are_no_size_of_it(
    kind: str, number: float, size: tuple[int, int], refused: bool, tmp_path: Path
) -> None:
    """A height that is the same is none either."""
    nodes = [
        node("MatMul", ["x", "w"], ["a"], "channels"),
        node(kind, ["a", "n"], ["y"], "scaled"),
    ]
    tensors = {"w": numbers(3, 32), "n": np.array(number, np.float32)}
    model = model_of(nodes, tensors, shape=(1, 16, 12, 3))
    net, image = load_onnx(saved(model, tmp_path / "net.onnx")), numbers(1, 3, *size)
    if refused:
        with pytest.raises(Unsupported, match=r"scaled .* is a size of the"):
            net(torch.from_numpy(image))
        return
    expected = run_by_onnxruntime(model, np.ascontiguousarray(image.transpose(0, 2, 3, 1)))[0]
    assert apart(net(torch.from_numpy(image)).detach(), expected) < 1e-5


def test_a_shape_that_only_one_size_has_is_named(tmp_path: Path) -> None:
    net = load_onnx(saved(_reshaped([1, 4, 4, 16]), tmp_path / "net.onnx"))
    assert tuple(net(torch.rand(1, 3, 8, 8)).shape) == (1, 4, 4, 16)
    with pytest.raises(Unsupported, match=r"flat \(Reshape\).* 1x4x4x16 .*dynamic axes"):
        net(torch.rand(1, 3, 8, 10))


def test_a_batch_that_was_written_into_it_is_freed(tmp_path: Path) -> None:
    net = load_onnx(saved(_reshaped([5, -1], (5, 3, 8, 8)), tmp_path / "net.onnx"))
    assert tuple(net(torch.rand(1, 3, 8, 8)).shape) == (1, 256)


def test_a_size_to_resize_to_is_named_and_so_is_one_upstream(tmp_path: Path) -> None:
    nodes = [
        node("Conv", ["x", "w"], ["a"], "down", strides=[2, 2], pads=[1, 1, 1, 1]),
        node("Resize", ["a", "", "", "sizes"], ["b"], "up", mode="nearest"),
        node("Add", ["b", "x"], ["y"], "join"),
    ]
    tensors = {"w": numbers(3, 3, 3, 3), "sizes": np.array([1, 3, 8, 8])}
    fixed = load_onnx(saved(model_of(nodes, tensors, shape=(1, 3, 8, 8)), tmp_path / "a.onnx"))
    assert tuple(fixed(torch.rand(1, 3, 8, 8)).shape) == (1, 3, 8, 8)
    with pytest.raises(Unsupported, match=r"up \(Resize\): .*1x3x8x8.*dynamic axes"):
        fixed(torch.rand(1, 3, 10, 8))
    free = load_onnx(saved(model_of(nodes, tensors), tmp_path / "b.onnx"))
    with pytest.raises(Unsupported, match=r"join \(Add\).*up \(Resize\) has the size 1x3x8x8"):
        free(torch.rand(1, 3, 10, 8))


def test_what_is_given_is_checked(net_file: Path) -> None:
    net = load_onnx(net_file)
    with pytest.raises(BadValue, match="takes 1 inputs"):
        net(torch.rand(1, 3, 8, 8), torch.rand(1))
    with pytest.raises(BadValue, match="1x3x32x32"):
        net(torch.rand(3, 8, 8))


def test_channels_last_files_take_images_as_everywhere(tmp_path: Path) -> None:
    nodes = [
        node("Transpose", ["x"], ["a"], "front", perm=[0, 3, 1, 2]),
        node("Conv", ["a", "w"], ["b"], "conv", auto_pad="SAME_UPPER", strides=[2, 2]),
        node("Transpose", ["b"], ["y"], "back", perm=[0, 2, 3, 1]),
    ]
    model = model_of(nodes, {"w": numbers(5, 3, 3, 3)}, shape=(1, 32, 32, 3))
    net = load_onnx(saved(model, tmp_path / "from_keras.onnx"))
    assert (type(net).__name__, net.declared) == ("from_keras", ((3, 32, 32),))
    assert net.one_size == ((3, 32, 32),)
    with warnings.catch_warnings():  # at its own size it has nothing to say
        warnings.simplefilter("error")
        eyeshot.run(net, numbers(3, 32, 32))
    image = numbers(3, 41, 30)
    np.save(tmp_path / "image.npy", image)
    eyeshot.run(net, tmp_path / "image.npy", out=tmp_path / "out.npy", band=8)
    (expected,) = run_by_onnxruntime(model, np.ascontiguousarray(image.transpose(1, 2, 0))[None])
    assert apart(np.load(tmp_path / "out.npy"), expected[0]) < 1e-5
    assert eyeshot.inspect(net, (3, 41, 30)).graph.inputs == ("x",)


def test_channels_first_files_of_few_columns_are_not_taken_for_channels_last(
    tmp_path: Path,
) -> None:
    """As of sound: 8 channels, any time, 3 frequencies."""
    nodes = [node("Conv", ["x", "w"], ["y"], "conv", pads=[1, 1, 1, 1])]
    model = model_of(nodes, {"w": numbers(5, 8, 3, 3)}, shape=(1, 8, "T", 3))
    net, image = load_onnx(saved(model, tmp_path / "net.onnx")), numbers(1, 8, 20, 3)
    assert net.declared == ((8, None, 3),)
    expected = run_by_onnxruntime(model, image)[0]
    assert apart(net(torch.from_numpy(image)).detach(), expected) < 1e-5


def test_quantized_networks_compute_what_the_integers_stand_for(tmp_path: Path) -> None:
    kernel = np.random.default_rng(0).integers(-90, 90, (4, 3, 3, 3)).astype(np.int8)
    nodes = [
        node("QuantizeLinear", ["x", "s", "z"], ["q"], "q"),
        node("DequantizeLinear", ["q", "s", "z"], ["d"], "d"),
        node("DequantizeLinear", ["w", "ws", "wz"], ["v"], "v", axis=0),
        node("Conv", ["d", "v"], ["y"], "conv", pads=[1, 1, 1, 1]),
    ]
    tensors: dict[str, Array] = {
        **{"s": np.array(0.02, np.float32), "z": np.array(120, np.uint8), "w": kernel},
        **{"ws": np.full(4, 0.01, np.float32), "wz": np.zeros(4, np.int8)},
    }
    model = model_of(nodes, tensors)
    image = numbers(1, 3, 19, 23)
    net = load_onnx(saved(model, tmp_path / "int8.onnx"))
    whole = net(torch.from_numpy(image))
    assert apart(whole, run_by_onnxruntime(model, image)[0]) < 1e-5
    np.save(tmp_path / "image.npy", image[0])
    with pytest.warns(UserWarning, match="rounds to whole numbers"):
        eyeshot.run(net, tmp_path / "image.npy", out=tmp_path / "out.npy", band=4)
    assert apart(np.load(tmp_path / "out.npy"), whole[0]) < 1e-5


def _narrow(name: str, kind: int, shape: Sequence[int], lowest: int, most: int) -> Any:
    found = np.random.default_rng(0).integers(lowest, most, shape)
    return helper.make_tensor(name, kind, list(shape), found.reshape(-1).tolist())


@pytest.mark.parametrize(
    ("kind", "lowest", "most", "block"),
    [
        (onnx.TensorProto.INT4, -8, 8, 0),
        (onnx.TensorProto.INT4, -8, 8, 2),
        (onnx.TensorProto.UINT4, 0, 16, 3),
        (onnx.TensorProto.UINT16, 0, 1 << 16, 0),
        (onnx.TensorProto.INT8, -128, 128, 2),
    ],
)
def test_weights_of_few_bits_by_tensor_axis_or_block(
    kind: int, lowest: int, most: int, block: int, tmp_path: Path
) -> None:
    shape = [4, -(-5 // block), 3, 3] if block else [4]
    settings: dict[str, Any] = {"axis": 1, "block_size": block} if block else {"axis": 0}
    nodes = [
        node("Conv", ["x", "first"], ["a"], "first"),
        node("DequantizeLinear", ["w", "s", "z"], ["v"], "values", **settings),
        node("Conv", ["a", "v"], ["y"], "conv", pads=[1, 1, 1, 1]),
    ]
    tensors = {"first": numbers(5, 3, 1, 1), "s": np.abs(numbers(*shape))}
    model = model_of(nodes, tensors, opset=21)
    model.graph.initializer.append(_narrow("w", kind, [4, 5, 3, 3], lowest, most))
    model.graph.initializer.append(_narrow("z", kind, shape, lowest, most))
    net, image = load_onnx(saved(model, tmp_path / "net.onnx")), numbers(1, 3, 19, 23)
    expected = run_by_onnxruntime(model, image)[0]
    assert apart(net(torch.from_numpy(image)).detach(), expected) < 1e-5
    assert apart(eyeshot.run(net, torch.from_numpy(image[0])), expected[0]) < 1e-5


@pytest.mark.parametrize("kind", [onnx.TensorProto.UINT16, onnx.TensorProto.INT4])
def test_numbers_are_quantized_to_the_range_of_a_narrow_type(kind: int, tmp_path: Path) -> None:
    nodes = [
        node("QuantizeLinear", ["x", "s", "z"], ["q"], "q"),
        node("DequantizeLinear", ["q", "s", "z"], ["y"], "d"),
    ]
    model = model_of(nodes, {"s": np.array(0.1, np.float32)}, opset=21)
    model.graph.initializer.append(helper.make_tensor("z", kind, [], [5]))
    image = numbers(1, 3, 9, 11, scale=3.0)
    net = load_onnx(saved(model, tmp_path / "net.onnx"))
    assert apart(net(torch.from_numpy(image)), run_by_onnxruntime(model, image)[0]) < 1e-6
    model.graph.node.insert(1, node("Neg", ["q"], ["n"], "negative"))
    model.graph.node[2].input[0] = "n"
    with pytest.raises(Unsupported, match=r"input q of negative \(Neg\) is of type"):
        load_onnx(saved(model, tmp_path / "computed.onnx"))


def test_numbers_are_quantized_to_a_narrow_type_in_a_branch(tmp_path: Path) -> None:
    def quantized(out: str) -> list[onnx.NodeProto]:
        return [
            node("QuantizeLinear", ["x", "s", "z"], [f"q_{out}"], f"q_{out}"),
            node("DequantizeLinear", [f"q_{out}", "s", "z"], [out], f"d_{out}"),
        ]

    made = helper.make_tensor_value_info("b", onnx.TensorProto.FLOAT, None)
    then = helper.make_graph(quantized("b"), "then", [], [made])
    other = helper.make_graph([node("Neg", ["x"], ["b"], "negative")], "else", [], [made])
    branches = {"then_branch": then, "else_branch": other}
    nodes = [
        node("Shape", ["x"], ["shape"]),
        node("Size", ["shape"], ["rank"]),
        node("Equal", ["rank", "four"], ["is"]),
        node("If", ["is"], ["y"], "choice", **branches),
    ]
    zero = helper.make_tensor("z", onnx.TensorProto.INT4, [], [5])
    scale = {"s": np.array(0.1, np.float32)}
    chosen = model_of(nodes, {**scale, "four": np.array(4)}, opset=21)
    plain = model_of(quantized("y"), scale, opset=21)
    for model in (chosen, plain):
        model.graph.initializer.append(zero)
    image = numbers(1, 3, 9, 11, scale=3.0)
    expected = run_by_onnxruntime(plain, image)[0]
    assert np.abs(expected).max() < 1.5  # 4 bits
    net = load_onnx(saved(chosen, tmp_path / "net.onnx"))
    assert apart(net(torch.from_numpy(image)), expected) < 1e-6


def test_bfloat16_weights_are_read_and_bfloat16_arithmetic_is_refused(tmp_path: Path) -> None:
    nodes = [node("Cast", ["w"], ["v"], "cast", to=1), node("Conv", ["x", "v"], ["y"], "conv")]
    model = model_of(nodes, {"w": numbers(4, 3, 3, 3).astype(ml_dtypes.bfloat16)}, opset=22)
    net, image = load_onnx(saved(model, tmp_path / "net.onnx")), numbers(1, 3, 9, 11)
    actual = net(torch.from_numpy(image)).detach()
    assert apart(actual, run_by_onnxruntime(model, image)[0]) < 1e-5
    model.graph.node[1].input[1] = "w"
    with pytest.raises(Unsupported, match=r"w of conv \(Conv\) is of type BFLOAT16; .*float32"):
        load_onnx(saved(model, tmp_path / "computed.onnx"))


@pytest.mark.parametrize("opset", [13, 17, 21])
def test_a_network_that_quantizes_itself_by_each_image(opset: int, tmp_path: Path) -> None:
    # Unsigned, as onnxruntime 1.22 has no kernel for signed weights.
    kernel = np.random.default_rng(0).integers(38, 218, (4, 3, 3, 3)).astype(np.uint8)
    nodes = [
        node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"], "image"),
        node("ConvInteger", ["q", "w", "z", "wz"], ["a"], "conv", pads=[1, 1, 1, 1]),
        node("Cast", ["a"], ["b"], "float", to=1),
        node("Mul", ["b", "s"], ["c"], "scale"),
        # A bias in integers, as onnxruntime's quantizer writes it in old opsets.
        node("DequantizeLinear", ["bias", "bs", "bz"], ["d"], "bias", axis=0),
        node("Add", ["c", "d"], ["y"], "add"),
    ]
    tensors: dict[str, Array] = {
        "w": kernel,
        "wz": np.array(128, np.uint8),
        "bias": np.arange(4, dtype=np.int32).reshape(4, 1, 1),
        **{"bs": np.array(0.5, np.float32), "bz": np.array(0, np.int32)},
    }
    model = model_of(nodes, tensors, opset=opset)
    image = numbers(1, 3, 19, 23)
    net = load_onnx(saved(model, tmp_path / "net.onnx"))
    expected = run_by_onnxruntime(model, image)[0]
    assert apart(net(torch.from_numpy(image)), expected) < 1e-5
    with pytest.warns(UserWarning, match="rounds to whole numbers"):
        actual = eyeshot.run(net, torch.from_numpy(image[0]))
    assert apart(actual, expected[0]) < 1e-5


@pytest.mark.parametrize("shape", [(), (1,), (1, 1, 1, 1)])
def test_constants_of_one_number_are_converted_with_the_weights(
    shape: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    nodes = [
        node("Conv", ["x", "w"], ["a"], "first"),
        node("Mul", ["a", "half"], ["b"], "half"),
        node("Conv", ["b", "v", "bias"], ["y"], "last"),
    ]
    tensors = {"w": numbers(4, 3, 3, 3), "v": numbers(1, 4, 3, 3), "bias": numbers(1)}
    model = model_of(nodes, {**tensors, "half": np.full(shape, 0.5, np.float32)})
    net, image = load_onnx(saved(model, tmp_path / "net.onnx")), numbers(1, 3, 19, 23)
    expected = run_by_onnxruntime(model, image)[0]
    found = eyeshot.run(net, torch.from_numpy(image[0]), precision="bf16")
    assert 1e-4 < apart(found, expected[0]) < 2e-2
    assert apart(net.double()(torch.from_numpy(image).double()).detach(), expected) < 1e-5


def test_a_convolution_with_weights_of_another_type_is_named(tmp_path: Path) -> None:
    """A trace accepts it; torch's kernel would end in a traceback."""
    nodes = [node("Cast", ["w"], ["v"], "cast", to=6), node("Conv", ["x", "v"], ["y"], "conv")]
    net = load_onnx(saved(model_of(nodes, {"w": numbers(4, 3, 3, 3)}), tmp_path / "net.onnx"))
    with pytest.raises(Unsupported, match="conv is given numbers in float32 and int32; convert"):
        eyeshot.run(net, torch.rand(3, 9, 11))


def test_an_if_is_folded_where_its_condition_is_known(tmp_path: Path) -> None:
    value = helper.make_tensor_value_info("b", onnx.TensorProto.FLOAT, None)
    value.type.tensor_type.ClearField("shape")
    branches = {
        f"{name}_branch": helper.make_graph([node(kind, ["x"], ["b"], kind)], name, [], [value])
        for name, kind in (("then", "Relu"), ("else", "Neg"))
    }
    nodes = [
        node("Shape", ["x"], ["shape"]),
        node("Size", ["shape"], ["rank"]),
        node("Equal", ["rank", "four"], ["is"]),
        node("If", ["is"], ["y"], "choice", **branches),
    ]
    model = model_of(nodes, {"four": np.array(4)})
    net = load_onnx(saved(model, tmp_path / "net.onnx"))
    image = numbers(1, 3, 5, 6)
    assert apart(net(torch.from_numpy(image)), np.maximum(image, 0)) == 0


def test_half_precision_is_kept(tmp_path: Path) -> None:
    nodes = [node("Conv", ["x", "w"], ["y"], "conv")]
    model = model_of(nodes, {"w": numbers(4, 3, 3, 3).astype(np.float16)})
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    net = load_onnx(saved(model, tmp_path / "net.onnx"))
    image = numbers(1, 3, 9, 9).astype(np.float16)
    actual = net(torch.from_numpy(image))
    assert actual.dtype == torch.float16
    assert apart(actual.detach(), run_by_onnxruntime(model, image)[0]) < 2e-3
    assert eyeshot.inspect(net, (3, 9, 9)).graph.nodes["conv"].dtype == "float16"


def test_a_classifier_of_it_is_made_dense(tmp_path: Path) -> None:
    nodes = [
        node("Conv", ["x", "w"], ["a"], "conv"),
        node("Relu", ["a"], ["b"], "relu"),
        node("MaxPool", ["b"], ["c"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        node("Reshape", ["c", "flat"], ["d"], "flat"),
        node("Gemm", ["d", "g", "h"], ["y"], "head", transB=1),
    ]
    tensors = {"w": numbers(4, 1, 3, 3), "g": numbers(10, 100), "h": numbers(10)}
    tensors["flat"] = np.array([1, 100])
    model = model_of(nodes, tensors, shape=(1, 1, 12, 12), rank=2)
    net = load_onnx(saved(model, tmp_path / "digits.onnx"))
    dense = eyeshot.dense(net, (1, 12, 12))
    image = numbers(1, 1, 30, 27)
    with torch.no_grad():
        scores = dense(torch.from_numpy(image))
    crop = np.ascontiguousarray(image[:, :, 6:18, 8:20])
    assert apart(scores[0, :, 3, 4], run_by_onnxruntime(model, crop)[0][0]) < 1e-5
