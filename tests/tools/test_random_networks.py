"""A slice of the random networks, and the tool that runs many of them."""

from __future__ import annotations

import numpy as np
import torch
from tests.networks import examples
from tools.random_layers import HEAD, Drawn, draw
from tools.random_networks import (
    Array,
    Outcome,
    Tally,
    Trial,
    attempt,
    compute,
    differs,
    program,
    whole,
)

SEEDS = range(examples(15).max_examples)


def test_networks_by_parts_are_their_whole_pass() -> None:
    tally = Tally()
    for seed in SEEDS:
        tally.add(seed, attempt(seed))
    assert not tally.bad, [(seed, outcome.why) for seed, outcome in tally.bad]
    assert tally.kinds["equal"] >= 0.8 * len(SEEDS)
    assert tally.trials > 2 * len(SEEDS)


def test_a_seed_is_one_network_with_one_answer() -> None:
    one, other = draw(7), draw(7)
    assert one == other != draw(8)
    first, second = (whole(drawn.build(), drawn.inputs()) for drawn in (one, other))
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_networks_are_of_every_kind() -> None:
    drawn = [draw(seed) for seed in range(300)]
    assert {len(one.sizes[0]) - 1 for one in drawn} == {1, 2, 3}
    assert {one.dtype for one in drawn} == {torch.float32, torch.float64}
    assert {len(one.sizes) for one in drawn} == {1, 2}
    text = "".join(one.source for one in drawn)
    for word in ("interpolate", "ConvTranspose", "circular", "align_corners=True", "groups=3"):
        assert word in text
    assert any(", t" in one.source.rpartition("return")[2] for one in drawn)


def test_a_difference_is_found_and_told_as_a_program() -> None:
    truth = [np.zeros((1, 4, 4)), np.ones((1, 4, 4))]
    part = [np.zeros((1, 4, 4)), np.ones((1, 4, 4))]
    sways, double = [np.zeros((1, 4, 4))] * 2, torch.float64
    assert not differs(part, truth, sways, Trial(), double)
    part[1][0, 2, 2] += 1e-6
    assert "output 1: 1e-06 off, 1 numbers" in differs(part, truth, sways, Trial(), double)
    part[1][0, 2, 2] = np.nan
    assert differs(part, truth, sways, Trial(), double)
    half: list[Array] = [part[0], part[1].astype(np.float32)]
    assert "float32" in differs(half, truth, sways, Trial(), double)

    drawn = draw(3)
    names: dict[str, object] = {}
    exec(program(drawn, Trial(3)), names)
    assert HEAD in program(drawn, Trial(3))
    images = names["images"]
    assert isinstance(images, list)
    for mine, its in zip(drawn.inputs(), images, strict=True):
        assert torch.equal(mine, its)


def test_outcomes_are_counted_in_a_line() -> None:
    tally = Tally()
    tally.add(0, Outcome("equal", trials=4))
    tally.add(1, Outcome("refused", "Unsupported: no rule", trials=1))
    tally.add(2, Outcome("wrong", "output 0", "a program", 2))
    line = "3 networks, 7 runs: 1 equal, 1 refused, 1 wrong, 0 traceback"
    assert tally.summary(1.0).startswith(line)
    assert [seed for seed, _ in tally.bad] == [2]


def test_a_network_is_run_in_strips_and_by_a_camera() -> None:
    source = (
        "class Net(nn.Module):\n    def forward(self, x):\n"
        "        return F.avg_pool2d(F.pad(x, [1, 1, 1, 1]), 3, 1)\n"
    )
    drawn = Drawn(0, source, ((2, 17, 12),), torch.float64)
    net, images = drawn.build(), drawn.inputs()
    for trial in (Trial(3, None, 3), Trial(2, ((4, 5), (0, 12))), Trial(5, camera=True)):
        found = compute(net, images, trial)
        sways = [np.zeros_like(one) for one in whole(net, images)]
        assert not differs(found, whole(net, images), sways, trial, torch.float64)
