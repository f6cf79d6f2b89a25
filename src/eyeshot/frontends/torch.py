"""Trace a ``torch.nn.Module`` with ``torch.export`` and make our :class:`Graph` from it.

The module is traced on a fake tensor of the requested size, which has a shape but no memory: an
image of 10⁵ x 10⁵ costs no more than one of 10 x 10. The module itself does not change.
"""

from __future__ import annotations

import functools
import operator as python_operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind
from torch.nn.parameter import is_lazy

from eyeshot.errors import BadValue, EyeshotError, Failure, Unsupported
from eyeshot.frontends.agreement import compared_with_network
from eyeshot.frontends.aliasing import (
    Held,
    dtype_name,
    family,
    hushed,
    is_channels_last,
    mixes_types,
    small_tensors_known,
    source_of,
    writes_in_place,
    writes_into_known,
)
from eyeshot.frontends.calls import (
    Chance,
    Namer,
    TupleItem,
    call_of,
    filled_with,
    folded,
    is_random,
    operator_name,
    overwritten,
    plain_name,
    put_back,
    strided,
)
from eyeshot.frontends.inlining import KeptPaths, failures_leave_modules, inlined, without_extras
from eyeshot.frontends.programs import refuse_lost_paths
from eyeshot.frontends.pt2 import Program, Signature, damaged
from eyeshot.frontends.refusals import cannot_export, refuse_unknown_sizes, source_line, where
from eyeshot.frontends.trials import KnownNumbers
from eyeshot.graph import Call, Edge, Family, Graph, Kind, Node, Ref, Weight, check, substitute
from eyeshot.operators import Operator, module_calls, named
from eyeshot.operators.call import Described, NoRule, Site
from eyeshot.operators.slicing import part_start
from eyeshot.untouched import one_at_a_time, untouched

Value = Node | Weight | Chance | None
_LIKE_ANOTHER = {"reshape_as": "reshape", "view_as": "view"}
"""Operators that take the shape of another tensor: the same operator that takes numbers."""

_NUMBERS = (torch.SymInt, torch.SymFloat, torch.SymBool)


@one_at_a_time
def graph_of(
    net: torch.nn.Module, *sizes: Sequence[int], dtype: torch.dtype = torch.float32
) -> Graph:
    """The graph of ``net`` for inputs of these sizes.

    Args:
        net: any module that ``torch.export`` can trace.
        sizes: for each input of the network, its size without the batch: (C, H, W) for a picture,
            (C, L) for a signal, (C, D, H, W) for a volume.
        dtype: the inputs' type for a network without parameters; otherwise the parameters' type.

    Returns:
        The graph, after its outputs were compared with the network's own on noise.

    Raises:
        BadValue: a size has no channels or no positions.
        Unsupported: the network cannot be exported (the message has the reason and the cure), or
            the graph's outputs differ from the network's.
    """
    checked_sizes(sizes)
    graph = traced(net, sizes, dtype)
    return compared_with_network(net, graph, lambda smaller: traced(net, smaller, dtype))


@one_at_a_time
def traced(
    net: torch.nn.Module, sizes: Sequence[Sequence[int]], dtype: torch.dtype = torch.float32
) -> Graph:
    """As :func:`graph_of`, but without comparing the graph's outputs with the network's."""
    return from_exported(export(net, *sizes, dtype=dtype), training=training_layers(net))


@one_at_a_time
def traced_for(net: torch.nn.Module, *inputs: torch.Tensor) -> Graph:
    """The graph of ``net`` for exactly these inputs: their batch, types, devices and layouts.

    Use it to compute values. The rules for axes assume a batch of 1; for a larger batch, some of
    them may find less. The graph's outputs are not compared with the network's.

    Args:
        net: any module that ``torch.export`` can trace, already in the mode to trace.
        inputs: the tensors (N, C, …) that ``forward`` takes. Their values are not read.

    Raises:
        Unsupported: the network cannot be exported.
    """
    with FakeTensorMode(allow_non_fake_inputs=True):
        fakes = tuple(torch.empty_like(one) for one in inputs)
    program = _exported(net, fakes, net, [tuple(one.shape[1:]) for one in inputs])
    return Walk(program).graph(training_layers(net))


