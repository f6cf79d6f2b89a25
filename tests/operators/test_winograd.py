"""Winograd's convolution, against the sum of products in float64."""

from __future__ import annotations

import functools
import gc
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

import eyeshot
from eyeshot import nets
from eyeshot.engine.executing import execute
from eyeshot.engine.job import Job, make_job
from eyeshot.errors import EyeshotError, UnknownName
from eyeshot.images import open_sink, open_source
from eyeshot.operators import winograd
from eyeshot.operators.tile import Padded
from eyeshot.operators.winograd import uses_winograd, winograd_convolver
from eyeshot.operators.winograd_compiled import Compiled, is_compiled
from tests.engine.law import enliven, noise
from tests.engine.test_resuming import Killed, killed_after

LAST = torch.channels_last
WAYS = [False, True] if is_compiled() else [False]
"""Of computing transforms: by torch, and compiled."""
needs_compiler = pytest.mark.skipif(not is_compiled(), reason="llvmlite is not installed")


def refused(values: Sequence[Padded], room: Tensor | None) -> Tensor:
    """For maps that suit: the direct sum is not asked for."""
    raise AssertionError("computed directly")


def exact(values: Sequence[Padded], weights: Sequence[Tensor], bias: Tensor | None) -> Tensor:
    """(1, C, H, W) in float64."""
    parts = [
        F.conv2d(value.double(), weight.double(), None, 1, padding)
        for (value, padding), weight in zip(values, weights, strict=True)
    ]
    total = torch.stack(parts).sum(0)
    return total if bias is None else total + bias.double()[:, None, None]


def drawn(
    channels: Sequence[int], outputs: int, size: tuple[int, int], padding: list[int]
) -> tuple[list[Padded], list[Tensor], Tensor]:
    """Values, weights and a bias, of noise."""
    values: list[Padded] = [
        (torch.randn(1, c, *size).contiguous(memory_format=LAST), padding) for c in channels
    ]
    scale = 1 / math.sqrt(9 * sum(channels))
    return values, [torch.randn(outputs, c, 3, 3) * scale for c in channels], torch.randn(outputs)


@settings(max_examples=30, deadline=None)
@given(
    channels=st.lists(st.integers(1, 20), min_size=1, max_size=2),
    outputs=st.integers(1, 20),
    blocks=st.tuples(st.integers(3, 12), st.integers(4, 30)),
    less=st.tuples(st.integers(0, 1), st.integers(0, 1)),
    padding=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    relu=st.booleans(),
    biased=st.booleans(),
    given_room=st.booleans(),
    most=st.sampled_from([7, 64, 256]),
    compiled=st.sampled_from(WAYS),
)
def test_the_sum_of_products(
    channels: list[int],
    outputs: int,
    blocks: tuple[int, int],
    less: tuple[int, int],
    padding: tuple[int, int],
    relu: bool,
    biased: bool,
    given_room: bool,
    most: int,
    compiled: bool,
) -> None:
    height, width = 4 * blocks[0] - less[0], 2 * blocks[1] - less[1]
    size = (height + 2 - 2 * padding[0], width + 2 - 2 * padding[1])
    values, weights, bias = drawn(channels, outputs, size, list(padding))
    shift = bias if biased else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(winograd, "_most_blocks", lambda *_: most)
        patch.setattr(winograd, "is_compiled", lambda: compiled)
        convolve = winograd_convolver(weights, shift, relu, refused)
        room = torch.full((1, outputs, height, width), math.nan).contiguous(memory_format=LAST)
        found = convolve(values, room if given_room else None)
    truth = exact(values, weights, shift)
    truth = truth.relu() if relu else truth
    assert found.shape == truth.shape
    assert found.data_ptr() == room.data_ptr() or not given_room
    assert (found - truth).abs().max() <= 1e-6 * max(1.0, float(truth.abs().max()))


