"""``eyeshot run`` and ``filter``: a network or one kernel over an image, with their options.

A network runs over an image of any size, exactly; a kernel is laid on a picture file.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

import eyeshot
from eyeshot.cli import shared
from eyeshot.cli.shared import (
    Force,
    Index,
    Series,
    console,
    notes,
    options_named,
    print_json,
    say,
    warn,
    warnings_as_notes,
)
from eyeshot.errors import BadValue, Failure
from eyeshot.files import check_free, check_not_input
from eyeshot.language import mark, ntr, tr

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from eyeshot import Plan, Run, RunReport
    from eyeshot.filters import Alpha, Padding, Range

_EPILOG = """
[b]Examples[/b]

eyeshot run net.py:UNet slide.tif -o mask.tif --as argmax --memory 2GB

eyeshot run runs/cells slide.ome.tif -o mask.zarr --level 1 --resume

eyeshot run net.py:UNet slide.tif -o mask.tif --weights trained.safetensors

eyeshot run net.py:UNet slide.ome.tif -o mask.ome.tif --as argmax

eyeshot run net.py:UNet slide.tif -o scores.ome.zarr --shard 4096

eyeshot run net.py:UNet https://example.org/slide.ome.zarr -o mask.ome.zarr --as argmax

eyeshot run net.py:UNet slide.tif --plan

eyeshot run net.py:NormUNet slide.tif -o mask.tif --memory 2GB --scratch /fast/disk:50GB

eyeshot run net.py:UNet slide.tif -o part.npy --region 1000:3000,0:2048

eyeshot run net.py:UNet slide.tif -o mask.tif --as argmax --where tissue.geojson --fill 255

eyeshot run net.py:UNet slide.zarr -o mask.zarr --as argmax --workers 16

eyeshot run runs/cells slide.tif -o mask.tif --as argmax --flips all --memory 4GB

