"""``eyeshot see`` and ``eyeshot explain``: what the layers of a network output, and why.

``eyeshot explain`` has two forms. ``eyeshot explain conv`` and the other operations are commands of
a group; any other first word is a network, and goes to the hidden command ``unit``.

``eyeshot see NET IMAGE --field LAYER:y,x`` draws the field of one unit on the picture.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from eyeshot.cli import shared
from eyeshot.cli.shared import Asked, console, look, notes, print_json, say, warnings_as_notes
from eyeshot.errors import BadFile, BadValue, UnknownName
from eyeshot.files import check_free, check_not_input, write_aside
from eyeshot.language import tr

if TYPE_CHECKING:
    from eyeshot.explanation.walks import Walk
    from eyeshot.features import Features

_SEE_EXAMPLES = """
[b]Examples[/b]

eyeshot see runs/digits-digit_cnn-seed0 seven.png

eyeshot see runs/digits-digit_cnn-seed0 seven.png -o maps.png --range shared

eyeshot see runs/digits-digit_cnn-seed0 seven.png -o page.html --layer conv1 --layer pool1

eyeshot see runs/digits-digit_cnn-seed0 seven.png --field conv2:3,10 -o field.png

eyeshot see net.py:UNet photo.jpg --weights trained.safetensors

eyeshot see runs/digits-digit_cnn-seed0 seven.png --lang zh
"""


def register_see(app: typer.Typer) -> None:
    """Add the command ``see`` to ``app``."""
    app.command("see", epilog=_SEE_EXAMPLES)(see_layers)


def see_layers(
    net: shared.Net,
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
    weights: shared.Weights = None,
    series: shared.Series = None,
    index: shared.Index = None,
    force: shared.Force = False,
    json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
    lang: shared.Language = "en",
) -> None:
    """Show the output of every layer of a network for a picture."""
    asked = Asked(image, series, index)
    if out is not None:
        check_not_input(out, image)
        check_free(out, force=force)
    if field is not None:
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
    from eyeshot.cli.shared import look
    from eyeshot.features import see
    from eyeshot.runs.inputs import SEEN_SIDE

    ready = look(net, image, weights, side=SEEN_SIDE)
    with warnings_as_notes():
        return see(ready.net, ready.x, layers or None)


def _draw(features: Features, out: Path, title: str, value_range: str) -> None:
    """Draw the maps as a page or a picture, depending on the suffix."""
    from eyeshot.features.feature_maps import exhibits, page
    from eyeshot.pictures import Panel, png_bytes, sheet

    if out.suffix.lower() == ".html":
        content = page(features, title, range=value_range).encode(errors="replace")
    else:
        shown = exhibits(features, range=value_range)
        panels = [Panel(one.name, one.picture, f"{one.title}, {one.note}") for one in shown]
        content = png_bytes(sheet(title, panels))
    with write_aside(out) as aside:
        aside.write_bytes(content)


OPERATIONS = ("conv", "pool", "transpose", "nearest", "bilinear")
CONV_INPUT = "1 1 1 0 0 / 0 1 1 1 0 / 0 0 1 1 1 / 0 0 1 1 0 / 0 1 1 0 0"
CONV_KERNEL = "1 0 1 / 0 1 0 / 1 0 1"
POOL_INPUT = "1 3 2 1 / 4 6 5 2 / 3 1 1 0 / 1 2 2 4"
SMALL_INPUT = "1 2 / 3 4"
TRANSPOSE_KERNEL = "1 2 1 / 2 4 2 / 1 2 1"

_ABOUT = (
    "Show the sum behind a number.\n\n"
    "[b]eyeshot explain conv[/b] (pool, transpose, nearest, bilinear) walks over a small matrix "
    "and prints the sum of every step.\n\n"
    "[b]eyeshot explain NET IMAGE --layer NAME --unit C,Y,X[/b] shows it inside a network: "
    "the patch, the kernel and the partial sum of every input channel, the bias, and the total.\n\n"
    "[b]eyeshot explain NET IMAGE --pixels[/b] shows what each pixel adds to a number."
)

_EXPLAIN_EXAMPLES = """
[b]Examples[/b]

