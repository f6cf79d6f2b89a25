"""A run and a training beside a busy neighbor: how long threads that wait should spin.

Each figure is the speed of a process of its own, two threads on two cores, relative to the same
process with OpenMP's own default on a machine as quiet as it is found. The neighbor is a program
for each core that never sleeps. Only ``GOMP_SPINCOUNT`` and ``OMP_WAIT_POLICY`` differ.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from eyeshot.cli.shared import SPIN_COUNT

ROUNDS = 3
SECONDS = 4.0
POLICIES: dict[str, dict[str, str]] = {
    "OpenMP's default": {},
    "eyeshot": {"GOMP_SPINCOUNT": str(SPIN_COUNT)},
    "GOMP_SPINCOUNT=1000": {"GOMP_SPINCOUNT": "1000"},
    "OMP_WAIT_POLICY=PASSIVE": {"OMP_WAIT_POLICY": "PASSIVE"},
}
"""What is set in the environment of a process, by its name in the table."""
_OWN = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "OMP_NUM_THREADS")


def run_unet() -> Callable[[], object]:
    """One pass of a small U-Net over 512×512 pixels."""
    import torch

    import eyeshot
    from eyeshot.nets.unet import unet

    image = torch.rand(3, 512, 512)
    net = eyeshot.trace(unet(in_channels=3, base=16, depth=3).eval())
    return lambda: eyeshot.run(net, image)


def train_digits() -> Callable[[], object]:
    """One step of the tutorial's digit network on 128 digits."""
    import torch
    from torch import nn

    net = nn.Sequential(
        *(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(9216, 128), nn.ReLU(), nn.Linear(128, 10)),
    )
    optimizer = torch.optim.Adam(net.parameters())
    digits, labels = torch.rand(128, 1, 28, 28), torch.randint(0, 10, (128,))

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(digits), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


WORK = {"run": run_unet, "train": train_digits}


def speed(work: str, seconds: float = SECONDS) -> float:
    """Calls a second in this process, after two calls that are not counted."""
    call = WORK[work]()
    call()
    call()
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        call()
        count += 1
    return count / (time.perf_counter() - start)


def speed_alone(work: str, policy: dict[str, str], seconds: float = SECONDS) -> float:
    """The same in a process of its own, with a policy in its environment."""
    environment = {name: value for name, value in os.environ.items() if name not in _OWN}
    command = [sys.executable, "-m", "benchmarks.neighbor", work, str(seconds)]
    done = subprocess.run(
        command, env=environment | policy, check=True, capture_output=True, text=True
    )
    return float(done.stdout)


@contextmanager
def busy_neighbor(programs: int) -> Iterator[None]:
    """So many programs that never sleep, within it."""
    code = "while True: pass"
    running = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(programs)]
    try:
        yield
    finally:
        for program in running:
            program.kill()
            program.wait()


def compare(work: str, programs: int, rounds: int = ROUNDS) -> dict[str, float]:
    """The median speed of each policy beside so many busy programs."""
    speeds: dict[str, list[float]] = {name: [] for name in POLICIES}
    with busy_neighbor(programs):
        for _ in range(rounds):
            for name, policy in POLICIES.items():
                speeds[name].append(speed_alone(work, policy))
    return {name: statistics.median(values) for name, values in speeds.items()}


def main() -> None:
    """Print the table."""
    cores = os.cpu_count() or 1
    print(f"{'':26}" + "".join(f"{name:>26}" for name in POLICIES))
    for work in WORK:
        quiet = compare(work, 0)
        for label, speeds in (("", quiet), (f", {cores} busy", compare(work, cores))):
            ratios = (speeds[name] / quiet["OpenMP's default"] for name in POLICIES)
            print(f"{work + label:26}" + "".join(f"{ratio:26.2f}" for ratio in ratios), flush=True)


if __name__ == "__main__":
    print(speed(sys.argv[1], float(sys.argv[2])))
