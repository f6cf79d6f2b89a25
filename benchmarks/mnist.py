"""Training on MNIST: the tutorial's plain program beside Eyeshot, on the same network.

*tutorial*: Adam at 1e-3, batches of 64, a ``DataLoader`` that turns each picture from PIL into a
tensor when it is asked for, five epochs, a look at the test set after each. Its time is that of its
training alone; looks at the test set are not counted.

*eyeshot*: ``eyeshot.train`` with its default settings. Its time, too, is that of its training
alone, as it writes it into ``metrics.csv``; the whole call, with looks at the test set, checkpoints
and the run folder, is printed beside it.

The epochs of the one and the runs of the other take turns, so that a busy machine slows both.
"""

from __future__ import annotations

import csv
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
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
from eyeshot.runs import METRICS

FOLDER = Path(__file__).resolve().parents[2] / "shared" / "data" / "mnist"
EPOCHS = 5
GOAL = 0.988
SEEDS = (0, 1, 2)
BEST = "small_vgg"


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


def tutorial(data: Data) -> Iterator[Epoch]:
    """The plain program, an epoch each time it is asked."""
    torch.manual_seed(0)
    net = nn.Sequential(*nets.digit_cnn().children())
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    train = DataLoader(Pictures(data.train), batch_size=64, shuffle=True)
    test = DataLoader(Pictures(data.test), batch_size=1000)
    seconds = 0.0
    for _ in range(EPOCHS):
        net.train()
        start = time.perf_counter()
        for images, labels in train:
            optimizer.zero_grad()
            cross_entropy(net(images), labels).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        seconds += time.perf_counter() - start
        net.eval()
        with torch.no_grad():
            right = sum(int((net(x).argmax(1) == y).sum()) for x, y in test)
        yield Epoch(seconds, right / len(data.test))


def train_eyeshot(data: Data, model: str, seed: int) -> Epoch:
    """One whole run with the default settings of ``model``."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        run = eyeshot.train(data, model=model, seed=seed, out=Path(folder) / "run", progress=False)
        whole = time.perf_counter() - start
        with (run.path / METRICS).open() as file:
            seconds = sum(float(row["seconds"]) for row in csv.DictReader(file))
        return Epoch(seconds, eyeshot.evaluate(run, data).accuracy, whole)


def main() -> None:
    """Print both programs' times and accuracies, and their ratio."""
    if not FOLDER.is_dir():
        print(f"skipped: no MNIST in {FOLDER}")
        return
    data = load("mnist", folder=FOLDER)
    import lightning_fabric  # noqa: F401  imported once in a program's life, so not counted

    plain: list[Epoch] = []
    ours: list[Epoch] = []
    for number, epoch in enumerate(tutorial(data)):
        plain.append(epoch)
        print(
            f"tutorial  epoch {number + 1}/{EPOCHS}  {epoch.seconds:6.1f} s in all  "
            f"test accuracy {epoch.accuracy:.2%}",
            flush=True,
        )
        if number < len(SEEDS):
            ours.append(train_eyeshot(data, "digit_cnn", SEEDS[number]))
            print(
                f"eyeshot   seed {SEEDS[number]}     {ours[-1].seconds:6.1f} s in all  "
                f"test accuracy {ours[-1].accuracy:.2%}  (whole call {ours[-1].whole:.1f} s)",
                flush=True,
            )
    print_ratio(plain, ours)
    print_best(plain, train_eyeshot(data, BEST, SEEDS[0]))


def print_ratio(plain: list[Epoch], ours: list[Epoch]) -> None:
    """How much sooner Eyeshot is at the goal."""
    reached = [epoch.seconds for epoch in plain if epoch.accuracy >= GOAL]
    theirs = reached[0] if reached else plain[-1].seconds
    word = "reaches" if reached else "has not reached"
    seconds = statistics.median(run.seconds if run.accuracy >= GOAL else np.inf for run in ours)
    accuracy = statistics.median(run.accuracy for run in ours)
    print(f"tutorial {word} {GOAL:.1%} after {theirs:.1f} s")
    print(f"eyeshot reaches {GOAL:.1%} after {seconds:.1f} s (median of {len(ours)} seeds)")
    print(f"median accuracy {accuracy:.2%}; ratio 1/{theirs / seconds:.1f} (goal: 1/8)")


def print_best(plain: list[Epoch], best: Epoch) -> None:
    """What the most accurate network reaches in the time of the tutorial's five epochs."""
    limit = plain[-1].seconds
    print(
        f"eyeshot --model {BEST}: {best.accuracy:.2%} after {best.seconds:.1f} s, "
        f"{best.seconds / limit:.2f} of the tutorial's {EPOCHS} epochs ({limit:.1f} s, "
        f"{plain[-1].accuracy:.2%}; goal: 99.4 % within 1.00)"
    )


if __name__ == "__main__":
    main()
