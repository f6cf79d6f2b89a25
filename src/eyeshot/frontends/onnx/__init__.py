"""ONNX files as ``torch.nn.Module``, which all other parts of Eyeshot can use.

A file is read as data (:mod:`~eyeshot.frontends.onnx.reading`), and becomes a module with one
submodule for each of its nodes. Sizes that the file
computes from the image's shape are plain numbers while ``forward`` runs. So a trace at any size
computes them for that size, and a file that was exported at one size runs at every size.

What each ONNX operator computes, in torch's functions, is in one table here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from inspect import Parameter, Signature
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from eyeshot.errors import BadValue, EyeshotError, Unsupported
from eyeshot.frontends.onnx.arithmetic import POINTWISE, PRODUCTS, QUANTIZED
from eyeshot.frontends.onnx.moving import MOVES, RESIZES, SHAPES
from eyeshot.frontends.onnx.reading import OnnxGraph, load_onnx
from eyeshot.frontends.onnx.site import (
    FOLDED,
    FROM_SHAPES,
    Array,
    Compute,
    OnnxOp,
    Refusal,
    Shape,
    Site,
    Value,
    fold,
    what_stands_in_the_way,
)
from eyeshot.frontends.onnx.statistics import NORMS, POOLS, REDUCTIONS
from eyeshot.frontends.programs import is_size
from eyeshot.frontends.refusals import in_brief

__all__ = ["OnnxNetwork", "load_onnx"]


GROUPS: dict[str, dict[str, Compute]] = {
    "number by number": POINTWISE,
    "convolutions and products": PRODUCTS,
    "pooling": POOLS,
    "resizing": RESIZES,
    "moving and joining": MOVES,
    "shapes": SHAPES,
    "statistics": REDUCTIONS,
    "norms": NORMS,
    "quantized": QUANTIZED,
}
"""The operators that are computed, by what they do."""

COMPUTE = {name: compute for group in GROUPS.values() for name, compute in group.items()}
"""What a node computes, by its operator."""

_BY_CONTENT = "how many numbers it gives depends on the image's content"
_STATE = "it carries a state along its axis: no exact answer by parts"
_RANDOM = "it gives other random numbers at each call"
_SEQUENCE = "it works on sequences of tensors"
_TEXT = "it works on texts"
_PLAIN = "export a network of plain layers"
_EACH = {
    _BY_CONTENT: "NonMaxSuppression NonZero Unique Compress StringSplit",
    _STATE: "LSTM GRU RNN Scan",
    _RANDOM: "RandomNormal RandomNormalLike RandomUniform RandomUniformLike Multinomial Bernoulli",
    _SEQUENCE: """
        SequenceAt SequenceConstruct SequenceEmpty SequenceErase SequenceInsert SequenceLength
        SequenceMap SplitToSequence ConcatFromSequence Optional OptionalGetElement
        OptionalHasElement
    """,
    _TEXT: "StringConcat StringNormalizer RegexFullMatch TfIdfVectorizer LabelEncoder",
    "it repeats by numbers of the image": "Loop",
}
REASONS: dict[str, tuple[str, str]] = {
    name: (reason, _PLAIN) for reason, names in _EACH.items() for name in names.split()
}
"""Why some operators are not computed, and what to do, by their names."""


_ROLES = {
    "Conv": ("", "weight", "bias"),
    "ConvTranspose": ("", "weight", "bias"),
    "Gemm": ("", "weight", "bias"),
    "MatMul": ("", "weight"),
    "BatchNormalization": ("", "weight", "bias", "running_mean", "running_var"),
    "InstanceNormalization": ("", "weight", "bias"),
    "GroupNormalization": ("", "weight", "bias"),
    "LayerNormalization": ("", "weight", "bias"),
    "PRelu": ("", "weight"),
}
"""For each operator, the torch names of its inputs; stored inputs of any other are buffers."""
_FLOATS = (torch.float16, torch.float32, torch.float64)
_TRAINED = frozenset(("weight", "bias"))
Values = dict[str, Value]
_Noted = tuple[tuple[Shape | None, ...], Shape | None]
"""The shapes of a node's inputs, and for a ``Reshape`` the shape that it asks for."""


