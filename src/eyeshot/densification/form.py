"""The dense form of a classifier: a list of steps whose layers keep the classifier's names.

Its layers are built from the nodes of the classifier; every weight is a copy. The form also records
what each value of the classifier has become.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from eyeshot.axes import Interval, Window
from eyeshot.errors import Unsupported
from eyeshot.graph import Family, Graph, Node, Ref, Weight, substitute
from eyeshot.operators.call import called


@dataclass(frozen=True, slots=True)
class Step:
    """One value of the dense form: a layer or a plain function, called on earlier values.

    Attributes:
        name: the name of the value.
        target: the layer, or the function.
        args: the arguments, with Ref for earlier values and Weight for tensors.
        kwargs: the same by name.
    """

    name: str
    target: nn.Module | Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Geometry:
    """The grid of a dense form's positions on the page, along each spatial axis.

    Attributes:
        crop: the size in pixels of the classifier's pictures.
        stride: pixels from one position to the next.
        field: the pixels that position 0 sees, whose crop is [0, crop).
    """

    crop: tuple[int, ...]
    stride: tuple[int, ...]
    field: tuple[Interval, ...]


class DenseForm(nn.Module):
    """A classifier of crops as a network for pages: the result of :func:`eyeshot.dense`.

    (N, C, H, W) → (N, classes, rows, columns). Position (i, j) belongs to the crop whose first
    pixel is (i·stride, j·stride). There is a position for every crop that fits, and one more if the
    page lacks only pixels that the classifier does not read. It is a plain module: it can be saved,
    exported, trained and streamed.

    Attributes:
        crop: (height, width) of the classifier's pictures.
        stride: pixels from one position to the next, along each axis.
        field: the pixels that position 0 sees, along each axis. Smaller than the crop if the
            classifier's windows do not read some pixels, larger if it pads.
        notes: where and why the values differ from the classifier's; empty if they do not.
    """

    def __init__(
        self,
        steps: Sequence[Step],
        source: str,
        result: str,
        geometry: Geometry,
        notes: tuple[str, ...],
    ) -> None:
        super().__init__()
        self.crop, self.stride, self.field = geometry.crop, geometry.stride, geometry.field
        self.notes = notes
        self._source, self._result = source, result
        # (name, path of the layer or the function, args, kwargs): layers only by their path, so
        # that a copy of this module calls its own.
        self._steps: list[tuple[str, str | Callable[..., Any], tuple[Any, ...], dict[str, Any]]]
        self._steps = []
        for step in steps:
            target = step.target
            place = _plant(self, step.name, target) if isinstance(target, nn.Module) else target
            self._steps.append((step.name, place, step.args, step.kwargs))

    @property
    def exact(self) -> bool:
        """Whether every value is the classifier's on its crop, to rounding."""
        return not self.notes

    def forward(self, x: Tensor) -> Tensor:
        """Scores (N, classes, rows, columns) of all crops of the pages ``x`` (N, C, H, W)."""
        values: dict[str, Tensor] = {self._source: x}

        def put(value: Any) -> Any:
            return values[value.node] if isinstance(value, Ref) else value

        for name, place, args, kwargs in self._steps:
            target = self.get_submodule(place) if isinstance(place, str) else place
            values[name] = target(*substitute(args, put), **kwargs)
        return values[self._result]

    def extra_repr(self) -> str:
        """What ``print`` shows besides the layers."""
        return f"crop={self.crop}, stride={self.stride}"


