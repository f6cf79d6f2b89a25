"""``eyeshot.run`` on random networks, and on what real ones ask for: several of each, and pools."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn

import eyeshot
from eyeshot.axes import Interval
from eyeshot.engine.executing import RunReport
from eyeshot.engine.outputs import form_of
from eyeshot.errors import BadValue, Unsupported
from tests.engine.law import (
    LIMITS,
    Array,
    by_parts,
    cut,
    enliven,
    job_of,
    largest_difference,
    noise,
    whole,
)
from tests.networks import CHANNELS, examples, networks, runs_at
from tests.zoo import convnext_tiny, densenet121, inception_net, mobilenet_v2, resnet, se_net

SIDES = {1: st.integers(1, 60), 2: st.integers(1, 24), 3: st.integers(1, 8)}


@pytest.mark.parametrize("double", [False, True], ids=["float32", "float64"])
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_random_networks_by_bands_strips_and_regions(axes: int, double: bool) -> None:
    @examples({1: 6, 2: 12, 3: 4}[axes] // (2 if double else 1))
    @given(net=networks(axes), size=st.tuples(*[SIDES[axes]] * axes), data=st.data())
    def holds(net: nn.Module, size: tuple[int, ...], data: st.DataObject) -> None:
        image = noise(CHANNELS, *size, double=double)
        net = net.double() if double else net
        truth = runs_at(net, image[None])
        assume(truth is not None)
        assert truth is not None
        assume(truth.isfinite().all())
        try:
            job = job_of(net, image)
        except Unsupported as refused:
            assume("writes in place" not in str(refused))
            raise
        region = tuple(_side(data, n) for n in truth.shape[2:])
        band = data.draw(st.integers(1, 9), label="band")
        strips = 1 if axes == 1 else data.draw(st.integers(1, 4), label="strips")
        (part,), _ = by_parts(cut(job, band, strips, region))
        inside = truth[0].numpy()[(slice(None), *(slice(side.lo, side.hi) for side in region))]
        scale = max(1e-3, float(truth.abs().max()))
        assert part.shape == inside.shape
        assert float(np.abs(part - inside).max()) <= LIMITS[image.dtype] * scale

    holds()


def _side(data: st.DataObject, n: int) -> Interval:
    lo = data.draw(st.integers(0, n - 1)) if data.draw(st.booleans()) else 0
    return Interval(lo, data.draw(st.integers(lo + 1, n)) if data.draw(st.booleans()) else n)


class TwoInTwoOut(nn.Module):
    """A picture and a mask of half its size, to an edge map and a coarse one."""

    def __init__(self) -> None:
        super().__init__()
        self.fine = nn.Conv2d(3, 4, 3, padding=1)
        self.mask = nn.Conv2d(1, 4, 5, padding=2)
        self.coarse = nn.Conv2d(4, 3, 3, 4, 1)
        self.eval()

    def forward(self, picture: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, ...]:
        up = nn.functional.interpolate(self.mask(mask), scale_factor=2.0, mode="bilinear")
        joined = self.fine(picture).relu() * up.sigmoid()
        return joined, self.coarse(joined)


@pytest.mark.parametrize(("band", "strips"), [(1, 1), (6, 1), (5, 3)])
def test_two_inputs_and_two_outputs_of_different_strides(band: int, strips: int) -> None:
    picture, mask = noise(3, 44, 38), noise(1, 22, 19, seed=1)
    net = enliven(TwoInTwoOut(), picture[None], mask[None])
    parts, _ = by_parts(cut(job_of(net, picture, mask), band, strips))
    assert largest_difference(parts, whole(net, picture, mask)) <= 1e-5


def test_several_outputs_into_several_files(tmp_path: Path) -> None:
    picture, mask = noise(3, 44, 38), noise(1, 22, 19, seed=1)
    net = enliven(TwoInTwoOut(), picture[None], mask[None])
    paths = [tmp_path / "fine.npy", tmp_path / "coarse.zarr"]
    assert eyeshot.run(net, [picture, mask], paths, band=8) == paths
    arrays = eyeshot.run(net, [picture, mask])
    np.testing.assert_allclose(np.load(paths[0]), arrays[0], atol=1e-6)
    assert largest_difference(arrays, whole(net, picture, mask)) <= 1e-5


def test_two_outputs_with_one_target_are_refused(tmp_path: Path) -> None:
    net = Two().eval()
    for target in (tmp_path / "out.npy", np.zeros((1, 9, 9), np.float32)):
        with pytest.raises(BadValue, match="is the target of two outputs"):
            eyeshot.run(net, noise(1, 9, 9), [target, target])
    assert not list(tmp_path.iterdir())


class Two(nn.Module):
    """Two outputs of one size."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x + 1, x + 2


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
@pytest.mark.parametrize("band", [1, 4, None])
def test_every_padding_mode(mode: Any, band: int | None) -> None:
    net = nn.Sequential(
        *[nn.Conv2d(2, 3, 5, padding=2, padding_mode=mode), nn.ReLU()],
        *[nn.Conv2d(3, 3, 3, 2, 2, padding_mode=mode), nn.Conv2d(3, 2, 1)],
    )
    image = noise(2, 23, 17)
    enliven(net, image[None])
    job = job_of(net, image)
    for strips in (1, 3):
        parts, _ = by_parts(cut(job, band, strips))
        assert largest_difference(parts, whole(net, image)) <= 1e-5