def checked_sizes(sizes: Sequence[Sequence[int]]) -> None:
    """Refuse sizes that no input can have.

    Raises:
        BadValue: a size has no channels or no positions.
    """
    for size in sizes:
        if not size or any(int(n) < 1 for n in size):
            raise BadValue(f"size {tuple(size)}", cure="give positive numbers: channels, then axes")


@one_at_a_time
def export(
    net: torch.nn.Module,
    *sizes: Sequence[int],
    dtype: torch.dtype = torch.float32,
    guarded: torch.nn.Module | None = None,
) -> Program:
    """Run ``torch.export`` on fake inputs of these sizes (without the batch).

    The inputs have the type of the first parameter, or ``dtype`` if there are no parameters. If
    torch would refuse ``dtype`` together with a buffer (a fixed kernel), they have the buffer's
    type. State that ``forward`` keeps between calls is read as it is now: the graph is the one of
    the next call.

    Args:
        net: the network; it does not change.
        sizes: the size of each input, without the batch.
        dtype: the inputs' type for a network without parameters.
        guarded: a module to export instead of ``net``; it shares the members of ``net``.

    Returns:
        The exported program, with calls of inner graphs written out.

    Raises:
        Unsupported: the network cannot be exported.
    """
    parameter, buffer = _first_real(net.parameters()), _first_real(net.buffers())
    program_for = functools.partial(
        _export, net, sizes, guarded=net if guarded is None else guarded
    )
    if parameter is not None:
        return program_for(parameter)
    if buffer is None:
        return program_for(torch.empty(0, dtype=dtype))
    program = program_for(buffer.new_empty(0, dtype=dtype))
    return program_for(buffer) if mixes_types(program.graph) else program


def _first_real(tensors: Iterable[torch.Tensor]) -> torch.Tensor | None:
    return next((one for one in tensors if one.is_floating_point()), None)


