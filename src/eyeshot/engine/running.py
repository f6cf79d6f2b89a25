"""A network over an image of any size: read by bands, computed once, written in order."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from eyeshot.axes import Interval
from eyeshot.engine.jobs import Job, make_job
from eyeshot.engine.memory import peak, reset_peak
from eyeshot.engine.networks import Network, as_traced
from eyeshot.engine.operators.windows import cut
from eyeshot.engine.stream import Stream
from eyeshot.errors import BadValue
from eyeshot.geometry import Region, required
from eyeshot.graph import Node
from eyeshot.images import Sink, Source, open_sink, open_source
from eyeshot.plan.planning import fed


@dataclass(frozen=True, slots=True)
class Report:
    """How far a run has come; the last one says what it cost.

    Attributes:
        rows: output rows written, over all strips.
        all_rows: and how many there are.
        megapixels: positions of the input read.
        seconds: since the start.
        multiply_adds: spent.
        peak: the most bytes the process has held.
    """

    rows: int
    all_rows: int
    megapixels: float
    seconds: float
    multiply_adds: int
    peak: int

    @property
    def speed(self) -> float:
        """Megapixels of input a second."""
        return self.megapixels / self.seconds if self.seconds else 0.0


Progress = Callable[[Report], None]


def run(
    net: Network,
    image: Any,
    out: Any = None,
    *,
    form: str = "float32",
    region: Sequence[tuple[int, int]] | None = None,
    memory: int | str | None = None,
    band: int | None = None,
    level: int = 0,
    layout: str | None = None,
    raw: bool = False,
    device: str | None = None,
    force: bool = False,
    resume: bool = False,
    progress: Progress | None = None,
) -> Any:
    """What ``net(image)`` would give on a machine that is large enough.

    Args:
        net: a network in eval mode, a trained run (``eyeshot.runs.load``), or one that keeps what
            was traced (``eyeshot.trace``), for many images while the weights change.
        image: an array (C, H, W), (H, W) or (H, W, C), a tensor, or a path to PNG, JPEG, TIFF,
            ``.npy`` or Zarr; a list of them for a network of several inputs.
        out: None to get arrays; or a path (``.npy``, ``.png``, ``.tif``, ``.zarr``) or an array;
            a list of them for a network of several outputs.
        form: ``float32``, ``probabilities``, ``argmax``, ``threshold:T`` or ``uint8``.
        region: (lo, hi) along each axis of the output; only what it needs is read and computed.
        memory: the most the process may hold, in bytes or as ``"2GB"``.
        band: rows that enter at a time; None to choose.
        level: of a pyramid, 0 the largest.
        layout: what the image's axes mean, such as ``"HWC"``, where the guess is wrong.
        raw: leave whole-number samples as they are; they are scaled to 0 … 1 otherwise.
        device: where to run; None for where the weights are.
        force: replace an output that exists.
        resume: go on with an unfinished output of the very same run.
        progress: called after each band.

    Returns:
        An array (C, H, W), or what ``out`` names; a list of them where there are several outputs.
        A network without positions in its answer (a classifier) gives an array (C,).

    Raises:
        BadValue: what does not fit, with what would.
        BadFile: an image that cannot be read, or an output that may not be written.
        Unsupported: an operator that cannot be run by parts, by its name.
    """
    images = list(image) if isinstance(image, list | tuple) else [image]
    with ExitStack() as stack:
        sources = [stack.enter_context(opened(one, net, level, layout)) for one in images]
        job = make_job(
            net,
            sources,
            form=form,
            region=region,
            memory=parse_bytes(memory),
            band=band,
            raw=raw,
            device=device,
        )
        outs = list(out) if isinstance(out, list | tuple) else [out] * len(job.forms)
        sinks = open_sinks(job, outs, images, force=force, resume=resume)
        for sink in sinks.values():
            stack.enter_context(sink)
        execute(job, sinks, progress)
        kept = {name: finish(job, name, sink) for name, sink in sinks.items()}
        results = [kept[name] for name in job.graph.outputs]  # one may be given twice
    return results[0] if len(results) == 1 else results


def opened(image: Any, net: Network, level: int = 0, layout: str | None = None) -> Source:
    """The image as a source, with as many axes of space as the network's convolutions have."""
    return open_source(image, level=level, layout=layout, space=_space(net))


