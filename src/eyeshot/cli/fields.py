"""``eyeshot see NET IMAGE --field LAYER:y,x``: one unit's field drawn on the picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from eyeshot.cli.output import notes, print_json
from eyeshot.errors import BadValue

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import nn


def see_field(where: str, image: Path, field: str, output: Path | None, json: bool) -> None:
    """Draw the field (where a file is named), and tell it in numbers.

    Args:
        where: NET: a run folder, or an import path, which is shown the picture as it is.
        image: the picture.
        field: ``LAYER:y,x``, or a layer alone for its middle unit.
        output: a .png file; None to tell the numbers only.
        json: tell them as JSON.
    """
    from eyeshot.files import write_aside
    from eyeshot.inspection.viewing import parse_place, view_field
    from eyeshot.pictures import png_bytes

    if output is not None and output.suffix.lower() != ".png":
        raise BadValue(f"{output}: a field is drawn as one picture", cure="end the name in .png")
    layer, unit = parse_place(field)
    net, x, shown = _prepared(where, image)
    drawn, seen = view_field(net, x, shown, layer, unit)
    if output is not None:
        with write_aside(output) as aside:
            aside.write_bytes(png_bytes(drawn))
        notes.print(f"wrote {output}", soft_wrap=True, markup=False)
    if json:
        print_json(seen.as_dict())
    else:
        print(seen)


def _prepared(where: str, image: Path) -> tuple[nn.Module, torch.Tensor, NDArray[Any]]:
    """The network, the picture as it takes it, and the same picture (H, W, C) to look at."""
    import numpy as np
    import torch

    from eyeshot import images, runs
    from eyeshot.data import prepare_picture
    from eyeshot.data.pixels import reduce
    from eyeshot.images.scaling import to_unit
    from eyeshot.inspection.locating import locate
    from eyeshot.runs.inputs import SEEN_SIDE, prepare_input

    def say(line: str) -> None:
        notes.print(line, soft_wrap=True, markup=False)

    if Path(where).is_dir():
        run = runs.load(where)
        ready = prepare_input(run, image, side=SEEN_SIDE)
        net, x, shown, told = run.net, ready.values, ready.picture, list(ready.notes)
    else:
        picture = images.read_picture(image)
        found = locate(where, say)
        if found.net is None:
            raise BadValue(f"{where}: an exported program", cure="give a run or an import path")
        net, channels = found.net, _channels(found.net)
        height, width = picture.samples.shape[:2]
        pixels, told = prepare_picture(
            picture.samples,
            channels=channels,
            size=(height, width),
            digit=False,
            alpha=picture.alpha,
        )
        told = [*picture.notes, *told]
        x, shown = torch.from_numpy(to_unit(pixels))[None], np.moveaxis(reduce(pixels), 0, -1)
    for note in told:
        say(f"{image}: {note}")
    return net, x, shown


def _channels(net: nn.Module) -> int:
    """Of the pictures that the first convolution takes; 3 where there is none."""
    from torch import nn

    return next((m.in_channels for m in net.modules() if isinstance(m, nn.Conv2d)), 3)
