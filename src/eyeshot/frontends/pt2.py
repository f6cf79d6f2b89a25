"""Read a ``.pt2`` exported program as data: JSON and raw tensors, without pickle or eval.

``torch.export.load`` unpickles (sample inputs, and weights of some kinds) and evaluates size
expressions, so a malicious file could run any code. This reader looks up operator names among
PyTorch's own operators, reads numbers as numbers, and refuses everything else by name.
"""

from __future__ import annotations

import json
import math
import operator as python_operator
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import torch
from torch._ops import OpOverload
from torch.export.graph_signature import InputKind, InputSpec, TensorArgument

from eyeshot.errors import BadFile, EyeshotError, Unsupported
from eyeshot.files import explain_os_error
from eyeshot.frontends.refusals import Contradiction, check_values, in_brief
from eyeshot.operators import OPERATORS

_DTYPES = {
    **{1: torch.uint8, 2: torch.int8, 3: torch.int16, 4: torch.int32, 5: torch.int64},
    **{6: torch.float16, 7: torch.float32, 8: torch.float64, 10: torch.complex64},
    **{11: torch.complex128, 12: torch.bool, 13: torch.bfloat16},
}
_MOST_REPEATED = 1 << 20
"""The most numbers of a stored tensor that is larger than its memory (an expanded buffer)."""
_TARGET = re.compile(r"torch\.ops\.aten\.(\w+)\.(\w+)")
_ON_SIZES = {
    **{f"_operator.{name}": getattr(python_operator, name) for name in ("add", "sub", "mul")},
    **{f"_operator.{name}": getattr(python_operator, name) for name in ("floordiv", "mod", "neg")},
    **{f"_operator.{name}": getattr(python_operator, name) for name in ("truediv", "eq", "ne")},
    **{f"_operator.{name}": getattr(python_operator, name) for name in ("lt", "le", "gt", "ge")},
    **{f"_operator.{name}": getattr(python_operator, name) for name in ("and_", "or_", "not_")},
    **{f"math.{name}": getattr(math, name) for name in ("ceil", "floor", "trunc")},
    **{f"torch.sym_{name}": getattr(torch, f"sym_{name}") for name in ("max", "min", "not")},
    **{f"torch.sym_{name}": getattr(torch, f"sym_{name}") for name in ("float", "int", "sum")},
}
"""The functions that a program may call on numbers, which come from its inputs' sizes."""
# Functions that create tensors. They and operators with a rule may be computed while reading.
MAKERS = frozenset(("arange", "eye", "full", "linspace", "ones", "scalar_tensor", "zeros"))
ON_WEIGHTS = MAKERS | {"_weight_norm", "dot", "linalg_vector_norm", "mv", "vdot"}
"""And those by which weight norm and spectral norm compute a layer's weights."""
_SPECS = {
    "parameter": (InputKind.PARAMETER, "parameter_name"),
    "buffer": (InputKind.BUFFER, "buffer_name"),
    "tensor_constant": (InputKind.CONSTANT_TENSOR, "tensor_constant_name"),
}


@dataclass(frozen=True)
class Signature:
    """Which of a program's inputs are weights."""

    input_specs: list[InputSpec]


@dataclass(frozen=True)
class Program:
    """The parts of an exported program that the front end needs.

    Attributes:
        graph: its operators, in execution order.
        graph_signature: which of its inputs are weights.
        state_dict: the weights.
        constants: tensors that are not weights.
        path: the path of its file; "" if it has none.
        any_size: True if it was exported for more than one size, so that it computes numbers from
            the sizes of its inputs. Then its shapes are those of the example input, and
            :class:`eyeshot.frontends.programs.ProgramNet` computes it.
        conditions: it is valid only for input sizes that meet these.
    """

    graph: torch.fx.Graph
    graph_signature: Signature
    state_dict: Mapping[str, torch.Tensor]
    constants: Mapping[str, torch.Tensor]
    path: str = ""
    any_size: bool = False
    conditions: tuple[str, ...] = ()


