"""A user's own network, checked against the task and the data before it is trained.

A training can also start from the weights of another network: matching tensors are copied, and some
of them may be frozen.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import convert_conv2d_weight_memory_format

from eyeshot.errors import BadValue, EyeshotError, UnknownName, Unsupported
from eyeshot.files import write_aside
from eyeshot.findings.finding import Severity
from eyeshot.frontends.net_geometry import NetGeometry
from eyeshot.frontends.programs import Written, export_program, network_fingerprint
from eyeshot.frontends.refusals import in_brief, line_at_fault
from eyeshot.frontends.trials import (
    channels_to_try,
    failure_on_shapes,
    nearest_accepted,
    runs_on_shapes,
)
from eyeshot.inspection import inspect
from eyeshot.operators import gives_probabilities
from eyeshot.runs import WEIGHTS, NetSource, take_weights
from eyeshot.runs.config import are_shares, log_of
from eyeshot.training.chance import generators_restored

_BATCH, _USUAL, _LARGE = 2, 256, (256, 320)
_PICTURE, _VOLUME, _USUAL_VOLUME = 2, 3, 32
_DATA = {1: "signals", 2: "pictures", 3: "volumes"}


@dataclass(eq=False)
class OwnNet:
    """A module that a caller brings.

    Attributes:
        module: as it was brought; what learns is a copy of it.
        source: where it came from, such as ``my_net.py:Net``; empty for an object in memory.
        arguments: that it was made with, as JSON.
        channels: of the pictures; None for what its first convolution takes.
        example: (C, H, W), (C, D, H, W) or (C, L) that shows its program what is usual, once
            :meth:`describe` knows.
        memory_format: channels last, in which convolutions of pictures are fastest; for other data,
            and where its forward takes views that this layout has not, the usual one, once
            :meth:`describe` knows.
        described: the program that :meth:`describe` wrote, until :meth:`write` has asked for one.
    """

    module: nn.Module
    source: str = ""
    arguments: str = ""
    channels: int | None = None
    example: tuple[int, ...] = ()
    memory_format: torch.memory_format = torch.channels_last
    described: Written | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """Of its class."""
        return type(self.module).__name__

    def build(self) -> nn.Module:
        """A copy that may learn."""
        try:
            return copy.deepcopy(self.module)
        except Exception as error:  # the user's class may raise anything when it is copied
            cure = "keep nothing in it but layers and plain values"
            if "weight_norm" in str(error):
                cure = "use torch.nn.utils.parametrizations.weight_norm in its layers"
            fact = f"{self.name} cannot be copied ({in_brief(error)})"
            raise Unsupported(fact, cure=cure) from error

    @cached_property
    def trial(self) -> nn.Module:
        """A copy to be asked in any mode."""
        return self.build()

    def describe(self, size: tuple[int, ...]) -> NetSource:
        """What it is, for the configuration of a run on pictures or crops of a size.

        Raises:
            Unsupported: it cannot be written as a program.
        """
        self.example = (self.channels or 1, *usual_size(self, size))
        picture = len(size) == _PICTURE
        example = torch.zeros(_BATCH, *self.example)
        if not picture or not _takes(self.build(), example, torch.channels_last):
            self.memory_format = torch.contiguous_format
        self.described = written = export_program(self.module, self.example)
        return NetSource(self.source, self.arguments, network_fingerprint(self.module, written.net))

    def write(self, net: nn.Module, path: Path) -> None:
        """Write ``net``, which is a copy of it that has learned, as a program.

        Raises:
            Failure: the disk is full.
        """
        described, self.described = self.described, None
        before, now = self.module.state_dict(), net.state_dict()
        if described is None or not all(
            isinstance(one, Tensor) and torch.equal(one, before[name]) for name, one in now.items()
        ):
            plain = self.build()  # of the usual layout, in memory of its own
            plain.load_state_dict(now)
            described = export_program(plain, self.example)
        with write_aside(path) as aside:
            aside.write_bytes(described.content)

    def on_meta(self) -> nn.Module:
        """A copy without memory."""
        return self.build().to("meta")

    @cached_property
    def gives_shares(self) -> tuple[bool, bool]:
        """Whether it answers with shares that sum to 1: in eval mode, and in training mode.

        It is asked once :meth:`describe` knows an example.
        """
        outputs = [_answer(self, mode) for mode in (False, True)]
        evaluating, training = (one is not None and are_shares(one) for one in outputs)
        return evaluating, training

    @cached_property
    def ends_in_sigmoid(self) -> bool:
        """Whether it ends in a sigmoid, in training mode too."""
        from eyeshot.engine.networks import trace  # takes time to import

        output = _answer(self, True)
        if output is None or not bool(((output >= 0) & (output <= 1)).all()):
            return False
        graph = trace(self.build().eval()).graph(self.example)
        return gives_probabilities(graph, graph.outputs[0])

    @cached_property
    def geometry(self) -> NetGeometry:
        """What its outputs see, and which sizes it takes."""
        return NetGeometry(self.build().eval(), self.channels, whole_fields=False)


def check_fit(own: OwnNet, task: str, channels: int, outputs: int, size: tuple[int, ...]) -> None:
    """Refuse a network that cannot learn a task, before the first step.

    Args:
        own: the network.
        task: one of :data:`eyeshot.runs.TASKS`.
        channels: of the pictures.
        outputs: channels of the answer: one a class, or those of a picture.
        size: of a picture, volume, signal or crop that it is to take, along each axis.

    Raises:
        BadValue: its weights, its input or its output do not fit.
    """
    _check_weights(own)
    shape = (_BATCH, channels, *size)
    shapes = []
    for training in (True, False):
        output = _raw_output(own, shape, training=training)
        if not isinstance(output, Tensor):
            several = isinstance(output, (tuple, list, dict))
            raise BadValue(
                f"{own.name} gives {f'{len(output)} outputs' if several else 'no tensor'} "
                f"({type(output).__name__}){' while it trains' if training else ''}, and --task "
                f"{task} needs one",
                cure="wrap it in a module whose forward returns the one to learn",
            )
        _check_output(own, task, tuple(output.shape), outputs, len(size))
        shapes.append("x".join(map(str, output.shape[1:])))
    if shapes[0] != shapes[1]:
        raise BadValue(
            f"{own.name} gives {shapes[0]} while it trains and {shapes[1]} in eval mode",
            cure="give the same map in both modes",
        )


def check_map(own: OwnNet, task: str, channels: int, outputs: int, dims: int = _PICTURE) -> None:
    """As :func:`check_fit`, for a network that answers with a map, at a size that it takes.

    ``dims`` is the number of axes of the data: 1, 2 or 3.

    Raises:
        BadValue: its weights, its input or its output do not fit.
        Unsupported: no bounded patch of a picture decides an answer.
    """
    _check_weights(own)
    if (axes := own.geometry.sizes.dims) != dims:
        raise BadValue(
            f"{own.name} takes {_DATA[axes]} ({axes}-D), and the data are {_DATA[dims]} ({dims}-D)",
            cure=f"give a network of {dims}-D layers, or data for --dims {axes}",
        )
    size: tuple[int, ...]
    try:
        size = (own.geometry.sizes.usual,) * dims
    except BadValue:
        # It may be a classifier of one size; otherwise the error says why it fails at a usual one.
        near = nearest_accepted(own.trial, (channels, *(_USUAL,) * dims))
        size = near[0] if near else (_USUAL,) * dims
    check_fit(own, task, channels, outputs, size)
    own.geometry.output  # noqa: B018 - refused where it has none


def find_faults(own: OwnNet, channels: int, size: tuple[int, ...]) -> Iterator[str]:
    """What :func:`eyeshot.inspect` warns of, a line each.

    Raises:
        BadValue: it finds an error.
    """
    try:
        found = inspect(own.trial.eval(), (channels, *size)).findings
    except Unsupported as error:
        raise BadValue(error.fact, cure=error.cure) from None
    for finding in found:
        if finding.severity is Severity.ERROR:
            raise BadValue(f"{own.name}: {finding}", cure="correct it, then train")
    yield from (str(one) for one in found if one.severity is Severity.WARNING)


def scores_of(own: OwnNet | None, outputs: Tensor, *, training: bool) -> Tensor:
    """What a loss with a softmax in it takes: the outputs, or their log if they are shares.

    Args:
        own: the network, where it is somebody's own.
        outputs: (B, classes, …), of the network.
        training: whether it was in training mode.
    """
    if own is None or not own.gives_shares[training]:
        return outputs
    return log_of(outputs)


def note_shares(own: OwnNet) -> str | None:
    """What to say of a network that is to learn classes and ends in a softmax.

    Raises:
        BadValue: it ends in a sigmoid, whose answers for the classes do not sum to 1.
    """
    if own.gives_shares[True]:
        return f"{own.name} ends in a softmax: the loss takes the log of its answers"
    if own.ends_in_sigmoid:
        raise BadValue(
            f"{own.name} ends in a sigmoid, and the classes exclude each other",
            cure="return the scores that stand before it, or end it in a softmax over the classes",
        )
    return None


def _answer(own: OwnNet, training: bool) -> Tensor | None:
    """What the network answers to noise; None if it is no tensor of classes."""
    noise = torch.randn(_BATCH, *own.example, generator=torch.Generator().manual_seed(0))
    with generators_restored(), torch.no_grad():
        output = answer_of(own, own.build().train(training), noise)
    return (
        output if isinstance(output, Tensor) and output.ndim > 1 and output.shape[1] > 1 else None
    )


def answer_of(own: OwnNet, net: nn.Module, inputs: Tensor) -> Any:
    """What ``net``, a copy of the network, returns.

    Raises:
        BadValue: it raises an error.
    """
    try:
        return net(inputs)
    except Exception as error:  # somebody's forward may raise anything
        place = line_at_fault(error)
        mode = "while it trains" if net.training else "in eval mode"
        raise BadValue(
            f"{own.name} fails on noise {mode}: {f'{place}: ' if place else ''}{in_brief(error)}",
            cure="correct that line" if place else "",
        ) from error


def _takes(net: nn.Module, inputs: Tensor, layout: torch.memory_format) -> bool:
    """Whether a network runs on inputs in a memory format, with its weights in the same."""
    convert_conv2d_weight_memory_format(net, layout)
    try:
        with generators_restored(), torch.no_grad():
            net.train()(inputs.contiguous(memory_format=layout))
    except Exception:  # "view size is not compatible with input tensor's size and stride"
        return False
    return True


def usual_size(own: OwnNet, size: tuple[int, ...]) -> tuple[int, ...]:
    """A size whose conditions all sizes have to meet: all sides on the grid, and not alike.

    Of a volume, a small one if the network takes it, since it is computed with numbers.
    """
    try:
        output, sizes = own.geometry.output, own.geometry.sizes
        step = output.alignment
        small = max(_USUAL_VOLUME, 2 * output.margin + 2 * step)
        for start in (small, sizes.usual) if len(size) == _VOLUME else (sizes.usual,):
            side = math.ceil(max(start, 2 * step) / step) * step
            sides = tuple(side + step * axis for axis in range(len(size)))
            if sizes.takes(*sides):
                return sides
    except EyeshotError:  # no map of positions: a classifier
        if len(size) == _PICTURE and own.geometry.sizes.takes(*_LARGE):
            return _LARGE  # no map in it has a side of 1, which would hold for all sizes
    return size


_WRAPPERS = {
    "_orig_mod": "compiled by torch.compile",
    "module": "wrapped for several devices",
}
"""What a wrapper that cannot be copied or traced calls the module inside, and what it is."""


def _check_kind(own: OwnNet) -> None:
    for path, layer in own.module.named_modules():
        name = f"{own.name}.{path}" if path else own.name
        if isinstance(layer, torch.jit.ScriptModule):
            raise BadValue(
                f"{name} is a ScriptModule, which cannot be traced",
                cure="give the module that it was made from",
            )
        compiled = hasattr(layer, "_orig_mod")
        if compiled or isinstance(layer, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            inside = "_orig_mod" if compiled else "module"
            raise BadValue(f"{name} is {_WRAPPERS[inside]}", cure=f"give its .{inside}")


def _check_weights(own: OwnNet) -> None:
    _check_kind(own)
    parameters = list(own.module.parameters())
    if any(is_lazy(one) for one in (*parameters, *own.module.buffers())):
        raise BadValue(f"{own.name} has layers without weights", cure="run it once on a batch")
    if not any(one.requires_grad for one in parameters):
        raise BadValue(f"{own.name} has no weights to learn", cure="give it layers with weights")
    other = next((p.dtype for p in parameters if p.dtype is not torch.float32), None)
    if other is not None:
        raise BadValue(f"{own.name} has weights of {other}", cure="call net.float() first")
    device = next((p.device for p in parameters if p.device.type != "cpu"), None)
    if device is not None:
        raise BadValue(
            f"{own.name} is on the device {device}",
            cure="move it by net.cpu() first; --device says where it learns",
        )
    if not all(isinstance(one, Tensor) for one in own.module.state_dict().values()):
        raise BadValue(
            f"{own.name} keeps more than tensors in its state", cure="keep tensors in it alone"
        )


def _refuse_input(own: OwnNet, shape: tuple[int, ...], failure: Exception) -> None:
    """Say why a network does not run on pictures, volumes or signals of a shape."""
    _, channels, *size = shape
    data = _DATA[len(size)]
    runs = runs_on_shapes(own.trial)
    other = [c for c in (*channels_to_try(own.module)[:1], 1, 3) if runs((_BATCH, c, *shape[2:]))]
    if other and other[0] != channels:
        raise BadValue(
            f"{own.name} takes {other[0]} channels, and the {data} have {channels}",
            cure=f"make it with {channels} (--net-args), or save the {data} with {other[0]}",
        )
    if isinstance(failure, EyeshotError):
        raise BadValue(f"{own.name}: {failure.fact}", cure=failure.cure)
    reason = in_brief(failure)
    cure = "see eyeshot inspect for the sizes that it takes; --size or --crop sets them"
    if reason.startswith("TypeError") and "argument" in reason:
        cure = "give every argument of forward but the picture a default"
    elif "on the expected device" in reason and (plain := _plain_tensor(own.module)):
        cure = f"register its tensor {plain} by register_buffer(…)"
    elif "meta tensor" in reason:
        cure = "let it compute the same whatever the values of a picture are (torch.where)"
    spelled = "x".join(map(str, (channels, *size)))
    raise BadValue(f"{own.name} fails on {spelled}: {reason}", cure=cure)


def _plain_tensor(net: nn.Module) -> str:
    """The dotted name of a tensor that a layer keeps, and that is no weight and no buffer."""
    for path, layer in net.named_modules():
        for name, value in vars(layer).items():
            if isinstance(value, Tensor):
                return f"{path}.{name}" if path else name
    return ""


def _raw_output(own: OwnNet, shape: tuple[int, ...], *, training: bool) -> Any:
    """What the network gives for inputs of a shape, without memory if it can be asked so."""
    found: list[Any] = []
    net = own.trial.train(training)
    modes = [layer.training for layer in net.modules()]
    after: list[list[bool]] = []

    def look(*call: Any) -> None:
        found.append(call[2])
        after.append([layer.training for layer in net.modules()])

    hook = net.register_forward_hook(look)
    try:
        failure = failure_on_shapes(net)(shape)
    finally:
        hook.remove()
    if any(one != modes for one in after):
        raise BadValue(
            f"{own.name} changes its own mode when it is called",
            cure="leave train() and eval() out of its forward",
        )
    if failure is not None and training and "meta tensors" in str(failure):
        # It decides by numbers, which is fine while it learns: some of its layers are left out.
        try:
            with generators_restored(), torch.no_grad():
                return own.build().train()(torch.zeros(shape))
        except Exception as error:  # somebody's forward may raise anything
            failure = error
    if failure is not None:
        _refuse_input(own, shape, failure)
    return found[-1]


def _check_output(own: OwnNet, task: str, shape: tuple[int, ...], outputs: int, dims: int) -> None:
    data = _DATA[dims]
    spelled = "x".join(map(str, shape[1:]))
    if task == "classify":
        if len(shape) != 2:
            raise BadValue(
                f"{own.name} gives {spelled} for a picture, and --task classify needs one score "
                "a class",
                cure="end it in a global pool and a flatten, or use --task segment",
            )
    elif len(shape) != dims + 2:
        axes = {1: "L", 2: "HxW", 3: "DxHxW"}[dims]
        raise BadValue(
            f"{own.name} gives {spelled} for a {data[:-1]}, and --task {task} needs a map "
            f"{outputs}x{axes}",
            cure="use a network that ends in a map, such as a U-Net, or --task classify",
        )
    if shape[0] != _BATCH:
        raise BadValue(
            f"{own.name} gives {shape[0]} answers for {_BATCH} {data}",
            cure="give one for each picture, along the first axis",
        )
    if shape[1] != outputs:
        what = f"the {data} have" if task == "restore" else "the classes are"
        raise BadValue(
            f"{own.name} gives {shape[1]} channels, and {what} {outputs}",
            cure=f"make its last layer give {outputs} (--net-args)",
        )


_NORMS = nn.modules.batchnorm._NormBase


def bring_weights(net: nn.Module, start: str) -> tuple[tuple[str, ...], str]:
    """Fill what fits of a network from a run folder or a file of weights.

    Args:
        net: the network.
        start: a run folder, or any file of :func:`eyeshot.runs.load_weights`.

    Returns:
        The names of the parameters that were not brought, and what was done, in one line.

    Raises:
        BadFile: missing or damaged, or nothing in it fits.
    """
    path = Path(start)
    loaded, note = take_weights(net, path / WEIGHTS if path.is_dir() else path)
    names = [name for name, _ in net.named_parameters()]
    return tuple(name for name in names if name not in loaded), note


def freeze(net: nn.Module, patterns: str) -> None:
    """Let the layers that patterns name learn nothing.

    Args:
        net: the network.
        patterns: of dotted names of layers or parameters, such as ``down*``, with commas between.

    Raises:
        UnknownName: one of them names nothing.
        BadValue: nothing is left to learn.
    """
    for pattern in filter(None, (one.strip() for one in patterns.split(","))):
        found = [p for name, p in net.named_parameters() if _is_under(name, pattern)]
        if not found:
            raise UnknownName(
                "layer to freeze", pattern, [name for name, _ in net.named_children()]
            )
        for parameter in found:
            parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in net.parameters()):
        raise BadValue(f"freeze is {patterns}: nothing is left to learn", cure="freeze less")


def frozen_norms(net: nn.Module) -> list[nn.Module]:
    """Norms whose weights are frozen: their statistics stay what they are, too."""
    return [
        layer
        for layer in net.modules()
        if isinstance(layer, _NORMS)
        and (own := list(layer.parameters()))
        and not any(parameter.requires_grad for parameter in own)
    ]


def keep_frozen(layers: Iterable[nn.Module]) -> None:
    """Put norms that do not learn in eval mode, after the network was put in training mode."""
    for layer in layers:
        layer.eval()


def _is_under(name: str, pattern: str) -> bool:
    """Whether a parameter, or a layer around it, goes by a pattern."""
    parts: Sequence[str] = name.split(".")
    return any(fnmatchcase(".".join(parts[: count + 1]), pattern) for count in range(len(parts)))
