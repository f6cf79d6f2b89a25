"""A run on the workers of a Dask cluster: the bytes of the same blocks run alone, and the law."""

from __future__ import annotations

import asyncio
import errno
import itertools
import json
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr
from distributed import Client
from torch import nn

import eyeshot
from eyeshot import images
from eyeshot.engine import block_task, stored_maps
from eyeshot.engine.block_dispatch import BlockDispatch, ClusterReport
from eyeshot.engine.block_task import compute_block, open_run
from eyeshot.engine.cluster_workers import _answer
from eyeshot.errors import BadFile, BadValue, Failure, Unsupported
from eyeshot.files import Lock
from eyeshot.images.sinks.zarr_blocks import Record
from eyeshot.operators import compiled_layers
from eyeshot.operators.winograd_compiled import compiled_width, is_compiled
from tests.engine.cluster import cluster

Array = np.ndarray[Any, Any]


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with cluster(2) as found:
        yield found


class _Net(nn.Module):
    """A small U: strides, a transposed convolution, a skip and padding at the true border."""

    def __init__(self, channels: int = 3, classes: int = 3) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, 4, 3, padding=1)
        self.deep = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(4, 4, 5, padding=2), nn.ReLU())
        self.up = nn.ConvTranspose2d(4, 4, 2, stride=2)
        self.last = nn.Conv2d(8, classes, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.first(x).relu()
        found: torch.Tensor = self.last(torch.cat([y, self.up(self.deep(y))], 1))
        return found


def _image(folder: Path, *shape: int, name: str = "image.npy") -> Path:
    rng = np.random.default_rng(0)
    np.save(folder / name, rng.integers(0, 256, shape, dtype=np.uint8))
    return folder / name


def _read(path: Path) -> Array:
    found: Array = np.asarray(zarr.open_array(str(path), mode="r")[:])
    return found


def _leftovers(path: Path) -> list[str]:
    return sorted(one.name for one in path.parent.iterdir() if one.name.startswith(path.name + "."))


def test_the_bytes_are_those_of_the_same_blocks_and_the_answer_that_of_one_pass(
    client: Client, tmp_path: Path
) -> None:
    net, image, out = _Net().eval(), _image(tmp_path, 3, 1100, 1300), tmp_path / "out.zarr"
    plans: list[eyeshot.Plan] = []
    reports: list[Any] = []
    actual = eyeshot.run(
        net, image, out, client=client, planned=plans.append, progress=reports.append
    )
    assert actual == out
    assert _leftovers(out) == []
    found, whole = _read(out), eyeshot.run(net, image)
    assert np.abs(found - whole).max() <= 1e-5 * np.abs(whole).max()
    (plan,) = plans
    assert plan.cluster is not None
    assert plan.cluster.workers == plan.cluster.at_once == 2
    assert plan.cluster.count == reports[-1].all_blocks == reports[-1].blocks >= 4
    assert 1.0 <= plan.cluster.redundancy < 1.2
    assert isinstance(reports[-1], ClusterReport)
    assert reports[-1].multiply_adds == plan.bands.multiply_adds
    for region in _regions(plan, (1100, 1300)):
        block = eyeshot.run(net, image, region=region, band=plan.bands.band)
        rows, columns = (slice(*side) for side in region)
        assert found[:, rows, columns].tobytes() == block.tobytes(), region


class _Wide(nn.Module):
    """Convolutions for which workers use fewer products, and one that is compiled."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(
            *(nn.Conv2d(1, 128, 5, stride=8), nn.ReLU(), nn.Conv2d(128, 128, 3, padding=1)),
            *(nn.ReLU(), nn.Conv2d(128, 64, 1), nn.Conv2d(64, 1, 1)),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.body(x)
        return found


@pytest.fixture
def compiled_always(monkeypatch: pytest.MonkeyPatch) -> None:
    """A 1×1 convolution is compiled even if a run has few of them."""
    monkeypatch.setattr(compiled_layers, "LEAST_MULTIPLY_ADDS", 1)


@pytest.mark.usefixtures("compiled_always")
def test_fewer_products_give_the_same_bytes_in_any_order(client: Client, tmp_path: Path) -> None:
    net, out = _Wide().eval(), tmp_path / "out.zarr"
    image = _image(tmp_path, 1, 4160, 520)
    plans: list[eyeshot.Plan] = []
    journals: list[bytes] = []

    def keep(_: Any) -> None:
        if not journals:  # it is gone at the end
            journals.append(Path(f"{out}.part.json").read_bytes())

    eyeshot.run(net, image, out, client=client, planned=plans.append, progress=keep)
    found, whole = _read(out), eyeshot.run(net, image, exact="direct")
    assert np.abs(found - whole).max() <= 1e-5 * np.abs(whole).max()
    methods = json.loads(journals[0].partition(b"\n")[0])["settings"]["methods"]
    assert "winograd" in methods.values()
    assert ("compiled" in methods.values()) == is_compiled()
    (plan,) = plans
    for region in reversed(_regions(plan, (520, 65))):
        block = eyeshot.run(net, image, region=region, band=plan.bands.band)
        rows, columns = (slice(*side) for side in region)
        assert found[:, rows, columns].tobytes() == block.tobytes(), region
    plain = tmp_path / "plain.zarr"
    eyeshot.run(net, image, plain, client=client, exact="direct")
    assert (_read(plain) != found).any()


@pytest.mark.usefixtures("compiled_always")
@pytest.mark.parametrize("wide", [False, True])
def test_llvmlite_on_some_workers_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wide: bool
) -> None:
    net = _Wide().eval() if wide else _Net(1).eval()
    image, out = _image(tmp_path, 1, 1304, 360), tmp_path / "out.zarr"
    turns = itertools.cycle((16, 0))
    late: list[str] = []

    def keep(_: Any) -> None:
        folder = Path(f"{out}.part.run")
        if folder.exists():
            try:
                open_run(folder)
            except Failure as error:
                late.append(error.fact)

    monkeypatch.setattr(block_task, "compiled_width", lambda: next(turns))
    with cluster(2, processes=False) as some:
        if wide:
            with pytest.raises(Failure, match="llvmlite is installed on some workers only"):
                eyeshot.run(net, image, out, client=some)
            eyeshot.run(net, image, out, client=some, exact="direct")
            monkeypatch.setattr(block_task, "compiled_width", compiled_width)
            other = compiled_width() + 8

            def keep_other(report: Any) -> None:
                with monkeypatch.context() as patch:
                    patch.setattr(block_task, "compiled_width", lambda: other)
                    keep(report)

            eyeshot.run(net, image, out, client=some, force=True, progress=keep_other)
            assert "llvmlite is installed on this worker, or on the others" in late[0]
        else:
            eyeshot.run(net, image, out, client=some, progress=keep)
            assert not late
    whole = eyeshot.run(net, image)
    assert np.abs(_read(out) - whole).max() <= 1e-5 * np.abs(whole).max()


def _regions(plan: eyeshot.Plan, sizes: tuple[int, int]) -> list[list[tuple[int, int]]]:
    """The blocks of a plan, worked out again from their number: of whole chunks of 512."""
    assert plan.cluster is not None
    sides = []
    for size, count in zip(sizes, plan.cluster.blocks, strict=True):
        chunks = -(-size // 512)
        (step,) = {512 * n for n in range(1, chunks + 1) if -(-chunks // n) == count} & {
            512 * -(-chunks // count)
        }
        sides.append([(lo, min(lo + step, size)) for lo in range(0, size, step)])
    return [[rows, columns] for rows in sides[0] for columns in sides[1]]


@pytest.mark.parametrize("axes", [1, 3])
def test_signals_and_volumes(client: Client, tmp_path: Path, axes: int) -> None:
    kinds: dict[int, Any] = {1: nn.Conv1d, 3: nn.Conv3d}
    net = nn.Sequential(kinds[axes](1, 2, 5, padding=2), nn.ReLU(), kinds[axes](2, 2, 3)).eval()
    sizes = {1: (150_000,), 3: (70, 80, 90)}[axes]
    image, out = _image(tmp_path, 1, *sizes), tmp_path / "out.zarr"
    layout = {1: "CL", 3: "CDHW"}[axes]
    eyeshot.run(net, image, out, client=client, layout=layout)
    whole = eyeshot.run(net, image, layout=layout)
    assert np.abs(_read(out) - whole).max() <= 1e-5 * np.abs(whole).max()


def test_a_block_is_of_whole_shards(client: Client, tmp_path: Path) -> None:
    net, image, out = _Net().eval(), _image(tmp_path, 3, 1100, 1300), tmp_path / "out.zarr"
    eyeshot.run(net, image, out, client=client, shard=1024)
    assert len(_chunks(out)) == 4
    whole = eyeshot.run(net, image)
    assert np.abs(_read(out) - whole).max() <= 1e-5 * np.abs(whole).max()


class _Two(nn.Module):
    """Two outputs: one channels last and of full size, one on a grid of stride 4."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Conv2d(3, 2, 3, padding=1), nn.Conv2d(3, 6, 4, stride=4)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.one(x).permute(0, 2, 3, 1), self.other(x)


def _given_up(outs: list[Path]) -> dict[str, Any]:
    """What a block gives while a later run has begun at the second output; once."""
    lock = Path(f"{outs[1]}.part.run/lock")
    mark = outs[1].with_name("asked")
    if not lock.exists() or mark.exists():
        return {}
    mark.touch()
    token = lock.read_text()
    lock.with_name("aside").write_text("later")
    aside, kept = lock.with_name("aside"), lock.with_name("kept")
    lock.rename(kept)
    aside.rename(lock)
    answer = compute_block(f"{outs[0]}.part.run", token, 0)
    kept.replace(lock)
    return answer


def test_several_outputs_a_region_and_an_order_of_their_own(client: Client, tmp_path: Path) -> None:
    two, image = _Two().eval(), _image(tmp_path, 3, 1200, 2304)
    outs = [tmp_path / "one.zarr", tmp_path / "other.zarr"]
    answers: list[Any] = []
    actual = eyeshot.run(
        two, image, outs, client=client, progress=lambda _: answers.append(_given_up(outs))
    )
    assert actual == outs
    assert [one["failed"] for one in answers if one] == [
        f"{outs[1]}.part.run: the run has been given up"
    ]
    for path, whole in zip(outs, eyeshot.run(two, image), strict=True):
        assert _read(path).shape == whole.shape
        assert np.abs(_read(path) - whole).max() <= 1e-5 * np.abs(whole).max()
    net, part, region = _Net().eval(), tmp_path / "part.zarr", [(100, 901), (33, 1212)]
    options: dict[str, Any] = {"region": region, "output_format": "argmax"}
    eyeshot.run(net, image, part, client=client, **options)
    scores = np.sort(eyeshot.run(net, image, region=region), 0)
    clear = scores[-1] - scores[-2] > 1e-5
    same = _read(part)[0] == eyeshot.run(net, image, **options)[0]
    assert same[clear].all()


def test_what_is_asked_for_and_blank_regions(client: Client, tmp_path: Path) -> None:
    net, image = _Net().eval(), tmp_path / "image.npy"
    samples = np.full((3, 1100, 1536), 255, np.uint8)
    samples[:, 700:, :300] = np.random.default_rng(0).integers(0, 256, (3, 400, 300))
    np.save(image, samples)
    asked = np.zeros((11, 12), np.uint8)
    asked[6:, :3] = 1
    whole = eyeshot.run(net, image)
    out, reports = tmp_path / "asked.zarr", list[Any]()
    options: dict[str, Any] = {"where": asked, "fill": -7}
    eyeshot.run(net, image, out, client=client, progress=reports.append, **options)
    expected = eyeshot.run(net, image, **options)
    assert ((_read(out) == -7) == (expected == -7)).all()
    assert np.abs(_read(out) - expected).max() <= 1e-5 * np.abs(whole).max()
    assert reports[-1].outside > 0.5
    assert reports[-1].multiply_adds < 0.6 * reports[-1].all_blocks * 1e12
    blank = tmp_path / "blank.zarr"
    eyeshot.run(net, image, blank, client=client, blank=True, progress=reports.append)
    assert reports[-1].blank > 0.5
    assert np.abs(_read(blank) - whole).max() <= 1e-5 * np.abs(whole).max()


class _Normed(nn.Module):
    """Statistics in a row: instance norm, squeeze and excitation, group norm, a maximum."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.InstanceNorm2d(8, affine=True)
        self.squeeze, self.excite = nn.Conv2d(8, 2, 1), nn.Conv2d(2, 8, 1)
        self.down, self.group = nn.Conv2d(8, 8, 3, stride=2, padding=1), nn.GroupNorm(2, 8)
        self.last = nn.Conv2d(16, 2, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(self.first(x)).relu()
        y = y * self.excite(self.squeeze(y.mean((2, 3), keepdim=True)).relu()).sigmoid()
        deep = nn.functional.interpolate(self.group(self.down(y)), size=y.shape[2:])
        found: torch.Tensor = self.last(torch.cat([y, deep], 1))
        return found / found.amax((1, 2, 3), keepdim=True)


def test_statistics_over_all_positions_are_gathered_in_stages(
    client: Client, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    net, image, out = _Normed().eval(), _image(tmp_path, 3, 1100, 1300), tmp_path / "out.zarr"
    plans: list[eyeshot.Plan] = []
    reports: list[Any] = []
    eyeshot.run(net, image, out, client=client, planned=plans.append, progress=reports.append)
    whole = eyeshot.run(net, image)
    assert np.abs(_read(out) - whole).max() <= 1e-5 * np.abs(whole).max()
    assert plans[0].cluster is not None
    assert len(plans[0].cluster.stages) == 4
    assert {report.stage for report in reports} == {0, 1, 2, 3, 4}
    assert reports[0].progress.startswith("stage 1 of 4: ")  # one block, or two that ended together
    assert reports[-1].multiply_adds == plans[0].bands.multiply_adds
    again = tmp_path / "again.zarr"
    client.run(_fill_the_disk, 0)
    try:
        with warnings.catch_warnings(), pytest.raises(Failure, match="blocks are missing"):
            warnings.simplefilter("ignore")
            eyeshot.run(net, image, again, client=client, retries=0)
    finally:
        client.run(_mend_the_disk)
    reports.clear()
    with cluster(1, processes=False) as other:
        eyeshot.run(net, image, again, client=other, resume=True, progress=reports.append)
    assert {report.stage for report in reports} == {0}  # what was gathered is kept
    assert _same_files(again, out)
    assert _leftovers(again) == []


class _Deep(nn.Module):
    """A U-Net with a norm behind each convolution."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)

        def layer(channels: int, outputs: int) -> nn.Module:
            norm = nn.InstanceNorm2d(outputs, affine=True)
            return nn.Sequential(nn.Conv2d(channels, outputs, 3, padding=1), norm, nn.ReLU())

        self.one = nn.Sequential(layer(1, 8), layer(8, 8))
        self.two = nn.Sequential(nn.MaxPool2d(2), layer(8, 16), layer(16, 16))
        self.up = nn.ConvTranspose2d(16, 8, 2, stride=2)
        self.last = nn.Sequential(layer(16, 8), nn.Conv2d(8, 2, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.one(x)
        found: torch.Tensor = self.last(torch.cat([y, self.up(self.two(y))], 1))
        return found


def test_stages_store_maps_where_this_is_cheaper(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, image = _Deep().eval(), _image(tmp_path, 1, 280, 560)
    plans: list[eyeshot.Plan] = []
    reports: list[Any] = []

    def run(name: str, one: Client, **options: Any) -> Path:
        return Path(
            eyeshot.run(net, image, tmp_path / name, client=one, planned=plans.append, **options)
        )

    monkeypatch.setattr(stored_maps, "_A_BYTE", 1e9)
    plain = run("plain.zarr", client)
    monkeypatch.setattr(stored_maps, "_A_BYTE", 0.1)
    monkeypatch.setattr(stored_maps, "_A_CHUNK", 0.1)
    out = run("out.zarr", client, progress=reports.append)
    before, after = (plan.cluster for plan in plans)
    assert before is not None
    assert after is not None
    assert before.stored == 0 < after.stored
    assert after.redundancy < 1.4 < 2 < before.redundancy
    assert reports[-1].multiply_adds == plans[1].bands.multiply_adds
    whole = eyeshot.run(net, image)
    for one in (plain, out):
        assert np.abs(_read(one) - whole).max() <= 1e-5 * np.abs(whole).max()
        assert _leftovers(one) == []
    # Stopped after the stages, and continued: the maps are there, or a chunk of one is damaged.
    for damaged in (False, True):
        again = tmp_path / f"again{damaged}.zarr"
        client.run(_fill_the_disk, 0)
        try:
            with warnings.catch_warnings(), pytest.raises(Failure, match="blocks are missing"):
                warnings.simplefilter("ignore")
                run(again.name, client, retries=0)
        finally:
            client.run(_mend_the_disk)
        assert f"{again.name}.part.maps" in _leftovers(again)
        if damaged:
            chunk = min(Path(f"{again}.part.maps").glob("*.zarr/c.*"))
            chunk.write_bytes(chunk.read_bytes()[::-1])
        reports.clear()
        with cluster(1, processes=False) as other:
            monkeypatch.setattr(stored_maps, "_A_BYTE", 1e9)  # the choice is in the journal
            run(again.name, other, resume=True, progress=reports.append)
            monkeypatch.setattr(stored_maps, "_A_BYTE", 0.1)
        assert ({report.stage for report in reports} == {0}) != damaged
        assert _same_files(again, out)
        assert _leftovers(again) == []


class _Lines(nn.Module):
    """Strip pooling, and statistics that keep rows or columns, with layers over the lines."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.down = nn.Conv2d(4, 4, (3, 1), padding=(1, 0))
        self.across = nn.Conv2d(4, 4, (1, 3), padding=(0, 1))
        self.last = nn.Conv2d(4, 2, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.first(x)
        strips = self.down(nn.functional.adaptive_avg_pool2d(y, (None, 1))).expand_as(y)
        strips = strips + self.across(nn.functional.adaptive_avg_pool2d(y, (1, None)))
        y = y * strips.sigmoid()
        y = y / (1 + y.std(3, keepdim=True)) - y.amax(2, keepdim=True)
        y = y + y.argmin(3, keepdim=True) / 1000 + y.mean(2)[:, :, None] + y.logsumexp(3)[..., None]
        y = y + y.softmax(3) + y.mean((1, 3), keepdim=True).mean(2, keepdim=True)
        found: torch.Tensor = self.last(y)
        return found


class _Planes(nn.Module):
    """In a volume, statistics that keep one axis, or two."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Conv3d(1, 2, 3, padding=1), nn.Conv3d(2, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.first(x)
        y = (
            y
            + y.amax((2, 4), keepdim=True)
            + y.mean(3, keepdim=True)
            + y.var((2, 3))[:, :, None, None]
        )
        found: torch.Tensor = self.last(y)
        return found


@pytest.mark.parametrize("volume", [False, True])
def test_statistics_over_some_axes_keep_the_others(
    client: Client, tmp_path: Path, volume: bool
) -> None:
    net, layout = (_Planes().eval(), "CDHW") if volume else (_Lines().eval(), None)
    image = _image(tmp_path, *((1, 70, 40, 80) if volume else (3, 560, 1100)))
    plans: list[eyeshot.Plan] = []
    out = tmp_path / "out.zarr"
    eyeshot.run(net, image, out, client=client, layout=layout, planned=plans.append)
    samples = torch.from_numpy(np.load(image, allow_pickle=False)).float() / 255
    with torch.no_grad():
        whole = net(samples[None])[0].numpy()
    assert np.abs(_read(out) - whole).max() <= 1e-5 * np.abs(whole).max()
    first = plans[0].cluster
    assert first is not None
    assert first.stages
    assert max(first.stages) > 1
    one_process = eyeshot.run(net, image, layout=layout)
    assert np.abs(one_process - whole).max() <= 1e-5 * np.abs(whole).max()


@pytest.mark.parametrize("stored", ["rgba", "gray"])
def test_workers_read_the_channels_that_the_client_reads(
    client: Client, tmp_path: Path, stored: str
) -> None:
    colored = np.random.default_rng(0).integers(0, 256, (60, 70, 3), dtype=np.uint8)
    if stored == "gray":
        colored[:] = colored[..., :1]
    images.write(tmp_path / "a.png", np.dstack([colored, np.full((60, 70), 255, np.uint8)]))
    net = nn.Conv2d(1 if stored == "gray" else 3, 2, 3).eval()
    eyeshot.run(net, tmp_path / "a.png", tmp_path / "out.zarr", client=client)
    whole = eyeshot.run(net, colored[..., : net.in_channels].copy(), exact="direct")
    np.testing.assert_allclose(_read(tmp_path / "out.zarr"), whole, rtol=0, atol=1e-6)


def test_statistics_are_kept_for_the_samples_of_a_url_alone(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.InstanceNorm2d(2)).eval()
    samples = np.random.default_rng(0).integers(0, 256, (1, 600, 700), dtype=np.uint8)
    image = zarr.create_array(str(tmp_path / "image.zarr"), data=samples, chunks=(1, 50, 700))
    url, out = f"file://{tmp_path}/image.zarr", tmp_path / "out.zarr"
    with cluster(1, processes=False) as client:
        _fill_the_disk(0)
        try:
            with warnings.catch_warnings(), pytest.raises(Failure, match="blocks are missing"):
                warnings.simplefilter("ignore")
                eyeshot.run(net, url, out, client=client, retries=0)
        finally:
            _mend_the_disk()
        image[0, 599, 699] = 255 - samples[0, 599, 699]
        with pytest.raises(BadFile, match="has changed since this run"):
            eyeshot.run(net, url, out, client=client, resume=True)
        image[0, 599, 699] = samples[0, 599, 699]
        eyeshot.run(net, url, out, client=client, resume=True)
    whole = eyeshot.run(net, samples)
    assert np.abs(_read(out) - whole).max() <= 1e-5


class _Mute:
    """A client whose answers never come: what asks without a limit would wait for ever."""

    status = "running"

    def gather(self, futures: Any, asynchronous: bool = False) -> Any:
        assert asynchronous
        return asyncio.Event().wait()

    def sync(self, function: Any, callback_timeout: float | None = None) -> Any:
        assert callback_timeout is not None
        raise TimeoutError


class _Answer:
    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def result(self, timeout: float | None = None) -> Any:
        assert timeout is not None
        if self._answer is None:
            raise TimeoutError
        return self._answer


def test_an_answer_that_never_comes_is_not_waited_for() -> None:
    some, lost = _Answer({"checksums": {}}), _Answer(None)
    dispatch = object.__new__(BlockDispatch)
    dispatch.client, dispatch.ended = _Mute(), ""
    assert dispatch._gathered([lost, some]) == {some: {"checksums": {}}}
    assert not dispatch.ended
    with pytest.raises(Failure, match="worker tcp://a: did not say what it is in 10 minutes"):
        _answer("tcp://a", _Mutely())


def test_an_answer_that_is_lost_with_its_worker_is_computed_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The worker dies after it has computed a block and before the client reads its answer."""
    net, image = nn.Conv2d(1, 1, 3, padding=1).eval(), _image(tmp_path, 1, 1100, 1300)
    receive = BlockDispatch._receive
    lost: list[Any] = []

    def receive_without_workers(self: BlockDispatch) -> Any:
        if not lost:
            future = self._back.get()
            self._back.put(future)
            found: Any = other
            workers = found.cluster
            for worker in list(workers.workers.values()):
                found.sync(worker.close)
            while future.status == "finished":
                time.sleep(0.01)
            lost.append(future.status)
            workers.scale(0)
            while workers.workers:
                time.sleep(0.01)
            workers.scale(1)
        return receive(self)

    monkeypatch.setattr(BlockDispatch, "_receive", receive_without_workers)
    with cluster(1, processes=False) as other:
        eyeshot.run(net, image, tmp_path / "out.zarr", client=other)
    assert lost == ["lost"]
    eyeshot.run(net, image, tmp_path / "whole.npy")
    assert np.abs(_read(tmp_path / "out.zarr") - np.load(tmp_path / "whole.npy")).max() <= 1e-5


class _Mutely(_Answer):
    def __init__(self) -> None:
        super().__init__(None)

    def cancel(self) -> None:
        """Nothing waits for it."""


def test_statistics_of_signals_volumes_and_a_classifier(client: Client, tmp_path: Path) -> None:
    kinds: list[tuple[nn.Module, tuple[int, ...], str]] = [
        (nn.Sequential(nn.Conv1d(1, 4, 5), nn.InstanceNorm1d(4)), (1, 150_000), "CL"),
        (nn.Sequential(nn.Conv3d(1, 4, 3), nn.GroupNorm(2, 4)), (1, 70, 40, 50), "CDHW"),
        (
            nn.Sequential(
                nn.Conv2d(3, 4, 3),
                nn.ReLU(),
                nn.AdaptiveAvgPool2d(1),
                nn.Flatten(),
                nn.Linear(4, 5),
            ),
            (3, 600, 700),
            "CHW",
        ),
    ]
    for number, (net, shape, layout) in enumerate(kinds):
        image, out = _image(tmp_path, *shape, name=f"{number}.npy"), tmp_path / f"{number}.zarr"
        eyeshot.run(net.eval(), image, out, client=client, layout=layout)
        whole = eyeshot.run(net, image, layout=layout)
        assert _read(out).shape == whole.shape
        assert np.abs(_read(out) - whole).max() <= 1e-5 * np.abs(whole).max()


class _Turned(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.transpose(2, 3)


def test_an_ome_zarr_has_levels_of_what_the_workers_wrote(client: Client, tmp_path: Path) -> None:
    net, image = _Net().eval(), _image(tmp_path, 3, 1100, 1300)
    path = eyeshot.run(net, image, tmp_path / "a.ome.zarr", client=client, output_format="argmax")
    alone = eyeshot.run(net, image, tmp_path / "b.ome.zarr", output_format="argmax")
    assert (_read(path / "0") == _read(alone / "0")).mean() > 0.999  # a tie may be broken otherwise
    for level in (1, 2):
        before = _read(path / str(level - 1))
        np.testing.assert_array_equal(_read(path / str(level)), before[:, ::2, ::2])
    for name in ("zarr.json", "0/zarr.json", "1/zarr.json", "2/zarr.json"):
        assert (path / name).read_bytes() == (alone / name).read_bytes()
    assert {one.name for one in tmp_path.iterdir()} == {"image.npy", "a.ome.zarr", "b.ome.zarr"}


def test_an_ome_zarr_is_resumed_by_its_blocks(client: Client, tmp_path: Path) -> None:
    net, image, out = _Net().eval(), _image(tmp_path, 3, 1100, 1300), tmp_path / "a.ome.zarr"

    def give_up(report: Any) -> None:
        if report.rows:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        eyeshot.run(net, image, out, client=client, output_format="argmax", progress=give_up)
    assert not out.exists()
    eyeshot.run(net, image, out, client=client, output_format="argmax", resume=True)
    whole = eyeshot.run(net, image, client=None, output_format="argmax")
    assert (_read(out / "0") == whole).mean() > 0.999
    np.testing.assert_array_equal(_read(out / "1"), _read(out / "0")[:, ::2, ::2])


class _Steps(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.round(8 * x) - x.round().mean((2, 3), keepdim=True)


def test_a_network_that_rounds_is_named(client: Client, tmp_path: Path) -> None:
    image = _image(tmp_path, 3, 40, 50)
    reports: list[Any] = []
    with pytest.warns(UserWarning, match=r"rounds to whole numbers \(2 layers, first: round"):
        eyeshot.run(
            *(_Steps().eval(), image, tmp_path / "out.zarr"),
            client=client,
            progress=reports.append,
        )
    assert any("rounds to whole numbers" in note for note in reports[-1].notes)


def _faults() -> int:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


@pytest.mark.skipif(sys.platform != "linux", reason="glibc")
def test_a_worker_keeps_the_memory_that_it_frees(tmp_path: Path) -> None:
    """Dask tells glibc to return it at once, and each page is cleared again."""
    net, image = _Net(1).eval(), _image(tmp_path, 1, 1536, 1024)
    with cluster(1) as client:
        eyeshot.run(net, image, tmp_path / "first.zarr", client=client)
        (before,) = client.run(_faults).values()
        eyeshot.run(net, image, tmp_path / "out.zarr", client=client)
        (after,) = client.run(_faults).values()
    assert after - before < 20_000  # pages; 70,000 otherwise


def test_what_many_machines_cannot_do_is_refused(client: Client, tmp_path: Path) -> None:
    net, image, out = _Net().eval(), _image(tmp_path, 3, 64, 64), tmp_path / "out.zarr"
    with pytest.raises(BadValue, match=r"out\.tif, and a client was given: .* chunks of their own"):
        eyeshot.run(net, image, tmp_path / "out.tif", client=client)
    turned = nn.Sequential(nn.Conv2d(3, 2, 1), _Turned()).eval()
    with pytest.raises(BadValue, match="not channels and then axes"):
        eyeshot.run(turned, image, tmp_path / "out.ome.zarr", client=client)
    with pytest.raises(BadValue, match="no output, and a client"):
        eyeshot.run(net, image, client=client)
    with pytest.raises(BadValue, match=r"an image in memory \(ndarray\)"):
        eyeshot.run(net, np.load(image, allow_pickle=False), out, client=client)
    with pytest.raises(BadValue, match="per_slice with a client"):
        eyeshot.run(net, image, out, client=client, per_slice=True)
    with pytest.raises(BadValue, match=r"out\.zarr: is the target of two outputs"):
        eyeshot.run(_Two().eval(), image, [out, str(out)], client=client)
    with pytest.raises(BadValue, match="client is a str"):
        eyeshot.run(net, image, out, client="tcp://127.0.0.1:1")
    flat = nn.Sequential(nn.Conv2d(3, 2, 1), nn.Flatten(), nn.Linear(2 * 64 * 64, 4)).eval()
    with pytest.raises(Unsupported, match=r"reads every position of .* in one call"):
        eyeshot.run(flat, image, out, client=client)
    pooled = nn.Sequential(nn.Conv2d(3, 2, 1), nn.AdaptiveAvgPool2d((1, 7))).eval()
    with pytest.raises(Unsupported, match=r"reads every position of 0 along an axis in one call"):
        eyeshot.run(pooled, image, out, client=client)
    places = nn.AdaptiveMaxPool2d(1, return_indices=True)
    with pytest.raises(Unsupported, match=r"reads every position of .* along an axis in one call"):
        eyeshot.run(places.eval(), image, [out, tmp_path / "places.zarr"], client=client)
    assert _leftovers(out) == []
    assert not out.exists()


def test_an_output_that_is_there_or_being_written_is_left_alone(
    client: Client, tmp_path: Path
) -> None:
    net, image, out = _Net().eval(), _image(tmp_path, 3, 64, 64), tmp_path / "out.zarr"
    lock = Lock(tmp_path / "out.zarr.part.lock", out)
    try:
        with pytest.raises(BadFile, match="still writing it"):
            eyeshot.run(net, image, out, client=client)
    finally:
        lock.release()
    eyeshot.run(net, image, out, client=client)
    with pytest.raises(BadFile, match="exists already"):
        eyeshot.run(net, image, out, client=client)
    eyeshot.run(net, image, out, client=client, force=True)


def test_a_sample_that_is_no_number_ends_the_run(client: Client, tmp_path: Path) -> None:
    net, out = _Net().eval(), tmp_path / "out.zarr"
    samples = np.zeros((3, 700, 1100), np.float32)
    samples[1, 600, 1000] = np.nan
    np.save(tmp_path / "image.npy", samples)
    with pytest.raises(BadValue, match=r"the sample of channel 1 at \(600, 1000\) is nan"):
        eyeshot.run(net, tmp_path / "image.npy", out, client=client)
    assert not out.exists()


def _fill_the_disk(column: int) -> None:
    """In a worker: writes of blocks that begin at a column fail, as on a disk that is full."""
    from eyeshot.images.sinks.zarr_blocks import BlockWindow

    put = BlockWindow._put

    def failing(self: BlockWindow, top: int) -> None:
        if self._window[1][0] == column and ".part.maps" not in self.name:
            raise OSError(errno.ENOSPC, "No space left on device")
        put(self, top)

    BlockWindow._put = failing  # type: ignore[method-assign]
    BlockWindow._mended = put  # type: ignore[attr-defined]


def _mend_the_disk() -> None:
    from eyeshot.images.sinks.zarr_blocks import BlockWindow

    BlockWindow._put = BlockWindow._mended  # type: ignore[attr-defined,method-assign]


def test_a_full_disk_leaves_blocks_missing_and_resume_computes_them(
    client: Client, tmp_path: Path
) -> None:
    net, image, out = _Net().eval(), _image(tmp_path, 3, 1100, 1300), tmp_path / "out.zarr"
    undisturbed = tmp_path / "undisturbed.zarr"
    eyeshot.run(net, image, undisturbed, client=client)
    client.run(_fill_the_disk, 1024)
    try:
        with (
            pytest.warns(UserWarning, match=r"block .*,1024:1300: .*"),
            pytest.raises(Failure, match=r"of \d+ blocks are missing: \S+,1024:1300") as caught,
        ):
            eyeshot.run(net, image, out, client=client, retries=1)
    finally:
        client.run(_mend_the_disk)
    assert caught.value.exit_code == 1
    assert "--resume" in caught.value.cure
    assert not out.exists()
    with pytest.raises(BadFile, match="an unfinished run is there"):
        eyeshot.run(net, image, out, client=client)
    with pytest.raises(BadValue, match="cannot resume"):
        eyeshot.run(net, image, out, resume=True)
    with pytest.raises(BadValue, match=r"cannot resume: .*output_format"):
        eyeshot.run(net, image, out, client=client, resume=True, output_format="argmax")
    before = {path: path.stat().st_mtime_ns for path in _chunks(tmp_path / "out.zarr.part")}
    assert before
    with cluster(1, processes=False) as other:
        eyeshot.run(net, image, out, client=other, resume=True)
    assert _same_files(out, undisturbed)
    after = {path.relative_to(out): path.stat().st_mtime_ns for path in _chunks(out)}
    for path, written in before.items():  # each was written once
        assert after[path.relative_to(tmp_path / "out.zarr.part")] == written


def test_a_resume_replaces_a_finished_output_only_by_force(client: Client, tmp_path: Path) -> None:
    net, image, out = _Net().eval(), _image(tmp_path, 3, 1100, 1300), tmp_path / "out.zarr"
    eyeshot.run(net, image, out, client=client)
    client.run(_fill_the_disk, 1024)
    try:
        with warnings.catch_warnings(), pytest.raises(Failure):
            warnings.simplefilter("ignore")
            eyeshot.run(net, image, out, client=client, retries=0, force=True, blank=False)
    finally:
        client.run(_mend_the_disk)
    before = _read(out)
    with pytest.raises(BadFile, match=r"out\.zarr: exists already"):
        eyeshot.run(net, image, out, client=client, resume=True, blank=False)
    np.testing.assert_array_equal(_read(out), before)
    eyeshot.run(net, image, out, client=client, resume=True, force=True, blank=False)
    np.testing.assert_array_equal(_read(out), before)
    assert _leftovers(out) == []


def _be_of_version(version: str) -> None:
    eyeshot.__version__ = version


def test_a_worker_of_another_eyeshot_that_comes_late_computes_nothing(
    client: Client, tmp_path: Path
) -> None:
    image, out = _image(tmp_path, 3, 600, 700), tmp_path / "out.zarr"
    here = eyeshot.__version__

    def later(_: Any) -> None:
        client.run(_be_of_version, "0.0.1")

    try:
        with (
            pytest.warns(UserWarning, match=r"this worker has Eyeshot 0\.0\.1, and the run "),
            pytest.raises(Failure, match="blocks are missing"),
        ):
            eyeshot.run(_Net().eval(), image, out, client=client, retries=0, planned=later)
    finally:
        client.run(_be_of_version, here)


def test_marks_that_change_while_the_run_goes_on_end_it(client: Client, tmp_path: Path) -> None:
    image, out, marks = _image(tmp_path, 3, 600, 700), tmp_path / "out.zarr", tmp_path / "asked.npy"
    asked = np.zeros((6, 7), np.uint8)
    asked[2:, 2:] = 1
    np.save(marks, asked)

    def later(_: Any) -> None:
        np.save(marks, 1 - asked)

    with warnings.catch_warnings(), pytest.raises((BadValue, Failure)) as caught:
        warnings.simplefilter("ignore")
        eyeshot.run(_Net().eval(), image, out, client=client, where=marks, planned=later)
    assert "marks other regions here than where the run began" in str(caught.value)
    assert not out.exists()


def _chunks(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / "c").rglob("*") if path.is_file())


def _same_files(one: Path, other: Path) -> bool:
    mine = {path.relative_to(one): path.read_bytes() for path in one.rglob("*") if path.is_file()}
    return mine == {
        path.relative_to(other): path.read_bytes() for path in other.rglob("*") if path.is_file()
    }


def test_blocks_that_have_changed_are_computed_again(client: Client, tmp_path: Path) -> None:
    net, image, out = _Net().eval(), _image(tmp_path, 3, 1100, 1300), tmp_path / "out.zarr"
    part = tmp_path / "out.zarr.part"
    client.run(_fill_the_disk, 1024)
    try:
        with warnings.catch_warnings(), pytest.raises(Failure):
            warnings.simplefilter("ignore")
            eyeshot.run(net, image, out, client=client, retries=0)
    finally:
        client.run(_mend_the_disk)
    chunk, *others = _chunks(part)
    chunk.write_bytes(others[-1].read_bytes()[:50])
    records = tmp_path / "out.zarr.part.blocks"
    records.write_text(records.read_text() + "1234 [0,")
    with pytest.warns(UserWarning, match="1 of the blocks that were written"):
        eyeshot.run(net, image, out, client=client, resume=True)
    whole = eyeshot.run(net, image)
    assert np.abs(_read(out) - whole).max() <= 1e-5 * np.abs(whole).max()


def test_another_image_is_not_gone_on_with(client: Client, tmp_path: Path) -> None:
    net, image, out = _Net().eval(), _image(tmp_path, 3, 1100, 1300), tmp_path / "out.zarr"
    client.run(_fill_the_disk, 1024)
    try:
        with warnings.catch_warnings(), pytest.raises(Failure):
            warnings.simplefilter("ignore")
            eyeshot.run(net, image, out, client=client, retries=0)
    finally:
        client.run(_mend_the_disk)
    np.save(image, np.zeros((3, 1100, 1300), np.uint8))
    with pytest.raises(BadValue, match="cannot resume: image"):
        eyeshot.run(net, image, out, client=client, resume=True)


def test_records_that_were_cut_off_do_not_count() -> None:
    record = Record(3, 17, [["x", [[0, 4]], 5]])
    assert Record.read(record.line.rstrip("\n")) == record
    for damaged in ("", "x", record.line[:-3], record.line.replace("17", "18"), "00000000 "):
        assert Record.read(damaged.rstrip("\n")) is None


def test_the_plan_is_printed_and_plain_data(client: Client, tmp_path: Path) -> None:
    net, image, out = _Net().eval(), _image(tmp_path, 3, 1100, 1300), tmp_path / "out.zarr"
    plan = eyeshot.plan(net, image, out, client=client)
    assert "workers      2, 2 blocks at a time" in plan.lines
    assert any("the work of one pass" in line for line in plan.lines)
    reported = json.loads(json.dumps(plan.to_dict()))["cluster"]
    assert reported["workers"] == 2
    assert reported["worker_peak"] > 10**8
    assert _leftovers(out) == []
    with pytest.raises(BadValue, match="memory"):
        eyeshot.plan(net, image, out, client=client, memory="1MB")