def read_program(file: str | Path | IO[bytes]) -> Program:
    """Read an exported program without running or unpickling any of it.

    Args:
        file: its path, or the open file.

    Returns:
        The program, with its declared shapes checked.

    Raises:
        BadFile: missing, damaged, not an exported program, or with pickled weights.
        Unsupported: a size that depends on the input's values, or an operator that is not
            PyTorch's own.
    """
    path = Path(file) if isinstance(file, (str, Path)) else Path("the program")
    try:
        with zipfile.ZipFile(path if isinstance(file, (str, Path)) else file) as archive:
            return _Archive(path, archive).program()
    except OSError as error:
        raise explain_os_error(error, path) from error
    except EyeshotError:
        raise
    except zipfile.BadZipFile:
        raise BadFile(f"{path}: damaged, or no .pt2 file", cure="write it again") from None
    except Contradiction as error:
        raise BadFile(f"{path}: {error}", cure="write it again with torch.export.save") from None
    except Exception as error:  # the file may hold anything, so any lookup may fail
        raise damaged(path, error) from error


def damaged(path: str | Path, error: Exception) -> BadFile:
    """The error to raise for a file that is damaged or of another version."""
    fact = f"{path}: damaged, or of another version ({in_brief(error)})"
    return BadFile(fact, cure="write it again with torch.export.save")


class _Archive:
    """The zip archive of one file, and the tensors in it."""

    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self._path, self._archive = path, archive
        self._names = {name.partition("/")[2]: name for name in archive.namelist()}
        self._memory: dict[str, bytearray] = {}

    def program(self) -> Program:
        models = [name for name in self._names if re.fullmatch(r"models/\w+\.json", name)]
        if len(models) != 1:
            cure = "give a file written by torch.export.save"
            raise BadFile(f"{self._path}: holds no exported program", cure=cure)
        model = models[0].removeprefix("models/").removesuffix(".json")
        whole = json.loads(self._read(models[0]))
        module = whole["graph_module"]
        weights = self._tensors("weights", f"data/weights/{model}_weights_config.json")
        constants = self._tensors("constants", f"data/constants/{model}_constants_config.json")
        builder = _Builder(module["graph"], str(self._path))
        specs = [builder.placeholder(spec) for spec in module["signature"]["input_specs"]]
        for operator in module["graph"]["nodes"]:
            builder.operator(operator)
        builder.finish()
        check_values(builder.graph, specs, {**weights, **constants})
        conditions = tuple(map(str, whole.get("guards_code") or ())) if builder.any_size else ()
        return Program(
            builder.graph,
            Signature(specs),
            weights,
            constants,
            str(self._path),
            builder.any_size,
            conditions,
        )

    def _read(self, name: str) -> bytes:
        if name not in self._names:
            raise BadFile(f"{self._path}: has no {name}", cure="write it with this torch's export")
        info = self._archive.getinfo(self._names[name])
        if info.compress_type != zipfile.ZIP_STORED:
            # torch never compresses. Refusing compression keeps memory within the file's size.
            raise BadFile(f"{self._path}: {name} is compressed", cure="write it with torch.export")
        return self._archive.read(info)

    def _tensors(self, folder: str, config: str) -> dict[str, torch.Tensor]:
        found = {}
        for name, payload in json.loads(self._read(config))["config"].items():
            meta = payload["tensor_meta"]
            if payload["use_pickle"] or meta is None:
                raise BadFile(
                    f"{self._path}: {name} is pickled, and opening it could run any code",
                    cure="export a network whose weights are plain tensors on the CPU",
                )
            place = f"data/{folder}/{payload['path_name']}"
            if place not in self._memory:
                self._memory[place] = bytearray(self._read(place))
            content = self._memory[place]
            dtype = _DTYPES[meta["dtype"]]
            flat = (
                torch.frombuffer(content, dtype=dtype) if content else torch.empty(0, dtype=dtype)
            )
            start = _whole(meta["storage_offset"])
            sizes, strides = map(_whole_numbers, (meta["sizes"], meta["strides"]))
            if math.prod(sizes) > max(len(flat), _MOST_REPEATED):
                raise BadFile(
                    f"{self._path}: {name} is said to have {math.prod(sizes):.3g} numbers, but the "
                    f"file holds {len(flat):,} of them",
                    cure="write it again with torch.export.save",
                )
            found[name] = torch.as_strided(flat, sizes, strides, start)
        return found


