"""What ``see`` returns: the maps of every layer as arrays, and the steps that they form.

A layer is known by its operator (``max_pool2d``) or, in a network without a graph, by its class
(``MaxPool2d``). Both are reduced to one word and shown in the same way. The error for a name that
no layer has is here too.

The maps as part of a web page, for Jupyter and for ``see -o page.html``, are made here too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from eyeshot.errors import BadValue, EyeshotError, UnknownName
from eyeshot.graph import Graph
from eyeshot.language import mark, tr
from eyeshot.pages import Fact, Figure, Image, Section, render_page, render_piece
from eyeshot.pictures import color_maps, data_uri, mosaic

_CELL, _CELLS = 14, 64  # a vector: squares of 14 pixels, up to 64 in a row


@dataclass(frozen=True, eq=False)
class Exhibit:
    """One layer for display: its picture (H, W, 4) and its caption."""

    name: str
    title: str
    note: str
    picture: NDArray[np.uint8]


def exhibits(features: Features, *, range: str = "own") -> list[Exhibit]:
    """Every layer's maps as one picture; a layer of a thousand channels gets smaller tiles.

    Raises:
        UnknownName: ``range`` is not ``own`` or ``shared``.
    """
    return [exhibit(layer, range=range) for layer in features.layers if layer.maps.size]


def exhibit(layer: LayerMaps, *, range: str = "own", columns: int | None = None) -> Exhibit:
    """One layer's maps as one picture."""
    if layer.maps.ndim < 2:
        # Colors must be comparable, so a vector always shares one range.
        tiles = color_maps(layer.maps.reshape(-1, 1, 1), range="shared")
        picture = mosaic(tiles, side=_CELL, columns=_CELLS, gap=1)
        return Exhibit(layer.name, layer.title, _note(layer, ""), picture)
    planes, cut = as_planes(layer.maps)
    tiles = color_maps(planes, range=range, lifted=True)
    dead = layer.dead if len(layer.dead) == len(tiles) else None
    picture = mosaic(tiles, columns=columns, dead=dead, numbers=len(tiles) > 1)
    return Exhibit(layer.name, layer.title, _note(layer, cut), picture)