def _export(
    net: torch.nn.Module,
    sizes: Sequence[Sequence[int]],
    like: torch.Tensor,
    guarded: torch.nn.Module,
) -> Program:
    """The program for inputs of these sizes, with the device and type of ``like``."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        inputs = tuple(
            torch.empty(1, *map(int, size), dtype=like.dtype, device=like.device) for size in sizes
        )
    return _exported(net, inputs, guarded, sizes)


def _exported(
    net: torch.nn.Module,
    inputs: tuple[torch.Tensor, ...],
    guarded: torch.nn.Module,
    sizes: Sequence[Sequence[int]],
) -> Program:
    """The program for fake inputs; ``sizes`` (theirs, without the batch) are for messages."""
    given = [one for one in net.parameters() if not is_lazy(one)]
    if any(one.is_inference() for one in given):
        raise Unsupported(
            "the network was made inside torch.inference_mode, and torch cannot trace its weights",
            cure="make it outside of that block, or give copy.deepcopy(net)",
        )
    try:
        # Without gradients, as networks are run: with them torch refuses writes into a view.
        with (
            hushed(),
            untouched(net, computes=False),
            KeptPaths(),
            without_extras(),
            failures_leave_modules(),
            torch.no_grad(),
        ):
            with small_tensors_known():
                exported = _with_numbers(net, guarded, inputs)
            if writes_into_known(exported.graph):
                with small_tensors_known(0):  # torch itself keeps those of one number
                    exported = torch.export.export(guarded, inputs, strict=False)
    except EyeshotError:
        raise
    except TimeoutError:  # a caller's alarm says nothing of the network
        raise
    except Exception as error:  # somebody's forward may raise anything
        raise cannot_export(net, error, sizes) from error
    program = _plain(exported)
    refuse_unknown_sizes(net, program.graph)
    refuse_lost_paths(net, program)
    return program


def _with_numbers(
    net: torch.nn.Module, guarded: torch.nn.Module, inputs: tuple[torch.Tensor, ...]
) -> ExportedProgram:
    """The program; if ``forward`` reads numbers of tensors, with those that no input changes.

    Following them takes half as long again, so it is done only where it is needed.
    """
    try:
        exported = torch.export.export(guarded, inputs, strict=False)
    except TimeoutError:  # a caller's alarm says nothing of the network
        raise
    except Exception as error:
        found = _by_known_numbers(net, guarded, inputs)
        if found is None:
            raise error
        return found
    if any(node.target in _READS for node in exported.graph.nodes):
        return _by_known_numbers(net, guarded, inputs) or exported
    return exported


def _by_known_numbers(
    net: torch.nn.Module, guarded: torch.nn.Module, inputs: tuple[torch.Tensor, ...]
) -> ExportedProgram | None:
    """The program; None if it cannot be had, or a number may have been read that changes."""
    try:
        with KnownNumbers(net):
            exported = torch.export.export(guarded, inputs, strict=False)
    except TimeoutError:  # a caller's alarm says nothing of the network
        raise
    except Exception:  # the first trace's error is reported
        return None
    names = exported.graph_signature.user_inputs
    return None if writes_into_known(exported.graph, {str(one) for one in names}) else exported


_READS = (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.item.default)


def _plain(exported: ExportedProgram) -> Program:
    """The parts of an exported program that we need; calls of inner graphs are written out."""
    signature = Signature(list(exported.graph_signature.input_specs))
    graph = inlined(exported.graph_module)
    return Program(graph, signature, exported.state_dict, exported.constants)


def from_exported(
    program: ExportedProgram | Program, training: tuple[str, ...] = (), *, held: bool = False
) -> Graph:
    """The graph of an exported program, such as one from a ``.pt2`` file.

    Args:
        program: the exported program.
        training: the dotted paths of modules that are in training mode.
        held: True for a graph to run: the inputs of an operator without a rule are then held
            whole, where the graph would otherwise mark the operator as unsupported.

    Raises:
        BadFile: the program comes from a file, and the file is damaged.
    """
    plain = _plain(program) if isinstance(program, ExportedProgram) else program
    try:
        walk = Walk(plain, held=held)
        graph = walk.graph(training)
        return replace(graph, batch=_batches(plain, graph, walk.held))
    except Exception as error:  # the program of a file may hold anything; ours is raised as it is
        refused = isinstance(error, EyeshotError) and not isinstance(error, Failure)
        if refused or not plain.path:
            raise
        raise damaged(plain.path, error) from error


def _batches(program: Program, graph: Graph, held: Held | None) -> dict[str, int | None]:
    """For each output, the dimension that holds the batch; None if no dimension does.

    In all usual layouts it is the first one. For other layouts the program is walked again with
    the batch as its only axis, so that the rules show where it goes. After an operator that is
    called on whole inputs the rules cannot tell; there it is the first dimension if its size is 1.
    """
    found: dict[str, int | None] = dict.fromkeys(graph.outputs, 0)
    odd = [name for name in graph.outputs if not _is_usual(graph.nodes[name])]
    if odd:
        walk = Walk(program, batch_alone=True)
        for name in odd:
            (dim,) = walk.nodes[name].dims
            if dim is None and held is not None and held.stands_before(graph.nodes[name]):
                dim = 0
            shape = walk.nodes[name].shape
            found[name] = dim if dim is not None and shape[dim : dim + 1] == (1,) else None
    return found


def _is_usual(node: Node) -> bool:
    """Whether an output is (1, C, …) with all its axes, or (1, C) without any."""
    axes = sum(dim is not None for dim in node.dims)
    return len(node.shape) == axes + 2 and node.shape[0] == 1 and 0 not in node.dims


def training_layers(net: torch.nn.Module) -> tuple[str, ...]:
    """Dotted paths of the modules left in training mode."""
    return tuple(name for name, module in net.named_modules() if module.training)


class Walk:
    """One pass over the exported operators, in execution order.

    ``made`` maps each of them to its result here: a node, a weight, or None.
    """

    def __init__(self, program: Program, *, batch_alone: bool = False, held: bool = False) -> None:
        self._batch_alone = batch_alone
        self.held = Held() if held else None
        self.nodes: dict[str, Node] = {}
        self.inputs: list[str] = []
        self.outputs: list[str] = []
        self.left_out: tuple[int, ...] = ()
        self.constants: dict[int, torch.Tensor] = {}
        self.tensors: dict[str, torch.Tensor] = {}
        self.parameters: set[str] = set()
        self.made_of: dict[str, tuple[str, ...]] = {}
        self.made: dict[torch.fx.Node, Value] = {}
        self._values: dict[torch.fx.Node, Value] = {}
        self._stale: set[torch.fx.Node] = set()
        self._names = Namer(program.graph.nodes)
        self._placeholders = {
            getattr(spec.arg, "name", ""): spec for spec in program.graph_signature.input_specs
        }
        self._axes = _axes_of_inputs(program, self._placeholders)
        self._stored: Mapping[str, Any] = {**program.state_dict, **program.constants}
        for fx_node in program.graph.nodes:
            self._take(fx_node)

    def graph(self, training: tuple[str, ...]) -> Graph:
        """The finished graph, checked by :func:`eyeshot.graph.check`."""
        graph = Graph(
            nodes=self.nodes,
            inputs=tuple(self.inputs),
            outputs=tuple(self.outputs),
            tensors=self.tensors,
            parameters=frozenset(self.parameters),
            training=training,
            made_of=self.made_of,
            left_out=self.left_out,
            constants=self.constants,
        )
        check(graph)
        return graph

    def _take(self, fx_node: torch.fx.Node) -> None:
        """Add one node of the program to the graph."""
        if fx_node.op == "placeholder":
            self._values[fx_node] = self._placeholder(fx_node)
        elif fx_node.op == "output":
            flat, _ = torch.utils._pytree.tree_flatten(fx_node.args)
            values = [self._fresh(one) for one in flat if isinstance(one, torch.fx.Node)]
            self.outputs = [value.name for value in values if isinstance(value, Node)]
            constants = (Weight, Chance)
            self.left_out = tuple(i for i, v in enumerate(values) if isinstance(v, constants))
            fixed = {i: v for i, v in enumerate(values) if isinstance(v, Weight)}
            if all(isinstance(v, Node | Weight | Chance) for v in values):  # each index is sure
                self.constants = {i: self.tensors[v.name] for i, v in fixed.items()}
        elif fx_node.op == "call_function":
            self.made[fx_node] = self._values[fx_node] = self._operator(fx_node)

    def _placeholder(self, fx_node: torch.fx.Node) -> Value:
        spec = self._placeholders[fx_node.name]
        if spec.kind != InputKind.USER_INPUT:
            name = str(spec.target)
            if not isinstance(self._stored[name], torch.Tensor):
                return None  # a source of random numbers
            self.tensors[name] = self._stored[name]
            if spec.kind == InputKind.PARAMETER:
                self.parameters.add(name)
            return Weight(name)
        value = fx_node.meta["val"]
        shape = tuple(int(n) for n in value.shape)
        # An input of lower rank than the image, such as a vector, has no positions.
        dims: tuple[int | None, ...] = tuple(range(2, len(shape)))
        dims = dims if len(dims) == self._axes else (None,) * self._axes
        dims = (0,) if self._batch_alone else dims
        name, dtype = self._names.of_input(fx_node), dtype_name(value.dtype)
        node = Node(
            name, "", "input", Kind.LOCAL, (), shape, dims, dtype=dtype, family=Family.INPUT
        )
        self.nodes[node.name] = node
        self.inputs.append(node.name)
        if self.held is not None:
            self.held.noted(node, ())
        return node

    def _operator(self, fx_node: torch.fx.Node) -> Value:
        origin, item = fx_node, None
        if fx_node.target is python_operator.getitem:
            origin, item = fx_node.args[0], fx_node.args[1]  # type: ignore[assignment]
        elif isinstance(fx_node.meta.get("val"), (tuple, list)):
            return None  # each of its items has a getitem node of its own
        if "val" not in fx_node.meta or not isinstance(fx_node.meta["val"], torch.Tensor):
            return None  # an assertion or a plain number, not a tensor
        arguments = self._arguments(origin)
        filled = filled_with(origin, arguments)
        if filled is not None:
            dtype, shape = fx_node.meta["val"].dtype, fx_node.meta["val"].shape
            return self.constant(fx_node, torch.full((), filled, dtype=dtype).expand(shape))
        if writes_in_place(fx_node):
            return self._write(fx_node, arguments)
        return self._computed(fx_node, origin, arguments, item)

    def _computed(
        self, fx_node: torch.fx.Node, origin: torch.fx.Node, arguments: dict[str, Any], item: Any
    ) -> Value:
        if operator_name(origin.target) == "type_as":
            dtype = fx_node.meta["val"].dtype  # of the other tensor, only the type is read
            arguments = {**arguments, "other": torch.empty((), dtype=dtype)}
        if not any(isinstance(one, Node) for one in _flat(arguments.values())):
            return self._constant(fx_node, origin, arguments, item)
        node = self._node(fx_node, origin, arguments, item)
        self.nodes[node.name] = node
        return node

    def _arguments(self, fx_node: torch.fx.Node) -> dict[str, Any]:
        """The call's arguments by schema name, defaults filled in, tensors as Node or Weight."""
        if not isinstance(fx_node.target, OpOverload):
            raise Unsupported(
                f"{where(fx_node)}{_transform(fx_node.target)} cannot be read",
                cure="write it with plain torch functions, with an axis for the batch",
            )
        schema = fx_node.target._schema.arguments
        arguments = dict(zip((argument.name for argument in schema), fx_node.args, strict=False))
        arguments.update(fx_node.kwargs)
        return {
            argument.name: torch.fx.node.map_arg(
                arguments.get(argument.name, argument.default_value), self._value
            )
            for argument in schema
        }

    def _value(self, fx_node: torch.fx.Node) -> Any:
        value = self._fresh(fx_node)
        if isinstance(value, Chance):
            line = source_line(fx_node)
            raise Unsupported(
                f"{value.name}{f', {line}' if line else ''}: other random numbers at each call",
                cure="make them once in __init__ and keep them with register_buffer",
            )
        if value is None and isinstance(fx_node.meta.get("val"), _NUMBERS):
            raise Unsupported(
                f"{where(fx_node)}turns a tensor's values into Python numbers",
                cure="keep them in a tensor",
            )
        return value

    def _constant(
        self, fx_node: torch.fx.Node, origin: torch.fx.Node, arguments: dict[str, Any], item: Any
    ) -> Value:
        """An operator on weights alone: computed once, now; the result is a weight."""
        name = self._names.of(fx_node)
        if is_random(origin):
            return Chance(name)
        self.tensors[name] = folded(origin, arguments, self.tensors, item)
        used = [one for one in _flat(arguments.values()) if isinstance(one, Weight)]
        self.made_of[name] = self._origins(used)
        return Weight(name)

    def _node(
        self, fx_node: torch.fx.Node, origin: torch.fx.Node, arguments: dict[str, Any], item: Any
    ) -> Node:
        plain = operator_name(origin.target)
        value = fx_node.meta["val"]
        shape = tuple(int(n) for n in value.shape)
        if plain in _LIKE_ANOTHER:  # only the shape of the other tensor is read
            plain = _LIKE_ANOTHER[plain]
            arguments = {"self": arguments["self"], "shape": list(shape)}
        dtype = dtype_name(value.dtype)
        weights = tuple(w.name for w in _flat(arguments.values()) if isinstance(w, Weight))
        shapes = {name: tuple(self.tensors[name].shape) for name in weights}
        site = Site(plain, arguments, shape, shapes, item, dtype, is_channels_last(origin))
        name = self._names.of(fx_node)
        return self._noded(fx_node, site, _call(site, origin), str(origin.target), name)

    def _noded(
        self, fx_node: torch.fx.Node, site: Site, call: Call, full_name: str, name: str
    ) -> Node:
        """The node for a call, described by the rule of its operator."""
        record = named(site.operator, full_name.removeprefix("aten."))
        described = _described(site, record, call)
        ruled = described.kind is not Kind.UNSUPPORTED
        if is_random(fx_node) and described.kind is Kind.UNSUPPORTED:
            described = replace(
                described, reason=f"{site.operator}: other random numbers at each call"
            )
        elif self.held is not None:
            described = self.held.settled(site, record.family, described)
        node = Node(
            name=name,
            layer=self._names.layer(fx_node),
            calls=self._names.calls(fx_node),
            operator=site.operator,
            kind=described.kind,
            edges=described.edges,
            shape=site.shape,
            dims=described.dims,
            params=described.params,
            weights=tuple(site.weight_shapes),
            call=call,
            reason=described.reason,
            line="" if described.kind is Kind.LOCAL else source_line(fx_node).partition(",")[0],
            dtype=site.dtype,
            family=record.family if ruled or self.held is None else Family.UNKNOWN,
        )
        if self.held is not None:
            self.held.noted(node, site.sources)
        return node

    def _write(self, fx_node: torch.fx.Node, arguments: dict[str, Any]) -> Value:
        """An operator that writes in place: every name of that memory gets the new values."""
        target: Any = fx_node.args[0]
        value: Value = overwritten(self, fx_node, arguments)
        if value is None:
            value = self._computed(fx_node, fx_node, arguments, None)
        new: dict[torch.fx.Node, Value] = {target: value}
        others = [one for one in family(target) if one in self._values and one is not fx_node]
        later = any(user > fx_node for one in others for user in one.users if one is not target)
        while later and (source := source_of(target)) is not None:
            part = new[target]
            if isinstance(part, Node | Weight) and not writes_in_place(target):
                part = put_back(self, fx_node, target, part)
            new[source], target = part, source
        for one in others:
            if one in new:
                self._values[one] = new[one]
                self._stale.discard(one)
            elif later:
                self._stale.add(one)
        return value

    def _fresh(self, fx_node: torch.fx.Node) -> Value:
        """The value of a traced node, read again if its memory was written to since."""
        if fx_node in self._stale:
            self._stale.discard(fx_node)
            source = source_of(fx_node) if writes_in_place(fx_node) else None
            del self._values[fx_node]
            value = self._operator(fx_node) if source is None else self._fresh(source)
            self._values[fx_node] = value
        return self._values[fx_node]

    def emit(self, fx_node: torch.fx.Node, target: OpOverload, *args: Any) -> Node | Weight:
        """Add a call that is not in the program, to express one that is.

        Args:
            fx_node: the program's operator that this call helps to express; it gives the name.
            target: the operator to call.
            args: its positional arguments; a tensor is a Node or a Weight.

        Returns:
            The new Node; a Weight if no argument depends on the input.
        """
        schema = target._schema.arguments
        arguments = {one.name: one.default_value for one in schema}
        arguments.update(zip(arguments, args, strict=False))
        inputs = [self._on_meta(one) for one in args]
        value: torch.Tensor = target(*inputs)
        name = self._names.of(fx_node)
        if not any(isinstance(one, Node) for one in args):
            tensors = [self.tensors[a.name] if isinstance(a, Weight) else a for a in args]
            with torch.no_grad():
                self.tensors[name] = target(*tensors)
            self.made_of[name] = self._origins(a for a in args if isinstance(a, Weight))
            return Weight(name)
        weights = [one.name for one in args if isinstance(one, Weight)]
        shapes = {one: tuple(self.tensors[one].shape) for one in weights}
        dtype = dtype_name(value.dtype)
        site = Site(plain_name(target), arguments, tuple(value.shape), shapes, None, dtype)
        node = self._noded(fx_node, site, call_of(target, _refs(arguments)), str(target), name)
        self.nodes[name] = node
        return node

    def constant(self, fx_node: torch.fx.Node, value: torch.Tensor, *made_of: Weight) -> Weight:
        """Add a tensor that does not depend on the input, made from the weights ``made_of``."""
        name = self._names.of(fx_node)
        self.tensors[name], self.made_of[name] = value, self._origins(made_of)
        return Weight(name)

    def _origins(self, weights: Iterable[Weight]) -> tuple[str, ...]:
        """The names of the network's own tensors that these constants were computed from."""
        found = (own for one in weights for own in self.made_of.get(one.name, (one.name,)))
        return tuple(dict.fromkeys(found))

    def tensor_of(self, value: Weight) -> torch.Tensor:
        """The numbers of a constant."""
        return self.tensors[value.name]

    def dtype_of(self, value: Node | Weight) -> torch.dtype:
        """The type of a value's numbers."""
        if isinstance(value, Weight):
            return self.tensors[value.name].dtype
        dtype: torch.dtype = getattr(torch, value.dtype)
        return dtype

    def shape_of(self, value: Node | Weight) -> tuple[int, ...]:
        """The shape of a value."""
        return tuple(self.tensors[value.name].shape) if isinstance(value, Weight) else value.shape

    def current(self, fx_node: torch.fx.Node) -> Node | Weight:
        """The present value of a node of the program, after all writes so far."""
        value: Node | Weight = self._value(fx_node)
        return value

    def _on_meta(self, value: Any) -> Any:
        if isinstance(value, Node | Weight):
            return torch.empty(self.shape_of(value), dtype=self.dtype_of(value), device="meta")
        return value


