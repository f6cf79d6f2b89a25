"""Compute values that do not depend on the image during the trace, by ONNX's reference evaluator.

:func:`what_stands_in_the_way` finds the constant in a file that prevents another image size, such
as a fixed shape of a ``Reshape``, and says how to export without it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from eyeshot.frontends.onnx.site import Array, OnnxOp, Refusal, Site, axis_of

_MOST = 1 << 26
"""The most numbers that one value may have."""
_BROADCAST = """
    Add Sub Mul Div Mod Pow Min Max Mean Sum Equal Greater GreaterOrEqual Less LessOrEqual And Or
    Xor Where BitShift BitwiseAnd BitwiseOr BitwiseXor PRelu
"""
_SMALLER = """
    Abs Neg Floor Ceil Round Sqrt Exp Log Sign Erf Sigmoid Tanh Relu Reciprocal Not Cast CastLike
    Clip Identity Dropout Shape Size Reshape Flatten Squeeze Unsqueeze Transpose Slice Split
    ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceL1 ReduceL2 ReduceSumSquare ArgMax
    ArgMin Softmax Concat CumSum Trilu TopK NonZero ScatterND ScatterElements Compress
    QuantizeLinear DequantizeLinear IsNaN IsInf BitwiseNot Sin Cos DepthToSpace SpaceToDepth
    Constant BatchNormalization LayerNormalization InstanceNormalization Sinh Cosh Tan Softplus
    HardSigmoid HardSwish LeakyRelu Elu Selu Gelu Mish
