"""Read an ONNX file as data: its nodes, attributes and tensors. No code in it is run.

The file may come from anyone. So external data outside the file's folder, or behind a link, is not
opened; declared sizes are checked before memory is allocated; and ONNX's own checker must accept
the file.
"""

from __future__ import annotations

import math
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from eyeshot.errors import BadFile, BadValue, EyeshotError, Unsupported, shorten
from eyeshot.extras import extra
from eyeshot.files import explain_os_error
from eyeshot.frontends.onnx.site import Array, OnnxOp

if TYPE_CHECKING:
    from onnx import (
        AttributeProto,
        GraphProto,
        ModelProto,
        NodeProto,
        TensorProto,
        ValueInfoProto,
    )

    from eyeshot.frontends.onnx import OnnxNetwork

OLDEST = 7
"""The oldest opset (version of ONNX's operators) that can be read."""
_MOST_BYTES = 1 << 31
"""The largest file, in bytes, without external data: protobuf cannot hold more."""
_LONGEST = 1 << 31
"""The most positions along an axis; a larger declared size counts as open."""
_MOST_NODES = 100_000
_OWN = ("", "ai.onnx")
_WRITE_AGAIN = "export it again, or download it again"
DTYPES = {
    **{1: torch.float32, 2: torch.uint8, 3: torch.int8, 5: torch.int16, 6: torch.int32},
    **{7: torch.int64, 9: torch.bool, 10: torch.float16, 11: torch.float64},
}
"""The supported types, by ONNX's numbers for them."""
_WIDENED: dict[int, Any] = {
    **{4: np.int32, 12: np.int64, 21: np.uint8, 22: np.int8, 25: np.uint8, 26: np.int8},
    **dict.fromkeys((16, 17, 18, 19, 20, 23), np.float32),
}
"""Types of weights, by ONNX's numbers, that are stored as a wider type with the same values."""
INTEGERS_WIDENED = {4: (0, 65535), 21: (0, 15), 22: (-8, 7), 25: (0, 3), 26: (-2, 1)}
"""The ranges of those integer types that numbers may be quantized to."""
_FLOATS = (1, 10, 11)
_CHANNELS_FIRST = """
    AveragePool BatchNormalization Conv ConvInteger ConvTranspose DepthToSpace GlobalAveragePool
    GlobalMaxPool InstanceNormalization LRN LpPool MaxPool QLinearConv SpaceToDepth
"""
"""Operators whose first input is (N, C, …)."""


_FROM_TENSORFLOW = ("tf2onnx", "keras2onnx")
"""Producers that write ``same`` as the ``pads`` of one size, without ``auto_pad``."""


_OF_ONE_SIZE = ("jax2onnx",)
"""Producers that trace for one size, so that a mean, too, is divided by a constant."""