eyeshot explain conv

eyeshot explain conv --input "1 2 3 / 4 5 6 / 7 8 9" --kernel "1 0 / 0 -1" --padding same

eyeshot explain pool --size 3 --padding 1 --stride 2,1 --mode avg

eyeshot explain transpose --stride 2 --padding 1 --lang zh

eyeshot explain bilinear --scale 2 --align-corners

eyeshot explain runs/digits seven.png --layer conv2 --unit 3,10,12

eyeshot explain runs/digits seven.png --layer fc2 --unit 7 --json

eyeshot explain runs/digits seven.png --pixels --against 9 -o why.png

eyeshot explain net.py:Net signal.npy --layer conv2 --unit 3,100 --weights trained.safetensors
"""


class _ExplainGroup(TyperGroup):
    """A group whose commands are operations; a network may replace the command."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Insert the hidden command if the first word is not a command of the group."""
        if args and args[0] not in {*self.commands, "-h", "--help"}:
            _refuse_slip(args[0])
            args = ["unit", *args]
        return super().parse_args(ctx, args)


def _refuse_slip(word: str) -> None:
    """Raise UnknownName for ``pol`` or ``convolution``, unless a run has that name."""
    if ":" in word:  # a file.py:Class
        return
    slip = difflib.get_close_matches(word, OPERATIONS, n=1) or word.startswith(OPERATIONS)
    if slip and not Path(word).exists():
        raise UnknownName("operation", word, OPERATIONS)


Input = Annotated[
    str, typer.Option("--input", "-i", metavar="MATRIX", help="Rows separated by /, or a file.")
]
Kernel = Annotated[str, typer.Option("--kernel", "-k", metavar="MATRIX", help="Like --input.")]
Stride = Annotated[str, typer.Option(metavar="N[,N]", help="Cells from one position to the next.")]
Dilation = Annotated[
    str, typer.Option(metavar="N[,N]", help="Distance between the kernel's cells.")
]
Padding = Annotated[str, typer.Option(metavar="N[,N]", help="Cells added at each end.")]
Scale = Annotated[str | None, typer.Option(metavar="F[,F]", help="Scale factor.", show_default="2")]
Size = Annotated[
    str | None, typer.Option(metavar="N[,N]", help="Output size in cells, instead of --scale.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the numbers as JSON.")]


def register_explain(app: typer.Typer) -> None:
    """Add the group to ``app``."""
    group = typer.Typer(
        cls=_ExplainGroup,
        help=_ABOUT,
        epilog=_EXPLAIN_EXAMPLES,
        no_args_is_help=True,
        subcommand_metavar="(conv|pool|transpose|nearest|bilinear) [OPTIONS] | NET IMAGE [OPTIONS]",
    )
    group.command("conv")(explain_conv)
    group.command("pool")(explain_pool)
    group.command("transpose")(explain_transpose)
    group.command("nearest")(explain_nearest)
    group.command("bilinear")(explain_bilinear)
    group.command("unit", hidden=True)(explain_unit)
    app.add_typer(group, name="explain")


def explain_conv(
    input_: Input = CONV_INPUT,
    kernel: Kernel = CONV_KERNEL,
    stride: Stride = "1",
    padding: Annotated[
        str, typer.Option(metavar="N[,N]|same|valid", help="Cells added at each end.")
    ] = "0",
    padding_mode: Annotated[
        str,
        typer.Option(metavar="zeros|reflect|replicate|circular", help="Values of the added cells."),
    ] = "zeros",
    dilation: Dilation = "1",
    bias: Annotated[float, typer.Option(help="Added to every sum.")] = 0.0,
    flip: Annotated[
        bool, typer.Option("--flip", help="Turn the kernel by 180°: true convolution.")
    ] = False,
    as_json: AsJson = False,
    lang: shared.Language = "en",
) -> None:
    """Slide a kernel over a matrix: each position gives a sum of products."""
    from eyeshot.explanation import read_matrix, walk_conv

    walk = walk_conv(
        read_matrix(input_),
        read_matrix(kernel),
        bias=bias,
        stride=_whole(stride, "--stride"),
        padding=padding if padding.isalpha() else _whole(padding, "--padding"),  # type: ignore[arg-type]
        padding_mode=padding_mode,
        dilation=_whole(dilation, "--dilation"),
        flip=flip,
    )
    _print_walk(walk, as_json)