@needs_compiler
@settings(max_examples=20, deadline=None)
@given(
    channels=st.lists(st.integers(1, 70), min_size=1, max_size=2),
    outputs=st.integers(1, 70),
    size=st.tuples(st.integers(8, 40), st.integers(8, 40)),
    padding=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    relu=st.booleans(),
)
def test_compiled_transforms_give_the_same_bytes_on_any_threads(
    channels: list[int],
    outputs: int,
    size: tuple[int, int],
    padding: tuple[int, int],
    relu: bool,
) -> None:
    values, weights, bias = drawn(channels, outputs, size, list(padding))
    found: list[Tensor] = []
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(winograd, "_fits", lambda *_: True)
        patch.setattr(winograd, "_is_tame", lambda *_: True)
        for compiled, used, least, most in (
            (False, 1, 64, 256),
            (True, 1, 64, 256),
            (True, 2, 10**6, 256),  # each step on both threads
            (True, 2, 1, 7),  # blocks of its own for each thread
        ):
            patch.setattr(winograd, "_LEAST_SHARED", least)
            patch.setattr(winograd, "_most_blocks", lambda *_: most)  # noqa: B023
            patch.setattr(winograd, "is_compiled", lambda: compiled)  # noqa: B023
            torch.set_num_threads(used)
            try:
                found.append(winograd_convolver(weights, bias, relu, refused)(values, None))
            finally:
                torch.set_num_threads(threads)
    assert all(one.numpy().tobytes() == found[0].numpy().tobytes() for one in found)


@needs_compiler
def test_an_error_on_any_thread_is_raised_by_the_caller() -> None:
    threads, taken = torch.get_num_threads(), list[int]()

    def work(numbers: Iterator[int]) -> None:
        for number in numbers:
            assert torch.get_num_threads() == 1
            taken.append(number)
            if number == 5:
                raise KeyboardInterrupt("at 5")

    torch.set_num_threads(2)
    try:
        winograd.compiled().share(work, range(5))
        assert sorted(taken) == list(range(5))
        assert torch.get_num_threads() == 2
        with pytest.raises(KeyboardInterrupt, match="at 5"):
            winograd.compiled().share(work, range(100))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