class Weighted(nn.Module):
    """A function of a value and tensors of the network: ``x * scale``, ``x - mean``, ``prelu``."""

    def __init__(
        self, function: Callable[..., Any], args: Sequence[Any], tensors: dict[str, Tensor]
    ) -> None:
        super().__init__()
        self._function, self._args = function, tuple(args)
        self._names: dict[str, str] = {}
        for name, tensor in tensors.items():
            own = self._names[name] = name.rpartition(".")[2].replace("#", "_")
            if isinstance(tensor, nn.Parameter):
                self.register_parameter(own, tensor)
            else:
                self.register_buffer(own, tensor)

    def forward(self, *values: Tensor) -> Tensor:
        """The function, with the values and the tensors where they belong."""
        inputs = iter(values)

        def put(value: Any) -> Any:
            if isinstance(value, Ref):
                return next(inputs)
            return getattr(self, self._names[value.name]) if isinstance(value, Weight) else value

        result: Tensor = self._function(*map(put, self._args))
        return result


def _plant(root: nn.Module, name: str, module: nn.Module) -> str:
    """Put a module under a dotted name, or a similar one if that exists; return the name."""
    parent, path = root, []
    *parts, leaf = name.split(".")
    for part in parts:
        child = parent._modules.get(part)
        if child is None:
            child = nn.Module()
            part = _free(parent, part)
            parent.add_module(part, child)
        parent = child
        path.append(part)
    leaf = _free(parent, leaf)
    parent.add_module(leaf, module)
    return ".".join([*path, leaf])


def _free(parent: nn.Module, name: str) -> str:
    while hasattr(parent, name):
        name += "_"
    return name


@dataclass(frozen=True, slots=True)
class Value:
    """One value of the classifier, of one crop, and its map in the dense form.

    The dense form only ever holds maps (N, C, H, W). What the classifier does to the shape of its
    value (a flatten, a transposition) moves no number: it is followed here, on the places alone.

    Attributes:
        name: of the map in the dense form.
        shape: what one crop gives: (C, h, w).
        places: of the classifier's value without its batch: where each number lies in (C, h, w),
            counted through; of any shape.
        stride: pixels of the page from one position of the map to the next.
        step: positions of the map from one place of the same crop to the next: 1, but where strides
            are undone to have a position at every pixel.
        field: for each axis, the pixels that position 0 sees.
        affine: a scale and a shift of each number that is still to be applied, by the reader
            of the numbers, all at once.
    """

    name: str
    shape: tuple[int, ...]
    places: Tensor
    stride: tuple[int, ...]
    step: tuple[int, ...]
    field: tuple[Interval, ...]
    affine: tuple[Tensor, Tensor] | None = None

    @property
    def window(self) -> tuple[int, ...]:
        """Places of one crop along each axis: (h, w)."""
        return self.shape[1:]

    @property
    def is_map(self) -> bool:
        """Whether the classifier's value is a map too, (N, C, h, w)."""
        return self.places.shape == self.shape and self.in_order

    @property
    def is_point(self) -> bool:
        """Whether a crop gives a single place, with its channels in order, of any shape."""
        return math.prod(self.window) == 1 and self.in_order

    @property
    def in_order(self) -> bool:
        """Whether the numbers lie in the order of (C, h, w)."""
        return torch.equal(self.places.reshape(-1), torch.arange(self.places.numel()))

    def reshaped(self, shape: Sequence[int]) -> Value:
        """The same numbers in the same order, of another shape in the classifier."""
        return replace(self, places=self.places.reshape(tuple(shape)))

    def seen_through(self, taps: Sequence[Interval]) -> tuple[Interval, ...]:
        """The field of a position 0 that reads the places ``taps`` of this value."""
        spans = []
        for side, tap, stride, step in zip(self.field, taps, self.stride, self.step, strict=True):
            pixels = stride * step
            spans.append(Interval(side.lo + tap.lo * pixels, side.hi + (tap.hi - 1) * pixels))
        return tuple(spans)


def natural(shape: tuple[int, ...]) -> Tensor:
    """The places of a map (C, h, w) that is what it is."""
    return torch.arange(math.prod(shape)).reshape(shape)


_CONVOLUTIONS: tuple[Any, ...] = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_BATCH_NORMS: tuple[Any, ...] = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_MAX_POOLS: tuple[Any, ...] = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
_PADS: tuple[Any, ...] = (nn.ConstantPad1d, nn.ConstantPad2d, nn.ConstantPad3d)
_AVERAGE_POOLS: tuple[Any, ...] = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)


