"""A slice of the random networks, and the tool that runs many of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tests.networks import examples
from tools.random_layers import HEAD, Drawn, draw
from tools.random_networks import (
    OtherBits,
    Outcome,
    Tally,
    Trial,
    attempt,
    compute,
    main,
    methods_everywhere,
    program,
)
from tools.sensitivity import EXACT, Array, Perturbed, Reference, whole
from torch import nn

from eyeshot.engine.executing import execute
from eyeshot.engine.job import Job, make_job
from eyeshot.graph import ConvolutionParams
from eyeshot.images import open_source
from eyeshot.operators.winograd_compiled import is_compiled
from tools import random_networks

SEEDS = range(examples(15).max_examples)


def test_networks_by_parts_are_their_whole_pass() -> None:
    tally = Tally()
    for seed in SEEDS:
        tally.add(seed, attempt(seed))
    assert not tally.bad, [(seed, outcome.why) for seed, outcome in tally.bad]
    assert tally.kinds["equal"] >= 0.8 * len(SEEDS)
    assert tally.trials > 2 * len(SEEDS)


def test_wide_networks_by_parts_are_their_whole_pass() -> None:
    found = [attempt(seed, 2, wide=True) for seed in range(3)]
    assert [one.kind for one in found] == ["equal"] * 3, [one.why for one in found]


def test_convolutions_use_methods_however_small() -> None:
    net = nn.Sequential(nn.Conv2d(3, 16, 1), nn.Conv2d(16, 16, 3)).eval()
    source = open_source(torch.zeros(3, 9, 9).numpy())

    def methods() -> set[str | None]:
        nodes = make_job(net, [source]).graph
        return {node.params.method for node in nodes if isinstance(node.params, ConvolutionParams)}

    with methods_everywhere():
        assert methods() == ({"compiled", "winograd"} if is_compiled() else {None, "winograd"})
    assert methods() == {None}


def test_a_resumed_run_with_other_bits_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    net, image = nn.Conv2d(1, 2, 3).eval(), torch.randn(1, 30, 20)
    trial = Trial(3, strips=2, done=5)
    assert compute(net, [image], trial)[0].shape == (2, 28, 18)

    def off(job: Job, sinks: Any) -> None:
        execute(job, sinks)
        for sink in sinks.values():
            sink.finish()[:, -1, -1] += 1e-6 * any(sink._written.values())

    monkeypatch.setattr(random_networks, "_resumed", off)
    with pytest.raises(OtherBits, match="off after a resume"):
        compute(net, [image], trial)


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


def judged(drawn: Drawn) -> tuple[Reference, list[Array]]:
    """The reference of a network, and the network by parts."""
    net, images = drawn.build(), drawn.inputs()
    return Reference(net, images, drawn.dtype), compute(net, images, Trial(3))


def test_a_difference_is_found_wherever_it_is() -> None:
    net = nn.Conv2d(1, 2, 3).eval().double()
    reference = Reference(net, [torch.randn(1, 9, 9).double()], torch.float64)
    part = [reference.truth[0].copy()]
    assert reference.compare(part).why == ""
    assert reference.compare([part[0][:, 2:3]], ((2, 3), (0, 7))).numbers == 14
    part[0][0, 2, 2] += 1e-6
    assert reference.compare(part).why == "output 0: 1e-06 off, 1 numbers"
    part[0][0, 2, 2] = np.nan
    assert "inf off, 1 numbers" in reference.compare(part).why
    assert "float32" in reference.compare([part[0].astype(np.float32)]).why
    assert "(2, 6, 7)" in reference.compare([part[0][:, 1:]]).why


def test_where_rounding_decides_a_difference_says_nothing() -> None:
    """A vector of length zero that is normalized; 0.5, interpolated, compared with 0.5."""
    for seed in (801305, 802152):
        reference, found = judged(draw(seed))
        verdict = reference.compare(found)
        assert not verdict.why
        assert 0 < verdict.jumped <= verdict.silent < verdict.numbers
        assert attempt(seed).kind == "discontinuous"
    assert attempt(308950).kind == "equal"  # a map of zeros but for rounding, convolved


def test_where_rounding_decides_a_fault_beside_is_still_found() -> None:
    vector = draw(801305)
    reference, found = judged(vector)
    found[1] = np.roll(found[1], 1, 1)  # an output that does not jump
    assert "output 1" in reference.compare(found).why
    masked = draw(802152)
    reference, found = judged(masked)
    assert "output 0" in reference.compare([np.roll(found[0], 1, 1)]).why
    for right, fault in (("mode='reflect'", "mode='replicate'"), ("value=0.5", "value=0.6")):
        other = replace(masked, source=masked.source.replace(right, fault))
        assert other.source != masked.source
        assert "output 0" in reference.compare(whole(other.build(), other.inputs())).why
    found[0][0, 4, 4] = 1.5  # no network of ours gives that, wherever the roundings fall
    assert reference.compare(found).why


def test_a_row_in_another_place_is_found_in_networks_of_every_kind() -> None:
    """What sways is never so much that a whole row may lie elsewhere."""
    tried = 0
    for seed in range(20):
        reference, found = judged(draw(seed))
        for i, part in enumerate(found):
            shifted = [*found[:i], np.roll(part, 1, 1) if part.ndim > 1 else part, *found[i + 1 :]]
            if np.allclose(shifted[i], part, rtol=1e-3, atol=1e-3 * np.abs(part).max()):
                continue  # constant along this axis
            tried += 1
            assert f"output {i}" in reference.compare(shifted).why, seed
    assert tried > 15


def test_only_what_rounds_is_changed() -> None:
    assert all(hasattr(torch.ops.aten, name) for name in EXACT)
    x = torch.randn(1, 2, 8, 8, generator=torch.Generator().manual_seed(0))

    def changed(compute: Callable[[torch.Tensor], torch.Tensor]) -> float:
        with Perturbed(1):
            value = compute(x)
        return float((value - compute(x)).abs().max())

    assert changed(lambda x: torch.cat([x, F.pad(x, [1, 1, 0, 0])[..., 1:-1]], 1).relu()) == 0
    assert changed(lambda x: F.max_pool2d(x.flip(2), 2).transpose(2, 3).contiguous()) == 0
    assert 0 < changed(lambda x: x.mean((2, 3))) < 1e-5
    assert 0 < changed(lambda x: F.conv2d(x, x)) < 1e-2
    assert changed(lambda x: (x - x.mean((2, 3), keepdim=True)).mean((2, 3))) > 0


def test_a_difference_is_shown_as_a_program() -> None:
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
    tally.add(3, Outcome("discontinuous", trials=1, numbers=400, silent=2))
    line = "4 networks, 8 runs: 1 equal, 1 refused, 1 discontinuous, 1 wrong, 0 traceback"
    assert tally.summary(1.0).startswith(line)
    assert "5.0e-03 of the numbers are decided by rounding" in tally.summary(1.0)
    assert [seed for seed, _ in tally.bad] == [2]


def test_a_run_that_is_cut_short_has_printed_its_tally(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def cut_short(seed: int, runs: int | None, *, wide: bool) -> Outcome:
        if seed == 5:
            raise KeyboardInterrupt
        assert runs == 1
        assert not wide
        return Outcome("wrong", "off", "a program") if seed == 1 else Outcome("equal")

    monkeypatch.setattr(random_networks, "_TALLY", 2)
    monkeypatch.setattr(random_networks, "_CHUNK", 1)
    monkeypatch.setattr(random_networks, "attempt", cut_short)
    monkeypatch.setattr("sys.argv", ["random_networks", "--runs", "1"])
    with pytest.raises(KeyboardInterrupt):
        main()
    printed = capsys.readouterr().out.splitlines()
    assert printed[:2] == ["# network 1: wrong: off", "a program"]
    assert [line.split(",")[0] for line in printed[2:]] == ["2 networks", "4 networks"]


def test_a_network_is_run_in_as_many_ways_as_asked() -> None:
    assert [attempt(1, runs).trials for runs in (1, 2)] == [1, 2]


def test_a_network_is_run_in_strips_and_by_a_camera() -> None:
    source = (
        "class Net(nn.Module):\n    def forward(self, x):\n"
        "        return F.avg_pool2d(F.pad(x, [1, 1, 1, 1]), 3, 1)\n"
    )
    drawn = Drawn(0, source, ((2, 17, 12),), torch.float64)
    net, images = drawn.build(), drawn.inputs()
    for trial in (Trial(3, None, 3), Trial(2, ((4, 5), (0, 12))), Trial(5, camera=True)):
        found = compute(net, images, trial)
        assert not Reference(net, images, torch.float64).compare(found, trial.region).why