"""


FROM_SHAPES = frozenset(("Shape", "Size"))
"""Operators that read only the shape of their input."""


def fold(site: Site) -> Sequence[Array]:
    """The outputs of a node whose inputs are all known, computed during the trace.

    Raises:
        Refusal: an output would be too large, or the operator cannot be computed ahead.
    """
    op = site.op
    if op.kind == "Shape":
        return (_shape(site),)
    if op.kind == "Size":
        return (np.array(math.prod(site.value(0).shape), dtype=np.int64),)
    if op.kind not in _LIMITS:
        raise Refusal(f"{op.kind} of constants is not computed ahead", "fold it before export")
    arrays = [None if one is None else one.known for one in site.values]
    size = _LIMITS[op.kind](site, [one for one in arrays if one is not None])
    if size > _MOST:
        raise Refusal(f"makes {size:,} numbers from constants", "leave it out of the file")
    names = {name: array for name, array in zip(op.inputs, arrays, strict=True) if name}
    if op.kind == "DequantizeLinear" and op.version < 19:  # ONNX's evaluator has none for these
        return (_dequantized(site, *(one for one in arrays if one is not None)),)
    return _evaluator(op).run(None, names)  # type: ignore[no-any-return]


def _dequantized(site: Site, x: Array, scale: Array, zero: Array | None = None) -> Array:
    """``DequantizeLinear`` with one scale, or with a scale for each index of an axis."""
    if scale.size > 1:
        axis = axis_of(site.attribute("axis", 1), x.ndim)
        shape = (-1, *(1,) * (x.ndim - axis - 1))
        scale, zero = scale.reshape(shape), None if zero is None else zero.reshape(shape)
    values = x.astype(np.float32)
    found: Array = (values if zero is None else values - zero.astype(np.float32)) * scale
    return found.reshape(x.shape)


def _shape(site: Site) -> Array:
    shape = site.value(0).shape
    start, end = site.attribute("start", 0), site.attribute("end", len(shape))
    return np.array(shape[start:end], dtype=np.int64)


@lru_cache(maxsize=4096)
def _evaluator(op: OnnxOp) -> Any:
    """ONNX's reference evaluator for one node, in the node's own opset version."""
    import onnx
    from onnx.reference import ReferenceEvaluator

    attributes = {
        name: onnx.numpy_helper.from_array(value) if isinstance(value, np.ndarray) else value
        for name, value in op.attributes.items()
    }
    outputs = [name or f"unread{place}" for place, name in enumerate(op.outputs)]
    node = onnx.helper.make_node(op.kind, op.inputs, outputs, **attributes)
    inputs = [onnx.helper.make_value_info(name, onnx.TypeProto()) for name in set(op.inputs) - {""}]
    results = [onnx.helper.make_value_info(name, onnx.TypeProto()) for name in outputs]
    graph = onnx.helper.make_graph([node], "fold", inputs, results)
    opsets = [onnx.helper.make_opsetid("", op.version)]
    return ReferenceEvaluator(onnx.helper.make_model(graph, opset_imports=opsets))


def _sum(site: Site, arrays: Sequence[Array]) -> int:
    return sum(one.size for one in arrays)


def _broadcast(site: Site, arrays: Sequence[Array]) -> int:
    return math.prod(np.broadcast_shapes(*(one.shape for one in arrays)))


def _filled(site: Site, arrays: Sequence[Array]) -> int:
    return math.prod(int(n) for n in arrays[0].reshape(-1))


def _expanded(site: Site, arrays: Sequence[Array]) -> int:
    return math.prod(np.broadcast_shapes(arrays[0].shape, tuple(map(int, arrays[1].reshape(-1)))))


def _tiled(site: Site, arrays: Sequence[Array]) -> int:
    return int(arrays[0].size) * math.prod(map(int, arrays[1].reshape(-1)))


def _range(site: Site, arrays: Sequence[Array]) -> int:
    start, limit, step = (float(one.reshape(-1)[0]) for one in arrays)
    return 0 if step == 0 else max(0, math.ceil((limit - start) / step))


def _padded(site: Site, arrays: Sequence[Array]) -> int:
    pads = site.listed("pads", 1) or ()
    return math.prod(int(n) + sum(map(abs, pads)) for n in arrays[0].shape)


def _gathered(site: Site, arrays: Sequence[Array]) -> int:
    data, index = arrays[0], arrays[1]
    axis = site.attribute("axis", 0)
    return int(data.size) // max(1, data.shape[axis] if data.ndim else 1) * max(1, index.size)


def _product(site: Site, arrays: Sequence[Array]) -> int:
    rows, columns = (max(1, one.size // max(1, min(one.shape, default=1))) for one in arrays[:2])
    return rows * columns


def _square(site: Site, arrays: Sequence[Array]) -> int:
    return int(arrays[0].size) ** 2


_LIMITS: dict[str, Callable[[Site, Sequence[Array]], int]] = {
    **dict.fromkeys(_SMALLER.split(), _sum),
    **dict.fromkeys(_BROADCAST.split(), _broadcast),
    **{"ConstantOfShape": _filled, "Expand": _expanded, "Tile": _tiled},
    **{"Range": _range, "Pad": _padded, "Gather": _gathered, "GatherND": _gathered},
    **{"MatMul": _product, "Gemm": _product, "EyeLike": _square, "GatherElements": _sum},
}
FOLDED = frozenset(_LIMITS) | FROM_SHAPES
"""Operators that are computed ahead if their inputs are known."""


_SIZES = {"Reshape": 1, "Expand": 1, "Upsample": 1, "Resize": 3, "Tile": 1, "Slice": 2}
"""For each operator, the index of the input that may hold a size."""
_NOBODYS = 1 << 30
"""The end of a slice means the end of the axis if it is larger than this."""


def what_stands_in_the_way(past: Sequence[tuple[OnnxOp, Site]]) -> str:
    """The nearest node up to the last one with a constant size in it, and the cure, as text."""
    if not past:
        return ""
    made = {name: place for place, (op, _) in enumerate(past) for name in op.outputs if name}
    seen: set[int] = set()
    front = [len(past) - 1]
    while front:
        place = front.pop(0)
        if place in seen:
            continue
        seen.add(place)
        op, site = past[place]
        size = baked_size(site)
        if size:
            return (
                f"{op.name} ({op.kind}) has the size {size} written into it: export the network "
                "with dynamic axes, so that it is computed from the image's size"
            )
        front += [made[name] for name in op.inputs if name in made and made[name] < place]
    return "give an image of the size and channels for which the file was made"


def baked_size(site: Site) -> str:
    """The size that a node has as a constant, as ``1x512x20x20``; "" for none."""
    place = _SIZES.get(site.op.kind)
    if place is None or not site.has(place) or not site.value(place).is_fixed:
        return ""
    numbers = site.whole(place) or ()
    if all(abs(n) <= 1 or abs(n) > _NOBODYS for n in numbers):
        return ""
    return "x".join(map(str, numbers))
