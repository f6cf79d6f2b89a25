"""Sound: a network of 1-D convolutions that tells tones, chirps and noise apart.

A sound is a picture with one axis. The sounds are made here by arithmetic, 8,000 samples a second.
What each layer sees, in milliseconds, comes from ``eyeshot.inspect``; the first kernels are looked
at as what they are, filters for frequencies; and ``eyeshot.run`` takes the network, which learned
from a quarter of a second, over a recording of any length, with the answer of one whole pass.
"""

from __future__ import annotations

import argparse
import wave
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor, nn

import eyeshot

RATE = 8000  # samples a second
LENGTH = 2048  # samples of a sound to learn from: 256 ms
KINDS = ["tone", "chirp", "noise"]
COLORS = ["#2a6fbb", "#b7791f", "#718096"]
KERNELS = 16  # of the first layer, 64 samples (8 ms) each

Sound = NDArray[np.float32]


def make_sound(kind: str, length: int, random: np.random.Generator) -> Sound:
    """A tone of 200 … 3,500 Hz, a chirp that rises or falls by 4 to 8 kHz a second, or noise."""
    time = np.arange(length) / RATE
    if kind == "noise":
        sound = random.normal(0, 0.7, length)
    else:
        low, high = 200.0, 3500.0
        slope = random.uniform(4000, 8000) * random.choice([-1, 1]) if kind == "chirp" else 0.0
        # A chirp that reaches the end of the range turns around.
        start = random.uniform(low, high)
        way = (start - low + slope * time) % (2 * (high - low))
        frequency = low + np.where(way > high - low, 2 * (high - low) - way, way)
        phase = 2 * np.pi * np.cumsum(frequency) / RATE
        sound = np.sin(phase + random.uniform(0, 2 * np.pi))
    faint = random.normal(0, 0.02, length)  # as any microphone has
    return np.asarray(random.uniform(0.3, 1) * sound + faint, np.float32)


def make_batch(count: int, random: np.random.Generator) -> tuple[Tensor, Tensor]:
    """So many short sounds (N, 1, LENGTH) and their kinds (N,)."""
    labels = random.integers(0, len(KINDS), count)
    sounds = np.stack([make_sound(KINDS[label], LENGTH, random) for label in labels])
    return torch.from_numpy(sounds)[:, None], torch.from_numpy(labels)


def build_net() -> nn.Sequential:
    """Scores (N, 3, times): every 8 ms what the sound around that time is."""
    torch.manual_seed(0)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["conv1"] = nn.Conv1d(1, KERNELS, 64, stride=8)
    for number, channels in ((2, KERNELS), (3, 32), (4, 32)):
        layers[f"relu{number - 1}"] = nn.ReLU()
        layers[f"pool{number - 1}"] = nn.MaxPool1d(2)
        layers[f"conv{number}"] = nn.Conv1d(channels, 32, 9)
    layers["relu4"] = nn.ReLU()
    layers["scores"] = nn.Conv1d(32, len(KINDS), 1)
    return nn.Sequential(layers)


def train(net: nn.Sequential, steps: int) -> nn.Sequential:
    """So many steps on 32 new sounds each; the scores of a sound are its mean over time."""
    random = np.random.default_rng(0)
    optimizer = torch.optim.Adam(net.parameters(), 2e-3)
    for _ in range(steps):
        sounds, labels = make_batch(32, random)
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(sounds).mean(dim=2), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return net.eval()


@torch.no_grad()
def judge(net: nn.Sequential, count: int = 600) -> float:
    """The share of new short sounds that are classified correctly."""
    sounds, labels = make_batch(count, np.random.default_rng(1))
    return float((net(sounds).mean(dim=2).argmax(dim=1) == labels).double().mean())