def _axes_of_inputs(program: Program, specs: Mapping[str, Any]) -> int:
    """The number of spatial axes of the input that has the most of them."""
    ranks = [
        len(one.meta["val"].shape)
        for one in program.graph.nodes
        if one.op == "placeholder" and specs[one.name].kind == InputKind.USER_INPUT
    ]
    return max(0, max(ranks, default=0) - 2)


def _transform(target: Any) -> str:
    """The name of a called object that is not an operator, such as ``torch.vmap``.

    For a function transform, export calls an internal object of functorch.
    """
    inside = str(getattr(target, "__module__", "")).startswith("torch._functorch")
    return "torch.vmap" if inside else str(getattr(target, "__name__", target))


def _described(site: Site, record: Operator, call: Call) -> Described:
    """What an operator does to positions, by the rule in its record."""
    try:
        if record.geometry is None:
            raise NoRule(record.no_rule)
        described = record.geometry(site)
        beside = set(call.refs) - {edge.source for edge in described.edges}
        if beside:
            raise NoRule(f"its settings are computed from the input, by {min(beside)}")
        return described
    except NoRule as reason:
        return _unsupported(site, str(reason))


def _unsupported(site: Site, reason: str) -> Described:
    """Positions are lost here: nothing is claimed of this operator or of what follows it."""
    dims = (None,) * len(site.sources[0].dims)
    edges = tuple(Edge(source.name, ()) for source in site.sources)
    return Described(edges, dims, Kind.UNSUPPORTED, reason=f"{site.operator}: {reason}")


