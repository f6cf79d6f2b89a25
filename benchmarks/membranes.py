"""Masks of membranes: how good, how soon, and beside the same net in a plain PyTorch loop.

First the speed: seconds a step of three loops that take turns, so that a busy machine slows all of
them. *plain* is what one writes at first: float32, PyTorch's default layout, ``AdamW`` as it comes,
one thing after another. *eyeshot* is ``eyeshot.train`` with its default settings, and *eyeshot
float32* the same held to ``32-true``, which shows what of the ratio is due to bfloat16. All three
have the same network, crops, augmentation and loss.

Then the quality: whole trainings with the default settings from three seeds, judged on the four
slices that were set aside, each as a whole. A second row sets aside the last four slices, which are
adjacent: no slice beside them, which looks much like them, is learned from.

``--quick`` shows the same figures in minutes: fewer rounds, one seed, two epochs. With ``--keep
DIR``, a call that was ended goes on where it was when it is given the same folder again.
"""

from __future__ import annotations

import csv
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

import eyeshot
from eyeshot.data.pairs import Pairs, load_pairs
from eyeshot.evaluation import MaskEvaluation
from eyeshot.files import write_aside
from eyeshot.runs import METRICS, RunConfig, build_net
from eyeshot.runs.inputs import geometry_of_named
from eyeshot.training import Silence
from eyeshot.training.augmentation import augment_crops
from eyeshot.training.checkpoint import Position
from eyeshot.training.configuration import Request, describe_pairs
from eyeshot.training.cropping import make_sampler
from eyeshot.training.optimization import segmentation_loss

FOLDER = Path(__file__).resolve().parents[2] / "shared" / "data" / "membranes"
VALIDATION = 4
SEEDS = (0, 1, 2)
ROUNDS, STEPS = 5, 4
QUICK_ROUNDS, QUICK_EPOCHS = 3, 2
GOAL_ACCURACY, GOAL_DICE, GOAL_MINUTES, GOAL_RATIO = 0.92, 0.94, 30, 1.5


class Clock(Silence):
    """When each step was done."""

    def __init__(self) -> None:
        self.moments: list[float] = []

    def step(self, position: Position) -> None:
        """Look at the clock."""
        self.moments.append(time.perf_counter())

    @property
    def seconds(self) -> float:
        """A step's median; the first, in which memory is laid out, is not counted."""
        pairs = zip(self.moments[1:], self.moments, strict=False)
        return statistics.median(after - before for after, before in pairs)


def plain_loop(pairs: Pairs, config: RunConfig, steps: int) -> float:
    """Seconds a step of a plain loop on what ``config`` says."""
    recipe = config.recipe
    torch.manual_seed(0)
    net = build_net(config)
    sampler = make_sampler(pairs, config.size, geometry_of_named(config), 0)
    kinds = recipe.augment.split(",")
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (config.mean, config.std))
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
    clock = Clock()
    net.train()
    for step in range(steps):
        crops = sampler.batch(0, step, recipe.batch_size)
        crops = augment_crops(crops, kinds, (0, 0, step))
        scores = net((crops.images - mean) / std)
        loss = segmentation_loss(scores, crops.targets, crops.valid)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        clock.step(Position())
    return clock.seconds


def our_loop(pairs: Pairs, steps: int, precision: str) -> float:
    """Seconds a step of ``eyeshot.train``."""
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        eyeshot.train(pairs, out=folder, progress=clock, epochs=1, steps=steps, precision=precision)
    return clock.seconds


def compare_speed(pairs: Pairs, rounds: int = ROUNDS) -> list[str]:
    """Print seconds a step of each loop, and return a line for each ratio."""
    config = describe_pairs(Request("segment", FOLDER, None, {}, {}), pairs)
    height, width = config.size
    print(
        f"a step is {config.recipe.batch_size} crops of {height}×{width}; "
        f"precision here: {config.recipe.precision}",
        flush=True,
    )
    loops: dict[str, Callable[[], float]] = {
        "plain": lambda: plain_loop(pairs, config, STEPS),
        "eyeshot": lambda: our_loop(pairs, STEPS, "auto"),
        "eyeshot float32": lambda: our_loop(pairs, STEPS, "32-true"),
    }
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    for number in range(rounds):
        for name, loop in loops.items():
            seconds[name].append(loop())
        told = "  ".join(f"{name} {times[-1]:.2f} s" for name, times in seconds.items())
        print(f"round {number + 1}/{rounds}  a step: {told}", flush=True)
    lines = []
    for name in list(loops)[1:]:
        ratios = [p / o for p, o in zip(seconds["plain"], seconds[name], strict=True)]
        lines.append(
            f"{name}: {statistics.median(ratios):.2f} times the plain loop's steps a second "
            f"(median of {rounds} rounds; goal: {GOAL_RATIO})"
        )
    return lines


