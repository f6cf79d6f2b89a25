"""Sound: what it learns, what each layer sees, and a recording in bands as in one pass."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import eyeshot

from . import load

example = load("19")


def test_the_sounds_are_what_they_are_called() -> None:
    random = np.random.default_rng(0)
    spread = {}
    for kind in example.KINDS:
        sounds = [example.make_sound(kind, 2048, random) for _ in range(10)]
        energies = [np.abs(np.fft.rfft(sound * np.hanning(2048))) ** 2 for sound in sounds]
        # How many frequencies hold nine tenths of the energy.
        counts = [np.searchsorted(np.sort(one)[::-1].cumsum(), 0.9 * one.sum()) for one in energies]
        spread[kind] = float(np.mean(counts))
    assert spread["tone"] < 10 < 100 < spread["chirp"] < spread["noise"]


def test_what_each_layer_sees_in_milliseconds() -> None:
    fields = example.see_in_milliseconds(example.build_net())
    convolutions = [fields[f"conv{number}"] for number in (1, 2, 3, 4)]
    assert convolutions == [(8, 1), (25, 2), (59, 4), (127, 8)]
    assert fields["scores"] == (127, 8)


def test_a_pure_tone_passes_the_kernel_made_for_it() -> None:
    net = example.build_net()
    kernels = net.conv1.weight.data
    time = np.arange(64) / example.RATE
    for number in range(len(kernels)):
        kernels[number, 0] = example.torch.from_numpy(np.cos(2 * np.pi * 1000 * time)).float()
    best = example.respond(net).argmax(axis=1) * example.RATE / 256
    assert best == pytest.approx([1000] * len(kernels))


def test_it_tells_the_kinds_apart_and_a_recording_needs_no_whole_pass(tmp_path: Path) -> None:
    net = example.train(example.build_net(), 130)
    assert example.judge(net, 150) > 0.8
    samples, kinds = example.record(tmp_path / "sound.wav", 5)
    assert samples.shape == kinds.shape == (5 * example.RATE,)
    assert np.abs(samples).max() <= 1
    whole = net(example.torch.from_numpy(samples)[None, None])[0].detach().numpy()
    for band in (64, 1000):
        scores = eyeshot.run(net, samples[None], band=band)
        assert np.abs(scores - whole).max() <= 1e-5 * np.abs(whole).max()
    assert (whole.argmax(axis=0) == kinds[508 + 64 * np.arange(whole.shape[1])]).mean() > 0.7