def record(path: Path, seconds: int) -> tuple[Sound, NDArray[np.int64]]:
    """A recording of one sound after another, written as a WAV and read back, and its kinds.

    Half a second to a second each; (samples,) from −1 to 1 in 16 bits, and a kind a sample.
    """
    random = np.random.default_rng(2)
    sounds: list[Sound] = []
    kinds: list[NDArray[np.int64]] = []
    while sum(len(sound) for sound in sounds) < seconds * RATE:
        kind = int(random.integers(0, len(KINDS)))
        sounds.append(make_sound(KINDS[kind], int(random.integers(4000, 8000)), random))
        kinds.append(np.full(len(sounds[-1]), kind))
    samples = np.clip(np.concatenate(sounds)[: seconds * RATE], -1, 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes(np.rint(32767 * samples).astype("<i2").tobytes())
    with wave.open(str(path), "rb") as file:
        whole = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    return (whole / 32767).astype(np.float32), np.concatenate(kinds)[: seconds * RATE]


def see_in_milliseconds(net: nn.Sequential) -> dict[str, tuple[float, float]]:
    """For each convolution and pool: how much one output sees, and how far apart outputs are."""
    rows = eyeshot.inspect(net, (1, LENGTH)).rows
    fields = {row.name: row.fields[0] for row in rows if row.operator.endswith("1d")}
    return {
        name: (1000 * (field.largest or 0) / RATE, 1000 * float(field.stride or 0) / RATE)
        for name, field in fields.items()
    }


def respond(net: nn.Sequential) -> NDArray[np.float64]:
    """How much each of the first kernels lets through of each frequency: (16, 129), 0 … 4 kHz."""
    kernels = net.get_parameter("conv1.weight")[:, 0].detach().numpy().astype(np.float64)
    return np.abs(np.fft.rfft(kernels, 256, axis=1))


def choosiness(responses: NDArray[np.float64]) -> float:
    """How far the frequency a kernel likes best stands out: best energy / mean energy, averaged."""
    energies = responses**2
    return float((energies.max(axis=1) / energies.mean(axis=1)).mean())


def main(out: Path, quick: bool = False) -> dict[str, Any]:
    net = build_net()
    before = choosiness(respond(net))
    train(net, 10 if quick else 300)
    responses = respond(net)
    accuracy = judge(net)
    print(f"{accuracy:.1%} of short sounds classified correctly")
    fields = see_in_milliseconds(net)
    for name, (field, stride) in fields.items():
        print(f"{name:6} sees {field:6.1f} ms, an output every {stride:.0f} ms")
    print(f"the best frequency of a kernel stands out {before:.1f} times at first,", end="")
    print(f" {choosiness(responses):.1f} times after training")

    samples, kinds = record(out / "19_sound.wav", 4 if quick else 20)
    scores = eyeshot.run(net, samples[None], band=512)
    with torch.no_grad():
        whole = net(torch.from_numpy(samples)[None, None])[0].numpy()
    apart = float(np.abs(scores - whole).max() / np.abs(whole).max())
    seen = eyeshot.inspect(net, (1, len(samples))).rows[-1].fields[0]
    middles = int(seen.center) + int(seen.stride or 0) * np.arange(scores.shape[1])  # in samples
    predicted = scores.argmax(axis=0)
    hits, half = predicted == kinds[middles], seen.largest // 2
    alone = kinds[middles - half] == kinds[middles + half - 1]  # its field holds one kind of sound
    right, inner = float(hits.mean()), float(hits[alone].mean())
    print(
        f"{len(samples) / RATE:.0f} s of recording: {scores.shape[1]} answers, {right:.1%} right;"
    )
    print(f"of those that see one kind of sound alone, {inner:.1%};")
    print(f"in bands of 512 samples or in one pass: {apart:.0e} apart")
    draw(samples, kinds, middles, scores, responses, out)
    return {
        "accuracy": accuracy,
        "fields": fields,
        "choosiness": (before, choosiness(responses)),
        "scores": scores,
        "apart": apart,
        "right": right,
        "inner": inner,
    }


def draw(
    samples: Sound,
    kinds: NDArray[np.int64],
    middles: NDArray[np.int64],
    scores: NDArray[np.float32],
    responses: NDArray[np.float64],
    out: Path,
) -> None:
    seconds = 8
    figure = Figure(figsize=(13, 7), layout="constrained")
    grid = figure.add_gridspec(3, 2, width_ratios=[2.2, 1], height_ratios=[2, 1, 0.45])
    heard = figure.add_subplot(grid[0, 0])
    heard.specgram(samples[: seconds * RATE] + 1e-9, NFFT=256, Fs=RATE, noverlap=128, cmap="magma")
    heard.set(title="the recording, as frequencies over time", ylabel="Hz", xlim=(0, seconds))
    shares = np.exp(scores) / np.exp(scores).sum(axis=0)
    sure = figure.add_subplot(grid[1, 0], sharex=heard)
    sure.stackplot(middles / RATE, shares, labels=KINDS, colors=COLORS)
    sure.set(title="what the network says, every 8 ms", ylim=(0, 1), yticks=[])
    sure.legend(loc="lower right", ncols=3, fontsize=9)
    true = figure.add_subplot(grid[2, 0], sharex=heard)
    some = kinds[::40]
    true.stackplot(
        np.arange(len(some)) * 40 / RATE, [some == k for k in range(len(KINDS))], colors=COLORS
    )
    true.set(title="what it is", yticks=[], ylim=(0, 1), xlabel="seconds")
    axis = figure.add_subplot(grid[:, 1])
    order = responses.argmax(axis=1).argsort()
    best = responses[order] / responses[order].max(axis=1, keepdims=True)
    axis.imshow(best, aspect="auto", cmap="magma", extent=(0, RATE / 2, len(order), 0))
    axis.set(title="the first kernels: what each lets through", xlabel="Hz", yticks=[])
    axis.set_ylabel("16 kernels, by their best frequency")
    figure.savefig(out / "19_sound.png", dpi=110)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "out")
    parser.add_argument("--quick", action="store_true", help="a few steps, a short recording")
    given = parser.parse_args()
    main(given.out, given.quick)
