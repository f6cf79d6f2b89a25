"""What a run that goes on keeps: bands, strips and threads, whatever the machine has free today."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
import zarr
from torch import nn

import eyeshot
from eyeshot.axes import Interval
from eyeshot.engine.executing import Progress, RunReport
from eyeshot.engine.job import make_job
from eyeshot.engine.networks import Traced
from eyeshot.engine.resuming import MOST_READINGS, Readings
from eyeshot.errors import BadFile, BadValue
from eyeshot.images import open_sink, open_source
from eyeshot.images.sinks.png import NpySink
from eyeshot.images.sinks.zarrays import ZarrSink
from eyeshot.planning import Cut, cut_from
from tests.engine.law import enliven, noise
from tests.engine.runner import content
from tests.journals import change_journal, state_of

BAND = 16
FREE = 100 << 20


class Killed(BaseException):
    """Stands for the moment at which a process ends without a word."""


def killed_after(steps: int) -> Progress:
    left = iter(range(steps))

    def die(report: RunReport) -> None:
        if next(left, None) is None:
            raise Killed

    return die


@pytest.fixture
def net() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 6, 5, padding=2), nn.GELU(), nn.Conv2d(6, 3, 3, padding=1)]
    return enliven(nn.Sequential(*layers), noise(1, 1, 16, 16))


@pytest.fixture
def image() -> torch.Tensor:
    return noise(1, 128, 96)


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Say how many bytes the process holds before the run."""

    def settle(count: int) -> None:
        monkeypatch.setattr("eyeshot.engine.job.resident", lambda: count)
        monkeypatch.setattr("eyeshot.engine.job.peak", lambda: count)

    settle(FREE)
    return settle


@pytest.fixture
def tight(net: nn.Module, image: torch.Tensor, taken: Callable[[int], None]) -> int:
    """Memory that is too little for one strip."""
    return make_job(net, [open_source(image, layout="CHW")], band=BAND).plan.peak - 1


def strips(out: Path) -> list[Any]:
    found: list[Any] = state_of(out)["settings"]["strips"]
    return found


def begin(net: nn.Module | Traced, image: torch.Tensor | Path, out: Path, **options: Any) -> None:
    with pytest.raises(Killed):
        eyeshot.run(
            net, image, out, output_format="probabilities", progress=killed_after(5), **options
        )


@pytest.mark.parametrize("more", [-(50 << 20), 0])
def test_the_strips_of_the_run_that_began_are_kept(
    more: int, tmp_path: Path, net: nn.Module, image: torch.Tensor, tight: int, taken: Any
) -> None:
    whole, out = tmp_path / "whole.npy", tmp_path / "out.npy"
    eyeshot.run(net, image, whole, output_format="probabilities", memory=tight, band=BAND)
    begin(net, image, out, memory=tight, band=BAND)
    assert len(strips(out)) > 1
    taken(FREE + more)
    eyeshot.run(net, image, out, output_format="probabilities", memory=tight, resume=True)
    assert out.read_bytes() == whole.read_bytes()


def test_bands_are_kept_and_another_one_is_refused(
    tmp_path: Path, net: nn.Module, image: torch.Tensor
) -> None:
    whole, out = tmp_path / "whole.npy", tmp_path / "out.npy"
    eyeshot.run(net, image, whole, output_format="probabilities", band=12)
    begin(net, image, out, band=12)
    with pytest.raises(BadValue, match="cannot resume: band was 12 and is 20"):
        eyeshot.run(net, image, out, output_format="probabilities", band=20, resume=True)
    eyeshot.run(net, image, out, output_format="probabilities", resume=True)
    assert out.read_bytes() == whole.read_bytes()


def test_less_memory_than_the_run_began_with_is_reported(
    tmp_path: Path, net: nn.Module, image: torch.Tensor, tight: int, taken: Any
) -> None:
    out = tmp_path / "out.npy"
    begin(net, image, out, memory=tight, band=BAND)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    taken(FREE + (20 << 20))
    with pytest.raises(
        BadValue, match="cannot hold the run as it was begun, in 2 strip"
    ) as reported:
        eyeshot.run(net, image, out, output_format="probabilities", memory=tight, resume=True)
    assert "\n" not in str(reported.value)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    enough = str(reported.value).split("give ")[1].split(", or")[0]
    eyeshot.run(net, image, out, output_format="probabilities", memory=enough, resume=True)
    assert out.exists()


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_the_work_is_shared_out_as_it_was(
    tmp_path: Path, net: nn.Module, image: torch.Tensor
) -> None:
    seen = []
    out = tmp_path / "out.npy"
    begin(net, image, out, band=BAND)
    torch.set_num_threads(1)
    eyeshot.run(
        *(net, image, out),
        output_format="probabilities",
        resume=True,
        progress=lambda report: seen.append(torch.get_num_threads()),
    )
    assert set(seen[:-1]) == {2}  # the last call is behind the work
    assert torch.get_num_threads() == 1


