"""``eyeshot demo``: train a network, save it, load it elsewhere, use it and explain it.

:data:`STEPS` is what happens, in order: a function a step. Add one and it is shown.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eyeshot import data, images
from eyeshot.demo.overview import Stage, draw_overview, first_digit, open_stage, write_on_paper
from eyeshot.demo.pages import read_page
from eyeshot.errors import Failure
from eyeshot.evaluation import evaluate, predict
from eyeshot.features import see
from eyeshot.language import VARIABLE, mark, spoken, tr
from eyeshot.report import write_report
from eyeshot.report.curves import read_epochs
from eyeshot.runs import METRICS
from eyeshot.training import Progress, train

LEAST_ACCURACY = 0.98
ASKED, ON_PAPER = (2, 3, 5, 7), 8
_SAME = 1e-5


@dataclass(frozen=True)
class Step:
    """One step: its title, and what is done; it speaks through ``stage.say``."""

    title: str
    act: Callable[[Stage], None]


def train_network(stage: Stage) -> None:
    """Train the digit network on the digits of the package, and judge it."""
    stage.data = data.load("digits")
    stage.run = train(
        stage.data, out=stage.run_folder, progress=stage.progress, epochs=stage.epochs
    )
    accuracy = evaluate(stage.run, stage.data).accuracy
    count = len(stage.data.test)
    if accuracy < LEAST_ACCURACY:
        raise Failure(
            f"the network is right in {accuracy:.2%} of {count:,} held-out digits, "
            f"and {LEAST_ACCURACY:.0%} were expected",
            cure="let it see the digits more often",
        )
    text = mark("{accuracy:.2%} of {count:,} digits that it has never seen are right")
    stage.say("   " + tr(text, accuracy=accuracy, count=count))
    stage.say("   " + tr("saved in {folder}", folder=stage.run_folder))


def ask_network(stage: Stage) -> None:
    """Load the network in a new process, and ask it what single pictures show."""
    questions = _write_pictures(stage)
    answers = _predict_elsewhere(stage.run_folder, [path for path, _ in questions])
    _check_same(answers, [p.to_dict() for p in predict(stage.run, [path for path, _ in questions])])
    for (path, truth), answer in zip(questions, answers, strict=True):
        best = answer["top"][0]
        wrong = tr("wrong: it is a {truth}", truth=truth)
        line = tr(
            "{path}: {name}, {probability:.1%} sure ({verdict})",
            path=path,
            name=best["class"],
            probability=best["probability"],
            verdict=tr("right") if best["class"] == truth else wrong,
        )
        stage.say(f"   {line}")
        for note in answer["notes"]:
            stage.say(f"      {note}")


def lay_open(stage: Stage) -> None:
    """Write the report, and draw the demo in one picture."""
    write_report(stage.run, stage.report, data=stage.data, more=stage.sections)
    draw_overview(
        stage.run,
        first_digit(stage.data, ASKED[-1]),
        read_epochs(stage.run.path / METRICS),
        stage.overview,
    )
    text = mark("{file}: everything about this network on one page")
    stage.say("   " + tr(text, file=stage.report))
    stage.say("   " + tr("{file}: the same at a glance", file=stage.overview))
    _suggest(stage)


STEPS: Sequence[Step] = (
    Step(mark("Train a network on 8,000 handwritten digits"), train_network),
    Step(mark("Load it in a new process, and ask what single pictures show"), ask_network),
    Step(mark("Find and read thousands of digits on one large page, in one pass"), read_page),
    Step(mark("Lay it open: every kernel, every map, every mistake"), lay_open),
)


def _write_pictures(stage: Stage) -> list[tuple[Path, str]]:
    """Some held-out digits as files, one of them written large on paper; each with its truth."""
    questions = []
    for digit in ASKED:
        path = stage.pictures / f"digit-{digit}.png"
        images.write(path, first_digit(stage.data, digit))
        questions.append((path, str(digit)))
    path = stage.pictures / "photo.jpg"
    images.write(path, write_on_paper(first_digit(stage.data, ON_PAPER)))
    return [*questions, (path, str(ON_PAPER))]


def _predict_elsewhere(run: Path, paths: list[Path]) -> list[dict[str, Any]]:
    """What ``eyeshot predict`` says of the pictures, in a process that knows the folder alone."""
    words = [sys.executable, "-m", "eyeshot", "predict", "--json", "--", str(run)]
    process = subprocess.run(
        [*words, *(str(path) for path in paths)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, VARIABLE: spoken()},
    )
    if process.returncode:
        raise Failure(f"the new process failed: {process.stderr.strip() or process.returncode}")
    answers: list[dict[str, Any]] = json.loads(process.stdout)
    return answers


def _check_same(answers: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    """Compare the answers of the two processes."""
    for ours, theirs in zip(expected, answers, strict=True):
        for one, other in zip(ours["top"], theirs["top"], strict=True):
            if not math.isclose(one["probability"], other["probability"], abs_tol=_SAME):
                raise Failure(
                    f"{theirs['image']}: {other['probability']:.6f} in the new process and "
                    f"{one['probability']:.6f} in this one",
                    cure="the saved network is not the trained one; check the disk",
                )


def _suggest(stage: Stage) -> None:
    picture = stage.pictures / f"digit-{ASKED[-1]}.png"
    pixels, _ = stage.run.prepare(picture)
    maps = see(stage.run.net, stage.run.normalize(pixels), ["conv2"])["conv2"]
    channel, row, column = (int(i) for i in np.unravel_index(maps.argmax(), maps.shape))
    run = stage.run_folder
    stage.suggest("see", run, picture, "-o", stage.folder / "maps.png")
    unit = f"{channel},{row},{column}"
    stage.suggest("explain", run, picture, "--layer", "conv2", "--unit", unit)
    field = f"conv2:{row},{column}"
    stage.suggest("see", run, picture, "--field", field, "-o", stage.folder / "field.png")
    stage.suggest("evaluate", run)


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