@needs_compiler
@pytest.mark.parametrize("processor", ["AVX2", "AVX512"])
@pytest.mark.parametrize("channels", [1, 7, 16, 37])
def test_a_pixel_weighs_what_its_channels_do(
    channels: int, processor: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if processor > torch.backends.cpu.get_cpu_capability():
        pytest.skip("not on this processor")
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: processor)
    code = Compiled(winograd._NEAR, winograd._FAR, 1e30, 10)
    before = torch.rand(9, 40)
    found = before.clone()
    pixels, scale = torch.randn(9, 40, channels)[:, 3:36], torch.rand(channels)
    assert code.weigh(pixels, scale, torch.zeros(9, 33))
    for bad in (math.nan, math.inf, 1e31 / float(scale.min())):
        pixels[4, 5, channels // 2] = bad
        assert not code.weigh(pixels, scale, torch.zeros(9, 33))
    pixels[4, 5, channels // 2] = math.nan
    code.weigh(pixels, scale, found[:, 3:36])
    assert torch.equal(found[:, :3], before[:, :3])
    assert torch.equal(found[:, 36:], before[:, 36:])
    truth, found = pixels.double().abs() @ scale.double() + before[:, 3:36], found[:, 3:36]
    torch.testing.assert_close(found.double(), truth, rtol=1e-6, atol=0, equal_nan=True)


@pytest.mark.parametrize("compiled", WAYS)
def test_a_block_that_outweighs_what_an_output_sees_is_found(
    compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(winograd, "is_compiled", lambda: compiled)
    generator, found = torch.Generator().manual_seed(0), []
    for _ in range(300):
        height, width, above, beside = torch.randint(5, 9, (4,), generator=generator).tolist()
        above, beside = above % 3, beside % 3
        value = 10 ** (1.6 * torch.rand(1, 1, height, width, generator=generator))
        rows, columns = height + 2 * above - 2, width + 2 * beside - 2
        made = torch.empty(rows, columns, 1)
        plane = winograd._Plane([value.permute(0, 2, 3, 1)[0]], (above, beside), made)
        found.append(winograd._is_tame(plane, [torch.ones(1)]))
        weights = F.pad(value[0, 0], (beside, beside, above, above)).numpy()
        truth = True
        for y, x in np.ndindex(rows, columns):
            top, left = y // 4 * 4, x // 2 * 2
            block = weights[top : top + 6, left : left + 4].max()
            truth &= bool(block <= 10 * weights[y : y + 3, x : x + 3].max())
        assert found[-1] == truth
    assert 50 < sum(found) < 250


@pytest.mark.parametrize("channels", [128, 512])
def test_it_rounds_as_a_sum_of_so_many_products_does(channels: int) -> None:
    values, weights, bias = drawn([channels], 64, (10, 66), [0, 0])
    found = winograd_convolver(weights, bias, False, refused)(values, None)
    truth = exact(values, weights, bias)
    error = (found - truth).square().mean().sqrt() / truth.square().mean().sqrt()
    assert error <= 1e-7 * math.sqrt(channels / 4)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e35, 1e5])
def test_what_would_spread_to_its_neighbors_is_computed_directly(bad: float) -> None:
    values, weights, bias = drawn([3], 5, (34, 34), [0, 0])
    values[0][0][0, 1, 17, 17] = bad
    asked: list[int] = []

    def direct(values: Sequence[Padded], room: Tensor | None) -> Tensor:
        asked.append(1)
        return F.conv2d(values[0][0], weights[0], bias)

    found = winograd_convolver(weights, bias, True, direct)(values, None)
    assert asked == [1]
    assert torch.equal(found.nan_to_num(), F.conv2d(values[0][0], weights[0], bias).nan_to_num())


@settings(max_examples=25, deadline=None)
@given(
    channels=st.lists(st.integers(1, 9), min_size=1, max_size=2),
    outputs=st.integers(1, 9),
    depth=st.integers(1, 3),
    slices=st.integers(1, 4),
    padding=st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 2)),
    relu=st.booleans(),
    given_room=st.booleans(),
    compiled=st.sampled_from(WAYS),
)
def test_slices_of_a_volume_are_summed(
    channels: list[int],
    outputs: int,
    depth: int,
    slices: int,
    padding: tuple[int, int, int],
    relu: bool,
    given_room: bool,
    compiled: bool,
) -> None:
    front, above, beside = padding
    size = (max(1, slices + depth - 1 - 2 * front), 34 - 2 * above, 26 - 2 * beside)
    form = torch.channels_last_3d
    values: list[Padded] = [
        (torch.randn(1, c, *size).contiguous(memory_format=form), list(padding)) for c in channels
    ]
    scale = 1 / math.sqrt(9 * depth * sum(channels))
    weights = [torch.randn(outputs, c, depth, 3, 3) * scale for c in channels]
    bias = torch.randn(outputs)
    parts = [
        F.conv3d(value.double(), weight.double(), None, 1, padding)
        for (value, _), weight in zip(values, weights, strict=True)
    ]
    truth = torch.stack(parts).sum(0) + bias.double()[:, None, None, None]
    truth = truth.relu() if relu else truth
    room = torch.full(truth.shape, math.nan).contiguous(memory_format=form)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(winograd, "is_compiled", lambda: compiled)
        convolve = winograd_convolver(weights, bias, relu, refused)
        found = convolve(values, room if given_room else None)
    assert found.shape == truth.shape
    assert found.data_ptr() == room.data_ptr() or not given_room
    assert found.is_contiguous(memory_format=form)
    assert (found - truth).abs().max() <= 1e-6 * max(1.0, float(truth.abs().max()))


@settings(max_examples=25, deadline=None)
@given(
    channels=st.lists(st.integers(1, 9), min_size=1, max_size=2),
    outputs=st.integers(1, 9),
    size=st.tuples(st.integers(30, 50), st.integers(30, 50)),
    padding=st.tuples(st.integers(0, 5), st.integers(0, 5)),
    dilation=st.integers(2, 7),
    given_room=st.booleans(),
    compiled=st.sampled_from(WAYS),
)
def test_a_dilated_kernel_is_summed_by_phases(
    channels: list[int],
    outputs: int,
    size: tuple[int, int],
    padding: tuple[int, int],
    dilation: int,
    given_room: bool,
    compiled: bool,
) -> None:
    values, weights, bias = drawn(channels, outputs, size, list(padding))
    parts = [
        F.conv2d(value.double(), weight.double(), None, 1, padding, dilation)
        for (value, _), weight in zip(values, weights, strict=True)
    ]
    truth = (torch.stack(parts).sum(0) + bias.double()[:, None, None]).relu()
    room = torch.full(truth.shape, math.nan).contiguous(memory_format=LAST)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(winograd, "_fits", lambda *_: True)
        patch.setattr(winograd, "is_compiled", lambda: compiled)
        convolve = winograd_convolver(weights, bias, True, refused, dilation)
        found = convolve(values, room if given_room else None)
    assert found.shape == truth.shape
    assert found.data_ptr() == room.data_ptr() or not given_room
    assert (found - truth).abs().max() <= 1e-6 * max(1.0, float(truth.abs().max()))