def parse_bytes(text: int | str | None) -> int | None:
    """``"2GB"``, ``"512MB"`` or a number, in bytes.

    Raises:
        BadValue: it is no size.
    """
    if text is None or isinstance(text, int):
        return text
    units = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "k": 10**3, "m": 10**6}
    units |= {"g": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
    number = text.strip().rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ ")
    unit = text.strip()[len(number) :].strip().lower()
    try:
        size = int(float(number) * units[unit])
    except (ValueError, KeyError):
        raise BadValue(f"memory {text!r}", cure="give a size, such as 2GB or 512MB") from None
    if size < 1:
        raise BadValue(f"memory {text!r}", cure="give a size above nought")
    return size


def execute(job: Job, sinks: Mapping[str, Sink], progress: Progress | None = None) -> Report:
    """Carry a job out: strip after strip, band after band.

    Rows that the sinks already hold (a resumed run) are not computed again, but for those inner
    rows that a restart needs.
    """
    reset_peak()
    state = _State(job, sinks, progress)
    for strip in job.plan.strips:
        state.strip(strip.regions)
    return state.report()


class _State:
    """A run on its way."""

    def __init__(self, job: Job, sinks: Mapping[str, Sink], progress: Progress | None) -> None:
        self._job, self._sinks, self._progress = job, sinks, progress
        self._started = time.perf_counter()
        self._rows, self._positions, self._multiply_adds = 0, 0, 0
        self._given: dict[str, int] = {}  # of each output, the row that the stream gives next
        self._next: dict[str, int] = {}  # of each output, the row of this strip to be written next
        self._all_rows = sum(
            len(box[0]) for strip in job.plan.strips for box in strip.regions.values()
        )

    def report(self) -> Report:
        """How far it has come."""
        seconds = time.perf_counter() - self._started
        return Report(
            self._rows, self._all_rows, self._positions / 1e6, seconds, self._multiply_adds, peak()
        )

    def strip(self, regions: Mapping[str, Region]) -> None:
        """One pass over the rows of a strip, from where its sinks stand."""
        job = self._job
        rest = {}
        for name, box in regions.items():
            done = self._sinks[name].durable_rows(_columns(job, name, box))
            self._rows += done
            self._next[name] = done
            if done < len(box[0]):
                rest[name] = (Interval(box[0].lo + done, box[0].hi), *box[1:])
        if not rest:
            return
        boxes = required(job.graph, rest)
        self._given = {name: boxes[name][0].lo for name in rest}
        stream = Stream(job.graph, boxes, tuple(rest), band=job.plan.band)
        heights = {n: boxes[n][0] for n in job.graph.inputs if n in boxes}
        longest = max((len(side) for side in heights.values()), default=0)
        entered = 0
        while True:
            now = min(entered + job.plan.band, longest)
            ready = stream.push(self._read(boxes, heights, entered, now, longest))
            for name, value in ready.items():
                self._write(name, value, rest[name], boxes[name])
            self._multiply_adds += stream.multiply_adds
            stream.multiply_adds = 0
            entered = now
            if self._progress is not None:
                self._progress(self.report())
            if entered >= longest:
                break

    def _read(
        self,
        boxes: Mapping[str, Region],
        heights: Mapping[str, Interval],
        before: int,
        now: int,
        longest: int,
    ) -> dict[str, torch.Tensor]:
        """The next rows of every input, in step with the longest of them."""
        rows = {}
        for name, side in heights.items():
            lo = side.lo + fed(side, before, longest)
            hi = side.lo + fed(side, now, longest)
            if lo < hi:
                window = ((lo, hi), *((s.lo, s.hi) for s in boxes[name][1:]))
                samples = self._job.sources[name].read(*window)
                self._positions += samples[0].size if name == self._job.graph.inputs[0] else 0
                rows[name] = self._job.preparation(samples)
        return rows

    def _write(self, name: str, value: torch.Tensor, region: Region, box: Region) -> None:
        """Put away what is wanted of an output's new rows.

        An output that another one reads is computed wherever that one needs it, and so on a box
        that may be larger than the region wanted of it.
        """
        node, form, sink = self._job.graph.nodes[name], self._job.forms[name], self._sinks[name]
        dim = node.dims[0]
        count = 1 if dim is None else value.shape[dim]
        rows = Interval(self._given[name], self._given[name] + count)
        self._given[name] = rows.hi
        wanted = (rows.intersect(region[0]), *region[1:])
        if not wanted[0]:
            return
        block = form(channels_first(node, cut(value, node.dims, (rows, *box[1:]), wanted)))
        strip = _columns(self._job, name, region)
        sink.write(self._next[name], block, strip[0])
        self._next[name] += block.shape[1]
        self._rows += block.shape[1]


def _columns(job: Job, name: str, region: Region) -> tuple[int, int]:
    """The columns of a strip within the output's region, as its sink counts them."""
    if len(region) < 2:
        return (0, 1)
    start = job.plan.regions[name][1].lo
    return (region[1].lo - start, region[1].hi - start)


def channels_first(node: Node, value: torch.Tensor) -> torch.Tensor:
    """(C, rows, …) from a value whose axes may lie anywhere, or have vanished."""
    spatial = [dim for dim in node.dims if dim is not None]
    rest = [dim for dim in range(1, value.ndim) if dim not in spatial]
    ordered = value[0].permute([dim - 1 for dim in (*rest, *spatial)])
    sizes = [1 if dim is None else value.shape[dim] for dim in node.dims]
    return ordered.reshape(-1, *sizes)


def open_sinks(
    job: Job, targets: Sequence[Any], images: Sequence[Any], *, force: bool, resume: bool
) -> dict[str, Sink]:
    """One sink for each output of a job.

    Raises:
        BadValue: not one target for each output, or a resumed run had other settings.
        BadFile: an output that may not be written.
    """
    if len(targets) != len(job.forms):
        raise BadValue(
            f"{len(targets)} outputs named and the network has {len(job.forms)}: "
            f"{', '.join(job.forms)}",
            cure="name one for each",
        )
    paths = [Path(one) for one in images if _is_path(one)]
    sinks: dict[str, Sink] = {}
    for (name, form), target in zip(job.forms.items(), targets, strict=True):
        sinks[name] = open_sink(
            target,
            job.shape(name),
            form.dtype,
            force=force,
            resume=resume,
            settings={**job.settings, "output": name} if _is_path(target) else None,
            inputs=paths,
        )
    return sinks


def finish(job: Job, name: str, sink: Sink) -> NDArray[Any] | Path:
    """Complete one output: its array, (C,) where the answer has no positions, or its path."""
    result: Any = sink.finish()
    node = job.graph.nodes[name]
    if isinstance(result, np.ndarray) and all(dim is None for dim in node.dims):
        return result.reshape(-1)
    kept: NDArray[Any] | Path = result
    return kept


def _is_path(target: Any) -> bool:
    return isinstance(target, str | os.PathLike)


def _space(net: Network) -> int | None:
    for child in as_traced(net).module.modules():
        if isinstance(child, nn.Conv1d | nn.ConvTranspose1d):
            return 1
        if isinstance(child, nn.Conv2d | nn.ConvTranspose2d):
            return 2
        if isinstance(child, nn.Conv3d | nn.ConvTranspose3d):
            return 3
    return None