def explain_pool(
    input_: Input = POOL_INPUT,
    size: Annotated[str, typer.Option(metavar="N[,N]", help="Size of the window.")] = "2",
    mode: Annotated[str, typer.Option(metavar="max|avg", help="Maximum or mean.")] = "max",
    stride: Annotated[
        str | None,
        typer.Option(metavar="N[,N]", help="Steps of the window.", show_default="the size"),
    ] = None,
    padding: Padding = "0",
    dilation: Dilation = "1",
    ceil: Annotated[
        bool, typer.Option("--ceil", help="The last window may reach beyond the end.")
    ] = False,
    exclude_padding: Annotated[
        bool, typer.Option("--exclude-padding", help="Leave padding out of the mean.")
    ] = False,
    as_json: AsJson = False,
    lang: shared.Language = "en",
) -> None:
    """Slide a window over a matrix: each position gives the largest cell or the mean."""
    from eyeshot.explanation import read_matrix, walk_pool

    walk = walk_pool(
        read_matrix(input_),
        _whole(size, "--size"),
        mode=mode,
        stride=None if stride is None else _whole(stride, "--stride"),
        padding=_whole(padding, "--padding"),
        dilation=_whole(dilation, "--dilation"),
        ceil_mode=ceil,
        count_include_pad=not exclude_padding,
    )
    _print_walk(walk, as_json)


def explain_transpose(
    input_: Input = SMALL_INPUT,
    kernel: Kernel = TRANSPOSE_KERNEL,
    stride: Stride = "2",
    padding: Annotated[
        str, typer.Option(metavar="N[,N]", help="Cells removed from each end of the output.")
    ] = "0",
    output_padding: Annotated[
        str,
        typer.Option(metavar="N[,N]", help="Cells added at the bottom and right of the output."),
    ] = "0",
    dilation: Dilation = "1",
    as_json: AsJson = False,
    lang: shared.Language = "en",
) -> None:
    """Transposed convolution: insert zeros between the cells, then apply the turned kernel."""
    from eyeshot.explanation import read_matrix, walk_transpose

    walk = walk_transpose(
        read_matrix(input_),
        read_matrix(kernel),
        stride=_whole(stride, "--stride"),
        padding=_whole(padding, "--padding"),
        output_padding=_whole(output_padding, "--output-padding"),
        dilation=_whole(dilation, "--dilation"),
    )
    _print_walk(walk, as_json)


def explain_nearest(
    input_: Input = SMALL_INPUT,
    scale: Scale = None,
    size: Size = None,
    as_json: AsJson = False,
    lang: shared.Language = "en",
) -> None:
    """Nearest-neighbor up-sampling: every output copies one cell."""
    from eyeshot.explanation import read_matrix, walk_nearest

    _print_walk(walk_nearest(read_matrix(input_), **_target(scale, size)), as_json)


def explain_bilinear(
    input_: Input = SMALL_INPUT,
    scale: Scale = None,
    size: Size = None,
    align_corners: Annotated[
        bool, typer.Option("--align-corners", help="Corner cells keep their positions.")
    ] = False,
    as_json: AsJson = False,
    lang: shared.Language = "en",
) -> None:
    """Bilinear up-sampling: every output is a mean of up to four cells; nearer cells weigh more."""
    from eyeshot.explanation import read_matrix, walk_bilinear

    target = _target(scale, size)
    walk = walk_bilinear(read_matrix(input_), align_corners=align_corners, **target)
    _print_walk(walk, as_json)


