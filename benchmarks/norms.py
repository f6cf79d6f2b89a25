"""A U-Net with an instance norm after each convolution, in little memory, against net(x) whole.

Each contender is a process of its own with one thread, so its memory and its processor time are its
own. The time of a run includes the trace and the plan.
"""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import eyeshot
from benchmarks.engine.networks import CHANNELS, make_network

SIDE, MEMORY = 4096, "1GB"


@dataclass(frozen=True)
class Cost:
    """Of one contender: processor seconds, seconds, and peak bytes of its process."""

    processor: float
    wall: float
    peak: int

    def __str__(self) -> str:
        memory = f"{self.peak / 1e9:.2f} GB"
        return f"{self.processor:.1f} s of the processor, {self.wall:.1f} s, {memory}"


def network(base: int = 32, depth: int = 4) -> nn.Module:
    """A U-Net with ``4 * depth + 2`` instance norms."""
    net = make_network(depth, base)
    _exchange(net)
    return net.eval()


def _exchange(module: nn.Module) -> None:
    for name, child in module.named_children():
        _exchange(child)
        if isinstance(child, nn.BatchNorm2d):
            norm = nn.InstanceNorm2d(child.num_features, affine=True)
            norm.load_state_dict({"weight": child.weight, "bias": child.bias})
            setattr(module, name, norm)


def compare(side: int, memory: str, base: int = 32, depth: int = 4) -> dict[str, Any]:
    """Both passes over noise of this side, and a run over a quarter of its rows.

    Returns:
        the :class:`Cost` of ``whole``, ``run`` and ``quarter``, and the largest ``difference``
        relative to the largest score.
    """
    rng = np.random.default_rng(0)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        image = rng.standard_normal((CHANNELS, side, side), np.float32)
        np.save(folder / "image.npy", image)
        np.save(folder / "quarter.npy", image[:, : side // 4])
        found["quarter"] = _alone(_run, folder, "quarter", memory, base, depth)
        found["run"] = _alone(_run, folder, "image", memory, base, depth)
        found["whole"] = _alone(_whole, folder, "image", memory, base, depth)
        truth = np.load(folder / "whole.npy", mmap_mode="r")
        parts = np.load(folder / "image_out.npy", mmap_mode="r")
        found["difference"] = float(np.abs(parts - truth).max() / np.abs(truth).max())
    return found


def _alone(contender: Callable[..., Cost], *arguments: Any) -> Cost:
    """The cost of a contender in a new process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(contender, *arguments).result()


def _whole(folder: Path, name: str, memory: str, base: int, depth: int) -> Cost:
    net = network(base, depth)
    torch.set_num_threads(1)
    x = torch.from_numpy(np.load(folder / f"{name}.npy"))[None]
    started = time.process_time(), time.perf_counter()
    with torch.no_grad():
        y = net(x)
    cost = _since(started)
    np.save(folder / "whole.npy", y[0].numpy())
    return cost


def _run(folder: Path, name: str, memory: str, base: int, depth: int) -> Cost:
    net = network(base, depth)
    torch.set_num_threads(1)
    started = time.process_time(), time.perf_counter()
    eyeshot.run(net, folder / f"{name}.npy", folder / f"{name}_out.npy", memory=memory, raw=True)
    return _since(started)


def _since(started: tuple[float, float]) -> Cost:
    processor, wall = time.process_time() - started[0], time.perf_counter() - started[1]
    return Cost(processor, wall, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def main() -> None:
    """Print both costs and their ratio."""
    found = compare(SIDE, MEMORY)
    print(f"noise of {SIDE}×{SIDE}, U-Net (base 32, depth 4) with 18 instance norms, one thread")
    print(f"net(x): {found['whole']}")
    print(f"run with --memory {MEMORY}: {found['run']}")
    print(f"the same over {SIDE // 4} rows: {found['quarter']}")
    ratio = found["whole"].processor / found["run"].processor
    print(f"{ratio:.2f} x the speed by processor time, ", end="")
    print(f"{found['whole'].wall / found['run'].wall:.2f} x by the clock; ", end="")
    print(f"largest difference {found['difference']:.1e}")


if __name__ == "__main__":
    main()
