"""``eyeshot see``: the feature maps of every layer of a network, for one picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from eyeshot.cli import net_options
from eyeshot.cli.net_options import Asked
from eyeshot.cli.output import console, notes, print_json, warnings_as_notes
from eyeshot.errors import BadValue
from eyeshot.files import check_free, check_not_input, write_aside
from eyeshot.language import tr

if TYPE_CHECKING:
    from eyeshot.features import Features

_EPILOG = """
[b]Examples[/b]

eyeshot see runs/digits-digit_cnn-seed0 seven.png

eyeshot see runs/digits-digit_cnn-seed0 seven.png -o maps.png --range shared

eyeshot see runs/digits-digit_cnn-seed0 seven.png -o page.html --layer conv1 --layer pool1

eyeshot see runs/digits-digit_cnn-seed0 seven.png --field conv2:3,10 -o field.png

eyeshot see net.py:UNet photo.jpg --weights trained.safetensors

eyeshot see runs/digits-digit_cnn-seed0 seven.png --lang zh
"""


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("see", epilog=_EPILOG)(see_layers)


def see_layers(
    net: net_options.Net,
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="The picture, volume or signal.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Draw the maps: a .png or .html file.")
    ] = None,
    layer: Annotated[
        list[str] | None, typer.Option(help="Only the layer with this name; may be repeated.")
    ] = None,
    value_range: Annotated[
        str,
        typer.Option(
            "--range", help="Color range; own: of each map; shared: of all maps of a layer."
        ),
    ] = "own",
    field: Annotated[
        str | None,
        typer.Option(
            metavar="LAYER:y,x",
            help="Print what this unit sees of the picture (LAYER:z,y,x in a volume); -o draws it.",
        ),
    ] = None,
    weights: net_options.Weights = None,
    series: net_options.Series = None,
    index: net_options.Index = None,
    force: net_options.Force = False,
    json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
    lang: net_options.Language = "en",
) -> None:
    """Show the output of every layer of a network for a picture."""
    asked = Asked(image, series, index)
    if out is not None:
        check_not_input(out, image)
        check_free(out, force=force)
    if field is not None:
        from eyeshot.cli.explain import see_field

        see_field(net, asked, field, out, json, weights)
        return
    from eyeshot.pictures import check_range

    check_range(value_range)
    if out is not None and out.suffix.lower() not in (".png", ".html"):
        raise BadValue(f"{out}: not a picture format", cure="end the name in .png or .html")
    features = _see(net, asked, layer, weights)
    if out is not None:
        _draw(features, out, f"What the network sees in {image.name}", value_range)
        notes.print(tr("wrote {file}", file=out), soft_wrap=True, markup=False)
    if json:
        print_json(features.to_dict())
    elif out is None:
        console.print(str(features), soft_wrap=True)


def _see(net: str, image: Asked, layers: list[str] | None, weights: Path | None) -> Features:
    """Run the network on the picture, prepared like the run's training pictures."""
    from eyeshot.cli.net_options import look
    from eyeshot.features import see
    from eyeshot.runs.inputs import SEEN_SIDE

    ready = look(net, image, weights, side=SEEN_SIDE)
    with warnings_as_notes():
        return see(ready.net, ready.x, layers or None)


def _draw(features: Features, out: Path, title: str, value_range: str) -> None:
    """Draw the maps as a page or a picture, depending on the suffix."""
    from eyeshot.features.maps import exhibits, page
    from eyeshot.pictures import Panel, png_bytes, sheet

    if out.suffix.lower() == ".html":
        content = page(features, title, range=value_range).encode(errors="replace")
    else:
        shown = exhibits(features, range=value_range)
        panels = [Panel(one.name, one.picture, f"{one.title}, {one.note}") for one in shown]
        content = png_bytes(sheet(title, panels))
    with write_aside(out) as aside:
        aside.write_bytes(content)
