"""How much each pixel adds to one number of a network: gradient times input, and what remains.

Where a network is made of weighted sums, ReLUs, maxima and means, each of its numbers is, near one
picture, a weighted sum of the picture's numbers plus a constant: f(x) = Σ gᵢ (xᵢ − bᵢ) + rest, with
g the gradient and b an empty picture (Shrikumar et al., "Not just a black box", 2016; Ancona et
al., "Towards better understanding of gradient-based attribution methods", ICLR 2018). The rest is
what the biases give, and the empty picture, while the same units stay on. For other networks the
same two parts add up to the number as well, but the rest also holds what is curved; the result says
which of the two it is.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import RenderableType
from torch import Tensor, nn

from eyeshot import runs
from eyeshot.errors import BadValue, Unsupported
from eyeshot.explanation.explaining import check_unit, network_and_input
from eyeshot.explanation.traces import as_number, as_rows
from eyeshot.features import compute_by_graph, full_precision
from eyeshot.frontends.refusals import refuse_autocast
from eyeshot.graph import Graph
from eyeshot.interpreter import needed_for, value
from eyeshot.operators import hides_curvature
from eyeshot.untouched import one_at_a_time

ROWS = ("top", "middle", "bottom")
COLUMNS = ("left", "middle", "right")


@dataclass(frozen=True, eq=False)
class Attribution:
    """One number of a network, divided among the pixels of its picture.

    Attributes:
        layer: the name of the layer.
        unit: (channel, row, column), or as many numbers as the layer's output has axes.
        against: the channel at the same place whose number is subtracted; None for none.
        score: the unit's number.
        other: the number of ``against``; 0 if there is none.
        pixels: float64 (C, H, W), in the shape of the network's input: what each input number adds
            to ``score - other``, compared with the baseline.
        rest: ``score - other`` without the pixels' sum: the biases, and what the baseline gives.
        linear: whether the network is a weighted sum of its pixels near this picture, so that the
            shares are exact: True if its second derivative is 0, False if it is not or cannot be
            seen (behind a sigmoid or a detached value), None if it cannot be computed.
        names: of the two numbers: the classes of an output's channels, or their numbers; of a layer
            between the unit itself, as "conv2 [0, 7, 6]".
    """

    layer: str
    unit: tuple[int, ...]
    against: int | None
    score: float
    other: float
    pixels: NDArray[np.float64]
    rest: float
    linear: bool | None
    names: tuple[str, str]

    @property
    def margin(self) -> float:
        """What is divided: ``score - other``."""
        return self.score - self.other

    @property
    def map(self) -> NDArray[np.float64]:
        """The shares of all channels added up: (H, W), or (L,) and (D, H, W)."""
        return np.asarray(self.pixels.sum(axis=0))

    def regions(self) -> dict[str, float]:
        """The shares added up over the nine thirds of a picture, by name, such as "top left".

        Raises:
            BadValue: the input is not a picture.
        """
        if self.pixels.ndim != 3:
            raise BadValue(f"an input of shape {self.pixels.shape}", cure="give a picture")
        cuts = [[round(side * third / 3) for third in range(4)] for side in self.pixels.shape[1:]]
        found = {}
        for (i, row), (j, column) in itertools.product(enumerate(ROWS), enumerate(COLUMNS)):
            name = "middle" if row == column == "middle" else f"{row} {column}"
            rows, columns = slice(*cuts[0][i : i + 2]), slice(*cuts[1][j : j + 2])
            found[name] = float(self.pixels[:, rows, columns].sum())
        return found

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers, for JSON; numbers that are not finite become None."""
        return {
            "layer": self.layer,
            "unit": list(self.unit),
            "against": self.against,
            "names": list(self.names),
            "score": as_number(self.score),
            "other": as_number(self.other),
            "margin": as_number(self.margin),
            "pixels": as_number(float(self.pixels.sum())),
            "rest": as_number(self.rest),
            "linear": self.linear,
            "map": as_rows(self.map),
        }

    def __rich__(self) -> RenderableType:
        from eyeshot.explanation.drawing import draw_attribution

        return draw_attribution(self)

    def __repr__(self) -> str:
        unit = ", ".join(map(str, self.unit))
        against = "" if self.against is None else f" against {self.against}"
        return (
            f"Attribution({self.layer!r}, unit ({unit}){against}, {self.margin:.6g}: "
            f"pixels {self.pixels.sum():.6g}, rest {self.rest:.6g})"
        )


@one_at_a_time
def attribute(
    net: nn.Module | runs.Run | str | Path,
    image: Tensor | NDArray[Any] | str | Path,
    *,
    layer: str | None = None,
    unit: Sequence[int] | None = None,
    against: int | None = None,
    baseline: float | Sequence[float] | None = None,
) -> Attribution:
    """Divide one number of a network among the pixels: how much each of them adds to it.

    The network runs in eval mode and does not change.

    Args:
        net: a network, a trained run, or the path of a run's folder.
        image: as for :func:`eyeshot.explain`.
        layer: a name that ``inspect`` prints; the first output by default.
        unit: (channel, row, column) in its output; of a vector of scores (class,). By default the
            largest score of a vector.
        against: another channel or class, whose number at the same place is subtracted: why this
            class, and not that one.
        baseline: the number of an empty picture in each of the input's channels, as the network
            takes it. By default 0; for a run what a black pixel becomes in its preparation.

    Returns:
        The shares of all pixels, and the rest: together they are the number.

    Raises:
        UnknownName: there is no such layer.
        BadValue: the unit is outside the map, or the input does not fit.
        Unsupported: the network cannot be traced, or no gradient reaches the input.
    """
    refuse_autocast()
    run, network, x = network_and_input(net, image)
    if baseline is None and run is not None:
        baseline = black(run)
    return attribute_input(
        network,
        x,
        layer=layer,
        unit=unit,
        against=against,
        baseline=baseline,
        classes=run.config.classes if run is not None else (),
    )