def why_not(kind: str) -> tuple[str, str]:
    """Why an operator is not supported, and the cure."""
    if kind in FOLDED:
        return f"{kind} of numbers that depend on the image's values", "compute them from its shape"
    return REASONS.get(kind, ("there is no rule for this operator", "leave it out of the network"))


def unknown(graph: OnnxGraph) -> OnnxOp | None:
    """The first node that is not supported; an ``If`` counts if both branches have such a node."""
    for op in graph.ops:
        if op.kind == "If":
            branches = [one for one in op.attributes.values() if isinstance(one, OnnxGraph)]
            found = [unknown(one) for one in branches]
            if found and None not in found:
                return found[0]
        elif op.kind not in COMPUTE and op.kind not in FOLDED:
            return op
    return None


class OnnxNode(nn.Module):
    """One node, with the stored tensors of which it is the first reader.

    Args:
        op: the node.
        branches: for ``If``, the steps of each branch by attribute name.
    """

    def __init__(self, op: OnnxOp, branches: Mapping[str, OnnxSteps]) -> None:
        super().__init__()
        self.op = op
        for name, steps in branches.items():
            self.add_module(name, steps)

    def forward(self, site: Site) -> Any:
        """The node's output, or a tuple of outputs; arrays if they are known while tracing."""
        return COMPUTE[self.op.kind](site)

    def extra_repr(self) -> str:
        """The operator, such as ``Conv``, for ``print(module)``."""
        return self.op.kind


class OnnxSteps(nn.Module):
    """The nodes of one graph of a file, in execution order."""

    def __init__(self, graph: OnnxGraph) -> None:
        super().__init__()
        self._outputs = graph.outputs
        self._steps: list[tuple[str, OnnxOp]] = []
        self._stored: dict[str, tuple[str, str]] = {}
        self._numbers: dict[str, Array] = dict(graph.tensors)
        self._converted: dict[torch.dtype, torch.dtype] = {}
        names = _Names()
        for op in graph.ops:
            branches = {
                key: OnnxSteps(value)
                for key, value in op.attributes.items()
                if isinstance(value, OnnxGraph)
            }
            module, key = OnnxNode(op, branches), names.of(op.name)
            self.add_module(key, module)
            self._steps.append((key, op))
            self._store(module, key, op)

    def _store(self, module: OnnxNode, key: str, op: OnnxOp) -> None:
        """Store tensors that no earlier node has stored as members of this node's module."""
        roles = _ROLES.get(op.kind, ())
        for place, name in enumerate(op.inputs):
            array = self._numbers.get(name)
            if array is None or name in self._stored or array.dtype.kind != "f" or array.size < 2:
                continue
            role = roles[place] if place < len(roles) else ""
            role = role if role and not hasattr(module, role) else f"constant{place}"
            tensor = torch.from_numpy(array)
            if role in _TRAINED:
                setattr(module, role, nn.Parameter(tensor))
            else:
                module.register_buffer(role, tensor)
            self._stored[name] = (key, role)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> OnnxSteps:
        """As every module; and note the types that ``.to(…)`` gives, for constants of one number.

        Those are no buffers: a node may need them as numbers while it is traced.
        """
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for kind in _FLOATS:
            now = self._converted.get(kind, kind)
            self._converted[kind] = fn(torch.empty(0, dtype=now)).dtype
        return self

    def run(self, values: Values, run: _Run) -> list[Value]:
        """The graph's outputs; ``values`` has the inputs, and the values of the outer graph."""
        values = {**values, **{name: self._constant(name, run) for name in self._numbers}}
        for key, op in self._steps:
            made = run.step(getattr(self, key), op, values)
            if len(made) < len(op.outputs):
                fact = f"gives {len(made)} values, but the file names {len(op.outputs)} outputs"
                raise run.refused(op, fact, "correct that node")
            values.update(zip(op.outputs, made, strict=False))
        return [values[name] for name in self._outputs]

    def _constant(self, name: str, run: _Run) -> Value:
        array = self._numbers[name]
        place = self._stored.get(name)
        if place is None:
            own = torch.from_numpy(array).dtype if array.dtype.kind == "f" else None
            kind = self._converted.get(own, own) if own else None
            if array.ndim == 0 or kind == own:  # a single number takes no part in promotion
                return Value(known=lambda: array, fixed=True)
            return Value(lambda: torch.tensor(array, dtype=kind), lambda: array, fixed=True)
        module, role = getattr(self, place[0]), place[1]
        make = partial(run.weight, module, role)
        return Value(make, lambda: array, weight=True, fixed=True)


