"""Damaged, hostile and foreign ONNX files: one line each, without a traceback, memory or time."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from tools.fuzzing.changes import bend_onnx
from torch._subclasses import FakeTensorMode

from eyeshot.cli import main
from eyeshot.errors import BadFile, EyeshotError, Unsupported
from eyeshot.frontends.onnx import load_onnx
from tests.frontends.onnx.files import exporters_net, model_of, numbers, saved

node = helper.make_node
Change = Callable[[onnx.ModelProto], None]


def _conv() -> onnx.ModelProto:
    nodes = [node("Conv", ["x", "w"], ["a"], "first"), node("Relu", ["a"], ["y"], "last")]
    return model_of(nodes, {"w": numbers(4, 3, 3, 3)})


def _external(model: onnx.ModelProto, location: str, length: int | None = None) -> None:
    tensor = model.graph.initializer[0]
    entries = {"location": location, "offset": "0"}
    entries |= {"length": str(4 * 108 if length is None else length)}
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)


def _cycle(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[0] = "y"


def _twice(model: onnx.ModelProto) -> None:
    model.graph.node[1].output[0] = "a"


def _sequence(model: onnx.ModelProto) -> None:
    kind = helper.make_tensor_type_proto(TensorProto.FLOAT, [1])
    model.graph.input[0].type.CopyFrom(helper.make_sequence_type_proto(kind))


def _optional(model: onnx.ModelProto) -> None:
    kind = helper.make_tensor_type_proto(TensorProto.FLOAT, [1])
    model.graph.input[0].type.CopyFrom(helper.make_optional_type_proto(kind))


def _custom(model: onnx.ModelProto) -> None:
    model.graph.node[1].domain, model.graph.node[1].op_type = "my.lab", "Sharpen"
    model.opset_import.append(helper.make_opsetid("my.lab", 1))


def _lstm(model: onnx.ModelProto) -> None:
    model.graph.node.insert(1, node("LSTM", ["a", "w", "w"], ["h"], "memory", hidden_size=4))


def _short(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].raw_data = b"1234"


def _huge(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].dims[:] = [1 << 40, 1 << 20]


def _type(model: onnx.ModelProto) -> None:
    tensor = numpy_helper.from_array(np.zeros((4, 3, 3, 3), np.complex64), "w")
    model.graph.initializer[0].CopyFrom(tensor)


def _opset(version: int) -> Change:
    def change(model: onnx.ModelProto) -> None:
        model.opset_import[0].version = version

    return change


def _calls_itself(model: onnx.ModelProto) -> None:
    body = [node("Twice", ["p"], ["q"], domain="own")]
    opsets = [helper.make_opsetid("own", 1)]
    model.functions.append(helper.make_function("own", "Twice", ["p"], ["q"], body, opsets))
    model.opset_import.append(opsets[0])
    model.graph.node[1].op_type, model.graph.node[1].domain = "Twice", "own"


def _many_calls(model: onnx.ModelProto) -> None:
    """Each function calls the one before twice: 2^40 nodes."""
    opsets = [helper.make_opsetid("own", 1), helper.make_opsetid("", 17)]
    model.opset_import.append(opsets[0])
    for level in range(40):
        inner, domain = (f"F{level - 1}", "own") if level else ("Relu", "")
        body = [
            node(inner, ["p"], ["r"], domain=domain),
            node(inner, ["r"], ["q"], domain=domain),
        ]
        function = helper.make_function("own", f"F{level}", ["p"], ["q"], body, opsets)
        model.functions.append(function)
    model.graph.node[1].op_type, model.graph.node[1].domain = "F39", "own"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_cycle, "topologically sorted"),
        (_twice, "single static assignment"),
        (_sequence, "x is a sequence"),
        (_optional, "x is an optional"),
        (_custom, "last is Sharpen of my.lab"),
        (_lstm, r"memory \(LSTM\): it carries a state"),
        (_short, "w|raw_data"),
        (_huge, "w|raw_data"),
        (_type, "tensor w is of type COMPLEX64"),
        (_opset(6), "opset 6"),
        (_opset(999), "opset 999"),
        (_calls_itself, "calls itself|recursi"),
        (_many_calls, "more than 100,000 nodes"),
        (lambda model: _external(model, "../w.bin"), "outside of its folder"),
        (lambda model: _external(model, "/etc/passwd"), "outside of its folder"),
        (lambda model: _external(model, "absent.bin"), "missing"),
        (lambda model: _external(model, "linked.bin"), "behind a link"),
        (lambda model: _external(model, "folder/w.bin"), "behind a link"),
        (lambda model: _external(model, "hard.bin"), "behind a link"),
        (lambda model: _external(model, "w.bin", 400), "400 bytes .* 432 are needed"),
        (lambda model: _external(model, "short.bin"), "432 bytes at 0 of 9"),
    ],
)
def test_each_is_refused_in_one_line(
    change: Change, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "w.bin").write_bytes(numbers(4, 3, 3, 3).tobytes())
    (tmp_path / "short.bin").write_bytes(b"123456789")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "w.bin").write_bytes(bytes(432))
    (tmp_path / "linked.bin").symlink_to(tmp_path / "w.bin")
    (tmp_path / "folder").symlink_to(tmp_path / "elsewhere")
    os.link(tmp_path / "elsewhere" / "w.bin", tmp_path / "hard.bin")
    model = _conv()
    change(model)
    path = saved(model, tmp_path / "net.onnx")
    with pytest.raises((BadFile, Unsupported), match=said) as caught:
        load_onnx(path)
    assert "\n" not in str(caught.value)
    assert main(["inspect", str(path), "--size", "3x16x16"]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_external_data_beside_it_are_read(tmp_path: Path) -> None:
    model = _conv()
    plain = load_onnx(saved(model, tmp_path / "plain.onnx"))
    (tmp_path / "data").mkdir()
    weights = numpy_helper.to_array(model.graph.initializer[0])
    (tmp_path / "data" / "w.bin").write_bytes(weights.tobytes())
    _external(model, "data/w.bin")
    net = load_onnx(saved(model, tmp_path / "net.onnx"))
    image = torch.rand(1, 3, 9, 9)
    assert torch.equal(net(image), plain(image))


def test_what_is_no_onnx_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="no such file"):
        load_onnx(tmp_path / "absent.onnx")
    for content in (b"", b"\x00" * 100, b"PK\x03\x04 a zip", Random(0).randbytes(500)):
        (tmp_path / "net.onnx").write_bytes(content)
        with pytest.raises((BadFile, Unsupported)):
            load_onnx(tmp_path / "net.onnx")


def test_a_constant_that_is_said_to_be_huge_is_not_made(tmp_path: Path) -> None:
    nodes = [
        node("ConstantOfShape", ["shape"], ["ones"], "fill"),
        node("Concat", ["ones", "ones"], ["many"], "more", axis=0),
        node("ReduceSum", ["many"], ["one"], "sum"),
        node("Add", ["x", "one"], ["y"], "last"),
    ]
    model = model_of(nodes, {"shape": np.array([1 << 20, 1 << 20])})
    with pytest.raises(Unsupported, match=r"fill \(ConstantOfShape\): makes 1,099,511,627,776"):
        load_onnx(saved(model, tmp_path / "net.onnx"))(torch.rand(1, 3, 4, 4))


def test_changed_files_are_read_or_refused(tmp_path: Path) -> None:
    content = exporters_net((1, 3, 12, 12)).SerializeToString()
    path, refusals = tmp_path / "net.onnx", []
    started = time.process_time()
    for number in range(60):
        path.write_bytes(bend_onnx(Random(number), content))
        try:
            with torch.no_grad(), FakeTensorMode(allow_non_fake_inputs=True):
                load_onnx(path)(torch.empty(1, 3, 12, 12))
        except EyeshotError as reason:
            refusals.append(str(reason))
    assert time.process_time() - started < 60
    assert 20 < len(refusals) < 57
    assert not any("\n" in one for one in refusals)