def adjacent_slices(folder: Path) -> Pairs:
    """The pairs with the last slices set aside, copied to a folder of two parts."""
    for side in ("image", "label"):
        files = sorted((FOLDER / side).iterdir(), key=lambda path: int(path.stem))
        for number, path in enumerate(files):
            part = "train" if number < len(files) - VALIDATION else "val"
            place = folder / part / side
            place.mkdir(parents=True, exist_ok=True)
            if not (place / path.name).exists():
                shutil.copy(path, place)
    return load_pairs(folder)


def train_once(pairs: Pairs, seed: int, place: Path, **settings: int) -> tuple[float, float, float]:
    """Pixel accuracy, foreground Dice, and minutes of steps; goes on with what is in ``place``."""
    run = eyeshot.train(
        pairs,
        out=place,
        seed=seed,
        progress=False,
        resume=True,
        **settings,  # type: ignore[arg-type]
    )
    with (run.path / METRICS).open() as file:
        minutes = sum(float(row["seconds"]) for row in csv.DictReader(file)) / 60
    found = eyeshot.evaluate(run, pairs)
    if not isinstance(found, MaskEvaluation):
        raise TypeError("a run of masks was judged as something else")
    dice = found.per_class[1].dice or 0.0
    print(
        f"seed {seed}: pixel accuracy {found.accuracy:.2%}, foreground Dice {dice:.2%}, "
        f"{minutes:.1f} minutes of steps",
        flush=True,
    )
    return found.accuracy, dice, minutes


def judge_quality(
    pairs: Pairs, name: str, seeds: tuple[int, ...], folder: Path, **settings: int
) -> None:
    """Print the figures of a whole training from each seed, and their medians."""
    print(f"{name}, {len(pairs.train)} slices to learn from", flush=True)
    figures = (train_once(pairs, seed, folder / f"seed-{seed}", **settings) for seed in seeds)
    accuracies, dices, minutes = zip(*figures, strict=True)
    print(
        f"{name}, median of {len(seeds)} seeds: pixel accuracy {statistics.median(accuracies):.2%} "
        f"(goal: {GOAL_ACCURACY:.0%}), foreground Dice {statistics.median(dices):.2%} (goal: "
        f"{GOAL_DICE:.0%}), {statistics.median(minutes):.1f} minutes of steps (goal: "
        f"{GOAL_MINUTES})",
        flush=True,
    )


def judge_all(folder: Path, pairs: Pairs, seeds: tuple[int, ...], **settings: int) -> None:
    """Print the quality of whole trainings, in two rows; their run folders lie in ``folder``."""
    name = f"{VALIDATION} slices among the others"
    judge_quality(pairs, name, seeds, folder / "among", **settings)
    adjacent = adjacent_slices(folder / "adjacent-slices")
    judge_quality(adjacent, f"the last {VALIDATION} slices", seeds, folder / "last", **settings)


def main(*, quick: bool = False, keep: Path | None = None) -> None:
    """Print the speed beside the plain loop, then the quality of whole trainings, in two rows."""
    if not FOLDER.is_dir():
        print(f"skipped: no membranes in {FOLDER}")
        return
    begun = time.perf_counter()
    seeds, rounds = (SEEDS[:1], QUICK_ROUNDS) if quick else (SEEDS, ROUNDS)
    settings = {"epochs": QUICK_EPOCHS} if quick else {}
    if quick:
        print(f"quick: {QUICK_EPOCHS} epochs, fewer than by default; the goals are for the default")
    pairs = load_pairs(FOLDER, validation=VALIDATION)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) if keep is None else keep / ("quick" if quick else "whole")
        folder.mkdir(parents=True, exist_ok=True)
        ratios = folder / "speed.txt"
        if ratios.exists():
            print(f"from {ratios}:")
        else:
            lines = compare_speed(pairs, rounds)
            with write_aside(ratios) as aside:
                aside.write_text("\n".join(lines), encoding="utf-8")
        print(ratios.read_text(encoding="utf-8"), flush=True)
        judge_all(folder, pairs, seeds, **settings)
    print(f"this call: {(time.perf_counter() - begun) / 60:.1f} minutes")


if __name__ == "__main__":
    main()