class OnnxNetwork(OnnxSteps):
    """The network of an ONNX file; it takes images of every size that its nodes allow.

    Attributes:
        file: the name of the file, for messages.
        images: its inputs.
    """

    def __init__(self, graph: OnnxGraph, file: str) -> None:
        super().__init__(graph)
        op = unknown(graph)
        if op is not None:
            fact, cure = why_not(op.kind)
            raise Unsupported(f"{file}: {op.name} ({op.kind}): {fact}", cure=cure)
        self.file, self.images, self._one_size = file, graph.inputs, graph.one_size
        self._shapes: dict[str, _Noted] = {}
        self.eval()
        sizes = [one.shape for one in self.images]
        if all(None not in size[1:] for size in sizes):
            self._look_at(sizes)

    def forward(self, *images: Tensor) -> Any:
        """The output for images (N, C, …), one for each input; a tuple if there are several.

        Raises:
            BadValue: there are more or fewer images than inputs, or an image has another type or
                number of dimensions than its input.
            Unsupported: a node cannot compute these images; the message names it.
        """
        if len(images) != len(self.images):
            names = ", ".join(one.name for one in self.images)
            fact = f"{self.file} takes {len(self.images)} inputs ({names}), not {len(images)}"
            raise BadValue(fact, cure="give one tensor for each")
        converted = [one.converted(image) for one, image in zip(self.images, images, strict=True)]
        pairs = zip(self.images, converted, strict=True)
        original = None if all(one.declares(image.shape) for one, image in pairs) else self._shapes
        if original is not None and self._one_size:
            sizes = " and ".join(one.in_words for one in self.images)
            fact = f"{self.file} is made for {sizes}: its exporter writes sizes as constants"
            raise Unsupported(fact, cure="give that size, or export it with open dimensions")
        run = _Run(self.file, original or None, gone=self._gone(images))
        values = {one.name: _made(value) for one, value in zip(self.images, converted, strict=True)}
        made = self.run(values, run)
        try:
            outputs = [value.tensor for value in made]
        except EyeshotError:
            raise
        except Exception as error:  # torch.tensor refuses other arrays, such as text, in many ways
            fact = f"{self.file}: an output is not a tensor of numbers: {in_brief(error)}"
            raise Unsupported(fact, cure="export a network whose outputs are numbers") from error
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    @property
    def declared(self) -> tuple[tuple[int | None, ...], ...]:
        """The size (C, …) that the file declares for each input; None for an open dimension."""
        return tuple(one.declared for one in self.images)

    @property
    def one_size(self) -> tuple[tuple[int, ...], ...] | None:
        """The sizes (C, …) that it was exported for; None if one of them is open."""
        sizes = tuple(tuple(n for n in one if n is not None) for one in self.declared)
        complete = all(len(a) == len(b) for a, b in zip(sizes, self.declared, strict=True))
        return sizes if complete else None

    def _gone(self, images: Sequence[Tensor]) -> set[int]:
        """The lengths of axes that the file declares and these images (N, C, …) do not have.

        The product of all axes is among them: a mean is a division by it.
        """
        pairs = zip(self.one_size or (), images, strict=False)
        return {n for size, image in pairs for n in _lost(size[1:], image.shape[2:])}

    def _look_at(self, sizes: Sequence[Sequence[int | None]]) -> None:
        """Record the shapes of all values at the size that the file was exported for."""
        run = _Run(self.file, None, noted=self._shapes)
        with torch.no_grad(), torch.device("meta"):
            try:
                values = {
                    one.name: _made(torch.empty([n or 1 for n in size], dtype=one.dtype))
                    for one, size in zip(self.images, sizes, strict=True)
                }
                self.run(values, run)
            except (EyeshotError, RuntimeError):  # too large here, or each run raises it again
                self._shapes.clear()

    def extra_repr(self) -> str:
        """The file's name, for ``print(module)``."""
        return self.file


