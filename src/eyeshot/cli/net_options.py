"""The options of every command that takes a user's network.

For ``see`` and ``explain``, the network and a picture are prepared here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eyeshot.cli.output import say, warn
from eyeshot.language import VARIABLE, speak, tr

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import nn

    from eyeshot.runs import Run


def _speak(name: str) -> str:
    """Speak the language until the command ends: ``cli.main`` ends it."""
    speak(name)
    return name


Net = Annotated[
    str,
    typer.Argument(
        metavar="NET",
        help="A run folder, file.py:Class, package.module:callable, or a .onnx file.",
    ),
]
Language = Annotated[
    str,
    typer.Option(
        "--lang",
        metavar="en|zh",
        envvar=VARIABLE,
        callback=_speak,
        help="Language of the messages: English or Chinese.",
    ),
]
Series = Annotated[
    int | None,
    typer.Option(metavar="N", help="Image number in a file with several images; the first is 0."),
]
Index = Annotated[
    str | None,
    typer.Option(metavar="AXIS=N", help="Position on the other axes of a stack: T=3, or T=3,C=0."),
]
Weights = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Weights for a NET of Python code: .safetensors, .pt, .pth, .ckpt or .bin.",
    ),
]


@dataclass(frozen=True)
class Asked:
    """The picture that the user named.

    Attributes:
        path: the file.
        series: the image number in a file with several images.
        index: a position on a stack's other axes, such as ``T=3``.
    """

    path: Path
    series: int | None = None
    index: str | None = None

    @property
    def chosen(self) -> dict[str, Any]:
        """The part of the file to read."""
        return {"series": self.series, "index": self.index}


@dataclass(frozen=True, eq=False)
class Look:
    """A network and its input.

    Attributes:
        net: the network, in eval mode.
        x: the network's input, (1, C, H, W), (1, C, L) or (1, C, D, H, W).
        picture: the same picture for display, uint8 (H, W, C).
        run: the run that the network belongs to; None for a network of one's own.
    """

    net: nn.Module
    x: torch.Tensor
    picture: NDArray[Any]
    run: Run | None = None


Force = Annotated[bool, typer.Option("--force", help="Replace a file that exists.")]


def look(where: str, image: Asked, weights: Path | None = None, *, side: int | None = None) -> Look:
    """The network named by ``where`` and the prepared picture; the preparation is printed.

    Args:
        where: NET: a run folder, or an import path, whose network gets the same samples as in
            ``eyeshot run``: whole numbers scaled to 0 … 1, no other change.
        image: the picture.
        weights: the weights for a network of Python code.
        side: the largest number of rows and columns, for a run that accepts any size.
    """
    from eyeshot.inspection.locating import locate_runnable
    from eyeshot.runs import Run

    found = locate_runnable(where, say, weights, warn)
    if isinstance(found, Run):
        notes, ready = _of_run(found, image, side)
    else:
        notes, ready = _plain(found, image)
    for note in notes:
        say(tr("{file}: {note}", file=image.path, note=note))
    return ready


def _of_run(run: Run, image: Asked, side: int | None) -> tuple[tuple[str, ...], Look]:
    from eyeshot.runs.inputs import prepare_input

    ready = prepare_input(run, image.path, side=side, **image.chosen)
    return ready.notes, Look(run.net, ready.values, ready.picture, run)


def _plain(net: nn.Module, image: Asked) -> tuple[tuple[str, ...], Look]:
    from eyeshot.runs.inputs import prepare_plain

    ready = prepare_plain(net, image.path, **image.chosen)
    return ready.notes, Look(net, ready.values, ready.picture)
