"""Small ONNX files, made by hand; and what onnxruntime makes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper, numpy_helper

Array = NDArray[Any]


def model_of(
    nodes: Sequence[onnx.NodeProto],
    tensors: Mapping[str, Array] | None = None,
    *,
    shape: Sequence[int | str] = ("N", 3, "H", "W"),
    rank: int = 4,
    opset: int = 17,
) -> onnx.ModelProto:
    """A model of one float32 input ``x`` and one output ``y`` of ``rank`` dimensions."""
    dims = [f"y{place}" for place in range(rank)]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, list(shape))],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, dims)],
        [numpy_helper.from_array(np.asarray(one), name) for name, one in (tensors or {}).items()],
    )
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=min(10, opset)
    )


def numbers(*shape: int, seed: int = 0, scale: float = 1.0) -> Array:
    """Normal random numbers, float32."""
    found: Array = np.random.default_rng(seed).normal(size=shape).astype(np.float32) * scale
    return found


def exporters_net(shape: Sequence[int | str] = ("N", 3, "H", "W")) -> onnx.ModelProto:
    """A small U-Net as exporters leave it: its way up is resized to a size that Shape gives."""
    node = helper.make_node
    return model_of(
        [
            node("Conv", ["x", "w1", "b1"], ["a"], name="/in/Conv", pads=[1, 1, 1, 1]),
            node("Relu", ["a"], ["b"], name="/in/Relu"),
            node("Conv", ["b", "w2"], ["c"], "down", auto_pad="SAME_UPPER", strides=[2, 2]),
            node("BatchNormalization", ["c", "s", "o", "m", "v"], ["d"], "norm"),
            node("Shape", ["b"], ["shape"]),
            node("Gather", ["shape", "two"], ["height"]),
            node("Gather", ["shape", "three"], ["width"]),
            node("Unsqueeze", ["height", "zero"], ["h1"]),
            node("Unsqueeze", ["width", "zero"], ["w1d"]),
            node("Shape", ["d"], ["inner"]),
            node("Slice", ["inner", "zero", "two_"], ["front"]),
            node("Concat", ["front", "h1", "w1d"], ["sizes"], axis=0),
            node(
                "Resize",
                ["d", "", "", "sizes"],
                ["up"],
                "up",
                mode="linear",
                coordinate_transformation_mode="half_pixel",
            ),
            node("Concat", ["up", "b"], ["both"], axis=1),
            node("Conv", ["both", "w3"], ["y"], "out"),
        ],
        {
            "w1": numbers(4, 3, 3, 3),
            "b1": numbers(4),
            "w2": numbers(6, 4, 3, 3, seed=1),
            **{"s": numbers(6) ** 2, "o": numbers(6), "m": numbers(6), "v": numbers(6) ** 2 + 0.5},
            "w3": numbers(2, 10, 1, 1, seed=2),
            "zero": np.array([0]),
            "two": np.array(2),
            "three": np.array(3),
            "two_": np.array([2]),
        },
        shape=shape,
    )


def saved(model: onnx.ModelProto, path: Path) -> Path:
    """The model in a file."""
    path.write_bytes(model.SerializeToString())
    return path


def run_by_onnxruntime(model: onnx.ModelProto, image: Array) -> list[Array]:
    """The outputs of a model, freed of the sizes that are declared in it."""
    free = onnx.ModelProto()
    free.CopyFrom(model)
    for place, dim in enumerate(free.graph.input[0].type.tensor_type.shape.dim):
        dim.dim_param = f"d{place}"
    del free.graph.value_info[:]
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    session = onnxruntime.InferenceSession(free.SerializeToString(), options)
    found: list[Array] = session.run(None, {free.graph.input[0].name: image})
    return found


def apart(one: Any, other: Any) -> float:
    """The largest difference, beside the largest number of the second."""
    a, b = np.asarray(one, np.float64), np.asarray(other, np.float64)
    assert a.shape == b.shape
    return float(np.abs(a - b).max() / max(1e-9, np.abs(b).max()))
