"""How long a run will take: a few bands of noise, timed."""

from __future__ import annotations

import time

import torch

from eyeshot.axes import Interval
from eyeshot.engine.jobs import Job
from eyeshot.engine.stream import Stream
from eyeshot.geometry import Region
from eyeshot.planning import pushes

_SECONDS = 1.0


def predicted_seconds(job: Job) -> float:
    """Seconds for the arithmetic of a whole run, from about one second of it (files not counted).

    Bands of noise are pushed through the first strip until time is up. The time so far, divided
    by the share of the multiply-adds done (of the rows entered, for a network that has none).
    """
    strip = job.plan.strips[0]
    stream = Stream(job.graph, strip.boxes, job.graph.outputs, band=job.plan.band)
    longest = max((len(strip.boxes[n][0]) for n in job.graph.inputs if n in strip.boxes), default=0)
    entered, warm = 0, (0.0, 0, 0)
    started = time.perf_counter()
    for rows in pushes(job.graph, strip.boxes, job.plan.band):
        stream.push(
            {name: _noise(job, name, strip.boxes[name], side) for name, side in rows.items()}
        )
        entered = min(entered + job.plan.band, longest)
        if warm[1] == 0:  # the first band pays for what is set up once
            warm = (time.perf_counter() - started, entered, stream.multiply_adds)
        if time.perf_counter() - started > _SECONDS:
            break
    spent = time.perf_counter() - started - warm[0]
    done = stream.multiply_adds - warm[2]
    if done > 0 and job.plan.multiply_adds:
        return warm[0] + spent * job.plan.multiply_adds / done
    rows_done = entered - warm[1]
    share = rows_done / (longest * len(job.plan.strips)) if rows_done else 1.0
    return warm[0] + spent / share


def _noise(job: Job, name: str, box: Region, rows: Interval) -> torch.Tensor:
    shape = list(job.graph.nodes[name].shape)
    shape[2:] = [len(rows), *(len(side) for side in box[1:])]
    return torch.randn(shape, dtype=job.preparation.dtype, device=job.preparation.device)
