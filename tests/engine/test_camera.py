"""Rows from a camera: any network, in any chunks, every output, against one whole pass."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import eyeshot
from eyeshot import nets
from eyeshot.axes import Interval
from eyeshot.engine.networks import Traced
from eyeshot.engine.stream import Stream
from eyeshot.errors import BadValue, Failure, Unsupported
from tests.engine.law import (
    Array,
    by_parts,
    cut,
    enliven,
    job_of,
    largest_difference,
    noise,
    whole,
)
from tests.networks import examples
from tests.zoo import UNet


class Heads(nn.Module):
    """A fine answer, a coarse one that is ready later, a summary, and the first one again."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.deep = nn.Sequential(nn.MaxPool2d(4), nn.Conv2d(4, 3, 5, padding=2), nn.ReLU())
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        fine = self.stem(x)
        coarse = self.deep(fine)
        return fine, coarse, self.pool(coarse), fine


def pushed(
    net: nn.Module | Traced, image: torch.Tensor, chunks: list[int], form: str = "float32"
) -> list[list[Array]]:
    """What each push gave, and the end: a list of outputs each."""
    channels, _, width = image.shape
    rows, given, y = eyeshot.stream(net, width, channels=channels, output_format=form), [], 0
    for chunk in (*chunks, image.shape[1]):
        part = rows.push(image[:, y : y + chunk].numpy())
        given.append(part if isinstance(part, list) else [part])
        y += chunk
    assert rows.rows == image.shape[1]
    end = rows.finish()
    return [*given, end if isinstance(end, list) else [end]]


def joined(given: list[list[Array]]) -> list[Array]:
    """What came, output by output: rows one after another, classes whole in the end."""
    return [np.concatenate(parts, min(1, parts[0].ndim - 1)) for parts in zip(*given, strict=True)]


CHUNKS = st.lists(st.integers(0, 9), max_size=6)


@functools.cache
def heads() -> Traced:
    return eyeshot.trace(enliven(Heads(), noise(1, 1, 16, 16)))


@examples(8)
@given(height=st.integers(4, 40), chunks=CHUNKS)
def test_every_output_comes(height: int, chunks: list[int]) -> None:
    image = noise(1, height, 13)
    given = pushed(heads(), image, chunks)
    assert largest_difference(joined(given), whole(heads().module, image)) <= 1e-5


def test_each_output_comes_as_soon_as_it_is_ready() -> None:
    net, image = enliven(Heads(), noise(1, 1, 16, 16)), noise(1, 32, 13)
    given = pushed(net, image, [1] * 32)
    ready = [[part.shape[1] if part.ndim > 1 else len(part) for part in parts] for parts in given]
    fine, coarse, summary, again = (list(counts) for counts in zip(*ready, strict=True))
    assert fine == again == [0] + [1] * 31 + [0, 1]
    assert coarse[:13] == [0] * 12 + [1]
    assert summary == [0] * 33 + [2]  # two classes


def test_one_form_for_every_output() -> None:
    net, image = enliven(Heads(), noise(1, 1, 16, 16)), noise(1, 16, 13)
    parts = pushed(net, image, [], form="argmax")
    for labels, scores in zip(joined(parts), whole(net, image), strict=True):
        assert labels.dtype == np.uint8
        assert np.array_equal(labels.reshape(-1), scores.argmax(0).reshape(-1))


