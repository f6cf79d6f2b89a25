"""``eyeshot see NET IMAGE --field LAYER:y,x``: one unit's field drawn on the picture."""

from __future__ import annotations

from pathlib import Path

from eyeshot.cli.looking import Asked, look
from eyeshot.cli.output import notes, print_json
from eyeshot.errors import BadValue


def see_field(
    where: str, image: Asked, field: str, out: Path | None, json: bool, weights: Path | None
) -> None:
    """Draw the field to a file if ``out`` is set, and print it in numbers.

    Args:
        where: NET: a run folder, or an import path, whose network gets the unchanged picture.
        image: the picture.
        field: ``LAYER:y,x``, or only a layer for its middle unit.
        out: a .png file; None to print only the numbers.
        json: print them as JSON.
        weights: the weights for a network of Python code.
    """
    from eyeshot.files import write_aside
    from eyeshot.inspection.viewing import parse_place, view_field
    from eyeshot.pictures import png_bytes
    from eyeshot.runs.inputs import SEEN_SIDE

    if out is not None and out.suffix.lower() != ".png":
        raise BadValue(f"{out}: a field is drawn as a picture", cure="end the name in .png")
    layer, unit = parse_place(field)
    seen_by = look(where, image, weights, side=SEEN_SIDE)
    drawn, seen = view_field(seen_by.net, seen_by.x, seen_by.picture, layer, unit)
    if out is not None:
        with write_aside(out) as aside:
            aside.write_bytes(png_bytes(drawn))
        notes.print(f"wrote {out}", soft_wrap=True, markup=False)
    if json:
        print_json(seen.to_dict())
    else:
        print(seen)
