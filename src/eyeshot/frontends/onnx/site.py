"""One ONNX node: its inputs and attributes, and its value if that does not depend on the image.

A :class:`Site` is a node as the functions that compute it see it. Values that do not depend on the
image are computed during the trace, by ONNX's reference evaluator.

:func:`what_stands_in_the_way` finds the constant in a file that prevents another image size, such
as a fixed shape of a ``Reshape``, and says how to export without it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[Any]
Shape = tuple[int, ...]
T = TypeVar("T")


class Refusal(Exception):
    """A node cannot be computed exactly here. The front end always catches this."""

    def __init__(self, fact: str, cure: str = "") -> None:
        super().__init__(fact)
        self.cure = cure


class Value:
    """One value in a network: a tensor, a number known while tracing, or both.

    Each form is computed when it is first read. Shapes, and values computed from shapes, are
    known; maps are tensors; weights are both, because a scale or a list of axes may be stored.

    Args:
        tensor: computes the tensor; None to make it from ``known``.
        known: computes the numbers; None if they depend on the image.
        weight: True if it is computed from the network's own tensors.
        fixed: True if its numbers are in the file, so that they are the same at every size.
    """

    def __init__(
        self,
        tensor: Callable[[], Tensor] | None = None,
        known: Callable[[], Array] | None = None,
        *,
        weight: bool = False,
        fixed: bool = False,
    ) -> None:
        self._make_tensor, self._make_known = tensor, known
        self.is_weight, self.is_fixed = weight, fixed

    @property
    def is_known(self) -> bool:
        """Whether its numbers do not depend on the image."""
        return self._make_known is not None

    @cached_property
    def tensor(self) -> Tensor:
        """The value as a tensor."""
        if self._make_tensor is not None:
            return self._make_tensor()
        return torch.tensor(self.known)

    @cached_property
    def known(self) -> Array:
        """The value as a NumPy array.

        Raises:
            Refusal: they depend on the image.
        """
        if self._make_known is None:
            raise Refusal("its settings are computed from the image's values")
        return np.asarray(self._make_known())

    @property
    def shape(self) -> Shape:
        """Its shape."""
        if self._make_tensor is None:
            return tuple(int(n) for n in self.known.shape)
        return tuple(int(n) for n in self.tensor.shape)


@dataclass(frozen=True, eq=False)
class OnnxOp:
    """One node of a file, as plain data.

    Attributes:
        name: its name in the file, or one made from its operator and its index.
        kind: its operator, such as ``Conv``.
        version: the opset version that defines its operator.
        inputs: the names of its inputs; "" for an optional input that is left out.
        outputs: the names of its outputs; "" for one that no node reads.
        attributes: numbers, strings, lists and arrays by name.
        sized_pads: True if its ``pads`` may be what ``same`` gave at the size that the file was
            exported for.
    """

    name: str
    kind: str
    version: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    sized_pads: bool = False


@dataclass(frozen=True, eq=False)
class Site:
    """One node with the values of its inputs.

    Attributes:
        op: the node.
        values: its inputs; None for one that is left out.
        original: the shapes of its inputs at the size that the file was exported for; None if the
            file leaves its size open, or if this is that size.
        asked: the shape that a ``Reshape`` was asked for at that size.
    """

    op: OnnxOp
    values: tuple[Value | None, ...]
    original: tuple[Shape | None, ...] | None = None
    asked: Shape | None = None

    @property
    def version(self) -> int:
        """The opset version that defines the node's operator."""
        return self.op.version

    def has(self, place: int) -> bool:
        """Whether it has an input with this index."""
        return place < len(self.values) and self.values[place] is not None

    def value(self, place: int) -> Value:
        """The input with this index.

        Raises:
            Refusal: the input is left out.
        """
        value = self.values[place] if place < len(self.values) else None
        if value is None:
            raise Refusal(f"has no input {place}")
        return value

    def tensor(self, place: int) -> Tensor:
        """An input as a tensor."""
        return self.value(place).tensor

    def maybe(self, place: int) -> Tensor | None:
        """An input as a tensor; None if it is left out."""
        return self.tensor(place) if self.has(place) else None

    def known(self, place: int) -> Array | None:
        """An input as a NumPy array; None if it is left out.

        Raises:
            Refusal: they depend on the image.
        """
        return self.value(place).known if self.has(place) else None

    def whole(self, place: int) -> tuple[int, ...] | None:
        """An input as integers; None if it is left out."""
        known = self.known(place)
        return None if known is None else tuple(int(n) for n in known.reshape(-1))

    def number(self, place: int, default: float) -> float:
        """An input as one number; ``default`` if it is left out."""
        known = self.known(place)
        if known is None or known.size == 0:
            return default
        return known.reshape(-1)[0].item()  # type: ignore[no-any-return]

    def attribute(self, name: str, default: T) -> T:
        """An attribute; ``default`` if the node does not have it."""
        value = self.op.attributes.get(name, default)
        return tuple(value) if isinstance(value, list) else value  # type: ignore[return-value]

    def numbers(self, name: str, default: Sequence[int]) -> tuple[int, ...]:
        """An attribute that is a list of integers."""
        return tuple(int(one) for one in self.attribute(name, tuple(default)))

    def listed(self, name: str, place: int) -> tuple[int, ...] | None:
        """Integers that are an attribute in old opsets and an input in new ones."""
        if name in self.op.attributes:
            return self.numbers(name, ())
        return self.whole(place)


Result = Tensor | Array | tuple[Tensor, ...]
Compute = Callable[[Site], Result]
"""Computes a node's output: a tensor, or an array if it is known while tracing."""


def axis_of(axis: int, rank: int) -> int:
    """The axis as a non-negative index.

    Raises:
        Refusal: there is no axis with that number.
    """
    if not -rank <= axis < max(rank, 1):
        raise Refusal(f"names axis {axis} of a value with {rank} dimensions")
    return axis % max(rank, 1)


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
