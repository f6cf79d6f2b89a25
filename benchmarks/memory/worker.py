"""One case in a process of its own, and what it held."""

from __future__ import annotations

import json
import re
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.memory.cases import CASES, Case, write_image
from benchmarks.memory.networks import make
from eyeshot.engine.executing import execute
from eyeshot.engine.job import Job, make_job
from eyeshot.engine.memory import peak, scratch_space
from eyeshot.engine.running import finish, open_sinks, opened
from eyeshot.errors import BadValue, Failure


def report(name: str, folder: str, room: int | None) -> None:
    """Run a case, and print as JSON what it held.

    Args:
        name: of the case.
        folder: of its image.
        room: bytes allowed beside the least that a refusal names; None for no limit.
    """
    torch.set_num_threads(2)
    case, net = CASES[name], make(CASES[name].network)
    budget = None
    with tempfile.TemporaryDirectory(dir=folder) as place:
        told: dict[str, Any] = {}
        if room is not None:
            try:
                _run(case, net, Path(folder), Path(place), memory=1)
            except BadValue as error:
                told["refusing"] = peak()
                budget = _least_named(str(error)) + room
        told["predicted"] = _run(case, net, Path(folder), Path(place), budget)
    print(json.dumps({**told, "budget": budget, "measured": peak()}))


def _least_named(refusal: str) -> int:
    """The bytes that a refusal says are enough."""
    found = re.search(r"the least that can is ([\d.]+) (GB|MB)", refusal)
    if found is None:
        raise Failure(f"no least in: {refusal}")
    return round(float(found.group(1)) * {"GB": 10**9, "MB": 10**6}[found.group(2)])


def _run(case: Case, net: nn.Module, folder: Path, place: Path, memory: int | None) -> int:
    """Run; the predicted peak."""
    image: Any = write_image(folder, case.source, case.shape)
    if case.source == "array":
        image = np.load(image)
    outs = [
        None if case.sink == "array" else place / f"{i}.{case.sink}" for i in range(case.outputs)
    ]
    with ExitStack() as stack:
        source = stack.enter_context(opened(image, net))
        job = make_job(
            net,
            [source],
            output_format=case.form,
            memory=memory,
            band=case.band,
            outs=outs,
            scratch=scratch_space(str(place) if case.scratch else f"{place}:1", None),
        )
        _carry_out(job, outs, stack)
    return job.plan.peak


def _carry_out(job: Job, outs: list[Any], stack: ExitStack) -> None:
    sinks = open_sinks(job, outs, [], force=False, resume=False)
    for sink in sinks.values():
        stack.enter_context(sink)
    execute(job, sinks)
    finish(job, sinks)