@dataclass(frozen=True)
class OnnxInput:
    """One input of a network.

    Attributes:
        name: its name in the file.
        shape: its shape, with the batch; None for a dimension that the file leaves open.
        dtype: its type.
        channels_first: True if a node that takes (N, C, …) reads it as it is.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: torch.dtype
    channels_first: bool = False

    def converted(self, image: torch.Tensor) -> torch.Tensor:
        """The image (N, C, …), checked and converted to the input's type if that is an integer.

        Raises:
            BadValue: the image has another number of dimensions, or does not have integers where
                the file takes integers.
        """
        if image.ndim != len(self.shape):
            fact = f"input {self.name} has {len(self.shape)} dimensions, the image {image.ndim}"
            raise BadValue(fact, cure=f"give one like {self.in_words}")
        if image.dtype != self.dtype and not self.dtype.is_floating_point:
            kind = str(self.dtype).removeprefix("torch.")
            raise BadValue(
                f"input {self.name} takes {kind}, but the image is {image.dtype}",
                cure="export the network with float32 inputs",
            )
        return image.movedim(1, -1) if self.channels_last else image

    def declares(self, shape: Sequence[int]) -> bool:
        """Whether the file was made for this shape (N, …), which has as many dimensions."""
        return all(n in (None, int(m)) for n, m in zip(self.shape, shape, strict=True))

    @property
    def channels_last(self) -> bool:
        """Whether the file takes (N, H, W, C): only its last dimension can be color channels."""
        *space, last = self.shape[1:] or (None,)
        few = (1, 2, 3, 4)
        is_image = len(self.shape) in (4, 5) and not self.channels_first
        return is_image and last in few and not any(n in few for n in space)

    @property
    def declared(self) -> tuple[int | None, ...]:
        """The declared size (C, …) of an image; None for a dimension that the file leaves open."""
        size = self.shape[1:]
        return (*size[-1:], *size[:-1]) if self.channels_last else size

    @property
    def in_words(self) -> str:
        """The shape of its images, such as ``Nx3x?x?``."""
        batch = str(self.shape[0] or "N") if self.shape else "N"
        return "x".join([batch, *(str(n or "?") for n in self.declared)])


@dataclass(frozen=True, eq=False)
class OnnxGraph:
    """One graph of a file.

    Attributes:
        ops: its nodes, in execution order.
        tensors: its stored tensors by name.
        inputs: its inputs, without stored tensors.
        outputs: the names of its outputs.
        one_size: True if the exporter writes everything that depends on the size as a constant.
    """

    ops: tuple[OnnxOp, ...]
    tensors: dict[str, Array]
    inputs: tuple[OnnxInput, ...]
    outputs: tuple[str, ...]
    one_size: bool = False


def load_onnx(path: str | Path) -> OnnxNetwork:
    """The network of an ONNX file, in eval mode.

    Args:
        path: the file; external data must be in the same folder or below it.

    Returns:
        A module that takes images (N, C, …) as the file does, at every size that its nodes allow.

    Raises:
        BadFile: missing, damaged, refused by ONNX's checker, or with data outside its folder.
        Unsupported: an operator, a type or a version of ONNX that is not supported.
        Failure: ``onnx`` is not installed.
    """
    from eyeshot.frontends.onnx import named_network

    path = Path(path)
    return named_network(read_graph(path), path)


def read_graph(path: Path) -> OnnxGraph:
    """The graph of a file as plain data; raises as :func:`load_onnx` does."""
    with extra("onnx"):
        import onnx
        from google.protobuf.message import (  # type: ignore[import-untyped]
            Error as ProtobufError,
        )
    try:
        size = path.stat().st_size
        if size >= _MOST_BYTES:
            cure = "save it with external data: onnx.save(model, path, save_as_external_data=True)"
            raise BadFile(f"{path}: {size:,} bytes, more than an ONNX file can hold", cure=cure)
        model = onnx.load_model_from_string(path.read_bytes())
        return _graph_of(model, path)
    except OSError as error:
        raise explain_os_error(error, path) from error
    except ProtobufError:
        raise BadFile(f"{path}: damaged, or not an ONNX file", cure=_WRITE_AGAIN) from None
    except EyeshotError:
        raise
    except Exception as error:  # the file may hold anything, so any step may fail
        fact = f"{path}: damaged ({type(error).__name__}: {shorten(str(error), 200)})"
        raise BadFile(fact, cure=_WRITE_AGAIN) from None


def _graph_of(model: ModelProto, path: Path) -> OnnxGraph:
    import onnx

    _check_versions(model, path)
    for tensor in _tensors(model):
        _check_data(tensor, path)
    try:
        onnx.checker.check_model(str(path))
    except onnx.checker.ValidationError as error:
        raise BadFile(f"{path}: not valid ONNX: {_in_short(error)}", cure=_WRITE_AGAIN) from None
    return graph_of_model(model, path)


def graph_of_model(model: ModelProto, path: Path) -> OnnxGraph:
    """The graph of a model that is already loaded and checked; ``path`` is for messages."""
    if model.functions:
        model = _inlined(model, path)
    return _Reader(model, path).graph(model.graph, whole=True)


def _in_short(error: Exception) -> str:
    """The checker's message, without the line of its own code."""
    lines = [line.strip() for line in str(error).splitlines()]
    return " ".join(line for line in lines if line and not line.startswith("==>"))[:300]