def explain_unit(
    net: shared.Net,
    image: Annotated[
        Path | None,
        typer.Argument(metavar="IMAGE", help="A picture, or a signal.", show_default="required"),
    ] = None,
    layer: Annotated[
        str | None, typer.Option(metavar="NAME", help="Name from inspect or see, such as conv2.")
    ] = None,
    unit: Annotated[
        str | None, typer.Option(metavar="C,Y,X", help="Channel, row, column in its map, from 0.")
    ] = None,
    pixels: Annotated[
        bool,
        typer.Option(
            "--pixels",
            help="Divide the number among the pixels; by default the largest score.",
        ),
    ] = False,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="CLASS", help="With --pixels: subtract the score of this class or channel."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE.png", help="With --pixels: a picture of them."),
    ] = None,
    force: shared.Force = False,
    weights: shared.Weights = None,
    series: shared.Series = None,
    index: shared.Index = None,
    as_json: AsJson = False,
    lang: shared.Language = "en",
) -> None:
    """The sum behind one number inside a network, or what each pixel adds to it.

    eyeshot explain runs/digits seven.png --layer conv2 --unit 3,10,12

    eyeshot explain runs/digits seven.png --pixels --against 9 -o why.png
    """
    if not Path(net).exists() and ":" not in net:
        raise BadFile(
            tr("{path}: no such run folder", path=net),
            cure=tr(
                "name a run, file.py:Class, or an operation: {names}", names=", ".join(OPERATIONS)
            ),
        )
    if image is not None and pixels:
        if out is not None:
            check_not_input(out, image)
            check_free(out, force=force)
        explain_pixels(
            net, Asked(image, series, index), layer, unit, against, out, weights, as_json
        )
        return
    if not pixels and (against is not None or out is not None):
        raise BadValue(
            "--out without --pixels" if against is None else "--against without --pixels",
            cure="add --pixels to divide a number among the pixels",
        )
    missing = "IMAGE" if image is None else "--layer" if layer is None else "--unit"
    if image is None or layer is None or unit is None:
        raise BadValue(
            tr("no {option}", option=missing),
            cure=tr(
                "say which number of the network: IMAGE --layer conv2 --unit 3,10,12; eyeshot see "
                "lists the layers"
            ),
        )
    explain_sum(net, Asked(image, series, index), layer, unit, weights, as_json)


def explain_sum(
    net: str, asked: Asked, layer: str, unit: str, weights: Path | None, as_json: bool
) -> None:
    """Print the sum behind one unit of a layer."""
    from eyeshot.explanation import draw_trace, explain
    from eyeshot.nets.unet import place_of

    ready = look(net, asked, weights)
    with warnings_as_notes():
        trace = explain(ready.net, ready.x, layer=layer, unit=_numbers(unit, "--unit"))
    place = place_of(ready.net, layer)
    if place:
        say(f"{layer}: {place}")
    if as_json:
        print_json(trace.to_dict())
    else:
        console.print(draw_trace(trace))


def explain_pixels(
    net: str,
    image: Asked,
    layer: str | None,
    unit: str | None,
    against: str | None,
    out: Path | None,
    weights: Path | None,
    as_json: bool,
) -> None:
    """What each pixel adds to a number: in words or as JSON, and as a picture."""
    from eyeshot.explanation import draw_attribution
    from eyeshot.explanation.attribution import attribute_input, black
    from eyeshot.files import write_aside

    if out is not None and out.suffix.lower() != ".png":
        raise BadValue(f"{out}: the pixels are drawn as a picture", cure="end the name in .png")
    ready = look(net, image, weights)
    classes = ready.run.config.classes if ready.run is not None else ()
    with warnings_as_notes():
        found = attribute_input(
            ready.net,
            ready.x,
            layer=layer,
            unit=None if unit is None else _numbers(unit, "--unit"),
            against=None if against is None else _channel(against, () if layer else classes),
            baseline=None if ready.run is None else black(ready.run),
            classes=classes,
        )
    if out is not None:
        from eyeshot.pictures import draw_shares, png_bytes

        if found.map.ndim != 2 or found.map.shape != ready.picture.shape[:2]:
            raise BadValue(f"{out}: only the pixels of a picture are drawn", cure="leave out --out")
        with write_aside(out) as aside:
            aside.write_bytes(png_bytes(draw_shares(ready.picture, found.map)))
        notes.print(tr("wrote {file}", file=out), soft_wrap=True, markup=False)
    if as_json:
        print_json(found.to_dict())
    else:
        console.print(draw_attribution(found))