class Padded(nn.Module):
    """A U-Net for any size: zeros up to a multiple of its grid, and the scores there cut off."""

    def __init__(self) -> None:
        super().__init__()
        self.net = UNet(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        height, width = x.shape[2:]
        scores: torch.Tensor = self.net(F.pad(x, (0, -width % 4, 0, -height % 4)))
        return scores[:, :, :height, :width]


class Does(nn.Module):
    """One function, and a convolution behind it."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function, self.conv = function, nn.Conv2d(1, 2, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.conv(self.function(x))
        return y


ENDS: dict[str, Callable[[], nn.Module]] = {
    "padded always": Padded,
    "padded where it must be": lambda: nets.unet(depth=1, base=3),
    "the last row cut off": lambda: Does(lambda x: x[:, :, :-1]),
    "cut to a grid": lambda: Does(lambda x: x[:, :, : x.shape[2] - x.shape[2] % 5]),
    "padded to a grid": lambda: Does(lambda x: F.pad(x, (1, 0, 0, -x.shape[2] % 3), value=2.0)),
    "padded and cut": lambda: Does(lambda x: F.pad(x, (0, 0, 0, 3))[:, :, : x.shape[2] + 1]),
}


@functools.cache
def ending(name: str) -> Traced:
    torch.manual_seed(0)
    return eyeshot.trace(enliven(ENDS[name](), noise(1, 1, 16, 16)))


@pytest.mark.parametrize("name", ENDS)
def test_what_is_done_behind_the_last_row_may_follow_the_height(name: str) -> None:
    @examples(2)
    @given(height=st.integers(6, 30), width=st.sampled_from([12, 13]), chunks=CHUNKS)
    def holds(height: int, width: int, chunks: list[int]) -> None:
        image = noise(1, height, width)
        joined = np.concatenate([part for (part,) in pushed(ending(name), image, chunks)], 1)
        assert largest_difference([joined], whole(ending(name).module, image)) <= 1e-5

    holds()


@pytest.mark.parametrize("name", ["padded always", "padded where it must be"])
@pytest.mark.parametrize("size", [(13, 16), (3, 1), (31, 30)])
def test_a_padded_unet_by_bands_strips_and_regions(name: str, size: tuple[int, int]) -> None:
    net, image = ending(name).module, noise(1, *size)
    truth, job = whole(net, image), job_of(net, image)
    for band, strips in ((1, 1), (5, 3), (64, 1)):
        parts, _ = by_parts(cut(job, band, strips))
        assert largest_difference(parts, truth) <= 1e-5
    region = (Interval(size[0] // 3, size[0]), Interval(0, (size[1] + 1) // 2))
    (part,), _ = by_parts(cut(job, 4, region=region))
    expected = truth[0][:, region[0].lo : region[0].hi, : region[1].hi]
    assert largest_difference([part], [expected]) <= 1e-5


@pytest.mark.parametrize("name", ["padded always", "padded where it must be"])
def test_a_padded_unet_takes_every_size(name: str) -> None:
    accepted = eyeshot.inspect(ending(name).module, (1, 13, 12)).accepted
    assert [one.words for one in accepted] == ["every size from 1 on"] * 2


def test_a_network_that_takes_few_heights() -> None:
    net = eyeshot.trace(nets.unet(depth=1, base=3, padding="valid").eval())
    image = noise(1, 44, 32)
    joined = np.concatenate([part for (part,) in pushed(net, image, [7, 30])], 1)
    assert largest_difference([joined], whole(net.module, image)) <= 1e-5
    with pytest.raises(BadValue, match="takes no height of 45; the nearest heights are 44 or 46"):
        pushed(net, noise(1, 45, 32), [])


def test_a_width_that_is_too_small() -> None:
    reported = (
        "a picture of such rows is .* a window of 9×9 does not fit .* the nearest it takes: .*x9"
    )
    with pytest.raises(BadValue, match=reported):
        eyeshot.stream(nn.Conv2d(1, 1, 9).eval(), 5)


FOLLOW: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "half of the rows": lambda x: x[:, :, : x.shape[2] // 2],
    "rows before the first": lambda x: F.pad(x, (0, 0, -x.shape[2] % 4, 0)),
    "rows mirrored": lambda x: F.pad(x, (0, 0, 0, -x.shape[2] % 4), mode="reflect"),
    "channels": lambda x: F.pad(x, (0, 0, 0, 0, 0, x.shape[2] % 2))[:, :1] * (1 + x.shape[2] % 2),
    "columns": lambda x: x[..., x.shape[2] % 2 :],
}


@pytest.mark.parametrize("name", FOLLOW)
def test_what_follows_the_height_in_any_other_way_is_refused(name: str) -> None:
    with pytest.raises(Unsupported, match="does something else at another height"):
        eyeshot.stream(Does(FOLLOW[name]).eval(), 9)


TOLD: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "what is padded with": lambda x: F.pad(x, (1, 1, 1, 1), value=float(x.shape[2] % 3)),
    "which channel": lambda x: x.repeat(1, 3, 1, 1)[:, x.shape[2] % 3 :][:, :1],
    "which channel, picked": lambda x: torch.cat([x, 2 * x], 1)[:, x.shape[2] % 2][:, None],
    "what is divided by": lambda x: F.avg_pool2d(x, 2, divisor_override=1 + x.shape[2] % 3),
}


@pytest.mark.parametrize("name", TOLD)
def test_a_number_that_follows_the_height_is_refused(name: str) -> None:
    with pytest.raises(Unsupported, match="does something else at another height"):
        eyeshot.stream(Does(TOLD[name]).eval(), 9)


def test_a_number_that_changes_at_some_height_is_refused_there() -> None:
    net = Does(lambda x: torch.cat([x, 2 * x], 1)[:, int(x.shape[2] < 20)][:, None]).eval()
    for height in (19, 20):
        rows = eyeshot.stream(net, 9)
        rows.push(noise(1, height, 9).numpy())
        if height == 20:
            rows.finish()
        else:
            with pytest.raises(Unsupported, match="does something else at another height"):
                rows.finish()


class Grid(nn.Module):
    """Padded to a multiple of a grid that is no power of two, or cut to it, and joined again."""

    def __init__(self, grid: int, cuts: bool) -> None:
        super().__init__()
        self.grid, self.cuts = grid, cuts
        self.conv, self.end = nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(4, 2, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        height, width = x.shape[2:]
        if self.cuts:
            x = x[:, :, : height - height % self.grid, : width - width % self.grid]
        else:
            x = F.pad(x, (0, -width % self.grid, 0, -height % self.grid))
        y = self.conv(x).relu()
        coarse = F.interpolate(F.max_pool2d(y, self.grid), scale_factor=self.grid)
        scores: torch.Tensor = self.end(torch.cat([y, coarse], 1))
        return scores[:, :, :height, :width]


@pytest.mark.parametrize("cuts", [False, True], ids=["padded", "cut"])
@pytest.mark.parametrize("grid", [3, 5, 6, 12])
def test_every_height_beside_a_grid(grid: int, cuts: bool) -> None:
    net = eyeshot.trace(enliven(Grid(grid, cuts), noise(1, 1, 16, 16)))
    every = range(grid, 2 * grid)
    for height in every if grid < 6 else (grid, grid + 1, grid + grid // 2, 2 * grid - 1):
        image = noise(1, height, 13)
        joined = np.concatenate([part for (part,) in pushed(net, image, [height // 2])], 1)
        assert largest_difference([joined], whole(net.module, image)) <= 1e-5


def test_a_resize_that_aligns_corners_is_refused() -> None:
    up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
    reported = r"1 \(upsample_bilinear2d\) must know the height .* a camera's rows have no end"
    with pytest.raises(Unsupported, match=reported):
        eyeshot.stream(nn.Sequential(nn.Conv2d(1, 2, 3), up).eval(), 9)


def test_rows_that_were_refused_were_not_taken() -> None:
    net, image = nn.Conv2d(1, 1, 3, padding=1).eval(), noise(1, 20, 9)
    rows, samples = eyeshot.stream(net, 9), image.numpy()
    parts = [rows.push(samples[:, :10])]
    with pytest.raises(BadValue, match="samples of type complex64"):
        rows.push(samples[:, 10:].astype(np.complex64))
    with pytest.raises(BadValue, match="rows of uint8 after rows that were divided by 1"):
        rows.push(np.zeros((1, 2, 9), np.uint8))
    assert rows.rows == 10
    parts += [rows.push(samples[:, 10:]), rows.finish()]
    assert largest_difference([np.concatenate(parts, 1)], whole(net, image)) <= 1e-5


def test_rows_lost_in_a_push_that_broke_off_are_not_passed_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows, samples = eyeshot.stream(nn.Conv2d(1, 1, 3).eval(), 9), noise(1, 10, 9).numpy()
    push = Stream.push

    def breaks_off(stream: Stream, values: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        push(stream, values)
        raise MemoryError

    with monkeypatch.context() as broken, pytest.raises(MemoryError):
        broken.setattr(Stream, "push", breaks_off)
        rows.push(samples[:, :5])
    rows.push(samples[:, 5:])
    with pytest.raises(Failure, match="output conv2d gave 5 rows of 8; make a new stream"):
        rows.finish()


class Backwards(nn.Module):
    """Declares its last layer first."""

    def __init__(self, stem: nn.Module) -> None:
        super().__init__()
        self.head, self.stem = nn.Conv2d(16, 2, 1), stem

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.head(self.stem(x))
        return y


@pytest.mark.parametrize(
    "stem", [nn.Conv2d(1, 16, 7), nn.ConvTranspose2d(1, 16, 2, 2)], ids=["conv", "transposed"]
)
def test_the_channels_are_those_of_the_layer_that_reads_the_rows(stem: nn.Module) -> None:
    net, image = Backwards(stem).eval(), noise(1, 12, 9)
    rows = eyeshot.stream(net, 9)
    given = np.concatenate([rows.push(image.numpy()), rows.finish()], 1)
    assert largest_difference([given], whole(net, image)) <= 1e-5


def test_without_a_convolution_the_channels_must_be_named() -> None:
    with pytest.raises(BadValue, match="the number of channels is not known; give channels="):
        eyeshot.stream(nn.MaxPool2d(2).eval(), 9)


def test_a_network_of_one_output_gives_no_list() -> None:
    net, image = enliven(UNet(1, 2), noise(1, 1, 16, 16)), noise(1, 20, 12)
    rows = eyeshot.stream(net, 12)
    part, end = rows.push(image.numpy()), rows.finish()
    assert isinstance(part, np.ndarray)
    assert largest_difference([np.concatenate([part, end], 1)], whole(net, image)) <= 1e-5


def test_a_traced_network_brings_its_mean() -> None:
    net, image = nn.Conv2d(1, 2, 3).eval(), noise(1, 9, 7)
    rows = eyeshot.stream(eyeshot.trace(net, mean=[2], std=[4]), 7)
    given = np.concatenate([rows.push(image.numpy()), rows.finish()], 1)
    assert largest_difference([given], whole(net, (image - 2) / 4)) <= 1e-5


def test_rows_of_another_scale_than_the_training_s_are_refused() -> None:
    """Between 0 and 255 instead of 0 and 1, every number would be wrong without a word."""
    net = nn.Conv2d(1, 2, 3).eval()
    rows = eyeshot.stream(Traced(net, unit=True), 7)
    with pytest.raises(BadValue, match=r"holds floats from 0 to 255, and this run learned from 0"):
        rows.push(np.linspace(0, 255, 63, dtype=np.float32).reshape(1, 9, 7))


def test_weights_that_are_no_numbers_are_refused() -> None:
    net = nn.Conv2d(1, 2, 3).eval()
    nn.init.constant_(net.weight, float("inf"))
    with pytest.raises(BadValue, match="weight weight holds NaN or infinity"):
        eyeshot.stream(net, 7)
