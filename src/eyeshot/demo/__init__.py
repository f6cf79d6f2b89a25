"""``eyeshot demo``: a network trained, saved, loaded elsewhere, asked, and laid open, in a minute.

:data:`eyeshot.demo.steps.STEPS` is what happens, in order.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from eyeshot.demo.drawing import Stage, open_stage
from eyeshot.demo.steps import STEPS
from eyeshot.language import mark, tr
from eyeshot.training import Progress

__all__ = ["STEPS", "Stage", "run_demo"]


def run_demo(
    out: str | Path = "demo",
    *,
    say: Callable[[str], None] = print,
    progress: bool | Progress = True,
    epochs: int | None = None,
) -> Path:
    """Run every step, and leave the run, the pictures and the report in ``out``.

    Args:
        out: a new or empty folder, or that of an earlier demo, which is replaced.
        say: called with each line.
        progress: of the training, as :func:`eyeshot.train` takes it.
        epochs: passes over the digits; by default as many as ``eyeshot train digits`` makes.

    Returns:
        The path of the report.

    Raises:
        BadValue: ``out`` holds something else than an earlier demo.
        BadFile: ``out`` cannot be written to.
        Failure: the network did not become good enough, or did not come back as it was.
    """
    stage = open_stage(Path(out), say=say, progress=progress, epochs=epochs)
    began = time.perf_counter()
    for number, step in enumerate(STEPS, 1):
        stage.say(f"\n{number}. {tr(step.title)}")
        started = time.perf_counter()
        step.act(stage)
        stage.say("   " + tr("done in {seconds:.1f} s", seconds=time.perf_counter() - started))
    text = mark("All in {seconds:.0f} s. The report:")
    stage.say(f"\n{tr(text, seconds=time.perf_counter() - began)}\n{stage.report}")
    stage.say("\n" + tr("Try next:"))
    for line in stage.suggestions:
        stage.say(f"  {line}")
    return stage.report
