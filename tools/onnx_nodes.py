"""Random single nodes of ONNX, of every opset, held against onnxruntime.

    python -m tools.onnx_nodes [--seed 0] [--count 2000] [--only Resize]

Each has random settings, among them many that exporters never write. Where onnxruntime refuses
them, they are skipped. What Eyeshot gives must be the same, or refused in words; the exit code is 1
where it is not.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from eyeshot.errors import EyeshotError
from eyeshot.frontends.onnx import OnnxNetwork
from eyeshot.frontends.onnx.reading import graph_of_model

Array = NDArray[Any]
_APART = 1e-4
"""Beside the largest number, between two libraries."""


@dataclass
class Drawn:
    """A node as it was drawn: its operator, settings, stored inputs after the first, and image.

    An input that is None is left out.
    """

    kind: str
    opset: int
    image: Array
    settings: dict[str, Any] = field(default_factory=dict)
    stored: list[Array | None] = field(default_factory=list)
    outputs: int = 1

    @property
    def model(self) -> onnx.ModelProto:
        """The node as a model."""
        names = [f"s{place}" if one is not None else "" for place, one in enumerate(self.stored)]
        given = [f"y{place}" for place in range(self.outputs)]
        node = helper.make_node(self.kind, ["x", *names], given, self.kind, **self.settings)
        kind = helper.np_dtype_to_tensor_dtype(self.image.dtype)
        graph = helper.make_graph(
            [node],
            "one",
            [helper.make_tensor_value_info("x", kind, [None] * self.image.ndim)],
            [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in given],
            [
                numpy_helper.from_array(one, f"s{place}")
                for place, one in enumerate(self.stored)
                if one is not None
            ],
        )
        for output in graph.output:
            output.ClearField("type")
        opsets = [helper.make_opsetid("", self.opset)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)


Draw = Callable[[Random, Drawn], None]


def _noise(chance: Random, *shape: int) -> Array:
    seed = chance.randrange(1 << 30)
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def _sides(chance: Random, least: int = 5, most: int = 14) -> tuple[int, int]:
    return chance.randint(least, most), chance.randint(least, most)


def _window(chance: Random, drawn: Drawn, *, dilates: bool) -> list[int]:
    kernel = [chance.randint(1, 4), chance.randint(1, 4)]
    drawn.settings["strides"] = [chance.randint(1, 3), chance.randint(1, 3)]
    if dilates and chance.random() < 0.4:
        drawn.settings["dilations"] = [chance.randint(1, 3), chance.randint(1, 3)]
    auto = chance.choice(("", "", "SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET"))
    if auto:
        drawn.settings["auto_pad"] = auto
    if auto in ("", "NOTSET") and chance.random() < 0.7:
        drawn.settings["pads"] = [chance.randint(0, max(0, k - 1)) for k in kernel * 2]
    return kernel


def _conv(chance: Random, drawn: Drawn) -> None:
    groups = chance.choice((1, 1, 2, 4))
    kernel = _window(chance, drawn, dilates=True)
    drawn.image = _noise(chance, 2, 4, *_sides(chance, 9, 14))
    drawn.stored = [_noise(chance, 8, 4 // groups, *kernel)]
    drawn.stored += [_noise(chance, 8)] if chance.random() < 0.5 else []
    drawn.settings["group"] = groups


def _transposed(chance: Random, drawn: Drawn) -> None:
    groups = chance.choice((1, 1, 2))
    kernel = _window(chance, drawn, dilates=True)
    drawn.image = _noise(chance, 1, 4, *_sides(chance, 3, 8))
    drawn.stored = [_noise(chance, 4, 3, *kernel)]
    drawn.stored += [_noise(chance, 3 * groups)] if chance.random() < 0.5 else []
    drawn.settings["group"] = groups
    strides = drawn.settings["strides"]
    if chance.random() < 0.4:
        drawn.settings["output_padding"] = [chance.randint(0, s - 1) for s in strides]
    if chance.random() < 0.2 and "pads" not in drawn.settings:
        sides = zip(drawn.image.shape[2:], strides, strict=True)
        drawn.settings["output_shape"] = [n * s + chance.randint(-1, 1) for n, s in sides]


def _max_pool(chance: Random, drawn: Drawn) -> None:
    kernel = _window(chance, drawn, dilates=drawn.opset >= 10)
    drawn.settings["kernel_shape"] = kernel
    drawn.image = _noise(chance, 2, 3, *_sides(chance, 10, 15))
    if drawn.opset >= 10 and chance.random() < 0.5:
        drawn.settings["ceil_mode"] = 1


def _average_pool(chance: Random, drawn: Drawn) -> None:
    kernel = _window(chance, drawn, dilates=drawn.opset >= 19)
    drawn.settings["kernel_shape"] = kernel
    drawn.image = _noise(chance, 2, 3, *_sides(chance, 10, 15))
    drawn.settings["count_include_pad"] = chance.randint(0, 1)
    if drawn.opset >= 10 and chance.random() < 0.5:
        drawn.settings["ceil_mode"] = 1


def _lp_pool(chance: Random, drawn: Drawn) -> None:
    kernel = _window(chance, drawn, dilates=drawn.opset >= 18)
    drawn.settings.update(kernel_shape=kernel, p=chance.choice((1, 2, 3)))
    drawn.image = _noise(chance, 2, 3, *_sides(chance, 10, 15))
    if drawn.opset >= 18 and chance.random() < 0.4:
        drawn.settings["ceil_mode"] = 1


def _pad(chance: Random, drawn: Drawn) -> None:
    modes = ("constant", "reflect", "edge") + (("wrap",) if drawn.opset >= 19 else ())
    mode = chance.choice(modes)
    least = -2 if mode == "constant" else 0
    pads = [0, 0, *(chance.randint(least, 3) for _ in "hw")] * 2
    pads = [0, 0, *(chance.randint(least, 3) for _ in "hw"), *pads[4:]]
    drawn.image = _noise(chance, 1, 3, *_sides(chance))
    drawn.settings["mode"] = mode
    if drawn.opset < 11:
        drawn.settings.update(pads=pads, value=0.5)
    else:
        drawn.stored = [np.array(pads), np.array(0.5, np.float32)]


def _slice(chance: Random, drawn: Drawn) -> None:
    drawn.image = _noise(chance, 2, 5, *_sides(chance))
    axes = chance.sample(range(4), chance.randint(1, 3))
    starts = [chance.randint(-6, 6) for _ in axes]
    ends = [chance.choice((chance.randint(-6, 6), 1 << 31, -(1 << 31))) for _ in axes]
    if drawn.opset < 10:
        drawn.settings.update(starts=starts, ends=ends, axes=axes)
    else:
        steps = [chance.choice((1, 1, 2, 3, -1, -2)) for _ in axes]
        drawn.stored = [np.array(one) for one in (starts, ends, axes, steps)]


def _transforms(opset: int) -> list[str]:
    names = ["half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners"]
    names += ["tf_crop_and_resize"] + (["tf_half_pixel_for_nn"] if opset < 13 else [])
    return names + (["half_pixel_symmetric"] if opset >= 19 else [])


def _resize(chance: Random, drawn: Drawn) -> None:
    drawn.opset = max(10, drawn.opset)
    drawn.image = _noise(chance, 1, 2, *_sides(chance, 4, 15))
    scales = [chance.choice((0.2, 0.3, 0.5, 0.7, 1, 1.25, 1.5, 2, 2, 2.6, 3, 4)) for _ in "hw"]
    stored = np.array([1, 1, *scales], np.float32)
    if drawn.opset < 11:
        drawn.settings["mode"] = chance.choice(("nearest", "linear"))
        drawn.stored = [stored]
        return
    mode = chance.choice(("nearest", "nearest", "linear", "linear", "cubic"))
    transform = chance.choice(_transforms(drawn.opset))
    drawn.settings.update(mode=mode, coordinate_transformation_mode=transform)
    if mode == "nearest":
        drawn.settings["nearest_mode"] = chance.choice(
            ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
        )
    if mode == "cubic":
        drawn.settings["cubic_coeff_a"] = chance.choice((-0.75, -0.5))
        drawn.settings["exclude_outside"] = chance.randint(0, 1)
    crops = transform == "tf_crop_and_resize"
    drawn.settings["extrapolation_value"] = 0.25
    roi = np.array([0, 0, 0.1, 0.2, 1, 1, 0.8, 1.2] if crops else [], np.float32)
    sizes = np.array([*drawn.image.shape[:2], *(chance.randint(1, 30) for _ in "hw")])
    by_sizes = crops or chance.random() < 0.4
    drawn.stored = [roi, None, sizes] if by_sizes else [roi, stored]


def _upsample(chance: Random, drawn: Drawn) -> None:
    drawn.opset = min(9, drawn.opset)
    drawn.image = _noise(chance, 1, 2, *_sides(chance))
    scales = [1.0, 1.0, *(chance.choice((1.0, 1.5, 2.0, 2.6, 3.0)) for _ in "hw")]
    drawn.settings["mode"] = chance.choice(("nearest", "linear"))
    if drawn.opset < 9:
        drawn.settings["scales"] = scales
    else:
        drawn.stored = [np.array(scales, np.float32)]


_REDUCTIONS = ["Mean", "Sum", "Max", "Min", "Prod", "L1", "L2", "LogSumExp", "SumSquare"]


def _reduce(chance: Random, drawn: Drawn) -> None:
    drawn.kind += chance.choice(_REDUCTIONS)
    drawn.image = _noise(chance, 2, 3, *_sides(chance))
    axes = chance.choice(([2, 3], [-1, -2], [1], [1, 2, 3], [0, 2], None))
    drawn.settings["keepdims"] = chance.randint(0, 1)
    inputs_since = 13 if drawn.kind == "ReduceSum" else 18
    if axes is not None and drawn.opset >= inputs_since:
        drawn.stored = [np.array(axes)]
    elif axes is not None:
        drawn.settings["axes"] = [axis % 4 for axis in axes] if drawn.opset < 11 else axes


def _softmax(chance: Random, drawn: Drawn) -> None:
    drawn.kind = chance.choice(("Softmax", "LogSoftmax"))
    drawn.image = _noise(chance, 2, 3, *_sides(chance))
    drawn.settings["axis"] = chance.choice((1, 2, 3) if drawn.opset < 11 else (1, 2, 3, -1, -2))


def _clip(chance: Random, drawn: Drawn) -> None:
    drawn.image = _noise(chance, 1, 3, *_sides(chance))
    low, high = (None if chance.random() < 0.3 else bound for bound in (-0.4, 0.7))
    if drawn.opset < 11:
        pairs = {"min": low, "max": high}
        drawn.settings.update({key: value for key, value in pairs.items() if value is not None})
    else:
        bounds = [None if one is None else np.array(one, np.float32) for one in (low, high)]
        drawn.stored = bounds[:1] if bounds[1] is None else bounds
        drawn.stored = [] if drawn.stored == [None] else drawn.stored


def _normalize(chance: Random, drawn: Drawn) -> None:
    drawn.kind = chance.choice(("BatchNormalization", "InstanceNormalization", "LRN"))
    drawn.image = _noise(chance, 1, 4, *_sides(chance))
    if drawn.kind == "LRN":
        drawn.settings.update(size=chance.randint(1, 5), alpha=0.3, beta=0.6, bias=1.5)
    else:
        count = 4 if drawn.kind == "BatchNormalization" else 2
        drawn.stored = [np.abs(_noise(chance, 4)) + 0.1 for _ in range(count)]
        drawn.settings["epsilon"] = 1e-3


def _blocks(chance: Random, drawn: Drawn) -> None:
    drawn.kind = chance.choice(("DepthToSpace", "SpaceToDepth"))
    drawn.settings["blocksize"] = 2
    drawn.image = _noise(chance, 1, 8, 4, 6)
    if drawn.kind == "DepthToSpace" and drawn.opset >= 11:
        drawn.settings["mode"] = chance.choice(("DCR", "CRD"))


def _split(chance: Random, drawn: Drawn) -> None:
    drawn.image = _noise(chance, 2, 6, *_sides(chance))
    drawn.settings["axis"] = 1
    drawn.outputs = chance.choice((2, 3))
    sizes = [1, 5] if drawn.outputs == 2 else [3, 1, 2]
    if chance.random() < 0.5:
        if drawn.opset < 13:
            drawn.settings["split"] = sizes
        else:
            drawn.stored = [np.array(sizes)]
    elif drawn.opset >= 18:
        drawn.settings["num_outputs"] = drawn.outputs


DRAWS: dict[str, Draw] = {
    **{"Conv": _conv, "ConvTranspose": _transposed, "MaxPool": _max_pool, "LpPool": _lp_pool},
    **{"AveragePool": _average_pool, "Pad": _pad, "Slice": _slice, "Resize": _resize},
    **{"Upsample": _upsample, "Reduce": _reduce, "Softmax": _softmax, "Clip": _clip},
    **{"Normalization": _normalize, "Blocks": _blocks, "Split": _split},
}
"""How a node is drawn, by its operator or family."""


def draw(seed: int, number: int, only: str = "") -> Drawn:
    """The node of a seed and a number."""
    chance = Random(f"{seed} {number}")
    kind = only or list(DRAWS)[number % len(DRAWS)]
    newest = min(onnx.defs.onnx_opset_version(), 21)
    drawn = Drawn(kind, chance.randint(7, newest), np.zeros(0, np.float32))
    DRAWS[kind](chance, drawn)
    return drawn


def verdict(drawn: Drawn) -> tuple[str, str]:
    """``same``, ``refused``, ``skipped`` or ``wrong``, and why."""
    model = drawn.model
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options)
        expected = session.run(None, {"x": drawn.image})
    except Exception as error:  # onnxruntime has many kinds, and refuses many settings
        return "skipped", str(error)
    try:
        for output in model.graph.output:
            output.type.tensor_type.elem_type = TensorProto.FLOAT
        net = OnnxNetwork(graph_of_model(model, Path(drawn.kind)), drawn.kind)
        with torch.no_grad():
            given = net(torch.from_numpy(drawn.image))
    except EyeshotError as reason:
        return "refused", str(reason)
    except Exception as error:
        return "wrong", f"{type(error).__name__}: {error}"
    for one, other in zip(given if isinstance(given, tuple) else (given,), expected, strict=True):
        if tuple(one.shape) != other.shape:
            return "wrong", f"{tuple(one.shape)} for {other.shape}"
        largest = max(1e-9, float(np.abs(other).max(initial=0)))
        apart = float(np.abs(one.numpy() - other).max(initial=0)) / largest
        if not apart <= _APART:
            return "wrong", f"{apart:.2g} apart"
    return "same", ""


def wrong_ones(seed: int, count: int, only: str = "") -> Iterator[tuple[int, str, str]]:
    """Each drawn node's number, verdict and reason."""
    for number in range(count):
        yield number, *verdict(draw(seed, number, only))


def main() -> int:
    """Draw nodes and say what became of them."""
    parser = argparse.ArgumentParser(prog="python -m tools.onnx_nodes", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="of the nodes")
    parser.add_argument("--count", type=int, default=2000, help="of the nodes")
    parser.add_argument("--only", default="", choices=["", *DRAWS], help="one operator")
    options = parser.parse_args()
    totals: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for number, what, why in wrong_ones(options.seed, options.count, options.only):
        totals[what] += 1
        drawn = draw(options.seed, number, options.only)
        if what == "wrong":
            print(f"{number}: {drawn.kind} {drawn.opset} {drawn.image.shape} {drawn.settings}")
            print(f"    {[None if one is None else one.shape for one in drawn.stored]}: {why}")
        elif what == "refused":
            reasons[why.partition(";")[0]] += 1
        elif what == "skipped":
            reasons[f"skipped {drawn.kind}"] += 1
    for why, count in reasons.most_common(20):
        print(f"{count} × {why}")
    print(", ".join(f"{count} {what}" for what, count in totals.items()))
    return 1 if totals["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