def _check_versions(model: ModelProto, path: Path) -> None:
    import onnx

    if not model.ir_version and not model.graph.node:
        raise BadFile(
            f"{path}: holds no ONNX graph", cure="give a file written by an ONNX exporter"
        )
    version = _versions(model).get("", 0)
    newest = onnx.defs.onnx_opset_version()
    if not OLDEST <= version <= newest:
        raise Unsupported(
            f"{path}: written for opset {version}, but only {OLDEST} to {newest} can be read",
            cure="export it again with a newer one" if version < OLDEST else "install a newer onnx",
        )


def _versions(model: ModelProto) -> dict[str, int]:
    return {"" if one.domain in _OWN else one.domain: one.version for one in model.opset_import}


def _tensors(model: ModelProto) -> Iterator[TensorProto]:
    """Every tensor in a file: initializers, attributes, and those in inner graphs."""
    from onnx.external_data_helper import _get_all_tensors

    yield from _get_all_tensors(model)


def _check_data(tensor: TensorProto, path: Path) -> None:
    """Refuse a tensor whose data is not complete, in the file or in a file in its folder."""
    if tensor.data_location != tensor.EXTERNAL:
        return
    entries = {one.key: one.value for one in tensor.external_data}
    name, location = tensor.name, entries.get("location", "")
    place = f"{path}: the data of {name} in {shorten(location)}"
    parts = Path(location).parts
    if not location or Path(location).is_absolute() or ".." in parts or "\0" in location:
        raise BadFile(f"{place} lie outside of its folder", cure="put them beside it")
    beside = path.parent
    for part in parts:
        beside = beside / part
        if beside.is_symlink():
            raise BadFile(f"{place} are behind a link", cure="put the file itself there")
    if not beside.is_file():
        raise BadFile(f"{place} are missing", cure="put that file beside it")
    if not stat.S_ISREG(beside.stat().st_mode) or beside.stat().st_nlink > 1:
        raise BadFile(f"{place} are behind a link", cure="put a copy of the file there")
    needed, have = _bytes_of(tensor), beside.stat().st_size
    try:
        offset = int(entries.get("offset", 0))
        length = int(entries.get("length", have - offset))
    except ValueError:
        raise BadFile(f"{place} have no place that is a number", cure=_WRITE_AGAIN) from None
    if offset < 0 or length != needed or offset + length > have:
        fact = f"{place} are {length:,} bytes at {offset:,} of {have:,}, and {needed:,} are needed"
        raise BadFile(fact, cure=_WRITE_AGAIN)


