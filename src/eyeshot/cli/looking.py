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

    from eyeshot.images import Source
    from eyeshot.runs import Run

_MOST_POSITIONS = 2**22
"""Of a picture that goes through a network in one pass."""


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
    """A picture for a network of one's own: its own samples, in as many channels as it takes."""
    import numpy as np
    import torch

    from eyeshot.errors import BadValue
    from eyeshot.frontends.trials import axes_taken, channels_to_try
    from eyeshot.images import open_source
    from eyeshot.images.scaling import to_unit

    with open_source(image.path, space=axes_taken(net), **image.chosen) as source:
        if np.prod(source.shape[1:]) > _MOST_POSITIONS:
            size = "×".join(map(str, source.shape[1:]))
            cure = "cut the part that matters out of it"
            raise BadValue(f"{image.path}: {size} is too much to be seen at once", cure=cure)
        samples = to_unit(source.read(*((0, n) for n in source.shape[1:])))
        takes = channels_to_try(net)
        _check_pages(source, takes)
        notes = [*source.notes, f"{source.dtype} samples, scaled to 0 … 1 and nothing else"]
    samples, done = _in_channels(samples, takes)
    x = torch.from_numpy(np.ascontiguousarray(samples))[None]
    like = next((p for p in net.parameters() if p.is_floating_point()), x)
    shown = np.rint(np.moveaxis(samples, 0, -1).clip(0, 1) * 255).astype(np.uint8)
    return (*notes, *done), Look(net, x.to(like), shown)


def _check_pages(source: Source, takes: tuple[int, ...]) -> None:
    """Refuse a stack of pages of which the network takes another number.

    Raises:
        BadFile: so; how one is chosen is said.
    """
    from eyeshot.errors import BadFile

    pages, count = source.pages, source.shape[0]
    if pages and takes and count not in takes:
        raise BadFile(
            f"{source.name}: its {count} pages (axis {pages}) are no channels, and the network "
            f"takes {' or '.join(map(str, takes))}",
            cure=f"choose one by --index, {pages}=0 to {pages}={count - 1}",
        )


def _in_channels(
    samples: NDArray[Any], takes: tuple[int, ...]
) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Grey made of colour, or repeated, where only that makes the channels fit."""
    import numpy as np

    have = len(samples)
    if not takes or have in takes:
        return samples, ()
    if have == 4 and 3 in takes:
        return samples[:3], ("opacity left out",)
    if have == 1 and takes[0] == 3:
        return np.repeat(samples, 3, axis=0), ("grey repeated in three channels",)
    if have in (3, 4) and takes[0] == 1:
        grey = np.tensordot(np.array([0.299, 0.587, 0.114]), samples[:3], 1)[None]
        return grey.astype(samples.dtype), ("made grey",)
    return samples, ()