The output equals one pass over the whole image, up to rounding. An import path runs that file's
code. Whole-number samples are scaled to 0 … 1 (not with --raw); a run folder uses its own mean and
deviation.
"""


def register_run(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("run", epilog=_EPILOG)(run_net)


def run_net(
    net: shared.Net,
    image: Images,
    out: Outs = None,
    weights: shared.Weights = None,
    form: Form = "scores",
    memory: Memory = None,
    scratch: Scratch = None,
    region: Region = None,
    level: Level = 0,
    layout: Layout = None,
    series: shared.Series = None,
    index: shared.Index = None,
    raw: Raw = False,
    white: White = None,
    pad: Pad = None,
    flips: Flips = None,
    precision: Precision = None,
    exact: Exact = None,
    per_slice: PerSlice = False,
    band: Band = None,
    device: Device = None,
    output_name: OutputNames = None,
    where: Where = None,
    fill: Fill = 0.0,
    blank: Blank = None,
    shard: Shard = None,
    workers: Workers = None,
    scheduler: Scheduler = None,
    retries: Retries = 3,
    plan: PlanOnly = False,
    resume: Resume = False,
    force: Replace = False,
    json: Json = False,
) -> None:
    """Run a network over an image of any size, exactly, in bounded memory."""
    from eyeshot.inspection.locating import locate_runnable

    if not plan and not out:
        raise BadValue(tr("no output"), cure=tr("name one with -o, or ask for --plan"))
    settings: dict[str, Any] = {
        "output_format": form,
        "region": None if region is None else parse_region(region),
        "memory": memory,
        "scratch": scratch,
        "band": band,
        "level": level,
        "layout": layout,
        "series": series,
        "index": index,
        "raw": raw,
        "white": white,
        "pad": pad,
        "flips": flips,
        "precision": precision,
        "exact": exact,
        "per_slice": per_slice,
        "device": device,
        "outputs": output_name or None,
        "where": where,
        "fill": fill,
        "shard": shard,
        "resume": resume,
    }
    outs = out or []
    if not plan:
        _check_outs(outs, image, force=force, resume=resume)
    if workers is not None or scheduler is not None:  # before processes are started
        from eyeshot.engine.cluster_plan import check_cluster_run

        check_cluster_run(outs, image, per_slice=per_slice)
    with options_named({"output_format": "--as"}), _cluster(workers, scheduler) as client:
        network = locate_runnable(net, say, weights, None if plan else warn)
        _check_inputs(network, image)
        settings["client"] = client
        if plan:
            _show_plan(eyeshot.plan(network, image, outs, **settings), json)
        else:
            more = {"force": force, "blank": blank, "retries": retries}
            _run(network, image, outs, settings | more, json)


@contextmanager
def _cluster(workers: int | None, scheduler: str | None) -> Iterator[Any]:
    """A client of the cluster that is asked for; None without one."""
    if workers is not None and scheduler is not None:
        raise BadValue("--workers with --scheduler", cure="use one of the two")
    if workers is None and scheduler is None:
        yield None
        return
    from eyeshot.engine.cluster_workers import connected, local_cluster

    made = connected(scheduler) if scheduler is not None else local_cluster(workers or 1)
    with made as client:
        yield client


def parse_region(text: str) -> list[tuple[int, int]]:
    """``1000:3000,0:2048`` as ranges.

    Raises:
        BadValue: it is something else.
    """
    try:
        pairs = [part.split(":") for part in text.split(",")]
        return [(int(lo), int(hi)) for lo, hi in pairs]
    except ValueError:
        raise BadValue(f"--region {text}", cure="give rows and columns: 0:512,0:512") from None


def _check_outs(outs: list[Path], images: list[Path | str], *, force: bool, resume: bool) -> None:
    """Refuse an output that cannot be written before loading the network, which takes seconds."""
    inputs = [one for one in images if isinstance(one, Path)]
    for out in outs:
        eyeshot.images.check_target(out, force=force, resume=resume, inputs=inputs)


def _check_inputs(network: nn.Module | Run, images: list[Path | str]) -> None:
    """Refuse several images for a network with one input: each image needs a separate run.

    Raises:
        BadValue: there are more images than ``forward`` takes.
    """
    from inspect import Parameter, signature

    from torch import nn

    net = network if isinstance(network, nn.Module) else network.net
    parameters = list(signature(net.forward).parameters.values())
    if any(one.kind is Parameter.VAR_POSITIONAL for one in parameters):
        return
    most = sum(one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD) for one in parameters)
    if 0 < most < len(images):
        takes = "one image" if most == 1 else f"{most} images, one for each input"
        raise BadValue(
            f"{len(images)} images ({images[0]}, {images[1]} …), and the network takes {takes}",
            cure="run the command once for each image, each with its own output",
        )


def _run(
    network: nn.Module | Run, images: list[Path | str], outs: list[Path], settings: Any, json: bool
) -> None:
    with warnings_as_notes(), _Bar() as bar:
        found = eyeshot.run(
            network, images, outs, planned=bar.begin, progress=bar.update, **settings
        )
    if bar.plan is None or bar.report is None:
        raise Failure("the run ended without a report")
    listed = found if isinstance(found, list) else [found]
    results = [str(one) for one in listed if isinstance(one, str | Path)]
    if len(results) < len(listed):
        say(f"{len(listed) - len(results)} of what forward returns is constant, and not written")
    _show_report(bar.plan, bar.report, results, json)


def _show_plan(plan: Plan, json: bool) -> None:
    if json:
        print_json(plan.to_dict())
        return
    for line in plan.lines:
        console.print(line, markup=False, soft_wrap=True)
    console.print(plan.table())


def _show_report(plan: Plan, report: RunReport, results: list[str], json: bool) -> None:
    from eyeshot.language import scaled
    from eyeshot.planning.band_plan import megabytes

    if json:
        print_json(
            {
                "outputs": results,
                "images": plan.to_dict()["images"],
                "notes": list(report.notes),
                **({"rounding": report.rounding} if report.rounding else {}),
                "seconds": report.seconds,
                "megapixels": report.megapixels,
                "megapixels_per_second": report.speed,
                "multiply_adds": report.multiply_adds,
                "planned_multiply_adds": plan.bands.multiply_adds,
                "blank": report.blank,
                "outside": report.outside,
                "peak_bytes": report.peak,
                "predicted_peak_bytes": plan.bands.peak,
                "band_rows": plan.bands.band,
                "strips": len(plan.bands.strips),
                **({} if plan.cluster is None else {"cluster": plan.cluster.to_dict()}),
            }
        )
        return
    if plan.cluster is None:
        cut = ntr(
            "{n} strip of bands of {band} rows; peak {peak}",
            "{n} strips of bands of {band} rows; peak {peak}",
            len(plan.bands.strips),
            band=plan.bands.band,
            peak=megabytes(report.peak),
        )
    else:
        cut = ntr(
            "{n} block; peak of a worker {peak}",
            "{n} blocks; peak of a worker {peak}",
            plan.cluster.count,
            peak=megabytes(report.peak),
        )
    if report.rounding:
        notes.print(report.rounding, soft_wrap=True)
    notes.print(
        tr(
            "{size} megapixels in {seconds:.1f} s ({speed:.2f} MP/s), {cut}, predicted "
            "{predicted}; {work} multiply-adds, planned {planned}",
            size=f"{report.megapixels:{'.2f' if report.megapixels >= 0.1 else '.2g'}}",
            seconds=report.seconds,
            speed=report.speed,
            cut=cut,
            predicted=megabytes(plan.bands.peak),
            work=scaled(report.multiply_adds),
            planned=scaled(plan.bands.multiply_adds),
        ),
        soft_wrap=True,
    )
    if report.blank:
        text = mark("{part:.1%} of the output is blank: computed once and copied")
        say(tr(text, part=report.blank))
    if report.outside:
        text = mark("{part:.1%} of the output is outside of --where, and not computed")
        say(tr(text, part=report.outside))
    for result in results:
        console.print(result, markup=False, soft_wrap=True)


class _Bar:
    """A progress bar on a terminal; elsewhere a plain line every few seconds."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self.plan: Plan | None = None
        self.report: RunReport | None = None
        self._live = notes.is_terminal
        self._said = 0.0
        self._bar = Progress(
            TextColumn(tr("running")),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(),
            console=notes,
            disable=not self._live,
            transient=True,
        )
        self._task = self._bar.add_task("rows", total=None, speed="")

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def begin(self, plan: Plan) -> None:
        """Print the images and notes of the plan, and start the bar."""
        self.plan = plan
        for image in plan.images:
            read = tr("{layout}; {samples}", layout=image.layout, samples=image.samples)
            say(tr("{file}: {note}", file=image.name, note=read))
            for note in image.notes:
                say(tr("{file}: {note}", file=image.name, note=note))
        for line in (*plan.notes, *(plan.cluster.lines if plan.cluster is not None else ())):
            say(line)
        self._bar.start()

    def update(self, report: RunReport) -> None:
        """After each band."""
        self.report = report
        speed = f"{report.speed:.2f} MP/s"
        if self._live:
            self._bar.update(self._task, completed=report.rows, total=report.all_rows, speed=speed)
        elif report.seconds - self._said > 5:
            self._said = report.seconds
            notes.print(
                tr(
                    "{progress}, {speed}, about {seconds:.0f} s left",
                    progress=report.progress,
                    speed=speed,
                    seconds=report.seconds_left,
                ),
                soft_wrap=True,
            )