def _bytes_of(tensor: TensorProto) -> int:
    from onnx.helper import tensor_dtype_to_np_dtype

    count: int = math.prod(tensor.dims)
    if tensor.data_type in _HALF_BYTES:
        return -(-count // 2)
    return count * int(np.dtype(tensor_dtype_to_np_dtype(tensor.data_type)).itemsize)


_HALF_BYTES = (21, 22, 23)
"""ONNX's numbers for types with four bits."""


def _inlined(model: ModelProto, path: Path) -> ModelProto:
    """The model with the file's own functions written out where they are called."""
    from onnx.inliner import inline_local_functions

    _check_growth(model, path)
    return inline_local_functions(model)


def _check_growth(model: ModelProto, path: Path) -> None:
    """Refuse functions that call functions so often that writing them out needs too much memory."""
    bodies = {(one.domain, one.name): one for one in model.functions}
    sizes: dict[tuple[str, str], int] = {}

    def size(nodes: Iterable[NodeProto], within: tuple[tuple[str, str], ...]) -> int:
        total = 0
        for node in nodes:
            key = (node.domain, node.op_type)
            if key in within:
                raise BadFile(f"{path}: function {node.op_type} calls itself", cure=_WRITE_AGAIN)
            if key in bodies and key not in sizes:
                sizes[key] = size(bodies[key].node, (*within, key))
            total += sizes.get(key, 1)
            for attribute in node.attribute:
                total += size(attribute.g.node, within) if attribute.HasField("g") else 0
        return total

    if size(model.graph.node, ()) > _MOST_NODES:
        raise BadFile(f"{path}: its functions make more than {_MOST_NODES:,} nodes", cure="")


def _read(ops: Iterable[OnnxOp]) -> Iterator[str]:
    """The names of all values that nodes read, including nodes in branches."""
    for op in ops:
        yield from op.inputs
        for value in op.attributes.values():
            if isinstance(value, OnnxGraph):
                yield from value.outputs
                yield from _read(value.ops)


def _without_unread(ops: Iterable[OnnxOp], read: set[str]) -> list[OnnxOp]:
    """Nodes with "" as the name of each output that no node reads, such as a dropout's mask."""
    return [
        replace(op, outputs=tuple(name if name in read else "" for name in op.outputs))
        for op in ops
    ]


def _takes_values(op: OnnxOp, place: int) -> bool:
    """Whether a node reads an input as numbers, so that a wider type gives the same."""
    if op.kind == "Cast":
        return op.attributes.get("to") in _FLOATS
    return op.kind == "DequantizeLinear" and place != 1


def _text(value: Any) -> str:
    """A name as str; protobuf gives bytes if it is not UTF-8."""
    return value if isinstance(value, str) else bytes(value).decode("utf-8", "replace")


class _Reader:
    """Converts the graphs of one file to plain data."""

    def __init__(self, model: ModelProto, path: Path) -> None:
        self._path, self._versions = path, _versions(model)
        self._from_tensorflow = model.producer_name in _FROM_TENSORFLOW
        self._one_size = model.producer_name in _OF_ONE_SIZE
        self._names: set[str] = set()
        self._widened: dict[str, int] = {}
        self._replaced: dict[str, str] = {}

    def graph(self, graph: GraphProto, *, whole: bool = False) -> OnnxGraph:
        """One graph; nodes in its branches read values of the outer graphs by name."""
        if graph.sparse_initializer:
            raise Unsupported(f"{self._path}: sparse tensors", cure="store them dense")
        tensors = {_text(one.name): self._array(one) for one in graph.initializer}
        inputs = tuple(self._input(one) for one in graph.input if _text(one.name) not in tensors)
        ops = []
        for index, node in enumerate(graph.node):
            op = self._op(node, index)
            if op.kind == "Constant" and op.outputs:
                tensors[op.outputs[0]] = self._constant(op)
            elif op.kind == "Identity" and op.inputs[0] in tensors:
                self._replaced[op.outputs[0]] = op.inputs[0]
            else:
                ops.append(op)
        outputs = tuple(
            self._replaced.get(one, one) for one in (_text(one.name) for one in graph.output)
        )
        if whole:
            self._check_types(graph.output)
            ops = self._checked_widened(ops, outputs)
            first = {op.inputs[0] for op in ops if op.kind in _CHANNELS_FIRST.split() and op.inputs}
            inputs = tuple(replace(one, channels_first=one.name in first) for one in inputs)
            ops = _without_unread(ops, {*outputs, *_read(ops)})
        return OnnxGraph(tuple(ops), tensors, inputs, outputs, self._one_size)

    def _input(self, value: ValueInfoProto) -> OnnxInput:
        self._check_types([value])
        kind = value.type.tensor_type
        if not kind.HasField("shape"):
            fact = f"{self._path}: input {value.name} does not say how many dimensions it has"
            raise Unsupported(fact, cure="export it with the rank of its input")
        dims = (one.dim_value if one.HasField("dim_value") else 0 for one in kind.shape.dim)
        shape = tuple(n if 0 < n < _LONGEST else None for n in dims)
        if kind.elem_type not in DTYPES:
            raise self._no_type(f"input {value.name}", kind.elem_type)
        return OnnxInput(_text(value.name), shape, DTYPES[kind.elem_type])

    def _check_types(self, values: Iterable[ValueInfoProto]) -> None:
        for value in values:
            kind = value.type.WhichOneof("value")
            if kind != "tensor_type":
                what = (kind or "nothing").removesuffix("_type").replace("_", " ")
                article = "an" if what[0] in "aeiou" else "a"
                fact = f"{self._path}: {value.name} is {article} {what}"
                raise Unsupported(fact, cure="export a network of tensors alone")

    def _array(self, tensor: TensorProto) -> Array:
        from onnx import numpy_helper

        wider = _WIDENED.get(tensor.data_type)
        if tensor.data_type not in DTYPES and wider is None:
            raise self._no_type(f"tensor {tensor.name}", tensor.data_type)
        try:
            array = numpy_helper.to_array(tensor, base_dir=str(self._path.parent))
        except (ValueError, TypeError) as error:
            fact = f"{self._path}: tensor {tensor.name}: {shorten(str(error), 200)}"
            raise BadFile(fact, cure=_WRITE_AGAIN) from None
        own = np.array(array) if wider is None else np.asarray(array).astype(wider)
        tensor.ClearField("raw_data")
        if wider is not None:
            self._widened[_text(tensor.name)] = tensor.data_type
        return own

    def _checked_widened(self, ops: Sequence[OnnxOp], outputs: Sequence[str]) -> list[OnnxOp]:
        """Refuse widened numbers wherever a node computes in their own narrow type.

        A ``QuantizeLinear`` with a zero point of such a type gives such numbers; it is marked with
        the type, because its zero point no longer shows it.
        """
        checked = []
        for op in ops:
            kind = self._widened.get(op.inputs[2]) if op.inputs[2:] else None
            kind = kind or int(op.attributes.get("output_dtype", 0))
            marked = op.kind == "QuantizeLinear" and kind in INTEGERS_WIDENED
            if marked:
                op = replace(op, attributes={**op.attributes, "output_dtype": kind})
                self._widened[op.outputs[0]] = kind
            for place, name in enumerate(op.inputs):
                allowed = _takes_values(op, place) or (marked and place == 2)
                if name in self._widened and not allowed:
                    here = f"input {name} of {op.name} ({op.kind})"
                    raise self._no_type(here, self._widened[name])
            branches = {
                key: replace(value, ops=tuple(self._checked_widened(value.ops, value.outputs)))
                for key, value in op.attributes.items()
                if isinstance(value, OnnxGraph)
            }
            if branches:
                op = replace(op, attributes={**op.attributes, **branches})
            checked.append(op)
        for name in outputs:
            if name in self._widened:
                raise self._no_type(f"output {name}", self._widened[name])
        return checked

    def _no_type(self, what: str, number: int) -> Unsupported:
        from onnx import TensorProto

        known = {value: name for name, value in TensorProto.DataType.items()}
        fact = f"{self._path}: {what} is of type {known.get(number, number)}"
        return Unsupported(fact, cure="export the network in float32 or float16")

    def _constant(self, op: OnnxOp) -> Array:
        for name, value in op.attributes.items():
            if name == "value":
                return np.asarray(value)
            if name.startswith(("value_float", "value_int")):
                kind = np.float32 if "float" in name else np.int64
                return np.array(value, dtype=kind)
        raise Unsupported(
            f"{self._path}: {op.name} (Constant) holds no numbers", cure="export tensors of numbers"
        )

    def _op(self, node: NodeProto, index: int) -> OnnxOp:
        name = _text(node.name) or f"{_text(node.op_type)}_{index}"
        if node.domain not in _OWN:
            raise Unsupported(
                f"{self._path}: {name} is {node.op_type} of {node.domain}, which is no operator of "
                "ONNX's own",
                cure="export the network with ONNX's own operators alone",
            )
        while name in self._names:
            name += "_"
        self._names.add(name)
        attributes = {_text(one.name): self._attribute(one) for one in node.attribute}
        return OnnxOp(
            name,
            _text(node.op_type),
            self._versions.get("", 0),
            tuple(self._replaced.get(one, one) for one in map(_text, node.input)),
            tuple(map(_text, node.output)),
            attributes,
            sized_pads=self._from_tensorflow and "auto_pad" not in attributes,
        )

    def _attribute(self, attribute: AttributeProto) -> Any:
        from onnx import helper

        value = helper.get_attribute_value(attribute)
        match attribute.type:
            case attribute.TENSOR:
                if value.data_type in _WIDENED:
                    raise self._no_type(f"attribute {_text(attribute.name)}", value.data_type)
                return self._array(value)
            case attribute.GRAPH:
                return self.graph(value)
            case attribute.STRING:
                return value.decode("utf-8", "replace")
            case attribute.STRINGS:
                return [one.decode("utf-8", "replace") for one in value]
            case attribute.INT | attribute.FLOAT:
                return value
            case attribute.INTS | attribute.FLOATS:
                return list(value)
        raise Unsupported(f"{self._path}: attribute {attribute.name} of a type that is not read")
