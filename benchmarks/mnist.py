"""Training on MNIST: the tutorial's plain program beside Eyeshot, on the same network.

*tutorial*: Adam at 1e-3, batches of 64, a ``DataLoader`` that turns each picture from PIL into a
tensor when it is asked for, a look at the test set after each of up to five epochs. Its time is
that of its training alone, up to the end of the first epoch at the goal; looks at the test set are
not counted.

*eyeshot*: ``eyeshot.train`` with its default settings. Its time, too, is that of its training
alone, as it writes it into ``metrics.csv``; the whole call, with looks at the test set, checkpoints
and the run folder, is printed beside it.

Each training is in a process of its own, as a user's is, so that none gains from memory that
another has kept. A round is a seed: both train from it, and Eyeshot's run is between two epochs of
the tutorial, so that a busy machine slows both. The ratio is the median of the rounds' ratios.
With ``--quick`` there is one round.

``python -m benchmarks.mnist --processor-time`` gives each program one thread, and counts the
processor's time in place of the clock's: for a busy machine.
"""

from __future__ import annotations

import csv
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset

import eyeshot
from eyeshot import nets
from eyeshot.data import Data, Examples, load
from eyeshot.errors import Failure
from eyeshot.runs import METRICS, RunConfig
from eyeshot.training import Silence
from eyeshot.training.checkpoint import Position

FOLDER = Path(__file__).resolve().parents[2] / "shared" / "data" / "mnist"
EPOCHS = 5
GOAL, GOAL_RATIO = 0.988, 8
SEEDS = (0, 1, 2)
BEST, BEST_GOAL = "small_vgg", 0.996


class Pictures(Dataset[tuple[Tensor, int]]):
    """Digits as a tutorial keeps them: PIL pictures, made into tensors one by one."""

    def __init__(self, examples: Examples) -> None:
        self.pictures: list[NDArray[np.uint8]] = [image[0].numpy() for image in examples.images]
        self.labels = examples.labels.tolist()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        pixels = np.asarray(Image.fromarray(self.pictures[index]), dtype=np.float32) / 255
        return (torch.from_numpy(pixels).unsqueeze(0) - 0.1307) / 0.3081, self.labels[index]


@dataclass(frozen=True)
class Epoch:
    """Training seconds from the start to the end of an epoch, and the test accuracy there.

    ``whole`` is the time of everything, where that was measured.
    """

    seconds: float
    accuracy: float
    whole: float = 0.0


Clock = Callable[[], float]
Program = Callable[[Data, int, Clock], Iterator[Epoch]]


def tutorial(data: Data, seed: int, clock: Clock) -> Iterator[Epoch]:
    """The plain program, an epoch each time it is asked."""
    torch.manual_seed(seed)
    net = nn.Sequential(*nets.digit_cnn().children())
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    train = DataLoader(Pictures(data.train), batch_size=64, shuffle=True)
    test = DataLoader(Pictures(data.test), batch_size=1000)
    seconds = 0.0
    for _ in range(EPOCHS):
        net.train()
        start = clock()
        for images, labels in train:
            optimizer.zero_grad()
            cross_entropy(net(images), labels).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        seconds += clock() - start
        net.eval()
        with torch.no_grad():
            right = sum(int((net(x).argmax(1) == y).sum()) for x, y in test)
        yield Epoch(seconds, right / len(data.test))


class Steps(Silence):
    """Seconds from the first step to the last by a clock, as long as that is not the wall's."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._begun = self.seconds = 0.0

    def begin(self, config: RunConfig, steps_an_epoch: int, position: Position) -> None:
        """Look at the clock."""
        self._begun = self._clock()

    def step(self, position: Position) -> None:
        """Look at the clock again."""
        self.seconds = self._clock() - self._begun


def train_eyeshot(data: Data, seed: int, clock: Clock, model: str = "digit_cnn") -> Iterator[Epoch]:
    """One whole run with the default settings of ``model``."""
    steps = Steps(clock)
    with tempfile.TemporaryDirectory() as folder:
        start = clock()
        run = eyeshot.train(data, model=model, seed=seed, out=Path(folder) / "run", progress=steps)
        whole = clock() - start
        seconds = steps.seconds  # looks at the test set between epochs are in it, too
        if clock is time.perf_counter:
            with (run.path / METRICS).open() as file:
                seconds = sum(float(row["seconds"]) for row in csv.DictReader(file))
        yield Epoch(seconds, eyeshot.evaluate(run, data).accuracy, whole)


def train_best(data: Data, seed: int, clock: Clock) -> Iterator[Epoch]:
    """The same of the most accurate network."""
    return train_eyeshot(data, seed, clock, BEST)


@contextmanager
def alone(program: Program, seed: int, *, processor_time: bool) -> Iterator[Iterator[Epoch]]:
    """The epochs of a program in a process of its own, which computes one when it is asked for."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_serve, args=(program, seed, processor_time, theirs))
    process.start()
    theirs.close()
    try:
        yield _ask(ours)
    finally:
        ours.close()
        process.join()