def _image(text: str) -> Path | str:
    """A path, or a URL as it is: a path would lose one of its slashes."""
    from eyeshot.images.sources import is_url

    return text if is_url(text) else Path(text)


Images = Annotated[
    list[Any],
    typer.Argument(
        metavar="IMAGE…",
        parser=_image,
        help="PNG, JPEG, TIFF, BMP, WebP, GIF, .npy or Zarr (also a URL); one for each input.",
    ),
]
Outs = Annotated[
    list[Path] | None,
    typer.Option(
        "--out",
        "-o",
        metavar="OUT",
        help=".npy, .png, .tif or .zarr; .ome.zarr or .ome.tif with a pyramid.",
    ),
]
Form = Annotated[
    str,
    typer.Option(
        "--as",
        metavar="FORM",
        help="scores, float32, probabilities, argmax, threshold:0.5 or uint8.",
    ),
]
Memory = Annotated[
    str | None, typer.Option(metavar="SIZE", help="Memory limit of the process, such as 2GB.")
]
Scratch = Annotated[
    str | None,
    typer.Option(
        metavar="DIR[:SIZE]",
        help="Folder for maps that wait for a later pass and do not fit into memory; none: compute "
        "them again instead. Default: beside OUT.",
    ),
]
Region = Annotated[
    str | None, typer.Option(metavar="Y0:Y1,X0:X1", help="Only this part of the output.")
]
Level = Annotated[int, typer.Option(metavar="N", help="Level of a pyramid; 0 is the largest.")]
Layout = Annotated[
    str | None, typer.Option(metavar="AXES", help="Order of the image's axes: HW, HWC, CHW …")
]
Raw = Annotated[bool, typer.Option("--raw", help="Do not scale whole-number samples.")]
White = Annotated[
    float | None,
    typer.Option(
        metavar="SAMPLE",
        help="The whole-number sample that becomes 1, such as 4095; default: the type's largest.",
    ),
]
PerSlice = Annotated[
    bool,
    typer.Option("--per-slice", help="Run a stack slice by slice; OUT is a stack (.npy or .zarr)."),
]
Pad = Annotated[
    str | None,
    typer.Option(
        metavar="reflect|edge|zero",
        help="Pad the image to a size that the network accepts, and crop the output.",
    ),
]
Flips = Annotated[
    str | None,
    typer.Option(
        metavar="all|h,w,hw,…",
        help="Average the scores over the image and its flips along these axes (d, h, w); all: "
        "the three flips of the plane.",
    ),
]
Precision = Annotated[
    str | None,
    typer.Option(
        metavar="bf16",
        help="Compute in bfloat16, about 1.5 times as fast on processors with units for it; how "
        "far that is from the network's own precision is measured on a crop and printed.",
    ),
]
Exact = Annotated[
    str | None,
    typer.Option(
        metavar="1e-5|direct",
        help="1e-5, the default, saves multiplications in 3x3 convolutions of many channels and "
        "stays within this share of the largest output; direct: every sum as it is defined.",
    ),
]
Band = Annotated[int | None, typer.Option(metavar="ROWS", min=1, help="Rows that enter together.")]
Where = Annotated[
    Path | None,
    typer.Option(
        metavar="MASK",
        help="Compute only here: a mask picture of any size, or polygons as GeoJSON.",
    ),
]
Fill = Annotated[
    float, typer.Option(metavar="SAMPLE", help="The output's sample outside of --where.")
]
Blank = Annotated[
    bool | None,
    typer.Option(
        "--blank/--no-blank",
        help="Compute a blank region once and copy it; default: if the image and NET are large.",
    ),
]
Shard = Annotated[
    int | None,
    typer.Option(
        metavar="SIDE",
        min=1,
        help="Zarr: files of SIDE pixels a side, such as 4096, in place of one for each chunk.",
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, help="Compute in N processes of one thread; OUT is .zarr."),
]
Scheduler = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="Compute on the workers of a Dask scheduler, such as tcp://host:8786; OUT is .zarr.",
    ),
]
Retries = Annotated[
    int,
    typer.Option(
        metavar="N", min=0, help="With workers: how often a block that fails is tried again."
    ),
]
Device = Annotated[str | None, typer.Option(metavar="cpu|cuda", help="Where to run.")]
OutputNames = Annotated[
    list[str] | None,
    typer.Option(
        "--output-name",
        metavar="NAME",
        help="Compute only this output: the key of a dict, or the field or the place of a tuple "
        "(0, aux.mask). Repeat it, in the order of -o.",
    ),
]
PlanOnly = Annotated[bool, typer.Option("--plan", help="Print the plan, and do not run.")]
Resume = Annotated[
    bool, typer.Option("--resume", help="Continue an unfinished run with the same settings.")
]
Replace = Annotated[bool, typer.Option("--force", help="Replace an existing output.")]
Json = Annotated[bool, typer.Option("--json", help="Print the plan or the figures as JSON.")]


