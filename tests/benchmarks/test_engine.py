"""The engine's benchmark in small: every contender computes the same thing. Nothing is timed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks.engine.__main__ import parse
from benchmarks.engine.contenders import NAMES, PICTURE, is_installed, prepare
from benchmarks.engine.filtering import compare_files, make_kernel, write_picture
from benchmarks.engine.folding import folded, fused
from benchmarks.engine.networks import NETWORKS, make_network, make_picture, network_of, picture_of
from benchmarks.engine.settings import Settings
from benchmarks.engine.table import HEAD, Row, markdown
from benchmarks.engine.tiles import aligned_halo, redundancy, run_tiles, spans
from benchmarks.engine.workers import started
from hypothesis import given
from hypothesis import strategies as st

from eyeshot import images
from eyeshot.cost import costs, total
from eyeshot.frontends.torch import graph_of

SMALL = Settings(size=96, tile=56, base=4, depth=1, deep=2, filter_size=70, threads=1)
OWN_FILES = ("square file", "tall file", "filter", "OpenCV", "one convolution")
WITHOUT_SEAMS = [n for n in NAMES if n not in OWN_FILES and n != "MONAI" and "deeper" not in n]


@pytest.mark.parametrize("name", [name for name in WITHOUT_SEAMS if name != "tiles"])
def test_whole_passes_agree(name: str, tmp_path: Path) -> None:
    if not is_installed(name):
        pytest.skip(f"{name} is not installed")
    want = _answer("net(x)", tmp_path)
    assert np.abs(_answer(name, tmp_path) - want).max() <= 1e-5 * np.abs(want).max()


@pytest.mark.parametrize("name", ["tiles", "eyeshot, deeper"])
def test_passes_of_the_deeper_network_agree(name: str, tmp_path: Path) -> None:
    want = _answer("net(x), deeper", tmp_path)
    assert np.abs(_answer(name, tmp_path) - want).max() <= 1e-5 * np.abs(want).max()


def test_the_sliding_window_has_seams(tmp_path: Path) -> None:
    pytest.importorskip("monai")
    want, got = _answer("net(x)", tmp_path), _answer("MONAI", tmp_path)
    assert got.shape == want.shape
    assert np.abs(got - want).max() > 1e-3 * np.abs(want).max()
    assert np.abs(got - want).mean() < 0.1 * np.abs(want).mean()


def test_the_file_that_is_streamed_is_the_picture_that_was_written(tmp_path: Path) -> None:
    prepare("tall file", SMALL, tmp_path)()
    samples = images.read(tmp_path / "384.tif")
    picture = torch.from_numpy(samples).permute(2, 0, 1)[None] / 255
    with torch.inference_mode():
        want = make_network(SMALL.depth, SMALL.base)(picture)[0].numpy()
    got = np.load(tmp_path / "384.npy")
    assert got.shape == (2, 384, 96)
    assert np.abs(got - want).max() <= 1e-5 * np.abs(want).max()


def test_filters_agree_but_for_rounding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The process of the tests holds what other tests have left in it.
    monkeypatch.setattr("benchmarks.engine.filtering.BUDGET", 1 << 33)
    write_picture(tmp_path / PICTURE, SMALL.filter_size)
    for name in ("filter", "OpenCV"):
        prepare(name, SMALL, tmp_path)()
    largest, share = compare_files(tmp_path / "bands.tif", tmp_path / "whole.tif")
    assert largest <= 1
    assert share < 0.01
    assert compare_files(tmp_path / PICTURE, tmp_path / "whole.tif")[0] > 10
    assert np.linalg.matrix_rank(make_kernel()) == 5


def test_a_worker_measures_and_answers(tmp_path: Path) -> None:
    with started("eyeshot", replace(SMALL, processor_time=True), tmp_path) as worker:
        first = worker.first_pass()
        assert worker.run() > 0
    assert first.seconds > 0
    assert first.answer is not None
    assert 0 <= first.added < first.held
    want = _answer("net(x)", tmp_path)
    assert np.abs(np.load(first.answer) - want).max() <= 1e-5 * np.abs(want).max()


@pytest.mark.parametrize("network", [name for name in NETWORKS if name != "unet32"])
def test_every_network_of_the_table_is_computed_exactly(network: str, tmp_path: Path) -> None:
    size = 1 if network == "signal" else 128
    base = 4 if network == "volume" else 8
    settings = replace(SMALL, network=network, base=base, size=size)
    oracle, picture = network_of(settings).double(), picture_of(settings)
    with torch.inference_mode():
        want = oracle(picture.double())[0].numpy()
    names = ["eyeshot", *(("fused", "band 16") if picture.ndim == 4 else ())]
    assert want.std() > 1e-2 * np.abs(want).max()
    for name in names:
        got = np.asarray(prepare(name, settings, tmp_path)()).reshape(want.shape)
        assert np.abs(got - want).max() <= 3e-5 * np.abs(want).max(), name


def test_the_network_is_the_one_that_is_claimed() -> None:
    work = total(costs(graph_of(make_network(4, 32), (3, 64, 64))).values()).multiply_adds
    assert work == 184_224 * 64 * 64


@pytest.mark.parametrize("lower", [folded, fused])
def test_lowering_changes_nothing_and_leaves_the_network_alone(lower: object) -> None:
    assert callable(lower)
    net, picture = make_network(2, 4), make_picture(16, 24)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    with torch.inference_mode():
        want = net(picture)
        got = lower(net)(picture.contiguous(memory_format=torch.channels_last))
    assert (got - want).abs().max() <= 1e-5 * want.abs().max()
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())


@given(
    grid=st.sampled_from([4, 8, 32]),
    count=st.integers(1, 30),
    halo=st.integers(0, 3),
    inner=st.integers(1, 5),
)
def test_tiles_cover_everything_once_and_see_enough(
    grid: int, count: int, halo: int, inner: int
) -> None:
    n, side, reach = grid * count, grid * (2 * halo + inner), grid * halo
    done = 0
    for span in spans(n, side, reach):
        assert span.lo == done < span.hi
        assert span.start % grid == 0
        assert span.start == 0 or span.lo - span.start >= reach
        end = min(span.start + side, n)
        assert end == n or end - span.hi >= reach
        done = span.hi
    assert done == n
    assert redundancy(n, side, reach) >= 1


def test_the_halo_is_needed_in_full() -> None:
    halo = aligned_halo(2)
    net, picture = folded(make_network(2, 4)), make_picture(96, 96)
    with torch.inference_mode():
        want = net(picture)
        scale = want.abs().max()
        exact = run_tiles(net, picture, 2 * halo + 8, halo)
        short = run_tiles(net, picture, 2 * halo, halo - 4)
    assert (exact - want).abs().max() <= 1e-5 * scale
    assert (short - want).abs().max() > 1e-4 * scale
    with pytest.raises(ValueError, match="nothing inside"):
        spans(100, 2 * halo, halo)


def test_the_table_says_what_was_reached() -> None:
    rows = [
        Row("a", "2²", "speed", 1.3, least=1.2, aim=2, difference=3e-7),
        Row("b", "2²", "memory", 0.5, most=0.2, spread=(0.4, 0.6)),
        Row("c", "2²", "speed", None, least=1),
        Row("d", "2²", "speed", 0.7),
    ]
    assert [row.verdict for row in rows] == ["reached", "missed", "not run", ""]
    lines = markdown(rows).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert len(lines) == 6
    assert all(word in lines[0] for word in HEAD)
    assert "| 0.50 (0.40–0.60) | missed" in lines[3]
    assert "≥ 1.20 | 2.00 | 1.30             | reached | 3e-07" in lines[2]


def test_options_change_the_settings() -> None:
    assert parse([])[0] == Settings()
    settings, parts, networks = parse(["--size", "512", "--only", "tiles"])
    assert (settings.size, parts, networks) == (512, ("tiles",), tuple(NETWORKS))
    settings, _, networks = parse(["--processor-time", "--network", "volume"])
    assert networks == ("volume",)
    assert (settings.threads, settings.processor_time) == (1, True)


def _answer(name: str, folder: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    answer = np.asarray(prepare(name, SMALL, folder)(), np.float32)
    return answer.reshape(answer.shape[-3:])
