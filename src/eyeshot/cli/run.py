"""``eyeshot run``: a network over an image of any size, exactly."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from eyeshot.cli import net_options
from eyeshot.cli import run_options as options
from eyeshot.cli.extents import tell_sizes
from eyeshot.cli.output import console, notes, print_json, say, warn
from eyeshot.cli.spelling import options_named
from eyeshot.errors import BadValue

if TYPE_CHECKING:
    from torch import nn

    from eyeshot.engine.executing import Report
    from eyeshot.engine.jobs import Job
    from eyeshot.images import Source
    from eyeshot.runs import Run

_EPILOG = """
[b]Examples[/b]

eyeshot run net.py:UNet slide.tif -o mask.tif --as argmax --memory 2GB

eyeshot run runs/cells slide.ome.tif -o mask.zarr --level 1 --resume

eyeshot run net.py:UNet slide.tif -o mask.tif --weights trained.safetensors

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
    net: net_options.Net,
    image: options.Images,
    out: options.Outs = None,
    weights: net_options.Weights = None,
    form: options.Form = "scores",
    memory: options.Memory = None,
    region: options.Region = None,
    level: options.Level = 0,
    layout: options.Layout = None,
    series: options.Series = None,
    index: options.Index = None,
    raw: options.Raw = False,
    white: options.White = None,
    pad: options.Pad = None,
    per_slice: options.PerSlice = False,
    band: options.Band = None,
    device: options.Device = None,
    plan: options.PlanOnly = False,
    resume: options.Resume = False,
    force: options.Force = False,
    json: options.Json = False,
) -> None:
    """Run a network over an image of any size: the whole pass's answer, in bounded memory."""
    from eyeshot.inspection.locating import locate_runnable

    if not plan and not out:
        raise BadValue("no output", cure="name one with -o, or ask for --plan")
    box = None if region is None else parse_region(region)
    chosen = {"level": level, "layout": layout, "series": series, "index": index}
    files = _Files(image, out or [], chosen, resume=resume, force=force, per_slice=per_slice)
    if not plan:
        _check_outs(files)
    settings = {"form": form, "region": box, "band": band, "raw": raw, "white": white}
    settings |= {"pad": pad, "device": device}
    with options_named({"form": "--as"}), ExitStack() as stack:
        network = locate_runnable(net, say, weights, None if plan else warn)
        _check_inputs(network, image)
        job, slices = _settle(stack, network, files, memory, settings)
        if plan:
            _show_plan(job, json)
        else:
            _carry_out(stack, job, slices, files, json)


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


@dataclass(frozen=True)
class _Files:
    """What is read and how, what is written and how."""

    images: list[Path]
    outs: list[Path]
    chosen: dict[str, Any]
    resume: bool
    force: bool
    per_slice: bool


def _check_outs(files: _Files) -> None:
    """Refuse what cannot be written before the seconds that it takes to load a network."""
    from eyeshot.images import check_target

    for out in files.outs:
        check_target(out, force=files.force, resume=files.resume, inputs=files.images)


def _check_inputs(network: nn.Module | Run, images: list[Path]) -> None:
    """Refuse several images for a network of one input: each image is a run of its own.

    Raises:
        BadValue: there are more images than ``forward`` takes.
    """
    from inspect import Parameter, signature

    from torch import nn

    net = network if isinstance(network, nn.Module) else network.net
    taken = list(signature(net.forward).parameters.values())
    if any(one.kind is Parameter.VAR_POSITIONAL for one in taken):
        return
    most = sum(one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD) for one in taken)
    if 0 < most < len(images):
        takes = "one image" if most == 1 else f"{most} images, one for each input"
        raise BadValue(
            f"{len(images)} images ({images[0]}, {images[1]} …), and the network takes {takes}",
            cure="run the command for each image, with an output of its own",
        )


def _settle(
    stack: ExitStack,
    network: nn.Module | Run,
    files: _Files,
    memory: str | None,
    settings: dict[str, Any],
) -> tuple[Job, list[Source] | None]:
    """Everything that is known before the run begins; the images stay open as long as ``stack``."""
    from eyeshot.engine.jobs import make_job
    from eyeshot.engine.resuming import look_up
    from eyeshot.engine.running import opened, parse_bytes
    from eyeshot.engine.slices import slices_of

    allowed, chosen = parse_bytes(memory), {**files.chosen, "per_slice": files.per_slice}
    sources = [stack.enter_context(opened(path, network, **chosen)) for path in files.images]
    slices = slices_of(sources) if files.per_slice else None
    if slices is not None:
        sources = slices[:1]
    begun = look_up(files.outs) if files.resume else None
    outs = None if files.per_slice else files.outs  # a slice's answer is held
    job = make_job(network, sources, memory=allowed, outs=outs, begun=begun, **settings)
    return job, slices


def _carry_out(
    stack: ExitStack, job: Job, slices: list[Source] | None, files: _Files, json: bool
) -> None:
    from eyeshot.engine.running import carry_out, finish, open_sinks

    for source in job.sources.values():
        stated = f"{source.name}: {source.layout}; {job.preparation.stated(source.dtype)}"
        notes.print(stated, markup=False, soft_wrap=True)
        for note in source.notes:
            notes.print(f"{source.name}: {note}", markup=False, soft_wrap=True)
    for line in tell_sizes(job):
        notes.print(line, markup=False, soft_wrap=True)
    options = {"force": files.force, "resume": files.resume}
    sinks = open_sinks(job, files.outs, files.images, slices, **options)
    for sink in sinks.values():
        stack.enter_context(sink)
    with _Bar(job) as bar:
        report = carry_out(job, sinks, slices, bar.update)
    results = [str(result) for result in finish(job, sinks).values()]
    _show_report(job, report, results, json)


def _show_plan(job: Job, json: bool) -> None:
    from eyeshot.engine.outputs import layout_of
    from eyeshot.engine.trial import predicted_seconds
    from eyeshot.planning.text import render

    seconds = predicted_seconds(job)
    if json:
        images = [source.to_dict() for source in job.sources.values()]
        layouts = {name: layout_of(job.graph, name) for name in job.forms}
        more = {"images": images, "layouts": layouts, "predicted_seconds": seconds}
        print_json({**job.plan.to_dict(), **more})
        return
    for source in job.sources.values():
        console.print(f"image        {source.name}: {source.layout}", markup=False, soft_wrap=True)
        for note in source.notes:
            console.print(f"             {note}", markup=False, soft_wrap=True)
    for line in tell_sizes(job):
        console.print(line, markup=False, soft_wrap=True)
    console.print(render(job.plan, seconds, {name: _answer(job, name) for name in job.forms}))


def _answer(job: Job, name: str) -> str:
    """An output's region, in its own axes, and how its array lies."""
    from eyeshot.engine.outputs import layout_of

    arrangement = job.arrangement(name)
    sides = [job.plan.regions[name][axis] for axis in arrangement.space]
    region = " x ".join(f"{side.lo}:{side.hi}" for side in sides) or "whole"
    sizes = " x ".join(map(str, arrangement.sizes)) or "1"
    return f"{name}, {region}; {sizes} ({layout_of(job.graph, name)})"


def _show_report(job: Job, report: Report, results: list[str], json: bool) -> None:
    from eyeshot.findings.wording import counted
    from eyeshot.planning.band_plan import megabytes

    for note in report.notes:
        warn(note)
    if json:
        print_json(
            {
                "outputs": results,
                "images": [source.to_dict() for source in job.sources.values()],
                "notes": list(report.notes),
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
        f"{counted(len(job.plan.strips), 'strip')} of bands of {job.plan.band} rows; peak "
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
