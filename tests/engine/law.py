"""What every engine test does: run a network by parts, and hold it against one whole pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from eyeshot.axes import Interval
from eyeshot.engine.executing import RunReport, execute
from eyeshot.engine.job import Job, make_job
from eyeshot.engine.networks import Traced
from eyeshot.geometry import Region, required
from eyeshot.images import open_sink, open_source
from eyeshot.planning import Strip

Array = NDArray[Any]
_LAYOUTS = {2: "CL", 3: "CHW", 4: "CDHW"}
LIMITS = {torch.float32: 1e-5, torch.float64: 1e-12}


def noise(*shape: int, seed: int = 0, double: bool = False) -> torch.Tensor:
    """White noise: smooth pictures hide leaks."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64 if double else None)


def enliven(net: nn.Module, *batches: torch.Tensor) -> nn.Module:
    """Weights of noise that keep the variance of what passes, and batch norms that have seen it.

    So no branch is lost beside another, and the whole pass itself is exact to a few roundings.
    """
    generator = torch.Generator().manual_seed(0)
    for module in net.modules():
        weight = getattr(module, "weight", None)
        if isinstance(weight, torch.Tensor) and weight.ndim > 1:
            weight.data.normal_(0, (2 / weight[0].numel()) ** 0.5, generator=generator)
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = None
            module.train()
        scale = getattr(module, "scale", None)  # ConvNeXt's, which begins at almost zero
        if isinstance(scale, nn.Parameter):
            scale.data.fill_(0.5)
    with torch.no_grad():
        net(*batches)
    return net.eval()


def whole(net: nn.Module, *images: torch.Tensor) -> list[Array]:
    """The one whole pass: every output, (C, …) or (C,)."""
    with torch.no_grad():
        actual = net(*(image[None] for image in images))
    outputs = list(actual) if isinstance(actual, tuple | list) else [actual]
    return [one[0].numpy() for one in outputs]


def job_of(net: nn.Module | Traced, *images: torch.Tensor, **options: Any) -> Job:
    """A run settled."""
    double = images[0].dtype == torch.float64
    options.setdefault("output_format", "float64" if double else "float32")
    sources = [open_source(image, layout=_LAYOUTS[image.ndim]) for image in images]
    return make_job(net, sources, **options)


def cut(job: Job, band: int | None = None, strips: int = 1, region: Region | None = None) -> Job:
    """The same run by another band, in column strips whatever the memory, or of a region."""
    regions = dict.fromkeys(job.forms, region) if region is not None else job.plan.regions
    narrowest = min(len(box[1]) for box in regions.values()) if strips > 1 else 1
    count = min(strips, narrowest)
    parts = [{name: _part(box, i, count) for name, box in regions.items()} for i in range(count)]
    cuts = tuple(Strip(part, required(job.graph, part)) for part in parts)
    plan = replace(job.plan, regions=regions, strips=cuts, band=band or job.plan.band)
    return replace(job, plan=plan)


def _part(box: Region, place: int, count: int) -> Region:
    if count == 1:
        return box
    ends = (box[1].lo + len(box[1]) * i // count for i in (place, place + 1))
    return (box[0], Interval(*ends), *box[2:])


def by_parts(job: Job) -> tuple[list[Array], RunReport]:
    """Every output of a job, in memory."""
    sinks = {name: open_sink(None, job.shape(name), job.forms[name].dtype) for name in job.forms}
    report = execute(job, sinks)
    return [sink.finish() for sink in sinks.values()], report


def largest_difference(parts: Sequence[Array], truth: Sequence[Array]) -> float:
    """Of all outputs, the largest |a - b| / max|b|; the shapes must be the same."""
    worst = 0.0
    for part, whole_pass in zip(parts, truth, strict=True):
        shaped = part.reshape(-1) if whole_pass.ndim == 1 else part
        assert shaped.shape == whole_pass.shape
        scale = max(1e-3, float(np.abs(whole_pass).max()))
        worst = max(worst, float(np.abs(shaped - whole_pass).max()) / scale)
    return worst
