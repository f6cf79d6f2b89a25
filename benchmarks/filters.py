"""Filters on a 1133×1700 RGB float32 picture, beside OpenCV's best call and torch's conv2d.

For every named kernel each OpenCV function that can compute it runs, with the same border (zeros)
and the same type; the fastest of them is the one to compare with. ``eyeshot / OpenCV`` above 1.20
misses the project's aim. The conv2d column is one call a channel on ready contiguous planes, its
conversions not counted.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

import eyeshot
from benchmarks.measure import Timings, time_interleaved
from eyeshot.filters import KernelSet, resolve

Picture = NDArray[np.float32]
Call = Callable[[], object]

HEIGHT, WIDTH = 1133, 1700
ZEROS = cv2.BORDER_CONSTANT
MOST_OVER_OPENCV, LEAST_OVER_TORCH = 1.2, 20.0

KERNELS = [*eyeshot.filters.NAMES, "mean:5", "mean:15", "mean:31", "gaussian:15", "motion:31"]


def main() -> None:
    picture = np.random.default_rng(0).random((HEIGHT, WIDTH, 3), dtype=np.float32)
    print(f"{'kernel':<12}{'eyeshot':>9}{'OpenCV best':>20}{'eyeshot /':>11}{'conv2d /':>10}")
    print(f"{'':<12}{'ms':>9}{'ms':>20}{'OpenCV':>11}{'eyeshot':>10}")
    missed = []
    for name in KERNELS:
        timings, best = compare(name, picture)
        over_opencv = timings.ratio("eyeshot", best)
        over_torch = timings.ratio("conv2d", "eyeshot")
        least = LEAST_OVER_TORCH if name == "mean" else 0
        if over_opencv > MOST_OVER_OPENCV or over_torch < least:
            missed.append(name)
        opencv = f"{best} {timings.median(best) * 1e3:7.2f}"
        ours = timings.median("eyeshot") * 1e3
        print(f"{name:<12}{ours:>9.2f}{opencv:>20}{over_opencv:>11.2f}{over_torch:>10.0f}")
    print(f"aims: eyeshot / OpenCV at most {MOST_OVER_OPENCV}; for mean 3×3, conv2d / eyeshot at")
    print(f"least {LEAST_OVER_TORCH:.0f}. Missed: {', '.join(missed) or 'none'}")


def compare(name: str, picture: Picture) -> tuple[Timings, str]:
    """Time one kernel everywhere; the timings, and the name of the fastest OpenCV call."""
    kernels = resolve(name)
    rivals = opencv_calls(name, kernels, picture)
    calls: dict[str, Call] = {
        "eyeshot": partial(eyeshot.filter, picture, name),
        "conv2d": partial(convolve_channels, as_planes(picture), kernels),
        **rivals,
    }
    # A slow conv2d of a large kernel would take all the time; few rounds settle a large ratio.
    timings = time_interleaved(calls, rounds=15 if kernels.shape[0] <= 9 else 5, warm_up=2)
    return timings, timings.fastest(list(rivals))


def as_planes(picture: Picture) -> list[torch.Tensor]:
    """(H, W, C) as C contiguous tensors of (1, 1, H, W)."""
    planes = torch.from_numpy(picture).permute(2, 0, 1)
    return [plane[None, None].contiguous() for plane in planes]


def convolve_channels(planes: list[torch.Tensor], kernels: KernelSet) -> list[torch.Tensor]:
    """The plain use of conv2d: each channel by itself, two kernels joined by their magnitude."""
    weights = [torch.from_numpy(np.float32(kernel))[None, None] for kernel in kernels.kernels]
    with torch.inference_mode():
        done = [
            [torch.nn.functional.conv2d(plane, w, padding="same") for w in weights]
            for plane in planes
        ]
        return [parts[0] if len(parts) == 1 else torch.hypot(*parts) for parts in done]


def opencv_calls(name: str, kernels: KernelSet, picture: Picture) -> dict[str, Call]:
    """Every OpenCV function that computes this kernel, by its name."""
    if len(kernels.kernels) == 2:
        parts = [
            opencv_calls(f"{name}-{axis}", resolve(f"{name}-{axis}"), picture) for axis in "xy"
        ]
        return {call: partial(_magnitude, parts[0][call], parts[1][call]) for call in parts[0]}
    weights = kernels.kernels[0]
    calls: dict[str, Call] = {
        "filter2D": partial(cv2.filter2D, picture, -1, weights, borderType=ZEROS)
    }
    stem, _, _ = name.partition(":")
    height, width = kernels.shape
    if stem == "mean":
        calls["blur"] = partial(cv2.blur, picture, (width, height), borderType=ZEROS)
    if stem == "gaussian":
        sigma = 0.3 * ((width - 1) / 2 - 1) + 0.8
        size = (width, height)
        calls["GaussianBlur"] = partial(cv2.GaussianBlur, picture, size, sigma, borderType=ZEROS)
    if stem in ("sobel-x", "sobel-y", "scharr-x", "scharr-y"):
        function = cv2.Sobel if stem.startswith("sobel") else cv2.Scharr
        dx = int(stem.endswith("x"))
        calls[function.__name__] = partial(function, picture, -1, dx, 1 - dx, borderType=ZEROS)
    if stem == "laplacian":
        calls["Laplacian"] = partial(cv2.Laplacian, picture, -1, borderType=ZEROS)
    if np.linalg.matrix_rank(weights) == 1:
        column, row = _factors(weights)
        calls["sepFilter2D"] = partial(cv2.sepFilter2D, picture, -1, row, column, borderType=ZEROS)
    return calls


def _factors(weights: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    left, values, right = np.linalg.svd(weights)
    return left[:, 0] * values[0], right[0]


def _magnitude(along_x: Call, along_y: Call) -> object:
    return cv2.magnitude(np.asarray(along_x()), np.asarray(along_y()))


def check(name: str, picture: Picture) -> float:
    """The largest difference between any two contenders: they must compute the same thing."""
    kernels = resolve(name)
    planes = convolve_channels(as_planes(picture), kernels)
    results = [
        eyeshot.filter(picture, name),
        torch.stack([plane[0, 0] for plane in planes], dim=-1).numpy(),
        *(np.asarray(call()) for call in opencv_calls(name, kernels, picture).values()),
    ]
    return max(float(np.abs(one - other).max()) for one, other in pairwise(results))
