"""Images that a program holds: what their owner sees reaches the network, not codes of it."""

from __future__ import annotations

import copy
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image
from torch import nn

import eyeshot
from eyeshot.array_likes import as_array
from eyeshot.errors import BadFile, BadValue, Unsupported
from eyeshot.images import open_source
from eyeshot.runs import Run
from eyeshot.runs.config import Recipe, RunConfig

RNG = np.random.default_rng(0)
COLOR = RNG.integers(0, 256, (9, 7, 3), dtype=np.uint8)
GRAY = COLOR[..., 0]


@pytest.mark.parametrize("mode", ["P", "CMYK", "YCbCr", "HSV", "RGBX"])
def test_a_pillow_image_is_read_in_the_colors_that_it_shows(mode: str) -> None:
    image = Image.fromarray(COLOR).convert(mode)
    shown = np.asarray(image.convert("RGB"))
    net = nn.Conv2d(3, 2, 3).eval()
    np.testing.assert_array_equal(eyeshot.run(net, image), eyeshot.run(net, shown))
    np.testing.assert_array_equal(eyeshot.filter(image, "mean:3"), eyeshot.filter(shown, "mean:3"))


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "I;16", "F"])
def test_a_plain_mode_is_read_as_it_is(mode: str) -> None:
    image = Image.fromarray(COLOR).convert("L").convert(mode)
    if mode == "RGB":
        image = Image.fromarray(COLOR)
    np.testing.assert_array_equal(as_array(image), np.asarray(image))


def test_one_bit_is_black_and_white() -> None:
    image = Image.fromarray(GRAY > 127)
    np.testing.assert_array_equal(as_array(image), np.where(GRAY > 127, 255, 0))


def test_a_transparent_pixel_of_a_pillow_image_is_refused() -> None:
    net, alpha = nn.Conv2d(3, 2, 3).eval(), np.full((9, 7, 1), 255, np.uint8)
    opaque = Image.fromarray(np.concatenate([COLOR, alpha], axis=2))
    np.testing.assert_array_equal(eyeshot.run(net, opaque), eyeshot.run(net, COLOR))
    alpha[4, 5] = 9
    with pytest.raises(BadValue, match=r"\(4, 5\) is transparent"):
        eyeshot.run(net, Image.fromarray(np.concatenate([COLOR, alpha], axis=2)))


def test_the_exif_of_a_pillow_image_is_named() -> None:
    image = Image.fromarray(COLOR)
    image.getexif()[0x0112] = 6
    (note,) = open_source(image).notes
    assert note.startswith("not turned by its EXIF (orientation 6)")
    assert open_source(Image.fromarray(COLOR)).notes == ()


def test_a_run_prepares_a_pillow_image() -> None:
    config = RunConfig(
        model="cnn",
        data="a folder",
        fingerprint="0" * 16,
        classes=("a", "b"),
        channels=3,
        size=(9, 7),
        mean=(0.5,) * 3,
        std=(0.2,) * 3,
        recipe=Recipe(epochs=1, batch_size=8, learning_rate=0.01),
    )
    run = Run(nn.Identity(), config, nn.Identity())  # type: ignore[arg-type]
    image = Image.fromarray(COLOR).convert("P")
    pixels, _ = run.prepare(image)
    np.testing.assert_array_equal(pixels[0].permute(1, 2, 0), np.asarray(image.convert("RGB")))


HIDDEN = np.ma.masked_greater(RNG.random((1, 9, 7), np.float32), 0.5)


@pytest.mark.parametrize(
    ("image", "problem"),
    [
        (HIDDEN, "a masked array, of which .* are hidden; fill them first"),
        (torch.zeros(1, 9, 7).to_sparse(), "a tensor of torch.sparse_coo; pass image.to_dense"),
        (torch.zeros(1, 9, 7, device="meta"), "a tensor of torch.float32 on meta"),
        (torch.zeros(1, 9, 7, dtype=torch.complex64), "an array of complex64"),
    ],
)
def test_an_array_without_plain_numbers_is_refused(image: Any, problem: str) -> None:
    with pytest.raises(BadValue, match=problem):
        eyeshot.run(nn.Conv2d(1, 2, 3).eval(), image)


def test_a_tensor_that_is_negated_lazily_is_read() -> None:
    net, x = nn.Conv2d(1, 2, 3).eval(), torch.rand(1, 9, 7)
    np.testing.assert_array_equal(eyeshot.run(net, torch._neg_view(x)), eyeshot.run(net, -x))