def convolution(node: Node, graph: Graph, step: tuple[int, ...], every_pixel: bool) -> nn.Module:
    """The same convolution; at every pixel, its kernel spread by ``step`` and its stride 1.

    Raises:
        Unsupported: uneven padding that would have to be spread.
    """
    params = node.params
    pads = tuple(params.padding)
    if any(before != after for before, after in pads):
        if any(s > 1 for s in step):
            raise Unsupported(
                f"{node.name} pads unevenly behind a stride, which has no form at every pixel",
                cure="leave every_pixel out, or pad by the same number on both sides",
            )
        padding: Any = "same"  # the one way in which torch pads unevenly
    else:
        padding = tuple(before * s for (before, _), s in zip(pads, step, strict=True))
    weight = graph.tensors[node.weights[0]]
    bias = graph.tensors[node.weights[1]] if params.bias else None
    options = {
        "stride": (1,) * len(step) if every_pixel else params.stride,
        "padding": padding,
        "dilation": _times(params.dilation, step),
        "groups": params.groups,
    }
    return convolve(weight, bias, **options)


def convolve(weight: Tensor, bias: Tensor | None, *, groups: int = 1, **options: Any) -> nn.Module:
    """A convolution with copies of these weights, (out, in / groups, *kernel)."""
    kernel = tuple(weight.shape[2:])
    # On the meta device no weights are drawn, so that the caller's random numbers are not used up.
    empty: nn.Module = _CONVOLUTIONS[len(kernel) - 1](
        weight.shape[1] * groups,
        weight.shape[0],
        kernel,
        groups=groups,
        bias=bias is not None,
        device="meta",
        dtype=weight.dtype,
        **options,
    )
    layer = empty.to_empty(device=weight.device)
    _fill(layer, {"weight": weight} if bias is None else {"weight": weight, "bias": bias})
    return layer


def pooling(
    node: Node, window: tuple[int, ...], step: tuple[int, ...], every_pixel: bool
) -> nn.Module:
    """The same pooling; at every pixel, a max-pool's window spread and its stride 1.

    Raises:
        Unsupported: an average over spread places, for which torch has no layer; at every pixel,
            an average whose last window hangs over the crop.
    """
    params = node.params
    axes = len(params.kernel)
    stride = (1,) * axes if every_pixel else params.stride
    padding = tuple(before * s for (before, _), s in zip(params.padding, step, strict=True))
    ceil = _hangs_over(node, window)
    if node.family is Family.MAX_POOL:
        dilation = _times(params.dilation, step)
        over = _overhang(node, window) if every_pixel else (0,) * axes
        # Windows of stride 1 never hang over; torch's pools pad at most half of their kernel.
        beside = any(over) or any(2 * p > k for p, k in zip(padding, params.kernel, strict=True))
        own = (0,) * axes if beside else padding
        layer: nn.Module = _MAX_POOLS[axes - 1](
            params.kernel, stride, own, dilation, ceil_mode=ceil and not every_pixel
        )
        if not beside:
            return layer
        pads = [(p, p + o * s) for p, o, s in zip(padding, over, step, strict=True)]
        ends = tuple(n for pair in reversed(pads) for n in pair)
        return nn.Sequential(_PADS[axes - 1](ends, -float("inf")), layer)
    _refuse_spread(node, step)
    if ceil and every_pixel:
        raise Unsupported(
            f"{node.name} averages a window that hangs over the crop, which has no form at every "
            "pixel",
            cure="leave every_pixel out, or use ceil_mode=False",
        )
    options: dict[str, Any] = {"count_include_pad": params.count_include_pad}
    if axes > 1:
        options["divisor_override"] = called(node).argument("divisor_override")
    average: nn.Module = _AVERAGE_POOLS[axes - 1](params.kernel, stride, padding, ceil, **options)
    return average


