"""``eyeshot run``: a network over an image of any size, exactly."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eyeshot.cli.output import console, notes, print_json
from eyeshot.errors import BadValue

if TYPE_CHECKING:
    from eyeshot.engine.executing import Report
    from eyeshot.engine.jobs import Job

_EPILOG = """
[b]Examples[/b]

eyeshot run net.py:UNet slide.tif -o mask.tif --as argmax --memory 2GB

eyeshot run runs/cells slide.ome.tif -o mask.zarr --level 1 --resume

eyeshot run net.py:UNet slide.tif --plan

eyeshot run net.py:UNet slide.tif -o part.npy --region 1000:3000,0:2048

The answer is that of one pass over the whole image, to rounding. An import path runs that file's
code. Whole-number samples are scaled to 0 … 1 (--raw leaves them); a run brings its own mean and
deviation.
"""


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("run", epilog=_EPILOG)(run_net)


def run_net(
    net: Annotated[
        str,
        typer.Argument(
            metavar="NET", help="A run folder, file.py:Class, or package.module:callable."
        ),
    ],
    image: Annotated[
        list[Path],
        typer.Argument(metavar="IMAGE…", help="PNG, JPEG, TIFF, .npy or Zarr; one for each input."),
    ],
    out: Annotated[
        list[Path] | None,
        typer.Option("--out", "-o", metavar="OUT", help=".npy, .png, .tif or .zarr."),
    ] = None,
    form: Annotated[
        str,
        typer.Option(
            "--as",
            metavar="FORM",
            help="float32, probabilities, argmax, threshold:0.5 or uint8.",
        ),
    ] = "float32",
    memory: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="The most the process may hold, such as 2GB."),
    ] = None,
    region: Annotated[
        str | None,
        typer.Option(metavar="Y0:Y1,X0:X1", help="This part of the output alone."),
    ] = None,
    level: Annotated[int, typer.Option(metavar="N", help="Of a pyramid; 0 is the largest.")] = 0,
    layout: Annotated[
        str | None,
        typer.Option(metavar="AXES", help="What the image's axes mean: HW, HWC, CHW …"),
    ] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Whole-number samples as they are.")] = False,
    band: Annotated[
        int | None, typer.Option(metavar="ROWS", min=1, help="Rows that enter at a time.")
    ] = None,
    device: Annotated[str | None, typer.Option(metavar="cpu|cuda", help="Where to run.")] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Print what would happen, and do nothing.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an unfinished run of the same settings.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an output that exists.")] = False,
    json: Annotated[bool, typer.Option("--json", help="The plan or the figures as JSON.")] = False,
) -> None:
    """Run a network over an image of any size: the whole pass's answer, in bounded memory."""
    if not plan and not out:
        raise BadValue("no output", cure="name one with -o, or ask for --plan")
    if memory is not None:
        from eyeshot.engine.running import parse_bytes

        parse_bytes(memory)
    options: dict[str, Any] = {
        "form": form,
        "region": None if region is None else parse_region(region),
        "band": band,
        "raw": raw,
        "device": device,
    }
    _run(net, image, out or [], options, memory, (level, layout), (plan, resume, force, json))


def parse_region(text: str) -> list[tuple[int, int]]:
    """``1000:3000,0:2048`` as ranges.

    Raises:
        BadValue: it is no such thing.
    """
    try:
        pairs = [part.split(":") for part in text.split(",")]
        return [(int(lo), int(hi)) for lo, hi in pairs]
    except ValueError:
        raise BadValue(f"--region {text}", cure="give rows and columns: 0:512,0:512") from None


def _run(
    net: str,
    images: list[Path],
    outs: list[Path],
    options: dict[str, Any],
    memory: str | None,
    reading: tuple[int, str | None],
    flags: tuple[bool, bool, bool, bool],
) -> None:
    from contextlib import ExitStack

    from eyeshot.engine.executing import execute
    from eyeshot.engine.jobs import make_job
    from eyeshot.engine.resuming import look_up
    from eyeshot.engine.running import finish, open_sinks, opened, parse_bytes
    from eyeshot.inspection.locating import locate_runnable

    plan_only, resume, force, json = flags
    network = locate_runnable(net, lambda line: notes.print(line, markup=False, soft_wrap=True))
    with ExitStack() as stack:
        sources = [stack.enter_context(opened(path, network, *reading)) for path in images]
        begun = look_up(outs) if resume else None
        job = make_job(network, sources, memory=parse_bytes(memory), begun=begun, **options)
        if plan_only:
            _show_plan(job, json)
            return
        for source in sources:
            stated = f"{source.name}: {source.layout}; {job.preparation.stated(source.dtype)}"
            notes.print(stated, markup=False, soft_wrap=True)
        sinks = open_sinks(job, outs, images, force=force, resume=resume)
        for sink in sinks.values():
            stack.enter_context(sink)
        with _Bar(job) as bar:
            report = execute(job, sinks, bar.update)
        results = [finish(job, name, sink) for name, sink in sinks.items()]
    _show_report(job, report, [str(result) for result in results], json)


def _show_plan(job: Job, json: bool) -> None:
    from eyeshot.engine.trial import predicted_seconds
    from eyeshot.plan.text import render

    seconds = predicted_seconds(job)
    if json:
        print_json({**job.plan.as_dict(), "predicted_seconds": seconds})
        return
    for source in job.sources.values():
        console.print(f"image        {source.name}: {source.layout}", markup=False, soft_wrap=True)
    console.print(render(job.plan, seconds))


def _show_report(job: Job, report: Report, results: list[str], json: bool) -> None:
    from eyeshot.plan.planning import megabytes

    if json:
        print_json(
            {
                "outputs": results,
                "seconds": report.seconds,
                "megapixels": report.megapixels,
                "megapixels_per_second": report.speed,
                "multiply_adds": report.multiply_adds,
                "planned_multiply_adds": job.plan.multiply_adds,
                "peak_bytes": report.peak,
                "predicted_peak_bytes": job.plan.peak,
                "band_rows": job.plan.band,
                "strips": len(job.plan.strips),
            }
        )
        return
    notes.print(
        f"{report.megapixels:.2f} megapixels in {report.seconds:.1f} s ({report.speed:.2f} MP/s), "
        f"{len(job.plan.strips)} strip(s) of bands of {job.plan.band} rows; peak "
        f"{megabytes(report.peak)}, predicted {megabytes(job.plan.peak)}; "
        f"{report.multiply_adds / 1e9:,.2f} G multiply-adds, "
        f"planned {job.plan.multiply_adds / 1e9:,.2f} G",
        soft_wrap=True,
    )
    for result in results:
        console.print(result, markup=False, soft_wrap=True)


class _Bar:
    """A live bar on a terminal; elsewhere a plain line every few seconds."""

    def __init__(self, job: Job) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._live = notes.is_terminal
        self._said = 0.0
        self._bar = Progress(
            TextColumn("running"),
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
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def update(self, report: Report) -> None:
        """After each band."""
        speed = f"{report.speed:.2f} MP/s"
        if self._live:
            self._bar.update(self._task, completed=report.rows, total=report.all_rows, speed=speed)
        elif report.seconds - self._said > 5:
            self._said = report.seconds
            left = report.seconds * (report.all_rows - report.rows) / max(1, report.rows)
            notes.print(
                f"{report.rows} of {report.all_rows} rows, {speed}, about {left:.0f} s left",
                soft_wrap=True,
            )