def _read_only(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    x.setflags(write=False)
    return x


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x.astype(">f4"),
        lambda x: x.astype(np.float64),
        lambda x: np.asfortranarray(x),
        lambda x: x[:, ::-1].copy()[:, ::-1],
        _read_only,
    ],
)
@pytest.mark.filterwarnings("error")
def test_see_and_explain_take_any_array(change: Any) -> None:
    net, x = nn.Sequential(nn.Conv2d(1, 2, 3)).eval(), RNG.random((1, 9, 7), np.float32)
    changed = change(x.copy())
    with torch.no_grad():
        expected = net(torch.from_numpy(x)[None])[0]
    np.testing.assert_allclose(eyeshot.see(net, changed).layers[0].maps, expected, atol=1e-6)
    found = eyeshot.explain(net, changed, layer="0", unit=(1, 4, 3))
    assert found.total == pytest.approx(float(expected[1, 4, 3]), abs=1e-5)


@pytest.mark.parametrize(
    ("image", "problem"),
    [
        ("a.png", "a network alone cannot read the picture a.png"),
        (Image.fromarray(GRAY), "a network alone cannot read the picture;"),
        (torch.zeros(1, 9, 7, device="meta"), "on the meta device holds no numbers"),
        (HIDDEN, "a masked array"),
        (np.array([[None]]), "an input of object"),
    ],
)
def test_see_and_explain_refuse_what_is_no_input(image: Any, problem: str) -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3)).eval()
    with pytest.raises(BadValue, match=problem):
        eyeshot.see(net, image)
    with pytest.raises(BadValue, match=problem):
        eyeshot.explain(net, image, layer="0", unit=(0, 0, 0))


def test_explain_is_not_moved_by_the_default_device() -> None:
    net, x = nn.Sequential(nn.Conv2d(1, 2, 3)).eval(), torch.rand(1, 9, 7)
    with torch.no_grad():
        expected = float(net(x[None])[0, 1, 4, 3])
    with torch.device("meta"):
        found = eyeshot.explain(net, x, layer="0", unit=(1, 4, 3))
    assert found.total == pytest.approx(expected, abs=1e-5)


def test_a_run_within_autocast_is_refused() -> None:
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(BadValue, match="autocast is on"):
        eyeshot.run(nn.Conv2d(1, 2, 3).eval(), torch.rand(1, 9, 7))


@pytest.mark.parametrize(
    "look",
    [
        eyeshot.see,
        lambda net, x: eyeshot.explain(net, x, layer="0", unit=(0, 1, 1)),
        lambda net, x: eyeshot.attribute(net, x, layer="0", unit=(0, 1, 1)),
    ],
)
def test_a_look_within_autocast_is_refused(look: Any) -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3)).eval()
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(BadValue, match="autocast is on"):
        look(net, torch.rand(1, 9, 7))


def test_filter_says_that_a_picture_is_not_turned() -> None:
    image, turned = Image.fromarray(GRAY), Image.Exif()
    turned[ExifTags.Base.Orientation] = 6
    file = io.BytesIO()
    image.save(file, "png", exif=turned)
    with pytest.warns(UserWarning, match=r"not turned by its EXIF \(orientation 6\)"):
        found = eyeshot.filter(Image.open(file), "mean")
    np.testing.assert_array_equal(found, eyeshot.filter(GRAY, "mean"))


@pytest.mark.parametrize("name", ["net.pt2", "out.npy", "out.tif", "out.zarr"])
def test_a_dangling_link_is_not_replaced(name: str, tmp_path: Path) -> None:
    net, out = nn.Conv2d(1, 2, 3).eval(), tmp_path / name
    out.symlink_to(tmp_path / "nowhere")
    with pytest.raises(BadFile, match="exists already; --force replaces it"):
        if name == "net.pt2":
            eyeshot.export(net, out, size=(1, 9, 9))
        else:
            eyeshot.run(net, torch.rand(1, 9, 9), out)
    assert out.is_symlink()


def test_weights_made_in_inference_mode_are_refused_with_a_cure() -> None:
    with torch.inference_mode():
        net = nn.Sequential(nn.Conv2d(1, 2, 3)).eval()
    x = torch.rand(1, 9, 7)
    with pytest.raises(Unsupported, match=r"give copy\.deepcopy"):
        eyeshot.run(net, x)
    with torch.no_grad():
        expected = net(x[None])[0]
    np.testing.assert_allclose(eyeshot.run(copy.deepcopy(net), x), expected, atol=1e-6)