def black(run: runs.Run) -> list[float]:
    """What a black pixel becomes in the preparation of a run, for each channel."""
    return [-mean / std for mean, std in zip(run.config.mean, run.config.std, strict=True)]


def attribute_input(
    net: nn.Module,
    x: Tensor,
    *,
    layer: str | None = None,
    unit: Sequence[int] | None = None,
    against: int | None = None,
    baseline: float | Sequence[float] | None = None,
    classes: Sequence[str] = (),
) -> Attribution:
    """As :func:`attribute`, of a network and its input (N, C, …); the first item is divided.

    Args:
        net: the network.
        x: its input.
        layer: as for :func:`attribute`.
        unit: likewise.
        against: likewise.
        baseline: likewise; 0 by default.
        classes: the names of the output's channels.
    """
    graphs: list[Graph] = []
    known: dict[str, Tensor] = {}

    def choose(graph: Graph) -> list[str]:
        graphs.append(graph)
        return [graph.outputs[0] if layer is None else graph[layer].name]

    reason = compute_by_graph(
        net, [x[:1]], choose, lambda node, value: known.update({node.name: value}), full=True
    )
    if reason:
        raise Unsupported(reason, cure="give a network that torch.export can trace")
    (graph,), ((name, output),) = graphs, known.items()
    if unit is None:
        if output.ndim != 2:
            raise BadValue(
                f"no unit of {name}, whose map has shape {tuple(output.shape[1:])}",
                cure="name one by unit",
            )
        unit = (int(output[0].argmax()),)
    return attribute_graph(graph, x[:1], name, unit, against, baseline, classes)


def attribute_graph(
    graph: Graph,
    x: Tensor,
    layer: str,
    unit: Sequence[int],
    against: int | None = None,
    baseline: float | Sequence[float] | None = None,
    classes: Sequence[str] = (),
) -> Attribution:
    """As :func:`attribute_input`, of a graph that was traced for ``x`` of shape (1, C, …)."""
    empty = _baseline(x, baseline)
    if against is not None and len(unit) and against == unit[0]:
        raise BadValue(f"channel {against} against itself", cure="name another channel or class")
    with full_precision(), torch.inference_mode(False), torch.enable_grad():
        leaf = x.detach().clone().requires_grad_(True)
        output = value(graph, [leaf], graph[layer].name)
        place = check_unit(graph[layer].name, tuple(output.shape[1:]), unit)
        other = None if against is None else (against, *place[1:])
        if other is not None:
            check_unit(graph[layer].name, tuple(output.shape[1:]), other)
        if not output.requires_grad:
            raise Unsupported(f"no gradient reaches the input from {layer}", cure="choose another")
        chosen = output[(0, *place)]
        margin = chosen if other is None else chosen - output[(0, *other)]
        (gradient,) = torch.autograd.grad(margin, leaf, create_graph=True)
        away = (leaf - empty).detach()
        linear = _is_linear(graph, graph[layer].name, gradient, leaf)
    pixels = (gradient.detach().double() * away.double())[0].cpu().numpy()
    score = float(chosen.detach())
    subtracted = 0.0 if other is None else float(output[(0, *other)].detach())
    return Attribution(
        layer=graph[layer].name,
        unit=place,
        against=against,
        score=score,
        other=subtracted,
        pixels=pixels,
        rest=score - subtracted - float(pixels.sum()),
        linear=linear,
        names=_names(graph, layer, place, other, classes),
    )


def _names(
    graph: Graph,
    layer: str,
    unit: Sequence[int],
    against: Sequence[int] | None,
    classes: Sequence[str],
) -> tuple[str, str]:
    """The classes of an output's two channels, or their numbers; the units of other layers."""
    name = graph[layer].name

    def called(place: Sequence[int] | None) -> str:
        if place is None:
            return ""
        if name not in graph.outputs:
            return f"{name} [{', '.join(map(str, place))}]"
        return classes[place[0]] if place[0] < len(classes) else str(place[0])

    return called(unit), called(against)


def _is_linear(graph: Graph, layer: str, gradient: Tensor, leaf: Tensor) -> bool | None:
    """Whether the gradient stays as it is near the picture: ∂(g · v)/∂x is 0 for any v."""
    if any(hides_curvature(graph.nodes[name]) for name in needed_for(graph, [layer])):
        return False
    if not gradient.requires_grad:
        return True
    direction = torch.randn(leaf.shape, generator=torch.Generator().manual_seed(0)).to(leaf)
    try:
        (change,) = torch.autograd.grad((gradient * direction).sum(), leaf, allow_unused=True)
    except (RuntimeError, NotImplementedError):
        return None  # some operators have no second derivative in PyTorch
    return change is None or not bool(change.any())


def _baseline(x: Tensor, baseline: float | Sequence[float] | None) -> Tensor:
    """A number for each channel, (1, C, 1, …)."""
    values = torch.as_tensor(0.0 if baseline is None else baseline, dtype=x.dtype).reshape(-1)
    if len(values) not in (1, x.shape[1]) or not bool(torch.isfinite(values).all()):
        raise BadValue(
            f"baseline {baseline}", cure=f"give a number, or one for each of {x.shape[1]} channels"
        )
    return values.to(x.device).reshape(1, -1, *(1 for _ in x.shape[2:]))
