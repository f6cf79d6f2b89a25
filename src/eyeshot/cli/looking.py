"""A network, and a picture as it takes it: what ``see`` and ``explain`` are asked to look at."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eyeshot.cli.output import say, warn

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import nn

    from eyeshot.runs import Run


@dataclass(frozen=True)
class Asked:
    """A picture as it was named.

    Attributes:
        path: the file.
        series: which image of it, where it holds several.
        index: a position of a stack's other axes, such as ``T=3``.
    """

    path: Path
    series: int | None = None
    index: str | None = None

    @property
    def chosen(self) -> dict[str, Any]:
        """What is read of the file."""
        return {"series": self.series, "index": self.index}


@dataclass(frozen=True, eq=False)
class Look:
    """What is to be looked at.

    Attributes:
        net: the network, in eval mode.
        x: the picture as it takes it, (1, C, H, W), or (1, C, L), or (1, C, D, H, W).
        picture: the same to look at, uint8 (H, W, C).
    """

    net: nn.Module
    x: torch.Tensor
    picture: NDArray[Any]


def look(where: str, image: Asked, weights: Path | None = None, *, side: int | None = None) -> Look:
    """The network that ``where`` names and the picture, prepared; what is done to it is told.

    Args:
        where: NET: a run folder, or an import path, whose network gets the samples as
            ``eyeshot run`` gives them: whole numbers scaled to 0 … 1, nothing else.
        image: the picture.
        weights: of a network that is Python code.
        side: of a run that takes any size, the most rows and columns to be looked at.
    """
    from eyeshot.inspection.locating import locate_runnable
    from eyeshot.runs import Run

    found = locate_runnable(where, say, weights, warn)
    if isinstance(found, Run):
        notes, ready = _of_run(found, image, side)
    else:
        notes, ready = _plain(found, image)
    for note in notes:
        say(f"{image.path}: {note}")
    return ready


def _of_run(run: Run, image: Asked, side: int | None) -> tuple[tuple[str, ...], Look]:
    from eyeshot.runs.inputs import prepare_input

    ready = prepare_input(run, image.path, side=side, **image.chosen)
    return ready.notes, Look(run.net, ready.values, ready.picture)


def _plain(net: nn.Module, image: Asked) -> tuple[tuple[str, ...], Look]:
    from eyeshot.runs.inputs import prepare_plain

    ready = prepare_plain(net, image.path, **image.chosen)
    return ready.notes, Look(net, ready.values, ready.picture)