_WHOLE_NUMBERS_ONLY = {".png", ".jpg", ".jpeg", ".bmp"}

_FILTER_EPILOG = """
[b]Examples[/b]

eyeshot filter photo.jpg --kernel sobel -o edges.png

eyeshot filter photo.jpg --kernel mean:15 --padding reflect -o soft.png

eyeshot filter photo.jpg --kernel my_kernel.txt --range rescale -o out.png

eyeshot filter scan.tif --kernel laplacian --range keep -o signed.tif

eyeshot filter photo.jpg --kernel "1 2 1 / 0 0 0 / -1 -2 -1" --range rescale -o out.png

A kernel file has one row of numbers per line, such as  1/9 1/9 1/9 ; # starts a comment.
"""


def register_filter(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("filter", epilog=_FILTER_EPILOG)(filter_picture)


def _print_kernels(value: bool) -> None:
    if not value:
        return
    from eyeshot.filters import RECIPES

    for name, recipe in RECIPES.items():
        size = f"{recipe.size}, or NAME:SIZE" if recipe.sized else f"{recipe.size}"
        print(f"{name:<10}  {size:<15}  {recipe.about}")
    raise typer.Exit


def _check_suffix(out: Path, result: np.dtype[Any], source: np.dtype[Any]) -> None:
    """Refuse to write floats to a format for whole numbers."""
    if result.kind == "f" and out.suffix.lower() in _WHOLE_NUMBERS_ONLY:
        cure = "write .tif or .npy"
        if source.kind == "u":
            cure += ", or use --range clip or rescale"
        raise BadValue(f"{out}: the result is {result}, which {out.suffix} cannot hold", cure=cure)


def filter_picture(
    image: Annotated[Path, typer.Argument(help="The picture: PNG, JPEG, TIFF, NPY.")],
    kernel: Annotated[
        str,
        typer.Option("--kernel", "-k", metavar="NAME[:SIZE]|FILE|ROWS", help="See --list."),
    ],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="OUT", help="Output file; the suffix sets the format."),
    ],
    padding: Annotated[
        str,
        typer.Option(
            metavar="same|valid|reflect|replicate|circular",
            help="Values outside the picture; same: zeros; valid: only whole patches.",
        ),
    ] = "same",
    range_: Annotated[
        str | None,
        typer.Option(
            "--range",
            metavar="clip|rescale|keep",
            help="Results out of range: clip them, rescale all, or keep floats.",
            show_default="clip; keep for float pictures",
        ),
    ] = None,
    convolve: Annotated[
        bool,
        typer.Option(
            "--convolve", help="Turn the kernel by 180° (true convolution, not cross-correlation)."
        ),
    ] = False,
    alpha: Annotated[
        str | None,
        typer.Option(
            metavar="keep|filter",
            help="The last of 2 or 4 channels: keep it as alpha, or filter it.",
            show_default="as the file says",
        ),
    ] = None,
    series: Series = None,
    index: Index = None,
    force: Force = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print no summary.")] = False,
    _list: Annotated[
        bool,
        typer.Option(
            "--list", callback=_print_kernels, is_eager=True, help="List the kernels and stop."
        ),
    ] = False,
) -> None:
    """Apply a kernel to a picture, separately for each color; alpha does not change."""
    from eyeshot import images
    from eyeshot.filters import carry_out, make_plan, resolve

    check_not_input(out, image)
    kernels = resolve(kernel)  # report a wrong name before reading a large picture
    opened = images.read_picture(image, series=series, index=index)
    picture = opened.samples
    try:
        plan = make_plan(
            picture,
            kernels,
            padding=cast("Padding", padding),
            range=cast("Range | None", range_),
            convolve=convolve,
            alpha=cast("Alpha", alpha or ("keep" if opened.alpha else "filter")),
        )
    except BadValue as error:
        raise error.at(str(image)) from error
    _check_suffix(out, plan.result, picture.dtype)
    check_free(out, force=force)
    images.write(out, carry_out(plan, picture), alpha=plan.alpha)
    if not quiet:
        for note in opened.notes:
            notes.print(tr("{file}: {note}", file=image, note=note), markup=False, soft_wrap=True)
        notes.print(f"{out}: {plan}", markup=False, soft_wrap=True)