def named_network(graph: OnnxGraph, path: Path) -> OnnxNetwork:
    """The network, with a class named after the file and a ``forward`` with its inputs' names."""
    names = [re.sub(r"\W", "_", one.name) for one in graph.inputs]

    def forward(self: OnnxNetwork, *images: Tensor) -> Any:
        return OnnxNetwork.forward(self, *images)

    if all(map(str.isidentifier, names)) and len({"self", *names}) > len(names):
        kind = Parameter.POSITIONAL_OR_KEYWORD
        parameters = [Parameter(one, kind) for one in ("self", *names)]
        forward.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    name = re.sub(r"\W", "_", path.stem) or OnnxNetwork.__name__
    members = {"forward": forward, "__module__": OnnxNetwork.__module__}
    made: type[OnnxNetwork] = type(name, (OnnxNetwork,), members)
    return made(graph, path.name)


def _made(tensor: Tensor) -> Value:
    return Value(lambda: tensor)


class _Run:
    """One pass over the nodes.

    Args:
        file: the name of the file, for messages.
        original: by node, what was noted at the size that the file was exported for;
            None if the pass is at that size, or if the file leaves its size open.
        gone: lengths that the image had at that size and does not have now.
        noted: a dict to fill with such shapes; the pass then computes shapes only.
    """

    def __init__(
        self,
        file: str,
        original: Mapping[str, _Noted] | None,
        noted: dict[str, _Noted] | None = None,
        gone: Iterable[int] = (),
    ) -> None:
        self._file, self._original, self._noted, self._gone = file, original, noted, gone
        self._past: list[tuple[OnnxOp, Site]] = []

    def weight(self, module: nn.Module, name: str) -> Tensor:
        """A weight; on the meta device if the pass computes shapes only."""
        tensor: Tensor = getattr(module, name)
        return tensor if self._noted is None else tensor.to("meta")

    def step(self, module: OnnxNode, op: OnnxOp, values: Values) -> list[Value]:
        """The outputs of one node.

        Raises:
            Unsupported: the node is not supported, or its inputs do not match.
        """
        inputs = tuple(values[name] if name else None for name in op.inputs)
        original, asked = (self._original or {}).get(op.name, (None, None))
        site = Site(op, inputs, original, asked)
        try:
            if op.kind == "If":
                return self._chosen(module, site, values)
            if original is not None and op.kind in _ARITHMETIC:
                _refuse_sizes(site, self._gone)
            known = op.kind in FROM_SHAPES or all(one is None or one.is_known for one in inputs)
            if op.kind not in COMPUTE and not (known and op.kind in FOLDED):
                raise Refusal(*why_not(op.kind))
            if self._noted is not None:
                shapes = tuple(None if one is None else one.shape for one in inputs)
                self._noted[op.name] = (shapes, site.whole(1) if op.kind == "Reshape" else None)
            self._past.append((op, site))
            if known:
                weights = any(one is not None and one.is_weight for one in inputs)
                by_torch = weights and op.kind in COMPUTE
                return _folded(module, site, by_torch=by_torch, refused=self.refused)
            result = module(site)
            results = result if isinstance(result, tuple) else (result,)
            return [_made(one) if isinstance(one, Tensor) else _known(one) for one in results]
        except EyeshotError:
            raise
        except Refusal as reason:
            raise self.refused(op, str(reason), reason.cure) from None
        except Exception as error:  # torch raises many types for shapes that do not match
            cure = what_stands_in_the_way(self._past)
            raise self.refused(op, _in_words(error, inputs), cure) from error

    def _chosen(self, module: OnnxNode, site: Site, values: Values) -> list[Value]:
        """The outputs of the branch that an ``If`` with a known condition takes."""
        if not site.value(0).is_known:
            raise Refusal("If decides by the values of an input", "export one branch alone")
        name = "then_branch" if bool(site.value(0).known) else "else_branch"
        steps: OnnxSteps = getattr(module, name)
        return steps.run(values, self)

    def refused(self, op: OnnxOp, fact: str, cure: str) -> Unsupported:
        """The error to raise for a node, with the names of the file, the node and the operator."""
        return Unsupported(f"{self._file}: {op.name} ({op.kind}): {fact}", cure=cure)


_ARITHMETIC = frozenset(
    {
        *("Add", "Sub", "Mul", "Div", "Mod", "Pow", "Min", "Max", "Clip"),
        *("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"),
    }
)