def as_planes(maps: NDArray[Any]) -> tuple[NDArray[Any], str]:
    """Maps of a layer as (K, H, W), and a note about omitted parts.

    A volume (C, D, H, W) shows its middle slice; signals (C, W) are the rows of one plane.
    """
    if maps.ndim == 3:
        return maps, ""
    if maps.ndim == 2:
        return maps[None], ""
    middle = tuple(size // 2 for size in maps.shape[1:-2])
    places = ", ".join(map(str, middle))
    return maps[(slice(None), *middle)], f"slice {places} of {_by(maps.shape[1:-2])}"


def gallery(features: Features, *, range: str = "own") -> str:
    """A piece of HTML: every layer's maps in the order of calls."""
    return render_piece("Feature maps", facts=_facts(features), sections=[_maps(features, range)])


def _maps(features: Features, range: str) -> Section:
    figures = [
        Figure(
            Image(
                data_uri(shown.picture),
                f"Feature maps of {shown.name}, {shown.title}: {shown.note}",
            ),
            shown.name,
            f"{shown.title}: {shown.note}",
        )
        for shown in exhibits(features, range=range)
    ]
    scale = "its own largest" if range == "own" else "the layer's largest"
    says = (
        f"Each map is numbered by its channel and colored by {scale} number; brightness grows with "
        "the square root, so that small numbers can be seen. With negative numbers, 0 is white "
        "between blue and red; else 0 is black."
    )
    return Section("maps", "", says, figures)


def _facts(features: Features) -> list[Fact]:
    dead = sum(int(layer.dead.sum()) for layer in features.layers if layer.maps.ndim > 1)
    return [
        Fact(f"{len(features.layers)}", "layers, in the order of calls"),
        Fact(_by(features.image.shape), "numbers went in"),
        Fact(f"{dead:,}", "channels are always 0"),
    ]


def _note(layer: LayerMaps, cut: str) -> str:
    parts = [*([layer.place] if layer.place else []), _by(layer.maps.shape)]
    if np.isfinite(layer.maps).all():
        parts.append(f"values {layer.maps.min():.3g} to {layer.maps.max():.3g}")
    else:
        parts.append("some values are not finite (green)")
    dead = int(layer.dead.sum())
    if dead and layer.maps.ndim > 1:
        parts.append(f"{dead} of {len(layer.dead)} channels dead (crossed out)")
    return ", ".join([*parts, cut] if cut else parts)


def _by(shape: tuple[int, ...]) -> str:
    if len(shape) < 2:
        return f"{shape[0]} numbers" if shape else "one number"
    return " × ".join(map(str, shape))


def page(features: Features, title: str, *, range: str = "own") -> str:
    """The gallery as a page that needs no other file, in the reader's light or dark mode."""
    return render_page(
        title, kicker="Eyeshot", facts=_facts(features), sections=[_maps(features, range)]
    )


_CONVOLUTIONS = {"conv": "convolution", "convtranspose": "transposed convolution"}
_ACTIVATIONS = {
    "relu": "ReLU",
    "relu6": "ReLU6",
    "leakyrelu": "leaky ReLU",
    "prelu": "PReLU",
    "elu": "ELU",
    "selu": "SELU",
    "celu": "CELU",
    "gelu": "GELU",
    "silu": "SiLU",
    "mish": "Mish",
    "hardswish": "hard swish",
    "hardsigmoid": "hard sigmoid",
    "hardtanh": "hard tanh",
    "sigmoid": "sigmoid",
    "logsigmoid": "log-sigmoid",
    "tanh": "tanh",
    "softplus": "softplus",
    "softmax": "softmax",
    "logsoftmax": "log-softmax",
}
_NORMALIZATIONS = {
    "batchnorm": "batch normalization",
    "layernorm": "layer normalization",
    "groupnorm": "group normalization",
    "instancenorm": "instance normalization",
    "localresponsenorm": "local response normalization",
}
_UNCHANGED = {
    "dropout": "dropout",
    "alphadropout": "dropout",
    "featuredropout": "dropout",
    "identity": "identity",
}
_OTHERS = {
    "linear": "linear",
    "maxpool": "max pooling",
    "avgpool": "average pooling",
    "lppool": "power-average pooling",
    "adaptiveavgpool": "average pooling",
    "adaptivemaxpool": "max pooling",
    "mean": "mean",
    "amax": "maximum",
    "interpolate": "resize",
    "upsample": "resize",
    "upsamplenearest": "resize",
    "upsamplenearestexact": "resize",
    "upsamplelinear": "resize",
    "upsamplebilinear": "resize",
    "upsampletrilinear": "resize",
    "upsamplebicubic": "resize",
    "pixelshuffle": "pixel shuffle",
    "pixelunshuffle": "pixel unshuffle",
    "scaleddotproductattention": "attention",
    "flatten": "flatten",
}
_JOINS = {"add": "sum", "sub": "difference", "mul": "product", "cat": "concatenation"}
_WORDS = {
    **_CONVOLUTIONS,
    **_ACTIVATIONS,
    **_NORMALIZATIONS,
    **_UNCHANGED,
    **_OTHERS,
    **_JOINS,
}
_SAME = {"concat": "cat", "concatenate": "cat", "iadd": "add", "imul": "mul", "isub": "sub"}


def bare(kind: str) -> str:
    """One word for both ways of writing a layer: ``Conv2d`` and ``conv2d`` → ``conv``."""
    word = kind.removesuffix("_with_indices").replace("_", "").lower()
    word = re.sub(r"\dd$", "", word)
    return _SAME.get(word, word)


def words(kind: str) -> str:
    """The kind in plain words: ``MaxPool2d`` → ``max pooling``; an unknown class keeps its name."""
    return _WORDS.get(bare(kind), kind)


def is_layer_function(name: str) -> bool:
    """Whether a function called in a ``forward`` is a step of the network rather than plumbing."""
    return bare(name) in _WORDS and bare(name) != "flatten"


def joins(kind: str) -> bool:
    """Whether the operator combines two or more maps; ``x + 1`` does not."""
    return bare(kind) in _JOINS


def follows(kind: str) -> bool:
    """Whether the operator belongs to the step of the layer before it, like a ReLU to its conv."""
    word = bare(kind)
    return word in _ACTIVATIONS or word in _NORMALIZATIONS or word in _UNCHANGED


def changes_nothing(kind: str) -> bool:
    """Whether the operator's output equals its input in eval mode."""
    return bare(kind) in _UNCHANGED


def unknown_layer(graph: Graph, net: nn.Module, name: str) -> EyeshotError:
    """The error for a name without nodes: it is misspelled, or its module computes nothing."""
    if name in dict(net.named_modules()):
        return BadValue(
            f"layer {name!r} exists but computes nothing for this input",
            cure="name a layer that the network uses",
        )
    return UnknownName("layer", name, graph.nodes)


Maps = NDArray[Any]


@dataclass(frozen=True, eq=False)
class LayerMaps:
    """One call of one operator: its output for the first image.

    Attributes:
        name: dotted, as ``inspect`` prints it; ``conv#2`` is the second call of ``conv``,
            ``block.relu`` is a function that the ``forward`` of ``block`` called.
        kind: the operator, such as ``conv2d``; for a module with layers inside, its class.
        maps: (C, H, W), or (C, W), (C, D, H, W), (C,) for other layers. A copy of the array;
            complex numbers become magnitudes, half precision becomes float32.
        dead: (C,) true if a channel is zero everywhere, in *all* images.
        input_shape: the shape of its first input tensor, without the batch.
        parameters: the number of the layer's own parameters (without layers inside it).
        place: its position in the network, in words, for networks with levels.
        shared: how many of these parameters an earlier layer of the same features has too.
    """

    name: str
    kind: str
    maps: Maps
    dead: NDArray[np.bool_]
    input_shape: tuple[int, ...] = ()
    parameters: int = 0
    place: str = ""
    shared: int = 0

    @property
    def title(self) -> str:
        """The kind in plain words: ``max pooling``."""
        return words(self.kind)

    def to_dict(self) -> dict[str, Any]:
        """The layer as plain data: the smallest, mean and largest value of every channel."""
        flat = self.maps.reshape(self.maps.shape[0] if self.maps.ndim else 1, -1)
        empty = flat.size == 0
        return {
            "name": self.name,
            "kind": self.kind,
            **({"place": self.place} if self.place else {}),
            "shape": list(self.maps.shape),
            "parameters": self.parameters,
            **({"shared": self.shared} if self.shared else {}),
            "min": [] if empty else [_finite(v) for v in flat.min(axis=1)],
            "mean": [] if empty else [_finite(v) for v in flat.mean(axis=1)],
            "max": [] if empty else [_finite(v) for v in flat.max(axis=1)],
            "dead": np.flatnonzero(self.dead).tolist(),
        }


@dataclass(frozen=True, eq=False)
class Step:
    """One step of the network: a layer, with the activation that directly follows it.

    A convolution and its ReLU are two layers but one step.
    """

    layers: tuple[LayerMaps, ...]

    @property
    def name(self) -> str:
        """The layers' names, joined: ``conv1+relu1``."""
        return "+".join(layer.name for layer in self.layers)

    @property
    def title(self) -> str:
        """The kinds in plain words: ``convolution + ReLU``."""
        return " + ".join(layer.title for layer in self.layers)

    @property
    def maps(self) -> Maps:
        """The output of the step: the maps of its last layer, (C, H, W)."""
        return self.layers[-1].maps

    @property
    def dead(self) -> NDArray[np.bool_]:
        """(C,) true where a channel is always zero after the step."""
        return self.layers[-1].dead


@dataclass(frozen=True, eq=False)
class Features(Mapping[str, Maps]):
    """The maps of every layer, in the order of the calls: ``features["conv1"]`` is (C, H, W).

    Attributes:
        image: (C, H, W), the network's input (the first image).
        layers: every layer that was called.
        steps: the layers, with each activation combined with the layer before it.
        images: the number of images; ``dead`` considers all of them.
    """

    image: Maps
    layers: tuple[LayerMaps, ...]
    steps: tuple[Step, ...]
    images: int
    _by_name: dict[str, LayerMaps] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_name", {layer.name: layer for layer in self.layers})

    def __getitem__(self, name: str) -> Maps:
        return self.layer(name).maps

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def layer(self, name: str) -> LayerMaps:
        """One layer with all its data.

        Raises:
            UnknownName: no such layer was called.
        """
        if name not in self._by_name:
            raise UnknownName("layer", name, self._by_name)
        return self._by_name[name]

    def to_dict(self) -> dict[str, Any]:
        """All layers as plain data, without the arrays."""
        return {
            "input": list(self.image.shape),
            "images": self.images,
            "layers": [layer.to_dict() for layer in self.layers],
            "steps": [{"name": step.name, "title": step.title} for step in self.steps],
        }

    def __repr__(self) -> str:
        text = mark("Features of {images} image(s), {layers} layers:")
        lines = [tr(text, images=self.images, layers=len(self.layers))]
        place = ""
        for layer in self.layers:
            if layer.place != place:
                place = layer.place
                lines.append(f" {place}:")
            shape = " x ".join(map(str, layer.maps.shape))
            dead = tr("  {n} dead", n=int(layer.dead.sum())) if layer.dead.any() else ""
            lines.append(f"  {layer.name:24} {layer.kind:18} {shape}{dead}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return gallery(self)


def first_maps(value: Tensor, batch: int) -> tuple[Maps, NDArray[np.bool_]]:
    """The maps of the first image, copied, and which channels are zero in all of ``batch``."""
    values = value.detach()
    if values.is_sparse or values.is_quantized:
        values = values.to_dense() if values.is_sparse else values.dequantize()
    if values.is_complex():
        values = values.abs()
    if values.dtype in (torch.bfloat16, torch.float16):
        values = values.float()
    # A tensor whose first dimension is not the batch (a state, a weight) counts as one image.
    if values.ndim < 2 or values.shape[0] != batch:
        values = values[None] if values.ndim else values.reshape(1, 1)
    living = (values != 0).movedim(1, 0).flatten(1).any(dim=1)
    return values[0].cpu().numpy().copy(), (~living).cpu().numpy()


def _finite(value: Any) -> float | None:
    """The number, or None for NaN and infinity, which JSON cannot express."""
    return float(value) if np.isfinite(value) else None