def _channel(text: str, classes: Sequence[str]) -> int:
    """A class by its name or number.

    Raises:
        UnknownName: no class has the name.
        BadValue: not a number, and there are no names.
    """
    if text in classes:
        return classes.index(text)
    if text.isdecimal():
        return int(text)
    if classes:
        raise UnknownName("class", text, classes)
    raise BadValue(f"--against {text}", cure="give the number of a class or channel, from 0")


def _print_walk(walk: Walk, as_json: bool) -> None:
    from eyeshot.explanation import draw_walk

    if as_json:
        print_json(walk.to_dict())
    else:
        console.print(draw_walk(walk))


def _target(scale: str | None, size: str | None) -> dict[str, Any]:
    """The up-sampled size for the library; twice as large by default."""
    if size is not None:
        return {"size": _whole(size, "--size"), "scale": _factors(scale) if scale else None}
    return {"scale": _factors(scale or "2")}


def _whole(text: str, option: str) -> int | tuple[int, ...]:
    """``2`` or ``2,1``."""
    numbers = _numbers(text, option)
    return numbers[0] if len(numbers) == 1 else numbers


def _numbers(text: str, option: str) -> tuple[int, ...]:
    if not re.fullmatch(r"\s*-?\d{1,9}(\s*,\s*-?\d{1,9})*\s*", text):
        raise BadValue(
            f"{option} {text!r}", cure="give whole numbers with commas, such as 2 or 2,1"
        )
    return tuple(int(word) for word in text.split(","))


def _factors(text: str) -> float | tuple[float, ...]:
    """``2`` or ``1.5,2``."""
    try:
        factors = tuple(float(word) for word in text.split(","))
    except ValueError:
        raise BadValue(f"--scale {text!r}", cure="give a number, such as 2 or 1.5,2") from None
    return factors[0] if len(factors) == 1 else factors


_SIGNALS = 3  # axes of a batch of them


def see_field(
    where: str, image: Asked, field: str, out: Path | None, json: bool, weights: Path | None
) -> None:
    """Draw the field to a file if ``out`` is set, and print it in numbers.

    Args:
        where: NET: a run folder, or an import path, whose network gets the unchanged picture.
        image: the picture.
        field: ``LAYER:y,x``, of a volume ``LAYER:z,y,x`` and of a signal ``LAYER:x``, or only a
            layer for its middle unit.
        out: a .png file; None to print only the numbers.
        json: print them as JSON.
        weights: the weights for a network of Python code.
    """
    from eyeshot.files import write_aside
    from eyeshot.inspection.page import find_field, parse_place, view_field
    from eyeshot.pictures import png_bytes
    from eyeshot.runs.inputs import SEEN_SIDE

    if out is not None and out.suffix.lower() != ".png":
        raise BadValue(f"{out}: a field is drawn as a picture", cure="end the name in .png")
    layer, unit = parse_place(field)
    seen_by = look(where, image, weights, side=SEEN_SIDE)
    if seen_by.x.ndim == _SIGNALS:
        if out is not None:
            raise BadValue(f"{out}: the field in a signal is not drawn", cure="leave out --out")
        seen = find_field(seen_by.net, seen_by.x, layer, unit)
    else:
        drawn, seen = view_field(seen_by.net, seen_by.x, seen_by.picture, layer, unit)
    if out is not None:
        with write_aside(out) as aside:
            aside.write_bytes(png_bytes(drawn))
        notes.print(tr("wrote {file}", file=out), soft_wrap=True, markup=False)
    if json:
        print_json(seen.to_dict())
    else:
        print(seen)