def _refuse_sizes(site: Site, gone: Iterable[int]) -> None:
    """Refuse a constant that is a size of the image, or divides a map by its size, at the export.

    Exporters write ``x / x.shape[-1]`` as a division by that number. A length that is the same now
    is left: it is right, or no size.
    """
    pairs = [
        (one, before)
        for one, before in zip(site.values, site.original or (), strict=False)
        if one is not None and before is not None and not one.is_known
    ]
    if not pairs:
        return
    for place, one in enumerate(site.values):
        if one is None or not one.is_fixed or one.is_weight or not one.is_known:
            continue
        number = np.asarray(one.known)
        if number.size != 1:
            continue
        what = "image" if is_size(number.item(), [(n,) for n in gone]) else ""
        if site.op.kind == "Div" and place == 1 and not what:
            (divided, before), *_ = pairs
            now = divided.shape
            # Channels may come first or last; only the lengths of the other axes change.
            lost = [*_lost(before[2:], now[2:]), *_lost(before[1:-1], now[1:-1])]
            what = "map" if is_size(number.item(), [(n,) for n in lost]) else ""
        if what:
            raise Refusal(
                f"its constant {number.item():g} is a size of the {what} at the size that the file "
                "was exported for",
                "give an image of that size, or export the file with open dimensions",
            )


def _lost(before: Sequence[int], now: Sequence[int]) -> set[int]:
    """The lengths of axes that have changed, and the product of all axes if one has."""
    changed = {b for b, n in zip(before, now, strict=False) if b != int(n)}
    return {*changed, math.prod(before)} if changed else set()


def _known(array: Any) -> Value:
    return Value(known=lambda: array)


def _folded(
    module: OnnxNode,
    site: Site,
    *,
    by_torch: bool,
    refused: Callable[[OnnxOp, str, str], EyeshotError],
) -> list[Value]:
    """The outputs of a node whose inputs are all known, each computed when it is first read.

    ``by_torch`` is True if an input is a weight: the output can then also be read as a tensor.
    """
    op = site.op
    fixed = op.kind not in FROM_SHAPES and all(one is None or one.is_fixed for one in site.values)
    found: list[Any] = []
    made: list[Any] = []

    def fill(these: list[Any], compute: Callable[[Site], Any]) -> None:
        if not these:
            try:
                result = compute(site)
            except EyeshotError:
                raise
            except Refusal as reason:
                raise refused(op, str(reason), reason.cure) from None
            except Exception as error:  # torch and ONNX's evaluator raise many types
                raise refused(op, _in_words(error, site.values), "correct that node") from error
            these.extend(result if isinstance(result, (tuple, list)) else (result,))

    def numbers(place: int) -> Array:
        fill(found, fold)
        array: Array = found[place]
        return array

    def tensor(place: int) -> Tensor:
        fill(made, module)
        one = made[place]
        return one if isinstance(one, Tensor) else torch.tensor(one)

    def value(place: int) -> Value:
        make = (lambda: tensor(place)) if by_torch else None
        return Value(make, lambda: numbers(place), weight=by_torch, fixed=fixed)

    return [value(place) for place in range(max(1, len(op.outputs)))]


def _in_words(error: Exception, inputs: Iterable[Value | None]) -> str:
    """Torch's error, and the shapes of the node's inputs."""
    shapes = []
    for one in inputs:
        try:
            shapes.append("none" if one is None else "x".join(map(str, one.shape)) or "a number")
        except Exception:  # the value may be what failed; ``error`` already has the cause
            shapes.append("?")
    return f"{in_brief(error)} (inputs {', '.join(shapes[:6])})"


class _Names:
    """Makes unique module names, without dots and slashes, from the names of nodes."""

    def __init__(self) -> None:
        self._reserved = set(dir(OnnxNetwork)) | {"file", "images", "training"}

    def of(self, name: str) -> str:
        """A module name for a node; a number is added if the name is taken."""
        plain = re.sub(r"\W+", "_", name).strip("_") or "node"
        found, count = plain, 1
        while found in self._reserved or found.startswith("_"):
            count += 1
            found = f"{plain}_{count}"
        self._reserved.add(found)
        return found
