"""Maps on disk where memory is short, and norms that are gathered as the rows pass."""

from __future__ import annotations

import ctypes
import errno
import os
import random
import resource
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import eyeshot
from eyeshot.axes import Interval
from eyeshot.engine import memory
from eyeshot.engine.executing import RunReport, execute
from eyeshot.engine.job import Job
from eyeshot.engine.memory import (
    Allocation,
    ScratchBuffer,
    ScratchFiles,
    ScratchSpace,
    freed_memory_kept,
    give_back,
    parse_bytes,
    scratch_space,
)
from eyeshot.errors import BadFile, BadValue
from eyeshot.images import open_sink
from eyeshot.planning import band_plan
from eyeshot.planning.holding import Holding, names_held_whole
from eyeshot.planning.recomputing import Choice, recompute, repeatable
from eyeshot.planning.schedule import multiply_adds
from tests.engine.law import by_parts, cut, enliven, job_of, largest_difference, noise, whole
from tests.planning.test_holding import Free


class Normed(nn.Module):
    """A small U-Net with a norm behind each convolution."""

    def __init__(self, norm: Callable[[int], nn.Module], width: int = 8) -> None:
        super().__init__()
        two = 2 * width
        self.fine = nn.Sequential(nn.Conv2d(1, width, 3, padding=1), norm(width), nn.ReLU())
        self.coarse = nn.Sequential(nn.Conv2d(width, two, 3, padding=1), norm(two), nn.GELU())
        self.up = nn.ConvTranspose2d(two, width, 2, stride=2)
        self.join = nn.Sequential(nn.Conv2d(two, width, 3, padding=1), norm(width), nn.ReLU())
        self.last = nn.Conv2d(width, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        fine = self.fine(x)
        below = self.up(self.coarse(F.max_pool2d(fine, 2)))
        answer: Tensor = self.last(self.join(torch.cat([fine, below], 1)))
        return answer


NORMS: dict[str, Callable[[int], nn.Module]] = {
    "instance": lambda n: nn.InstanceNorm2d(n, affine=True),
    "plain instance": nn.InstanceNorm2d,
    "group": lambda n: nn.GroupNorm(4, n),
    "batch": lambda n: nn.BatchNorm2d(n, track_running_stats=False),
}


def _net(name: str, image: Tensor) -> nn.Module:
    torch.manual_seed(0)
    net = Normed(NORMS[name]).to(image.dtype)
    for one in net.modules():
        if getattr(one, "weight", None) is not None and not isinstance(one, nn.Conv2d):
            nn.init.uniform_(one.weight, 0.5, 2)  # type: ignore[arg-type]
            nn.init.normal_(one.bias)  # type: ignore[arg-type]
    return net.eval()


def _on_disk(job: Job) -> Job:
    names = sorted(names_held_whole(job.graph))
    return replace(job, plan=replace(job.plan, spilled=dict.fromkeys(names, 0)))


@pytest.mark.parametrize("name", NORMS)
def test_norms_are_those_of_the_whole_pass_by_any_bands_and_on_disk(name: str) -> None:
    image = noise(1, 36, 20, double=True) * 3 + 5
    net = _net(name, image)
    job, truth = job_of(net, image), whole(net, image)
    assert "fine.1.moments" in job.graph.nodes
    for band, strips in ((3, 1), (100, 1), (8, 2)):
        ways = (cut(job, band, strips), _on_disk(cut(job, band, strips)))
        for way in ways:
            assert largest_difference(by_parts(way)[0], truth) <= 1e-12


def _again(job: Job, seed: int) -> Job:
    """Some maps computed again, and some of the others on disk."""
    r = random.Random(seed)
    names = repeatable(job.graph)
    names = tuple(name for name in names if r.random() < 0.6) if seed else names
    graph = recompute(job.graph, names)
    held = [name for name in sorted(names_held_whole(graph)) if r.random() < 0.5]
    assert not names_held_whole(graph) & set(names)
    return replace(job, graph=graph, plan=replace(job.plan, spilled=dict.fromkeys(held, 0)))


@pytest.mark.parametrize("seed", range(4))
def test_maps_computed_again_give_the_answer_of_the_whole_pass(seed: int) -> None:
    image = noise(1, 36, 20, double=True) * 3 + 5
    net = _net("instance", image)
    job, truth = _again(job_of(net, image), seed), whole(net, image)
    for band, strips in ((3, 1), (100, 1), (8, 2)):
        report = by_parts(way := cut(job, band, strips))
        assert largest_difference(report[0], truth) <= 1e-12
        counted = sum(multiply_adds(job.graph, strip.boxes) for strip in way.plan.strips)
        assert report[1].multiply_adds == counted
    region = (Interval(5, 30), Interval(3, 4))
    part = by_parts(cut(job, 4, region=region))[0]
    assert largest_difference(part, [truth[0][:, 5:30, 3:4]]) <= 1e-12


class Branches(nn.Module):
    """Two statistics beside each other, one behind both, a sort, and an image that is added."""

    def __init__(self, axes: int) -> None:
        super().__init__()
        make = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[axes - 1]
        self.first, self.second = make(1, 3, 3, padding=1), make(1, 3, 5, padding=2)
        self.third = make(3, 3, 3, padding=1, stride=2)
        self.over = tuple(range(2, 2 + axes))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        a, b = self.first(x), self.second(x)
        a = (a - a.mean(self.over, keepdim=True)).tanh()
        c = a * b.amax(self.over, keepdim=True) + b
        d = self.third(c * c.std(self.over, keepdim=True)).relu()
        return c + x * d.mean(self.over, keepdim=True), d.sort(2)[0]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("sides", [(41,), (23, 14), (13, 6, 7)])
def test_branches_are_computed_again_along_any_axes(sides: tuple[int, ...], seed: int) -> None:
    image = noise(1, *sides, double=True)
    net = enliven(Branches(len(sides)).double(), image[None])
    job, truth = _again(job_of(net, image), seed), whole(net, image)
    for band in (1, 4, 100):
        assert largest_difference(by_parts(cut(job, band))[0], truth) <= 1e-12


def test_in_float32_it_is_no_further_from_the_exact_answer_than_torch_is() -> None:
    image = noise(1, 64, 48) * 3 + 50
    net = _net("instance", image)
    parts, torchs = by_parts(job_of(net, image, band=5))[0], whole(net, image)
    exact = whole(net.double(), image.double())
    assert largest_difference(parts, exact) <= max(1e-6, 2 * largest_difference(torchs, exact))


STATISTICS: dict[str, Callable[[Tensor], Tensor]] = {
    "variance": lambda y: y.var((2, 3), keepdim=True),
    "variance of all, as it is": lambda y: y.var((2, 3), correction=0, keepdim=True),
    "deviation": lambda y: y.std((2, 3), keepdim=True, unbiased=False),
    "norm": lambda y: y.norm(p=2, dim=(2, 3), keepdim=True),
    "over channels too": lambda y: y.var((1, 2, 3), keepdim=True),
}


class Scaled(nn.Module):
    """A map by a statistic of itself."""

    def __init__(self, statistic: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.statistic = nn.Conv2d(1, 4, 3, padding=1), statistic

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        scaled: Tensor = y * self.statistic(y)
        return scaled


@pytest.mark.parametrize("name", STATISTICS)
def test_a_statistic_is_gathered_and_not_called(name: str) -> None:
    image = noise(1, 20, 16, double=True)
    net = enliven(Scaled(STATISTICS[name]).double(), image[None])
    job = job_of(net, image, band=3)
    assert not [node for node in job.graph if node.kind == "held"]
    assert largest_difference(by_parts(job)[0], whole(net, image)) <= 1e-12


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """No map is computed again, however cheap."""
    monkeypatch.setattr(band_plan, "choices", lambda graph: [Choice((), 0.0)])


@pytest.mark.usefixtures("kept")
def test_what_does_not_fit_goes_to_disk_and_leaves_nothing(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = Normed(NORMS["instance"], 16).eval()
    image = noise(1, 1024, 512)
    give_back(0)  # as a run with a limit does: what other tests have left is no part of the peak
    in_memory = job_of(net, image, band=32).plan.peak
    plans: list[Any] = []
    out, scratch = tmp_path / "out.npy", tmp_path / "scratch"
    scratch.mkdir()
    options: dict[str, Any] = {
        "memory": in_memory - (40 << 20),
        "scratch": f"{scratch}:1GB",
        "band": 32,
    }
    eyeshot.run(net, image, out, planned=plans.append, **options)
    (plan,) = plans
    assert plan.bands.disk > 0
    assert plan.bands.redundancy == 1
    assert plan.to_dict()["stages"] == 4
    assert "on disk" in str(plan)
    assert not list(scratch.iterdir())
    truth = whole(net, image)[0]
    assert np.abs(np.load(out) - truth).max() <= 1e-5 * np.abs(truth).max()
    with pytest.raises(BadValue, match="cannot hold this network over this image; the least that"):
        eyeshot.run(net, image, out, force=True, **{**options, "memory": "100MB"})


@pytest.mark.usefixtures("kept")
def test_a_run_with_maps_on_disk_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = Normed(NORMS["instance"], 16).eval()
    image = noise(1, 1024, 512)
    give_back(0)
    peak = job_of(net, image, band=32).plan.peak
    options: dict[str, Any] = {"memory": peak - (40 << 20), "band": 32}

    def give_up(report: RunReport) -> None:
        if report.rows > 200:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        eyeshot.run(net, image, tmp_path / "parts.npy", progress=give_up, **options)
    eyeshot.run(net, image, tmp_path / "parts.npy", resume=True)
    eyeshot.run(net, image, tmp_path / "whole.npy", **options)
    assert (tmp_path / "parts.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()


def test_without_scratch_maps_are_computed_again_and_a_run_goes_on(tmp_path: Path) -> None:
    """What would be refused is run, its work is said, and the image may not change in between."""
    torch.manual_seed(0)
    net = Normed(NORMS["instance"], 16).eval()
    image = noise(1, 1024, 512)
    np.save(tmp_path / "in.npy", image.numpy())
    plain = job_of(net, image, band=32).plan
    options: dict[str, Any] = {"memory": plain.peak - (60 << 20), "band": 32, "scratch": "none"}
    plan = eyeshot.plan(net, tmp_path / "in.npy", **options)
    assert plan.bands.again
    assert not plan.bands.spilled
    assert plan.bands.redundancy == plan.bands.multiply_adds / plain.multiply_adds > 1
    assert f"computed again for a later pass, {plan.bands.redundancy:.2f} x the work" in str(plan)

    def give_up(report: RunReport) -> None:
        if report.rows > 200:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        eyeshot.run(net, tmp_path / "in.npy", tmp_path / "a.npy", progress=give_up, **options)
    eyeshot.run(net, tmp_path / "in.npy", tmp_path / "a.npy", resume=True)
    eyeshot.run(net, tmp_path / "in.npy", tmp_path / "b.npy", **options)
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()
    truth = whole(net, image)[0]
    assert np.abs(np.load(tmp_path / "b.npy") - truth).max() <= 1e-5 * np.abs(truth).max()


def test_an_image_that_changes_between_two_readings_is_refused(tmp_path: Path) -> None:
    image = noise(1, 36, 20).numpy()
    changed = image.copy()
    net = _net("instance", noise(1, 36, 20))
    job = cut(_again(job_of(net, torch.from_numpy(changed)), 0), 36)

    def change(report: RunReport) -> None:
        changed[0, 0, 0] += 1

    sinks = {name: open_sink(None, job.shape(name), job.forms[name].dtype) for name in job.forms}
    with pytest.raises(BadFile, match="has changed"):
        execute(job, sinks, change)


def test_the_file_of_a_map_that_was_read_is_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    image = noise(1, 36, 20, double=True)
    net = _net("instance", image)
    job = _on_disk(cut(job_of(net, image), 4))
    (strip,) = job.plan.strips
    costs, names = Free(), list(job.plan.spilled)
    disk = Holding(job.graph, strip.regions, strip.boxes, 4, costs, names).disk
    sizes: list[int] = []
    close = ScratchFiles.__exit__

    def measured(files: ScratchFiles, *raised: object) -> None:
        sizes.extend(os.fstat(file.fileno()).st_size for file in files._files)
        close(files, *raised)

    monkeypatch.setattr(ScratchFiles, "__exit__", measured)
    made: list[str] = []
    new = tempfile.TemporaryFile

    def counted(dir: str, buffering: int) -> Any:
        made.append(dir)
        return new(dir=dir, buffering=buffering)

    monkeypatch.setattr(tempfile, "TemporaryFile", counted)
    assert largest_difference(by_parts(job)[0], whole(net, image)) <= 1e-12
    assert 0 < len(made) < len(job.plan.spilled)
    assert sum(sizes) == disk


def test_a_map_of_one_number_is_written_whatever_its_stride(tmp_path: Path) -> None:
    with ScratchFiles(ScratchSpace(tmp_path), ["map"]) as files:
        buffer = ScratchBuffer(2, Interval(0, 1), torch.empty(1, 1, 0, 1), files)
        value = torch.full((1, 7), 3.0)[:, :1].as_strided((1, 1, 1, 1), (7, 7, 7, 7))
        buffer.append(value, 1, borrowed=True)
        assert buffer.window(Interval(0, 1)).item() == 3


def test_a_full_disk_ends_the_run_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    image = noise(1, 36, 20)
    job = _on_disk(cut(job_of(_net("instance", image), image), 4))

    def full(file: int, data: memoryview, place: int) -> int:
        if place > 4000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(file, data, place)

    write = os.pwrite
    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(BadFile, match=r"the scratch file: No space left .*; name another disk"):
        by_parts(job)


def test_freed_memory_is_kept_if_there_is_room_for_the_gaps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[int] = []

    def note(option: int, value: int) -> None:
        if option != memory._MAPS:
            calls.append(value)

    library = SimpleNamespace(mallopt=note)
    monkeypatch.setattr(memory, "c_library", lambda: library)
    for limit, kept in ((100, False), (150, True)):
        monkeypatch.setattr(memory, "resident", lambda: 90)
        with Allocation(limit, predicted=100, gaps=40) as one:
            assert (min(calls) > 1 << 20) == kept
            one.watch()
            assert (min(calls) > 1 << 20) == kept
            monkeypatch.setattr(memory, "resident", lambda: 140)
            one.watch()  # the gaps take more than expected
            assert min(calls) < 1 << 20
        calls.clear()
    with Allocation(None, predicted=100, gaps=40):
        assert not calls


@pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "mallopt"), reason="glibc's alone; other systems keep their way"
)
def test_a_training_step_takes_the_blocks_of_the_step_before() -> None:
    def faults() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.ones(24 << 20)  # 96 MB, more than glibc keeps by itself
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    memory._trim()  # so that no block of an earlier test is taken
    start = memory.resident()
    with pytest.raises(KeyError), freed_memory_kept():
        first = [faults() for _ in range(4)]  # the heap may grow twice before it is large enough
        with freed_memory_kept(), Allocation(10**12, predicted=1, gaps=1):
            pass  # another training, or a run with a limit, that ends before this one
        then = [faults() for _ in range(4)]
        raise KeyError
    assert first[0] > 40 > max(first[-1], then[-1])
    assert memory.resident() < start + (24 << 20)


def test_after_a_training_memory_is_given_back_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: dict[int, int] = {}
    library = SimpleNamespace(mallopt=chosen.__setitem__, malloc_trim=lambda _: 1)
    monkeypatch.setattr(memory, "c_library", lambda: library)
    with freed_memory_kept():
        assert (chosen[memory._MAPS], chosen[memory._TRIM]) == (0, -1)
        with freed_memory_kept():
            pass
        assert (chosen[memory._MAPS], chosen[memory._TRIM]) == (0, -1)
    kept = {memory._MAPS: 65536, memory._MAP: 32 << 20, memory._TRIM: 64 << 20}
    assert chosen == kept


def test_where_scratch_files_go(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    assert scratch_space(None, [tmp_path / "here" / "new" / "out.npy"]).folder == tmp_path / "here"
    asked = scratch_space(f"{tmp_path}:2GB", None)
    assert (asked.folder, asked.limit) == (tmp_path, parse_bytes("2GB"))
    assert scratch_space("none", None).room == 0
    for size in ("1e400MB", "nan", "infGB", "0.1"):
        with pytest.raises(BadValue, match=f"memory '{size}'; give a size"):
            parse_bytes(size)
    with pytest.raises(BadValue, match="no such folder; name one that exists"):
        scratch_space(tmp_path / "nowhere", None)
