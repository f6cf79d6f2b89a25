"""The figures of ``docs/unet.md`` show what is so: the sums, the counts, and what is taught."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage
from tools.cells import cut_skips, dice, make_batch, make_cells, teach
from tools.checkers import SMALL, WAYS, rise, terms
from tools.draw_unet import (
    KERNEL,
    PLACE,
    X,
    draw_checkerboard,
    draw_skip,
    draw_start,
    draw_ways,
    draw_zeros,
    insert_zeros,
    maps_of,
)

from eyeshot import images
from eyeshot.nets import UNet


@pytest.fixture(scope="module")
def taught() -> UNet:
    """For a few steps only."""
    return teach(steps=2)


@pytest.fixture(scope="module")
def unlike() -> UNet:
    """Taught as briefly, from kernels that are noise."""
    return teach(steps=2, alike=False)


def test_zero_insertion_and_stamps_are_the_same_transposed_convolution() -> None:
    steps = insert_zeros()
    tensors = torch.from_numpy(X)[None, None], torch.from_numpy(KERNEL)[None, None]
    theirs = torch.nn.functional.conv_transpose2d(*tensors, stride=2)[0, 0].numpy()
    np.testing.assert_array_equal(steps.output, theirs)
    np.testing.assert_array_equal(sum(steps.stamps.values()), theirs)
    assert len(steps.stamps) == X.size
    terms_told, result = steps.sum_at(PLACE).split(" = ")
    products = [part.split("·") for part in terms_told.split(" + ")]
    assert len(products) == 4
    assert sum(float(a) * float(b) for a, b in products) == float(result) == theirs[PLACE]


def test_only_a_kernel_that_is_no_multiple_of_the_stride_counts_unevenly() -> None:
    counted = {name: terms(way) for name, way in WAYS.items()}
    uneven = [name for name, counts in counted.items() if len(np.unique(counts)) > 1]
    assert uneven == ["transposed 3×3 / 2"]
    assert set(np.unique(counted[uneven[0]])) == {1, 2, 4}
    assert {int(counts[0, 0]) for counts in counted.values()} == {1, 4, 9}


def test_three_uneven_layers_leave_more_fine_detail_than_there_was() -> None:
    fine: dict[str, float] = {}
    for name, way in WAYS.items():
        risen = rise(way)
        inner = risen[16:-16, 16:-16]
        assert min(risen.shape) >= 8 * SMALL - 7
        fine[name] = float(np.abs(np.diff(inner, axis=0)).mean() / inner.std())
    assert fine["transposed 3×3 / 2"] > 5 * max(
        value for name, value in fine.items() if name != "transposed 3×3 / 2"
    )


def test_membranes_are_dark_lines_around_cells() -> None:
    picture, mask = make_cells(5)
    again, _ = make_cells(5)
    assert np.array_equal(picture, again)
    assert not np.array_equal(picture, make_cells(6)[0])
    assert 0.08 < mask.mean() < 0.4
    assert picture[mask == 1].mean() < picture[mask == 0].mean() - 0.2
    assert ndimage.label(1 - mask)[1] > 4, "membranes close around cells"


def test_a_cut_skip_tells_nothing_of_where_and_can_be_undone(taught: UNet) -> None:
    pictures, masks = make_batch(range(2))
    with torch.no_grad():
        whole = taught(pictures)
        handles = cut_skips(taught, [1])
        (skip,) = maps_of(taught, pictures[:1], "up1.cat")
        assert skip.shape == pictures.shape[2:]
        cut = taught(pictures)
        for handle in handles:
            handle.remove()
        assert not torch.allclose(cut, whole)
        assert torch.equal(taught(pictures), whole)
    assert 0 <= dice(whole, masks) <= 1
    perfect = torch.stack([1 - masks, masks], dim=1).float()
    assert dice(perfect, masks) == 1


def test_kernels_that_start_as_noise_are_unlike(taught: UNet, unlike: UNet) -> None:
    def apart(net: UNet) -> float:
        weight = net.get_parameter("up1.transpose.weight").detach()
        return float((weight - weight[:, :, :1, :1]).abs().mean() / weight.abs().mean())

    assert apart(unlike) > 3 * apart(taught)


def test_the_figures_are_pictures_of_their_size(tmp_path: Path, taught: UNet, unlike: UNet) -> None:
    draw_zeros(tmp_path / "zeros.png")
    draw_checkerboard(tmp_path / "checkerboard.png")
    nearest, bilinear = teach("nearest", steps=1), teach("bilinear", steps=1)
    draw_ways(
        tmp_path / "ways.png", {"nearest": nearest, "bilinear": bilinear, "transpose": taught}
    )
    draw_start(tmp_path / "start.png", unlike, taught)
    draw_skip(tmp_path / "skip.png", taught, teach(steps=1, skips=False))
    sizes = {path.stem: images.read(path).shape for path in tmp_path.glob("*.png")}
    assert set(sizes) == {"zeros", "checkerboard", "ways", "start", "skip"}
    assert {shape[1] for shape in sizes.values()} == {960}
    assert all(images.read(path).std() > 20 for path in tmp_path.glob("*.png"))