FORMS = ("probabilities", "argmax", "threshold:0.5", "uint8", "float32")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("classes", [1, 2, 5])
def test_an_answer_is_reduced_band_by_band_as_in_one_piece(form: str, classes: int) -> None:
    net = enliven(nn.Sequential(nn.Conv2d(1, classes, 3, padding=1)), noise(1, 1, 9, 9))
    image = noise(1, 31, 26)
    if (form, classes) in (("argmax", 1), ("threshold:0.5", 5)):
        return
    scores = torch.from_numpy(whole(net, image)[0])
    part: Array = eyeshot.run(net, image, output_format=form, band=4)
    expected = _reduced(scores, form)
    assert part.dtype == expected.dtype
    if part.dtype == np.uint8:  # a score within a rounding of the boundary may fall on either side
        assert (part != expected).mean() < 0.002
    else:
        np.testing.assert_allclose(part, expected, atol=1e-5)


def _reduced(scores: torch.Tensor, form: str) -> Array:
    """The form written out on the whole map, by NumPy."""
    array = scores.numpy()
    odds = np.exp(array - array.max(0))
    shares = 1 / (1 + np.exp(-array)) if len(array) == 1 else odds / odds.sum(0)
    kinds: dict[str, Array] = {
        "float32": array,
        "probabilities": shares.astype(np.float32),
        "argmax": array.argmax(0)[None].astype(np.uint8),
        "threshold:0.5": np.where(shares[-1:] > 0.5, 255, 0).astype(np.uint8),
        "uint8": np.rint(np.clip(array, 0, 1) * 255).astype(np.uint8),
    }
    return kinds[form]


def test_class_maps_of_many_classes_take_two_bytes() -> None:
    form = form_of("argmax", 300)
    scores = noise(300, 4, 5)
    assert form(scores).dtype == np.uint16
    np.testing.assert_array_equal(form(scores)[0], scores.numpy().argmax(0))


CLASSIFIERS: dict[str, Callable[[], nn.Module]] = {
    "ResNet": lambda: resnet(18, width=4),
    "DenseNet": lambda: densenet121(4, (2, 2, 2)),
    "Inception": lambda: inception_net(4),
    "MobileNet": lambda: mobilenet_v2(8),
    "ConvNeXt": lambda: convnext_tiny(6, (1, 1, 2)),
    "global maximum": lambda: nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(4, 10)
    ),
}


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_classifier_with_a_global_pool_on_a_large_image(name: str) -> None:
    """In double precision: the depth of a MobileNet makes one part in 10⁵ of single roundings."""
    image = noise(3, 99, 67, double=True)
    net = enliven(CLASSIFIERS[name]().double(), noise(4, 3, 96, 96, seed=1, double=True))
    traced, truth = eyeshot.trace(net), whole(net, image)
    parts, _ = by_parts(cut(job_of(traced, image), 3))
    assert largest_difference(parts, truth) <= LIMITS[torch.float64]
    answer = eyeshot.run(traced, image, band=64, output_format="float64")
    assert answer.shape == truth[0].shape
    assert largest_difference([answer], truth) <= LIMITS[torch.float64]


class Attention(nn.Module):
    """Every row looks at every row."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.scaled_dot_product_attention(x, x, x)


WHOLE_ONLY: dict[str, nn.Module] = {
    "instance norm": nn.InstanceNorm2d(4),
    "group norm": nn.GroupNorm(2, 4),
    "layer norm over positions": nn.LayerNorm([4, 16, 12]),
    "softmax over positions": nn.Softmax(2),
    "attention": Attention(),
    "a flattened map": nn.Sequential(nn.Flatten(), nn.Linear(4 * 16 * 12, 2)),
}


@pytest.mark.parametrize("name", WHOLE_ONLY)
def test_what_mixes_positions_is_exact_too(name: str) -> None:
    torch.manual_seed(0)
    net, image = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), WHOLE_ONLY[name]), noise(1, 16, 12)
    assert largest_difference([eyeshot.run(net.eval(), image)], whole(net, image)) <= 1e-5


def test_a_network_is_left_as_it_was() -> None:
    net = enliven(resnet(18, width=4), noise(2, 3, 64, 64))
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    state = torch.random.get_rng_state()
    eyeshot.run(net, noise(3, 64, 40))
    assert torch.equal(state, torch.random.get_rng_state())
    assert not any(module.training for module in net.modules())
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_a_gate_by_squeeze_and_excite_and_a_group_norm_are_exact() -> None:
    net = se_net(4)
    gated = enliven(nn.Sequential(*list(net)[:2]), noise(2, 3, 32, 32))
    image = noise(3, 61, 47)
    parts, _ = by_parts(cut(job_of(gated, image), 5))
    assert largest_difference(parts, whole(gated, image)) <= 1e-5
    normed = enliven(net, noise(2, 3, 32, 32))
    assert largest_difference([eyeshot.run(normed, image)], whole(normed, image)) <= 1e-5


def test_a_resumed_run_of_two_outputs_writes_each_row_once(tmp_path: Path) -> None:
    picture, mask = noise(3, 88, 38), noise(1, 44, 19, seed=1)
    net = enliven(TwoInTwoOut(), picture[None], mask[None])
    paths = [tmp_path / "fine.npy", tmp_path / "coarse.npy"]

    def stop(report: RunReport) -> None:
        if report.rows > 40:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        eyeshot.run(net, [picture, mask], paths, band=9, progress=stop)
    with pytest.raises(BadValue, match="cannot resume: band was 9 and is 7"):
        eyeshot.run(net, [picture, mask], paths, band=7, resume=True)
    eyeshot.run(net, [picture, mask], paths, resume=True)
    truth = whole(net, picture, mask)
    assert largest_difference([np.load(path) for path in paths], truth) <= 1e-5