def _strided(site: Site, origin: torch.fx.Node) -> Call:
    """``as_strided`` as a call that does not depend on its input's memory layout at run time."""
    read: Any = origin.args[0]
    source = read.meta["val"]
    if not source.is_contiguous() or source.storage_offset():
        raise Unsupported(
            f"{where(origin)}as_strided of a tensor that is a view",
            cure="call contiguous() before it, or use slices, unfold and reshape",
        )
    sizes, strides, offset = (site.arguments[one] for one in ("size", "stride", "storage_offset"))
    last = (offset or 0) + sum((n - 1) * step for n, step in zip(sizes, strides, strict=True))
    if 0 not in sizes and last >= source.numel():  # it looks beyond a slice that lies in one piece
        raise Unsupported(
            f"{where(origin)}as_strided beyond the {source.numel()} numbers of its tensor",
            cure="call contiguous() before it, or use slices, unfold and reshape",
        )
    args = (_refs(site.arguments)["self"], list(sizes), list(strides), offset or 0)
    return Call(strided, args, names=("x", "size", "stride", "offset"))


def _call(site: Site, origin: torch.fx.Node) -> Call:
    """The call that the engine makes: ``narrow`` for a part of a split, so no value is a tuple."""
    if site.operator == module_calls.NAME:
        called = module_calls.CALLS[str(site.arguments["key"])]
        target = called.at(int(site.arguments["place"]))
        return Call(target, (_refs(site.arguments)["inputs"],), names=("inputs",))
    if plain_name(origin.target) in _LIKE_ANOTHER:
        read = _refs(site.arguments)["self"]
        args: tuple[Any, ...] = (read, list(site.shape))
        return Call(torch.ops.aten.reshape.default, args, names=("self", "shape"))
    if site.operator == "expand_as":  # only the shape of the other tensor is read
        read = _refs(site.arguments)["self"]
        args, kwargs = (read, list(site.shape)), {"implicit": False}
        return Call(torch.ops.aten.expand.default, args, kwargs, ("self", "size"))
    if plain_name(origin.target) in ("as_strided", "as_strided_copy"):
        return _strided(site, origin)
    if site.item is None:
        return call_of(origin.target, _refs(site.arguments))
    if site.operator in ("chunk", "split", "split_with_sizes"):
        source = site.node("self")
        dim = int(site.arguments["dim"]) % len(source.shape)
        start = part_start(site, source.shape[dim])
        args = (Ref(source.name), dim, start, site.shape[dim])
        return Call(torch.narrow, args, names=("self", "dim", "start", "length"))
    if site.operator == "unbind":
        dim = int(site.arguments["dim"])
        args = (Ref(site.node("self").name), dim, site.item)
        return Call(torch.select, args, names=("self", "dim", "index"))
    call = call_of(origin.target, _refs(site.arguments))
    return replace(call, target=TupleItem(call.target, site.item))


def _refs(arguments: Mapping[str, Any]) -> dict[str, Any]:
    def put(value: Any) -> Any:
        return Ref(value.name) if isinstance(value, Node) else value

    return {name: substitute(value, put) for name, value in arguments.items()}


def _flat(values: Any) -> list[Any]:
    found: list[Any] = []
    for value in values:
        found += _flat(value) if isinstance(value, (list, tuple)) else [value]
    return found