def window_pooling(
    node: Node, windows: Sequence[Window], step: tuple[int, ...], every_pixel: bool
) -> nn.Module:
    """The mean or the largest of each window: what a pool over the whole crop is on a page.

    Raises:
        Unsupported: an average over spread places.
    """
    largest = node.family in (Family.ADAPTIVE_MAX_POOL, Family.LARGEST)
    if not largest:
        _refuse_spread(node, step)
    kernel = tuple(window.kernel for window in windows)
    stride = tuple(1 if every_pixel else window.stride for window in windows)
    options = {"dilation": step} if largest else {}
    pools = _MAX_POOLS if largest else _AVERAGE_POOLS
    layer: nn.Module = pools[len(kernel) - 1](kernel, stride, **options)
    return layer


def _refuse_spread(node: Node, step: tuple[int, ...]) -> None:
    """Raise Unsupported where an average would be taken over places that do not lie together."""
    if any(s > 1 for s in step):
        raise Unsupported(
            f"{node.name} averages behind a stride of {max(step)}, which has no form at every "
            "pixel",
            cure="leave every_pixel out, or pool by the largest value",
        )


def batch_norm_layer(node: Node, graph: Graph, axes: int) -> nn.Module:
    """Batch normalization in eval mode over maps of so many axes."""
    scale, shift, mean, variance = batch_norm_tensors(node, graph)
    layer: nn.Module = _BATCH_NORMS[axes - 1](
        len(mean), eps=epsilon(node), affine=scale is not None, device=mean.device, dtype=mean.dtype
    )
    tensors = {"running_mean": mean, "running_var": variance}
    if scale is not None and shift is not None:
        tensors |= {"weight": scale, "bias": shift}
    _fill(layer, tensors)
    return layer.eval()


def batch_norm_tensors(
    node: Node, graph: Graph
) -> tuple[Tensor | None, Tensor | None, Tensor, Tensor]:
    """γ, β (None where there are none), μ and σ² of a batch normalization."""

    def tensor(name: str) -> Tensor | None:
        weight = called(node).argument(name)
        return graph.tensors[weight.name].detach() if isinstance(weight, Weight) else None

    mean, variance = tensor("running_mean"), tensor("running_var")
    if mean is None or variance is None:
        raise Unsupported(
            f"{node.name} keeps no running statistics", cure="train with track_running_stats=True"
        )
    return tensor("weight"), tensor("bias"), mean, variance


def epsilon(node: Node) -> float:
    """What a batch normalization adds to the variance."""
    return float(called(node).argument("eps"))


def _hangs_over(node: Node, window: tuple[int, ...]) -> bool:
    """Whether a last window hangs over the end of a crop of ``window`` places.

    Where none does, none may at the end of the page: it would be about no crop.
    """
    return any(axis.hangs_over(n) for axis, n in zip(node.edges[0].axes, window, strict=True))


def _overhang(node: Node, window: tuple[int, ...]) -> tuple[int, ...]:
    """Along each axis, by how many places the last window reaches beyond the crop's padding."""
    params = node.params
    last = [axis.output_size(n) - 1 for axis, n in zip(node.edges[0].axes, window, strict=True)]
    return tuple(
        max(0, i * params.stride[a] + params.dilation[a] * (kernel - 1) + 1 - sum(pads) - n)
        for a, (i, n, pads, kernel) in enumerate(
            zip(last, window, params.padding, params.kernel, strict=True)
        )
    )


def _fill(layer: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    own = {**dict(layer.named_parameters()), **dict(layer.named_buffers())}
    with torch.no_grad():
        for name, tensor in tensors.items():
            own[name].copy_(tensor)


def _times(one: Sequence[int], other: Sequence[int]) -> tuple[int, ...]:
    return tuple(a * b for a, b in zip(one, other, strict=True))
