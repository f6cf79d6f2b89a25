"""Networks at random, as source text: the ones that :mod:`tools.random_networks` tries."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

HEAD = '''\
import torch
import torch.nn.functional as F
from torch import nn


def lively(norm):
    """A batch norm that has seen something."""
    nn.init.normal_(norm.running_mean)
    nn.init.uniform_(norm.running_var, 0.5, 2)
    return norm

'''
_SIDES = {1: (3, 80), 2: (3, 45), 3: (3, 13)}
_MOST_VALUES, _MOST_WIDE = 60_000, 500_000
_CHANNELS = (8, 16, 17, 24, 31, 32, 33, 48, 64)
"""Of wide networks: more and fewer than a register, or several of them, hold."""


@dataclass(frozen=True, slots=True)
class Step:
    """One line of ``forward``, and the module it calls, if it calls one (``{m}`` in the text)."""

    expression: str
    module: str = ""


@dataclass(frozen=True, slots=True)
class Scene:
    """What a layer may be drawn from: the values so far, by name, and how many axes space has."""

    values: dict[str, torch.Tensor]
    axes: int
    double: bool

    def any(self, r: random.Random) -> str:
        """A value, one of the last more often than an early one."""
        names = list(self.values)
        return names[-1] if r.random() < 0.6 else r.choice(names)

    def like(self, r: random.Random, name: str, same: Callable[[torch.Tensor], object]) -> str:
        """A value that is the same as another in some respect; itself where there is none."""
        wanted = same(self.values[name])
        return r.choice([one for one, value in self.values.items() if same(value) == wanted])


Layer = Callable[[random.Random, Scene], Step]

_ACTIVATIONS = (
    *("relu", "leaky_relu", "elu", "gelu", "silu", "mish", "hardswish", "softplus", "hardtanh"),
    *("softsign", "selu", "celu", "relu6", "logsigmoid", "tanhshrink"),
)
_FUNCTIONS = (
    *(
        "torch.sigmoid({x})",
        "torch.tanh({x})",
        "{x}.abs()",
        "-{x}",
        "{x}*{x}",
        "{x}.clamp(-0.5, 1)",
    ),
    *("torch.exp(-{x}.abs())", "({x}.abs()+0.1).sqrt()", "{x}/(1+{x}.abs())", "1.5*{x}-0.25"),
    *(
        "torch.sin({x})",
        "torch.log1p({x}.abs())",
        "torch.softmax({x}, 1)",
        "F.normalize({x}, dim=1)",
    ),
    *("{x}-{x}.mean(1, keepdim=True)", "{x}.flatten(1).reshape({x}.shape)", "{x}.contiguous()"),
)
_JUMPS = (
    *(
        "torch.round(4*{x})/4",
        "torch.sign({x})",
        "({x}>0.1).to({x}.dtype)",
        "F.hardshrink({x}, 0.3)",
    ),
    *(
        "torch.where({x}>0, {x}, 2-{x})",
        "{x}.masked_fill({x}>0.5, 0.25)",
        "{x}.argmax(1, keepdim=True)",
    ),
    *("({x}*8).floor().to(torch.int32)",),
)


def _pointwise(r: random.Random, scene: Scene) -> Step:
    x = scene.any(r)
    if scene.double and r.random() < 0.15:  # a jump turns a rounding into a difference
        return Step(r.choice(_JUMPS).format(x=x))
    if r.random() < 0.4:
        return Step(f"F.{r.choice(_ACTIVATIONS)}({x})")
    return Step(r.choice(_FUNCTIONS).format(x=x))


def _convolution(r: random.Random, scene: Scene) -> Step:
    x, axes = scene.any(r), scene.axes
    channels = scene.values[x].shape[1]
    groups = r.choice([1, 1, 1, channels])
    out = groups * r.choice([1, 1, 2, 3, 8]) if groups > 1 else r.choice([1, 1, 2, 4, 8])
    kernel, dilation = _each(r, axes, 1, 5), _each(r, axes, 1, 2)
    padding: object = _each(r, axes, 0, 3) if r.random() < 0.6 else (0,) * axes
    stride = _each(r, axes, 1, 3) if r.random() < 0.4 else (1,) * axes
    if r.random() < 0.15:
        padding, stride = "same", (1,) * axes
    mode = r.choice(["zeros", "zeros", "zeros", "reflect", "replicate", "circular"])
    options = (
        f"stride={stride}, padding={padding!r}, dilation={dilation}, groups={groups}, "
        f"padding_mode={mode!r}, bias={r.random() < 0.5}"
    )
    return Step(f"{{m}}({x})", f"nn.Conv{axes}d({channels}, {out}, {kernel}, {options})")


def _transposed(r: random.Random, scene: Scene) -> Step:
    x, axes = scene.any(r), scene.axes
    channels = scene.values[x].shape[1]
    stride = _each(r, axes, 1, 3)
    extra = tuple(r.randint(0, s - 1) if r.random() < 0.3 else 0 for s in stride)
    groups = r.choice([1, 1, channels])
    options = (
        f"stride={stride}, padding={_each(r, axes, 0, 2)}, output_padding={extra}, "
        f"groups={groups}, dilation={_each(r, axes, 1, 2) if r.random() < 0.3 else 1}"
    )
    out = groups * r.choice([1, 2])
    kernel = _each(r, axes, 1, 4)
    return Step(f"{{m}}({x})", f"nn.ConvTranspose{axes}d({channels}, {out}, {kernel}, {options})")


def _pooling(r: random.Random, scene: Scene) -> Step:
    x, axes = scene.any(r), scene.axes
    kernel = _each(r, axes, 1, 4)
    stride = _each(r, axes, 1, 3)
    padding, ceil = tuple(r.randint(0, k // 2) for k in kernel), r.random() < 0.4
    kind = r.choice(["max", "max", "avg", "avg", "lp"])
    if kind == "lp":
        return Step(f"F.lp_pool{axes}d({x}.abs()+0.1, 3, {kernel}, {stride}, {ceil})")
    common = f"{kernel}, stride={stride}, padding={padding}, ceil_mode={ceil}"
    if kind == "max":
        dilation = _each(r, axes, 1, 2)
        return Step(f"{{m}}({x})", f"nn.MaxPool{axes}d({common}, dilation={dilation})")
    counted = f"count_include_pad={r.random() < 0.5}"
    return Step(f"{{m}}({x})", f"nn.AvgPool{axes}d({common}, {counted})")


def _adaptive(r: random.Random, scene: Scene) -> Step:
    x, axes = scene.any(r), scene.axes
    sizes = [r.choice([1, 2, 3, 5, 7]) for _ in range(axes)]
    sizes = [1] * axes if r.random() < 0.3 else sizes
    return Step(f"F.adaptive_{r.choice(['avg', 'max'])}_pool{axes}d({x}, {sizes})")


def _padding(r: random.Random, scene: Scene) -> Step:
    x = scene.any(r)
    mode = r.choice(["constant", "constant", "reflect", "replicate", "circular"])
    low = -2 if mode == "constant" else 0
    count = scene.axes if mode != "constant" else r.randint(1, scene.axes + 1)
    amounts = [r.randint(low, 3) for _ in range(2 * count)]
    if count > scene.axes:
        amounts[-2:] = [r.randint(0, 1), r.randint(0, 1)]
    value = f", value={r.choice([0.0, 0.5, -1.0])}" if mode == "constant" else ""
    return Step(f"F.pad({x}, {amounts}, mode={mode!r}{value})")


def _resizing(r: random.Random, scene: Scene) -> Step:
    x, axes = scene.any(r), scene.axes
    linear = {1: "linear", 2: "bilinear", 3: "trilinear"}[axes]
    modes = ["nearest", "nearest-exact", "area", linear, linear] + ["bicubic"] * 2 * (axes == 2)
    mode = r.choice(modes)
    align = f", align_corners={r.random() < 0.5}" if mode in (linear, "bicubic") else ""
    shape = scene.values[x].shape[2:]
    kind = r.random()
    if kind < 0.4:
        factors = r.choice([0.5, 0.7, 0.9, 1.0, 1.02, 1.3, 1.5, 2.0, 2.0, 2.1, 2.3, 3.0])
        again = r.choice(["", "", ", recompute_scale_factor=True"])
        return Step(f"F.interpolate({x}, scale_factor={factors}, mode={mode!r}{align}{again})")
    if kind < 0.7:
        size = tuple(max(1, int(n * r.uniform(0.4, 2.2))) for n in shape)
        return Step(f"F.interpolate({x}, size={size}, mode={mode!r}{align})")
    other = scene.any(r)
    return Step(f"F.interpolate({x}, size={other}.shape[2:], mode={mode!r}{align})")


def _cropping(r: random.Random, scene: Scene) -> Step:
    x = scene.any(r)
    value = scene.values[x]
    kind = r.random()
    if kind < 0.2 and value.shape[1] > 1:
        return Step(f"{x}[:, {r.choice([':1', '1:', '::2', ':-1'])}]")
    if kind < 0.3:
        return Step(f"torch.chunk({x}, 2, {r.choice([1, 2])})[{r.choice([0, 1])}]")
    if kind < 0.4:
        dim = r.randint(2, value.ndim - 1)
        return Step(f"{x}.narrow({dim}, 1, {max(1, value.shape[dim] - 2)})")
    parts = [r.choice([":", "1:", ":-1", "2:-1", "::2", "1::3", ":7"]) for _ in range(scene.axes)]
    return Step(f"{x}[:, :, {', '.join(parts)}]")


def _joining(r: random.Random, scene: Scene) -> Step:
    x = scene.any(r)
    kind = r.random()
    if kind < 0.35:
        other = scene.like(r, x, lambda value: value.shape[2:])
        return Step(f"torch.cat([{x}, {other}], 1)")
    if kind < 0.5:
        dim = r.randint(2, 1 + scene.axes)
        other = scene.like(r, x, lambda v: [n for i, n in enumerate(v.shape) if i != dim])
        return Step(f"torch.cat([{x}, {other}], {dim})")
    other = scene.like(r, x, lambda value: value.shape)
    forms = ["{x}+{y}", "{x}*{y}", "torch.maximum({x}, {y})", "{x}-0.5*{y}", "{x}/(1+{y}.abs())"]
    forms += ["torch.stack([{x}, {y}], 2).sum(2)", "torch.lerp({x}, {y}, 0.3)"]
    return Step(r.choice(forms).format(x=x, y=other))


def _statistic(r: random.Random, scene: Scene) -> Step:
    x = scene.any(r)
    dims = tuple(range(2, 2 + scene.axes))
    forms = [
        "{x}-{x}.mean({d}, keepdim=True)",
        "{x}*torch.sigmoid({x}.mean({d}, keepdim=True))",
        "{x}/(1+{x}.amax({d}, keepdim=True).abs())",
        "{x}.amin({d}, keepdim=True)",
        "{x}.sum({d}, keepdim=True)",
        "{x}.mean({d})",
        "{x}.mean({one}, keepdim=True)",
        "{x}.amax({one}, keepdim=True)",
    ]
    return Step(r.choice(forms).format(x=x, d=dims, one=r.choice(dims)))


def _normalization(r: random.Random, scene: Scene) -> Step:
    x, axes = scene.any(r), scene.axes
    channels = scene.values[x].shape[1]
    kind = r.random()
    if kind < 0.7:
        return Step(f"{{m}}({x})", f"lively(nn.BatchNorm{axes}d({channels}))")
    if kind < 0.8:
        return Step(f"{{m}}({x})", f"nn.PReLU({channels})")
    if kind < 0.9:
        turned = f"{x}.movedim(1, -1)"
        return Step(f"{{m}}({turned}).movedim(-1, 1)", f"nn.LayerNorm({channels})")
    return Step(f"{{m}}({x})", f"nn.GroupNorm(1, {channels})")


def _mixing(r: random.Random, scene: Scene) -> Step:
    """Every position with every other: operators that a run calls whole, and norms over them."""
    x, axes = scene.any(r), scene.axes
    shape, channels = scene.values[x].shape, scene.values[x].shape[1]
    dim = r.randint(2, axes + 1)
    dims = tuple(range(2, axes + 2))
    tokens = f"{x}.flatten(2).transpose(1, 2)"
    forms = [
        *(f"torch.flip({x}, ({dim},))", f"torch.roll({x}, 2, {dim})", f"{x}.cumsum({dim})/9"),
        *(f"torch.sort({x}, {dim})[0]", f"{x}.softmax({dim})", f"{x}.logsumexp({dim}, True)+{x}"),
        *(f"{x}.flatten(2).softmax(2).reshape({x}.shape)", f"{x}*{x}.var({dims}, keepdim=True)"),
        *(f"{x}/(1+{x}.norm(2, {dims}, keepdim=True))", f"{x}+{x}.std({dim}, keepdim=True)"),
        *(f"F.instance_norm({x})", f"F.layer_norm({x}, {tuple(shape[1:])})"),
        *(f"F.layer_norm({x}, ({shape[-1]},))", f"F.rms_norm({x}, {tuple(shape[2:])})"),
        f"F.scaled_dot_product_attention({tokens}, {tokens}, {tokens}).mT.reshape({x}.shape)",
        f"torch.fft.irfft(torch.fft.rfft({x}, dim={dim})*0.5, n={shape[dim]}, dim={dim})",
        f"{x}*{x}.mean({dim}, keepdim=True)",
        *(f"{x}.softmax({dim})*4", f"torch.log_softmax({x}, {dim})/4"),
        *(f"{x}+{x}.max({dim}, keepdim=True)[0]", f"{x}-{x}.min()", f"{x}/(1+{x}.max()-{x}.min())"),
        f"{x}+{x}.argmax({dim}, keepdim=True)/{shape[dim]}",
        f"{x}+{x}.round().max({dim}, keepdim=True)[1]/{shape[dim]}",
        f"{x}*torch.std_mean({x}, {dims}, keepdim=True)[0]",
        f"{x}+({x}>0.5).any({dim}, keepdim=True)",
        f"{x}+torch.count_nonzero({x}>0, {dims[-1]}).unsqueeze({axes + 1})/{shape[-1]}",
    ]
    called = f"{{m}}({x})"
    modules = [
        (called, f"nn.GroupNorm(1, {channels})"),
        (called, f"nn.InstanceNorm{axes}d({channels}, affine=True)"),
        (called, f"nn.BatchNorm{axes}d({channels}, track_running_stats=False)"),
        (called, f"nn.Linear({shape[-1]}, {shape[-1]})"),
    ]
    if r.random() < 0.25:
        return Step(*r.choice(modules))
    return Step(r.choice(forms))


def _shuffling(r: random.Random, scene: Scene) -> Step:
    x = scene.any(r)
    forms = ["{x}.repeat(1, 2{ones})", "{x}.flip(1)", "torch.roll({x}, 1, 1)"]
    forms += ["{x}.reshape(1, 1, -1, *{x}.shape[2:]).mean(1)", "{x}.unsqueeze(1).squeeze(1)"]
    forms += ["F.channel_shuffle({x}, 2)"] * (scene.axes > 1)
    if scene.axes == 2:
        forms += ["F.pixel_shuffle({x}, 2)", "F.pixel_unshuffle({x}, 2)"] * 2
        forms += ["{x}.transpose(-1, -2)", "{x}.permute(0, 1, 3, 2).contiguous()"]
        forms += ["{x}.transpose(2, 3).flip(1)"]
    return Step(r.choice(forms).format(x=x, ones=", 1" * scene.axes))


def _product(r: random.Random, scene: Scene) -> Step:
    x = scene.any(r)
    channels, out = scene.values[x].shape[1], r.choice([1, 2, 4])
    if r.random() < 0.5:
        return Step(f"{{m}}({x}.movedim(1, -1)).movedim(-1, 1)", f"nn.Linear({channels}, {out})")
    weight = f"nn.Linear({channels}, {out}, bias=False)"
    return Step(f"torch.einsum('nc...,oc->no...', {x}, {{m}}.weight)", weight)


def _bands(r: random.Random, scene: Scene) -> Step:
    """The channels as an axis of their own that holds no positions."""
    x, axes = scene.any(r), scene.axes
    if axes == 3:
        return Step(f"{x}.unsqueeze(1).sum(1)")
    kernel, pads = (3, *_each(r, axes, 1, 3)), (1, *_each(r, axes, 0, 1))
    module = f"nn.Conv{axes + 1}d(1, 2, {kernel}, padding={pads})"
    return Step(
        f"{{m}}({x}.unsqueeze(1)).{r.choice(['mean(2)', 'amax(1)', 'flatten(1, 2)'])}", module
    )


def _wide_module(r: random.Random, axes: int, channels: int, out: int) -> str:
    """A convolution that may have a method of its own: pointwise, depthwise, 3×3, dilated."""
    kind, bias = r.choice(["point", "point", "depth", "full", "full", "dilated"]), r.random() < 0.5
    far = r.choice([2, 3, 5]) if kind == "dilated" else 1
    kernel, groups = {"point": (1, 1), "depth": (r.choice([3, 5]), channels)}.get(kind, (3, 1))
    padding = far * (kernel // 2)
    if kind == "depth" and out != channels:
        groups = 1
    options = f"padding={padding}, dilation={far}, groups={groups}, bias={bias}"
    module = f"nn.Conv{axes}d({channels}, {out}, {kernel}, {options})"
    return f"nn.Sequential({module}, lively(nn.BatchNorm{axes}d({out})))" if bias else module


def _wide_convolution(r: random.Random, scene: Scene) -> Step:
    x, axes = scene.any(r), scene.axes
    channels = scene.values[x].shape[1]
    if r.random() < 0.6:
        return Step(f"{{m}}({x})", _wide_module(r, axes, channels, r.choice(_CHANNELS)))
    options = f"stride={r.choice([1, 2])}, padding={r.choice([0, 1, 2, 4, 6])}, groups={channels}"
    kernel = r.choice([3, 5])
    return Step(f"{{m}}({x})", f"nn.Conv{axes}d({channels}, {channels}, {kernel}, {options})")


def _residual(r: random.Random, scene: Scene) -> Step:
    """A convolution, of joined channels too, and what is added to it in any form."""
    x = scene.any(r)
    source = scene.like(r, x, lambda value: value.shape[2:])
    channels = scene.values[source].shape[1]
    if r.random() < 0.3:
        other = scene.like(r, source, lambda value: value.shape[2:])
        channels += scene.values[other].shape[1]
        source = f"torch.cat([{source}, {other}], 1)"
    forms = ["{c}+{x}", "{x}+{c}", "F.relu({c}+{x})", "F.relu6({x}+{c})", "F.relu({c})+{x}"]
    forms += ["F.leaky_relu({x}+{c})", "{c}+F.relu({x})", "{c}.add_({x})", "{c}+{x}+{x}"]
    forms += ["{c}+{x}[:, :1]", "{c}+{x}.mean(2, keepdim=True)", "torch.add({c}, {x}, alpha=2)"]
    total = r.choice(forms).format(c=f"{{m}}({source})", x=x)
    return Step(total, _wide_module(r, scene.axes, channels, scene.values[x].shape[1]))


WIDE_LAYERS: dict[Layer, int] = {
    _wide_convolution: 8,
    _residual: 6,
    _pointwise: 3,
    _pooling: 1,
    _padding: 1,
    _resizing: 1,
    _cropping: 1,
    _joining: 2,
    _statistic: 1,
    _shuffling: 1,
    _transposed: 1,
}
"""Of networks with channels by the dozen, whose convolutions have methods of their own."""
LAYERS: dict[Layer, int] = {
    _pointwise: 5,
    _convolution: 7,
    _transposed: 2,
    _pooling: 4,
    _adaptive: 1,
    _padding: 4,
    _resizing: 4,
    _cropping: 3,
    _joining: 4,
    _statistic: 1,
    _normalization: 2,
    _mixing: 2,
    _shuffling: 2,
    _product: 1,
    _bands: 1,
}


def _each(r: random.Random, axes: int, low: int, high: int) -> tuple[int, ...]:
    """A whole number for each axis, mostly the same one."""
    if r.random() < 0.5:
        return (r.randint(low, high),) * axes
    return tuple(r.randint(low, high) for _ in range(axes))


@dataclass(frozen=True, slots=True)
class Drawn:
    """A network as text, the sizes of its inputs (C, H, W) and their type."""

    seed: int
    source: str
    sizes: tuple[tuple[int, ...], ...]
    dtype: torch.dtype

    def build(self) -> nn.Module:
        """The network, with the same weights each time."""
        torch.manual_seed(self.seed)
        names: dict[str, Any] = {}
        exec(compile(HEAD + self.source, f"network {self.seed}", "exec"), names)
        net: nn.Module = names["Net"]()
        return net.eval().to(self.dtype)

    def inputs(self) -> list[torch.Tensor]:
        """Noise, the same each time."""
        generator = torch.Generator().manual_seed(self.seed)
        return [torch.randn(size, generator=generator).to(self.dtype) for size in self.sizes]


def draw(seed: int, *, wide: bool = False) -> Drawn:
    """A network at random; ``wide``: in float32, with channels by the dozen."""
    r = random.Random(seed)
    axes, double = r.choice([1, 2, 2, 2, 2, 3]), r.random() < 0.5 and not wide
    dtype = torch.float64 if double else torch.float32
    sizes = tuple(_size(r, axes) for _ in range(r.choice([1, 1, 1, 2])))
    if len(sizes) > 1 and r.random() < 0.6:
        sizes = (sizes[0], (sizes[1][0], *sizes[0][1:]))
    torch.manual_seed(seed)
    values = {f"x{i}": torch.randn(1, *size, dtype=dtype) for i, size in enumerate(sizes)}
    kinds, most = (WIDE_LAYERS, _MOST_WIDE) if wide else (LAYERS, _MOST_VALUES)
    lines, modules = _layers(r, Scene(values, axes, double), kinds, most)
    source = _program(r, [f"x{i}" for i in range(len(sizes))], lines, modules)
    return Drawn(seed, source, sizes, dtype)


def _size(r: random.Random, axes: int) -> tuple[int, ...]:
    low, high = _SIDES[axes]
    sides = [1 if r.random() < 0.03 else r.randint(low, high) for _ in range(axes)]
    return (r.choice([1, 1, 2, 3, 4, 6]), *sides)


def _layers(
    r: random.Random, scene: Scene, layers: dict[Layer, int], most: int
) -> tuple[dict[str, str], dict[str, str]]:
    """Lines of ``forward`` and modules by name; what torch itself refuses is drawn again."""
    lines: dict[str, str] = {}
    modules: dict[str, str] = {}
    names: dict[str, Any] = {}
    exec(HEAD, names)
    kinds, weights = zip(*layers.items(), strict=True)
    for i in range(r.randint(2, 8)):
        step = r.choices(kinds, weights)[0](r, scene)
        expression = step.expression.replace("{m}", f"self.m{i}")
        holder = type("Holder", (), {})()
        try:
            with torch.no_grad():
                if step.module:
                    setattr(holder, f"m{i}", eval(step.module, names).eval().to(_dtype(scene)))
                value = eval(expression, {**names, **scene.values, "self": holder})
        except Exception:
            continue
        if not _usable(value, most):
            continue
        lines[f"t{i}"] = expression
        if step.module:
            modules[f"m{i}"] = step.module
        if value.ndim == 2 + scene.axes and value.dtype == _dtype(scene):
            scene.values[f"t{i}"] = value
    return lines, modules


def _dtype(scene: Scene) -> torch.dtype:
    return torch.float64 if scene.double else torch.float32


def _usable(value: Any, most: int) -> bool:
    if not isinstance(value, torch.Tensor) or value.ndim < 2 or value.shape[0] != 1:
        return False
    return 0 < value.numel() <= most and bool(value.double().isfinite().all())


def _program(
    r: random.Random, inputs: Sequence[str], lines: dict[str, str], modules: dict[str, str]
) -> str:
    """The class, with those lines alone that an output depends on."""
    named = [*inputs, *lines]
    outputs = [named[-1]] + [r.choice(named) for _ in range(r.choice([0, 0, 0, 1, 2]))]
    needed = set(outputs)
    for name in reversed(lines):
        if name in needed:
            needed.update(re.findall(r"\b[xt]\d+\b", lines[name]))
    kept = {name: text for name, text in lines.items() if name in needed}
    used = re.findall(r"self\.(m\d+)", " ".join(kept.values()))
    made = [f"        self.{name} = {modules[name]}\n" for name in dict.fromkeys(used)]
    body = [f"        {name} = {text}\n" for name, text in kept.items()]
    return (
        "class Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        + "".join(made)
        + f"\n    def forward(self, {', '.join(inputs)}):\n"
        + "".join(body)
        + f"        return {', '.join(outputs)}\n"
    )