@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e5])
def test_a_slice_that_does_not_suit_makes_the_volume_direct(bad: float) -> None:
    value, weight = torch.randn(1, 3, 5, 34, 34), torch.randn(4, 3, 3, 3, 3) / 9
    value[0, 1, 3, 17, 17] = bad
    asked: list[int] = []

    def direct(values: Sequence[Padded], room: Tensor | None) -> Tensor:
        asked.append(1)
        return F.conv3d(values[0][0], weight)

    found = winograd_convolver([weight], None, False, direct)([(value, [0, 0, 0])], None)
    assert asked == [1]
    assert torch.equal(found.nan_to_num(), F.conv3d(value, weight).nan_to_num())


def test_two_calls_at_once_share_no_memory() -> None:
    rooms = winograd._shared_rooms()
    with rooms.borrowed() as one, winograd._shared_rooms().borrowed() as other:
        assert one is not other
    with rooms.borrowed() as again:
        assert again in (one, other)


@pytest.fixture
def everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """In small networks too."""
    monkeypatch.setattr(winograd, "LEAST_CHANNELS", 1)
    monkeypatch.setattr(winograd, "LEAST_POSITIONS", 1)


def small_unet() -> nn.Module:
    """A U-Net whose skips are joined with what comes up from below."""
    return enliven(nets.unet(in_channels=3, classes=2, depth=2, base=6), noise(1, 3, 32, 32))


@pytest.mark.usefixtures("everywhere")
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("band", [None, 8, 20])
def test_a_run_is_the_whole_pass(band: int | None, channels_last: bool) -> None:
    net, image = small_unet(), noise(3, 88, 72)
    if channels_last:  # as training leaves weights
        net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    with torch.no_grad():
        truth = net.double()(image[None].double())[0].numpy()
    net.float()
    found = eyeshot.run(net, image, band=band)
    direct = eyeshot.run(net, image, band=band, exact="direct")
    scale = np.abs(truth).max()
    assert np.abs(found - truth).max() <= 1e-5 * scale
    assert not np.array_equal(found, direct)
    part = eyeshot.run(net, image, band=band, region=[(13, 60), (7, 44)])
    assert np.abs(part - truth[:, 13:60, 7:44]).max() <= 1e-5 * scale


@pytest.mark.usefixtures("everywhere")
def test_two_threads_and_any_mode_give_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    net, image, threads = small_unet(), noise(3, 88, 72), torch.get_num_threads()
    monkeypatch.setattr(winograd, "_LEAST_SHARED", 1)
    monkeypatch.setattr(winograd, "_most_blocks", lambda *_: 7)
    expected = eyeshot.run(net, image, band=40)
    rooms = winograd._shared_rooms()  # kept from one run to the next
    torch.set_num_threads(2)
    try:
        for mode in (False, True, False):
            with torch.inference_mode(mode):
                assert np.array_equal(eyeshot.run(net, image, band=40), expected)
    finally:
        torch.set_num_threads(threads)
    with rooms.borrowed() as one, rooms.borrowed() as other:
        assert one is not other


@pytest.mark.usefixtures("everywhere")
def test_an_interrupted_run_gives_the_same_bytes(tmp_path: Path) -> None:
    net, image = small_unet(), noise(3, 120, 40).numpy()
    np.save(tmp_path / "image.npy", image)
    whole, cut = tmp_path / "whole.npy", tmp_path / "cut.npy"
    eyeshot.run(net, tmp_path / "image.npy", whole, band=12)

    with pytest.raises(Killed):
        eyeshot.run(net, tmp_path / "image.npy", cut, band=12, progress=killed_after(4))
    eyeshot.run(net, tmp_path / "image.npy", cut, band=12, resume=True)
    assert cut.read_bytes() == whole.read_bytes()