@dataclass
class _Builder:
    """Builds a torch.fx graph from the operators in the file's JSON."""

    data: Mapping[str, Any]
    path: str
    graph: torch.fx.Graph = field(default_factory=torch.fx.Graph)
    made: dict[str, torch.fx.Node] = field(default_factory=dict)
    from_input: set[torch.fx.Node] = field(default_factory=set)
    any_size: bool = False

    def placeholder(self, spec: Mapping[str, Any]) -> InputSpec:
        """Add an input of the program: a weight or a user input."""
        ((kind, body),) = spec.items()
        if kind != "user_input" and kind not in _SPECS:
            raise Unsupported(f"{self.path}: an input of kind {kind}", cure="export tensors alone")
        argument = body["arg"]["as_tensor"] if kind == "user_input" else body["arg"]
        node = self._add("placeholder", str(argument["name"]), (), {})
        if kind == "user_input":
            self.from_input.add(node)
            return InputSpec(InputKind.USER_INPUT, TensorArgument(node.name), None)
        input_kind, named = _SPECS[kind]
        persistent = bool(body.get("persistent", True)) if kind == "buffer" else None
        return InputSpec(input_kind, TensorArgument(node.name), str(body[named]), persistent)

    def operator(self, entry: Mapping[str, Any]) -> None:
        """Add one call, and a getitem for each output if it has several."""
        target = self._target(str(entry["target"]))
        if getattr(target, "_opname", "") == "_assert_tensor_metadata":
            return  # written at each cast; every input is checked to be of the program's type
        args = [self._argument(one["arg"]) for one in entry["inputs"] if one["kind"] != 2]
        kwargs = {
            str(one["name"]): self._argument(one["arg"])
            for one in entry["inputs"]
            if one["kind"] == 2
        }
        if self._number(target, entry["outputs"], tuple(args), kwargs):
            return
        outputs = _output_names(entry["outputs"])
        single = len(entry["outputs"]) == 1 and "as_tensor" in entry["outputs"][0]
        name = outputs[0] if single else str(entry.get("name") or "operator")
        node = self._add(target, name, tuple(args), kwargs, has_value=single)
        self._place(node, entry.get("metadata", {}))
        self._note_origin(node)
        if not single:
            node.meta["val"] = tuple(self._value(one) for one in outputs)
            for index, one in enumerate(outputs):
                item = self._add(python_operator.getitem, one, (node, index), {})
                self._place(item, entry.get("metadata", {}))
                self._note_origin(item)

    def _number(
        self, target: Any, outputs: list[Mapping[str, Any]], args: tuple[Any, ...], kwargs: Any
    ) -> bool:
        """Add an operator on sizes, which computes or checks a number; False for any other."""
        is_check = getattr(target, "_opname", "") == "_assert_scalar"
        ((kind, value),) = outputs[0].items() if len(outputs) == 1 else (("", {}),)
        if not is_check and kind not in ("as_sym_int", "as_sym_float", "as_sym_bool"):
            return False
        self.any_size = True
        name = str(value["as_name"]) if not is_check else "check"
        node = self._add(target, name, args, kwargs, has_value=False)
        self.from_input.add(node)
        if not is_check:
            values = self.data[f"{kind.removeprefix('as_')}_values"]
            node.meta["val"] = _example(values[name])
        return True

    def finish(self) -> None:
        """Close the graph with the program's outputs."""
        tensors = [one["as_tensor"]["name"] for one in self.data["outputs"] if "as_tensor" in one]
        self.graph.output(tuple(self.made[name] for name in tensors))

    def _add(
        self, target: Any, name: str, args: tuple[Any, ...], kwargs: Any, has_value: bool = True
    ) -> torch.fx.Node:
        if target == "placeholder":
            node = self.graph.create_node("placeholder", name)
        else:
            node = self.graph.create_node("call_function", target, args, kwargs)
        node.name = name
        if has_value:
            node.meta["val"] = self._value(name)
        self.made[name] = node
        return node

    def _note_origin(self, node: torch.fx.Node) -> None:
        """Refuse an operator on weights alone that is not known to be harmless: it runs on load."""
        if any(source in self.from_input for source in node.all_input_nodes):
            self.from_input.add(node)
            return
        operator = getattr(node.target, "_opname", "getitem").rstrip("_")
        if operator not in ON_WEIGHTS and operator not in OPERATORS and operator != "getitem":
            raise Unsupported(
                f"{self.path}: {operator} on weights alone is not known to be harmless",
                cure="compute it before export and keep the result as a buffer",
            )

    def _target(self, name: str) -> Any:
        if name in _ON_SIZES:
            return _ON_SIZES[name]
        matched = _TARGET.fullmatch(name)
        packet = getattr(torch.ops.aten, matched[1], None) if matched else None
        target = getattr(packet, matched[2], None) if matched else None
        if not isinstance(target, OpOverload):
            cure = "export with PyTorch's own operators alone"
            raise Unsupported(f"{self.path}: operator {name} is not known", cure=cure)
        return target

    def _argument(self, argument: Mapping[str, Any]) -> Any:
        ((kind, value),) = argument.items()
        if kind == "as_none":
            return None
        if kind == "as_tensor":
            return self.made[value["name"]]
        if kind == "as_tensors":
            return [self.made[one["name"]] for one in value]
        if kind == "as_optional_tensors":
            return [self._argument(one) for one in value]
        if kind in ("as_sym_ints", "as_sym_bools", "as_sym_floats"):
            return [self._number_of(one) for one in value]
        if kind in ("as_sym_int", "as_sym_bool", "as_sym_float"):
            return self._number_of(value)
        if kind == "as_scalar_type":
            return _DTYPES[value]
        if kind == "as_device":
            return torch.device("cpu")
        if kind in ("as_memory_format", "as_layout"):
            return None
        if kind in _PLAIN:
            return value
        raise Unsupported(f"{self.path}: an argument {kind}", cure="export with fixed sizes")

    def _number_of(self, value: Mapping[str, Any]) -> Any:
        """A number, or the node that computes it from the inputs' sizes."""
        ((kind, content),) = value.items()
        return self.made[content] if kind == "as_name" else content

    def _value(self, name: str) -> torch.Tensor:
        """A meta tensor with the shape and type that the file declares for a value."""
        meta = self.data["tensor_values"][name]
        self.any_size |= any("as_int" not in size for size in meta["sizes"])
        sizes = [int(_example(size)) for size in meta["sizes"]]
        return torch.empty(sizes, dtype=_DTYPES[meta["dtype"]], device="meta")

    def _place(self, node: torch.fx.Node, metadata: Mapping[str, str]) -> None:
        """Record the layers that contain the call: ``key,path,class;…``, outermost first."""
        calls = str(metadata.get("nn_module_stack", "")).split(";")
        stack = [call.split(",", 2) for call in calls if call.count(",") >= 2]
        node.meta["nn_module_stack"] = {key: (path, kind) for key, path, kind in stack}


_PLAIN = frozenset(
    ("as_int", "as_ints", "as_float", "as_floats", "as_string", "as_bool", "as_bools")
)


def _output_names(outputs: list[Mapping[str, Any]]) -> list[str]:
    names: list[str] = []
    for output in outputs:
        listed = output["as_tensors"] if "as_tensors" in output else [output["as_tensor"]]
        names += [str(one["name"]) for one in listed]
    return names


def _example(number: Mapping[str, Any]) -> Any:
    """A number of the program, as computed for the example input of the export."""
    ((kind, content),) = number.items()
    if kind != "as_expr":
        return content
    if content.get("hint") is None:
        raise Unsupported(
            "a size that depends on the input's values", cure="export it without such sizes"
        )
    return _example(content["hint"])


def _whole(size: Mapping[str, Any]) -> int:
    if "as_int" not in size:
        raise Unsupported("sizes that are not fixed", cure="export without dynamic shapes")
    return int(size["as_int"])


def _whole_numbers(sizes: list[Mapping[str, Any]]) -> list[int]:
    return [_whole(size) for size in sizes]