def test_another_arithmetic_is_refused(
    tmp_path: Path, net: nn.Module, image: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.npy"
    begin(net, image, out, band=BAND)
    monkeypatch.setattr(torch, "__version__", "9.9")
    with pytest.raises(BadValue, match=r"cannot resume: arithmetic was .* torch 9\.9"):
        eyeshot.run(net, image, out, output_format="probabilities", resume=True)


@pytest.mark.parametrize("ruined", ["strips", "band", "threads"])
def test_a_journal_of_another_kind_is_refused_by_name(
    ruined: str, tmp_path: Path, net: nn.Module, image: torch.Tensor
) -> None:
    out, traced = tmp_path / "out.npy", eyeshot.trace(net)
    begin(traced, image, out, band=BAND)
    settings = state_of(out)["settings"]
    values: list[Any] = [None, [], "many", 0, [{"2": [[0, 7]]}]]
    for value in values:
        change_journal(out, settings={**settings, ruined: value})
        with pytest.raises(BadValue, match=f"cannot resume: {ruined} was"):
            eyeshot.run(traced, image, out, output_format="probabilities", resume=True)


def test_strips_suit_regions_that_they_make_up() -> None:
    reported = {"strips": [{"a": [[0, 9], [2, 5]]}, {"a": [[0, 9], [5, 8]]}], "band": 4}
    found = cut_from(reported)
    assert found is not None
    assert found.band == 4
    rows = Interval(0, 9)
    assert found.suits({"a": (rows, Interval(2, 8))})
    assert not found.suits({"a": (rows, Interval(2, 9))})
    assert not found.suits({"a": (Interval(0, 8), Interval(2, 8))})
    assert not found.suits({"b": (rows, Interval(2, 8))})
    assert not found.suits({"a": (rows,)})
    assert not Cut(4, found.strips[::-1]).suits({"a": (rows, Interval(2, 8))})
    assert not Cut(4, ()).suits({})


def test_rows_that_are_there_are_not_written_again(
    tmp_path: Path, net: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, image = tmp_path / "out.npy", noise(1, 128, 96)
    begin(net, image, out, band=BAND)
    rows = max(state_of(out)["done"].values())
    own, written = NpySink._store, []

    def store(self: NpySink, row: int, block: Any, strip: Any) -> None:
        written.append((row, row + block.shape[1]))
        own(self, row, block, strip)

    monkeypatch.setattr(NpySink, "_store", store)
    eyeshot.run(net, image, out, output_format="probabilities", resume=True)
    assert 0 < rows < 128
    assert written[0][0] == rows
    assert written[-1][1] == 128


def _image_file(kind: str, folder: Path, rows: int) -> Path:
    array = np.random.default_rng(0).random((rows, 24), dtype=np.float32)
    path = folder / f"in.{kind}"
    if kind == "zarr":
        stored = zarr.create_array(str(path), shape=array.shape, chunks=(50, 24), dtype="f4")
        stored[...] = array
    elif kind == "tif":
        tifffile.imwrite(path, array)
    else:
        np.save(path, array)
    return path


def _change_row(path: Path, row: int) -> None:
    """Another value in one sample, and every time as it was."""
    times = {f: f.stat() for f in (path, *path.rglob("*")) if f.is_file()}
    if path.suffix == ".zarr":
        zarr.open_array(str(path), mode="r+")[row, 3] = 9
    elif path.suffix == ".tif":
        tifffile.memmap(path, mode="r+")[row, 3] = 9
    else:
        np.load(path, mmap_mode="r+")[row, 3] = 9
    for file, status in times.items():
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize("kind", ["zarr", "tif", "npy"])
def test_an_image_that_changed_in_between_is_noticed(
    kind: str, tmp_path: Path, net: nn.Module
) -> None:
    image, out = _image_file(kind, tmp_path, 200), tmp_path / "out.npy"
    begin(net, image, out, band=BAND)
    before = content(image)
    _change_row(image, 7)
    with pytest.raises(
        (BadFile, BadValue), match=r"not those that the unfinished|chunks|image was"
    ):
        eyeshot.run(net, image, out, output_format="probabilities", resume=True)
    if kind != "zarr":
        _change_back(image, before)
        eyeshot.run(net, image, out, output_format="probabilities", resume=True)
        assert out.exists()


def _change_back(path: Path, before: dict[str, bytes]) -> None:
    status = path.stat()
    path.write_bytes(before[""])
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize("passes", [0, 1, 2, 40])
def test_readings_are_spread_over_all_that_was_read(passes: int, tmp_path: Path) -> None:
    image = tmp_path / "in.npy"
    np.save(image, np.zeros((3000, 5), np.float32))
    source, sink = open_source(image), open_sink(tmp_path / "o.npy", (1, 3000, 5), np.uint8)
    readings = Readings({"x": source}, [sink])
    for row in range(3000):
        readings.note("x", (Interval(row, row + 1), Interval(0, 5)), source.read((row, row + 1)))
        if row in range(10, 10 + passes):
            readings.note_pass(str(row), "in.npy", row)
    sink.abort()
    kept = [window[0][0] for _, window, _ in sink.notes if window]
    assert len(sink.notes) == len(kept) + passes
    assert MOST_READINGS // 2 <= len(kept) < MOST_READINGS
    assert max(np.diff([0, *kept, 3000])) <= 3000 / MOST_READINGS * 4


class Two(nn.Module):
    """One picture to two, of different strides."""

    def __init__(self) -> None:
        super().__init__()
        self.fine, self.coarse = nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(2, 3, 2, 2)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        fine = self.fine(x).sigmoid()
        return fine, self.coarse(fine)


@pytest.mark.parametrize("suffix", [".npy", ".zarr"])
@pytest.mark.parametrize("step", ["_force", "_complete", "_tidy"])
@pytest.mark.parametrize("place", [0, 1])
def test_cut_off_while_two_outputs_are_completed(
    suffix: str, step: str, place: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is in place by then, the run goes on and its outputs are those of one never cut."""
    net, image = eyeshot.trace(Two().eval()), noise(1, 40, 30)
    whole, paths = [
        [tmp_path / f"{kind} {name}{suffix}" for name in "ab"] for kind in ("whole", "out")
    ]
    eyeshot.run(net, image, whole, output_format="probabilities", band=BAND)
    kind = ZarrSink if suffix == ".zarr" else NpySink
    own, calls = getattr(kind, step), iter(range(9))

    def cut_off(sink: Any) -> None:
        if next(calls) == place:
            raise Killed
        own(sink)

    with monkeypatch.context() as patch:
        patch.setattr(kind, step, cut_off)
        with pytest.raises(Killed):
            eyeshot.run(net, image, paths, output_format="probabilities", band=BAND)
    if (step, place) == ("_tidy", 1):  # all is there but the tidying up after the second
        with pytest.raises(BadFile, match="exists already"):
            eyeshot.run(net, image, paths, output_format="probabilities", resume=True)
    else:
        eyeshot.run(net, image, paths, output_format="probabilities", resume=True)
        assert not list(tmp_path.glob("*.part*"))
    assert [content(path) for path in paths] == [content(path) for path in whole]


def test_statistics_are_gathered_again_from_the_same_samples_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eyeshot.engine.resuming.MOST_READINGS", 4)
    samples, out = noise(1, 128, 96), tmp_path / "out.npy"
    stored = zarr.create_array(str(tmp_path / "image.zarr"), data=samples.numpy())
    net = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.InstanceNorm2d(3)).eval()
    url: Any = f"file://{tmp_path}/image.zarr"

    write, left = NpySink.write, iter(range(3))

    def die(sink: NpySink, row: int, block: Any, column: int = 0) -> None:
        if next(left, None) is None:
            raise Killed
        write(sink, row, block, column)

    with monkeypatch.context() as once, pytest.raises(Killed):
        once.setattr(NpySink, "write", die)
        eyeshot.run(net, url, out, output_format="probabilities", band=4)
    notes = state_of(out)["notes"]
    read = {row for _, window, _ in notes if window for row in range(*window[0])}
    row = next(row for row in range(128) if row not in read)
    stored[0, row, 5] = 9.0
    with pytest.raises(BadFile, match="has changed since this run"):
        eyeshot.run(net, url, out, output_format="probabilities", resume=True)
    stored[0, row, 5] = samples[0, row, 5].item()
    eyeshot.run(net, url, out, output_format="probabilities", resume=True)
    whole = eyeshot.run(net, samples, output_format="probabilities", band=4)
    np.testing.assert_array_equal(np.load(out), whole)