@pytest.mark.usefixtures("everywhere")
def test_dilated_kernels_wait_for_rows_that_fill_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layers = [nn.Conv2d(3, 8, 3, 1, 6, 6), nn.ReLU(), nn.Conv2d(8, 8, 3, 1, 2, 2)]
    net, image = enliven(nn.Sequential(*layers), noise(1, 3, 32, 32)), noise(3, 120, 40)
    heights: list[int] = []

    def never(planes: Sequence[winograd._Plane], *_: int) -> bool:
        heights.append(sum(plane.made.shape[:2].numel() for plane in planes) // 40)
        return False

    monkeypatch.setattr(winograd, "_fits", never)
    direct = eyeshot.run(net, image, band=8)
    assert sorted(heights) == [8] * 15 + [24] * 5  # four rows of each of two phases, and of six
    heights.clear()
    eyeshot.run(net, image, band=2)  # which saves memory
    assert max(heights) == 2

    monkeypatch.setattr(winograd, "_fits", lambda *_: True)
    np.save(tmp_path / "image.npy", image.numpy())
    whole, cut = tmp_path / "whole.npy", tmp_path / "cut.npy"
    eyeshot.run(net, tmp_path / "image.npy", whole, band=8)
    found = np.load(whole)
    assert not np.array_equal(found, direct)
    assert np.abs(found - direct).max() <= 1e-5 * np.abs(direct).max()
    with pytest.raises(Killed):
        eyeshot.run(net, tmp_path / "image.npy", cut, band=8, progress=killed_after(7))
    eyeshot.run(net, tmp_path / "image.npy", cut, band=8, resume=True)
    assert cut.read_bytes() == whole.read_bytes()


@pytest.mark.usefixtures("everywhere")
def test_the_method_of_the_run_that_began_is_kept(tmp_path: Path) -> None:
    net, path = small_unet(), tmp_path / "image.npy"
    np.save(path, noise(3, 64, 40).numpy())

    with pytest.raises(Killed):
        options: dict[str, Any] = {"exact": "direct", "progress": killed_after(4)}
        eyeshot.run(net, path, tmp_path / "out.npy", band=8, **options)
    eyeshot.run(net, path, tmp_path / "out.npy", band=8, resume=True)
    found = np.load(tmp_path / "out.npy")
    assert np.array_equal(found, eyeshot.run(net, path, band=8, exact="direct"))


@needs_compiler
@pytest.mark.usefixtures("everywhere")
def test_a_run_is_not_resumed_by_other_transforms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, path = small_unet(), tmp_path / "image.npy"
    np.save(path, noise(3, 64, 40).numpy())
    with pytest.raises(Killed):
        eyeshot.run(net, path, tmp_path / "out.npy", band=8, progress=killed_after(4))
    monkeypatch.setattr(winograd, "is_compiled", lambda: False)
    with pytest.raises(EyeshotError, match="compiled transforms"):
        eyeshot.run(net, path, tmp_path / "out.npy", band=8, resume=True)


@pytest.mark.usefixtures("everywhere")
def test_transformed_weights_live_as_long_as_their_run(monkeypatch: pytest.MonkeyPatch) -> None:
    net, image, asked = small_unet(), noise(3, 48, 40).numpy(), list[int]()
    gc.collect()
    before, transform = len(winograd._KERNELS), winograd.transformed_weights

    def counted(weights: Sequence[Tensor]) -> Tensor:
        asked.append(1)
        return transform(weights)

    monkeypatch.setattr(winograd, "transformed_weights", counted)
    job = make_job(net, [open_source(image)], band=48)
    first, count = carried_out(job), len(asked)
    assert np.array_equal(carried_out(job), first)
    assert len(asked) == count > 0
    assert len(winograd._KERNELS) > before
    with torch.no_grad():
        for weight in net.parameters():
            weight.data.mul_(-1)  # a change that torch does not count
    assert not np.array_equal(eyeshot.run(net, image, band=48), first)
    assert np.allclose(
        eyeshot.run(net, image, band=48),
        eyeshot.run(net, image, band=48, exact="direct"),
        atol=1e-4,
    )
    del job
    gc.collect()
    assert len(winograd._KERNELS) == before


def carried_out(job: Job) -> NDArray[np.float32]:
    """The only output of a run."""
    (name,) = job.forms
    sink = open_sink(None, job.shape(name), job.forms[name].dtype)
    execute(job, {name: sink})
    found: NDArray[np.float32] = sink.finish()
    return found


@pytest.mark.usefixtures("everywhere")
def test_the_method_gives_way_to_a_memory_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    net, image = small_unet(), noise(3, 64, 64).numpy()
    source = open_source(image)
    assert uses_winograd(make_job(net, [source]).graph)
    assert not uses_winograd(make_job(net, [source], exact="direct").graph)
    assert "with a third of the multiplications" in str(eyeshot.plan(net, image))
    assert "multiplications" not in str(eyeshot.plan(net, image, exact="direct"))
    assert uses_winograd(make_job(net, [source], memory=4 << 30).graph)
    monkeypatch.setattr("eyeshot.engine.job._MEMORY_SHARE", 4 << 20)
    graph = make_job(net, [source]).graph
    loaded = winograd.added_bytes(graph)
    monkeypatch.setattr(winograd, "compiled", functools.cache(lambda: pytest.fail("loaded")))
    assert winograd.added_bytes(graph) - loaded == (90 << 20 if is_compiled() else 0)
    assert not uses_winograd(make_job(net, [source], memory=4 << 30).graph)


@pytest.mark.usefixtures("everywhere")
def test_the_least_memory_is_enough() -> None:
    net = nn.Sequential(nn.Conv2d(3, 160, 3), nn.Conv2d(160, 160, 3), nn.Conv2d(160, 4, 3)).eval()
    source = open_source(noise(3, 64, 64).numpy())
    with pytest.MonkeyPatch.context() as patch:
        for name in ("resident", "peak"):
            patch.setattr(f"eyeshot.engine.job.{name}", lambda: 100 << 20)
        patch.setattr("eyeshot.engine.job._MEMORY_SHARE", 1)
        with_it, without = (
            make_job(net, [source], band=8, exact=exact).plan.peak for exact in ("1e-5", "direct")
        )
        assert without < with_it
        assert uses_winograd(make_job(net, [source], band=8, memory=with_it).graph)
        job = make_job(net, [source], band=8, memory=without)
    assert not uses_winograd(job.graph)


@pytest.mark.usefixtures("everywhere")
def test_the_same_command_resumes_what_memory_had_decided(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, path, out = small_unet(), tmp_path / "image.npy", tmp_path / "out.npy"
    np.save(path, noise(3, 64, 40).numpy())
    options: dict[str, Any] = {"band": 8, "memory": 4 << 30, "exact": "1e-5"}
    monkeypatch.setattr("eyeshot.engine.job._MEMORY_SHARE", 4 << 20)
    with pytest.raises(Killed):
        eyeshot.run(net, path, out, progress=killed_after(4), **options)
    eyeshot.run(net, path, out, resume=True, **options)
    assert np.array_equal(np.load(out), eyeshot.run(net, path, band=8, exact="direct"))


@pytest.mark.usefixtures("everywhere")
@pytest.mark.parametrize("edge", [28, 29, 30, 31, 32])
@pytest.mark.parametrize("bright", [8.0, 30.0, 300.0])
def test_dark_pixels_beside_bright_ones_keep_their_digits(edge: int, bright: float) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(1, 24, 3, padding=1, bias=False)
            self.last = nn.Conv2d(24, 24, 3, padding=1, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            y = self.last(self.first(x).relu())
            return F.layer_norm(y.movedim(1, -1), (24,)).movedim(-1, 1)

    torch.manual_seed(0)
    net, image = Net().eval(), torch.rand(1, 64, 40) + 0.5
    image[:, edge:] *= bright
    with torch.no_grad():
        truth = net.double()(image[None].double())[0].numpy()
    found = eyeshot.run(net.float(), image)
    assert np.abs(found - truth).max() <= 1e-5


def test_only_known_budgets_are_taken() -> None:
    with pytest.raises(UnknownName, match="1e-5"):
        eyeshot.run(nn.Conv2d(1, 1, 3).eval(), torch.rand(1, 8, 8), exact="1e-9")