def _ask(connection: Connection) -> Iterator[Epoch]:
    while True:
        try:
            connection.send("next")
            epoch: Epoch | None = connection.recv()
        except (EOFError, BrokenPipeError):
            raise Failure("a training has died", cure="its own message stands above") from None
        if epoch is None:
            return
        yield epoch


def _serve(program: Program, seed: int, processor_time: bool, connection: Connection) -> None:
    """The other process: an epoch as often as asked, until nobody listens."""
    import lightning_fabric  # noqa: F401  imported once in a program's life, so not counted

    if processor_time:
        torch.set_num_threads(1)
    epochs = program(
        load("mnist", folder=FOLDER),
        seed,
        time.process_time if processor_time else time.perf_counter,
    )
    while True:
        try:
            connection.recv()
        except EOFError:
            return
        connection.send(next(epochs, None))


@dataclass(frozen=True)
class Round:
    """Both programs from one seed: all epochs of the tutorial that were run, and our run."""

    plain: list[Epoch]
    ours: Epoch

    @property
    def goal_seconds(self) -> float | None:
        """When the tutorial was at the goal; None if it was not."""
        return next((epoch.seconds for epoch in self.plain if epoch.accuracy >= GOAL), None)

    @property
    def ratio(self) -> float:
        """The tutorial's time at the goal, or of all its epochs, over ours; 0 if ours missed it."""
        if self.ours.accuracy < GOAL:
            return 0.0
        return (self.goal_seconds or self.plain[-1].seconds) / self.ours.seconds


def play_round(seed: int, *, all_epochs: bool, processor_time: bool) -> Round:
    """The tutorial's epochs until the goal, or all of them, and our run after the first."""
    plain: list[Epoch] = []
    ours: list[Epoch] = []
    with alone(tutorial, seed, processor_time=processor_time) as epochs:
        for epoch in epochs:
            plain.append(epoch)
            print(
                f"seed {seed}  tutorial, epoch {len(plain)}  {epoch.seconds:6.1f} s in all  "
                f"test accuracy {epoch.accuracy:.2%}",
                flush=True,
            )
            if not ours:
                with alone(train_eyeshot, seed, processor_time=processor_time) as runs:
                    ours = list(runs)
                print(
                    f"seed {seed}  eyeshot            {ours[0].seconds:6.1f} s in all  "
                    f"test accuracy {ours[0].accuracy:.2%}  (whole call {ours[0].whole:.1f} s)",
                    flush=True,
                )
            if epoch.accuracy >= GOAL and not all_epochs:
                break
    return Round(plain, ours[0])


def main(*, quick: bool = False, processor_time: bool = False) -> None:
    """Print both programs' times and accuracies, and their ratio."""
    if not FOLDER.is_dir():
        print(f"skipped: no MNIST in {FOLDER}")
        return
    rounds = []
    for seed in SEEDS[:1] if quick else SEEDS:
        first = seed == SEEDS[0]
        rounds.append(play_round(seed, all_epochs=first, processor_time=processor_time))
        if first:
            with alone(train_best, seed, processor_time=processor_time) as runs:
                (best,) = runs
    print_ratio(rounds)
    print_best(rounds[0].plain, best)


def print_ratio(rounds: list[Round]) -> None:
    """How much sooner Eyeshot is at the goal."""
    for seed, one in zip(SEEDS, rounds, strict=False):
        theirs = one.goal_seconds
        word = f"at {GOAL:.1%} after {theirs:.1f} s" if theirs else f"never at {GOAL:.1%}"
        print(
            f"seed {seed}: tutorial {word}, eyeshot at {one.ours.accuracy:.2%} after "
            f"{one.ours.seconds:.1f} s: 1/{one.ratio:.1f}"
        )
    accuracy = statistics.median(one.ours.accuracy for one in rounds)
    ratio = statistics.median(one.ratio for one in rounds)
    print(
        f"median of {len(rounds)} rounds: accuracy {accuracy:.2%}; ratio 1/{ratio:.1f} "
        f"(goal: {GOAL:.1%}, 1/{GOAL_RATIO})"
    )


def print_best(plain: list[Epoch], best: Epoch) -> None:
    """What the most accurate network reaches in the time of the tutorial's five epochs."""
    limit = plain[-1].seconds
    print(
        f"eyeshot --model {BEST}: {best.accuracy:.2%} after {best.seconds:.1f} s, "
        f"{best.seconds / limit:.2f} of the tutorial's {EPOCHS} epochs ({limit:.1f} s, "
        f"{plain[-1].accuracy:.2%}; goal: {BEST_GOAL:.1%} within 1.00)"
    )


if __name__ == "__main__":
    main(processor_time="--processor-time" in sys.argv[1:])
