"""A field on a picture: the drawing is true, and no gradient lies outside the box."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from eyeshot import images
from eyeshot.cli import main
from eyeshot.errors import BadValue, UnknownName, Unsupported
from eyeshot.frontends.torch import graph_of
from eyeshot.geometry import Fields, footprint
from eyeshot.inspection import effective_field
from eyeshot.inspection.page import parse_place, view_field
from eyeshot.pictures import draw_field, draw_gradient
from tests import zoo

_BOX = np.array((255, 80, 40), np.uint8)


def test_one_convolution_s_gradient_is_its_kernel() -> None:
    net = nn.Conv2d(2, 3, 3, padding=1)
    expected = np.zeros((6, 6), np.float32)
    expected[1:4, 3:6] = net.weight.detach().mean(0).abs().mean(0)
    for mode in (torch.enable_grad, torch.no_grad, torch.inference_mode):  # the caller's
        with mode():
            graph, x = graph_of(net, (2, 6, 6)), torch.randn(2, 6, 6)
            strength = effective_field(graph, x, "conv2d", (2, 4))
        np.testing.assert_allclose(strength, expected, rtol=1e-6)


@pytest.mark.parametrize("unit", [(0, 0), (7, 10), (15, 19)])
@pytest.mark.parametrize("layer", ["up.1", "join.0.2", "head"])
def test_the_gradient_lies_in_the_footprint(layer: str, unit: tuple[int, int]) -> None:
    torch.manual_seed(3)
    net = zoo.UNet(2, 4)
    graph = graph_of(net, (1, 16, 20))
    rows, columns = graph[layer].extents
    place = (unit[0] * rows // 16, unit[1] * columns // 20)
    strength = effective_field(graph, torch.randn(1, 16, 20), layer, place)
    inputs = footprint(graph, layer, place)
    assert (strength > 0).any()
    assert not strength[~inputs].any()
    inside = Fields(graph).field(layer, place).inside
    assert inside is not None
    where = np.argwhere(strength > 0)
    for axis, side in enumerate(inside):
        assert side.lo <= where[:, axis].min() <= where[:, axis].max() < side.hi


def test_a_layer_behind_a_flatten_moves_with_the_whole_picture() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2 * 36, 4))
    x = torch.randn(1, 8, 8)
    graph = graph_of(net, (1, 8, 8))
    inputs = x[None].clone().requires_grad_(True)
    net(inputs)[0].mean().backward()
    assert inputs.grad is not None
    np.testing.assert_allclose(
        effective_field(graph, x, "2"), inputs.grad[0].abs().mean(0), rtol=1e-5
    )
    with pytest.raises(BadValue, match="a picture of shape"):
        effective_field(graph, torch.randn(1, 9, 8), "2")


class Attending(nn.Module):
    """Attention over all positions, and a map again."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Conv2d(2, 3, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = x.flatten(2)
        y: torch.Tensor = self.last((rows @ (rows.mT @ rows).softmax(1)).view_as(x))
        return y


def test_any_unit_of_a_map_behind_attention_can_be_named() -> None:
    torch.manual_seed(0)
    net, x = Attending(), torch.randn(2, 7, 9)
    graph = graph_of(net, (2, 7, 9))
    field = Fields(graph).field("last", (5, 8))
    assert (field.unit, str(field.status)) == ((5, 8), "whole image")
    assert field.inside is not None
    assert [len(side) for side in field.inside] == [7, 9]
    assert footprint(graph, "last", (5, 8)).all()
    inputs = x[None].clone().requires_grad_(True)
    net(inputs)[0, :, 5, 8].mean().backward()
    assert inputs.grad is not None
    strength = effective_field(graph, x, "last", (5, 8))
    np.testing.assert_allclose(strength, inputs.grad[0].abs().mean(0), rtol=1e-4, atol=1e-7)
    with pytest.raises(BadValue, match="its map is 7 x 9"):
        Fields(graph).field("last", (5, 9))


def test_padding_is_drawn_outside_the_picture_and_the_box_around_its_pixels() -> None:
    picture = np.full((10, 20, 3), 200, np.uint8)
    drawn = draw_field(picture, ((-4, 3), (5, 9)), side=200)
    assert drawn.shape == (14 * 10, 20 * 10, 3)
    edge = (drawn == _BOX).all(axis=2)
    rows, columns = np.nonzero(edge)
    assert (rows.min(), rows.max()) == (0, 69)
    assert (columns.min(), columns.max()) == (50, 89)
    assert (drawn[55, 70] == 200).all()  # inside the box: as it is
    assert (drawn[100, 150] < 200).all()  # outside: dimmed
    assert len(np.unique(drawn[5:35, 100:190].reshape(-1, 3), axis=0)) == 2  # above: stripes


def test_a_large_picture_is_reduced_and_a_gray_one_accepted() -> None:
    gray = np.zeros((900, 600), np.uint8)
    assert draw_field(gray, ((0, 9), (0, 9)), side=300).shape == (300, 200, 3)
    strength = np.zeros((900, 600), np.float32)
    strength[400:500, 300:400] = 1
    heat = draw_gradient(gray, strength, ((0, 900), (0, 600)), side=300)
    assert heat.shape == (300, 200, 3)
    assert heat[150, 115].sum() > 500 > 100 > heat[20, 20].sum()


def test_both_drawings_stand_side_by_side() -> None:
    net = zoo.UNet(2, 4)
    drawn, field = view_field(net, torch.zeros(1, 16, 16), np.zeros((16, 16)), "head", (0, 0))
    assert drawn.dtype == np.uint8
    assert drawn.shape[1] > 2 * 600
    assert field.unit == (0, 0)
    with pytest.raises(UnknownName, match="heat"):
        view_field(net, torch.zeros(1, 16, 16), np.zeros((16, 16)), "heat")
    with pytest.raises(BadValue, match="a picture of"):
        view_field(net, torch.zeros(1, 16, 16), np.zeros((16, 18)), "head")


def test_a_field_that_is_not_known_is_not_drawn() -> None:
    class Sums(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cumsum(x, 2)

    with pytest.raises(Unsupported, match="unsupported: cumsum at cumsum"):
        view_field(Sums(), torch.zeros(1, 8, 8), np.zeros((8, 8)), "cumsum")


@pytest.mark.parametrize(
    ("text", "place"),
    [("conv1:3,4", ("conv1", (3, 4))), ("block.1.conv", ("block.1.conv", None))],
)
def test_a_place_is_parsed(text: str, place: tuple[str, tuple[int, ...] | None]) -> None:
    assert parse_place(text) == place
    with pytest.raises(BadValue, match="give LAYER:y,x"):
        parse_place("conv1:3;4")


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("see one_net.py:net gray.png -o gray.png", "the output is the input itself"),
        ("see one_net.py:net gray.png -o other.png --field conv2d:1,23", "is the input itself"),
        ("filter gray.png --kernel sobel -o ./gray.png", "the output is the input itself"),
        ("inspect one_net.py:net --size 3x16x16 -o gray.png", "a page; end its name in .html"),
        ("inspect one_net.py:net --size 3x16x16 -o one_net.py", "a page; end its name in .html"),
        ("inspect one_net.py:net --size 3x16x16 -o old.html", "old.html: exists already; --force"),
        ("studio one_net.py:net gray.png -o old.html", "old.html: exists already; --force"),
        ("report run -o old.html", "old.html: exists already; --force"),
        ("see one_net.py:net gray.png -o old.html", "old.html: exists already; --force"),
        ("see one_net.py:net gray.png -o old.png --field conv2d:1,2", "exists already; --force"),
        ("sample run -o old.png", "old.png: exists already; --force replaces it"),
        ("filter gray.png --kernel sobel -o old.png", "old.png: exists already; --force"),
    ],
)
def test_no_file_is_written_over(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("one_net.py").write_text("from torch import nn\nnet = nn.Conv2d(3, 4, 5, padding=2)\n")
    images.write("gray.png", np.tile(np.arange(24, dtype=np.uint8), (20, 1)))
    Path("other.png").symlink_to("gray.png")
    for name in ("old.html", "old.png"):
        Path(name).write_text("work of a day")
    before = {path.name: path.read_bytes() for path in tmp_path.glob("*.*")}
    assert main(command.split()) == 2
    assert words in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.*")} == before


def test_the_command_draws_and_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = "from torch import nn\nnet = nn.Conv2d(3, 4, 5, padding=2)\n"
    (tmp_path / "one_net.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    images.write(tmp_path / "gray.png", np.tile(np.arange(24, dtype=np.uint8), (20, 1)))
    command = ["see", "one_net.py:net", "gray.png", "--field", "conv2d:1,23"]
    assert main([*command, "-o", "out.png", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["box"] == [[-1, 4], [21, 26]]
    assert images.read(tmp_path / "out.png").shape[2] == 3
    assert main([*command, "-o", "out.html"]) == 2
    assert main(["see", "one_net.py:net", "gray.png", "--field", "conv2d:1,24"]) == 2
    assert "its map is 20 x 24" in capsys.readouterr().err


def test_force_writes_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("one_net.py").write_text("from torch import nn\nnet = nn.Conv2d(3, 4, 5, padding=2)\n")
    images.write("gray.png", np.tile(np.arange(24, dtype=np.uint8), (20, 1)))
    for name, command in (
        ("old.html", "inspect one_net.py:net --size 3x16x16 -o old.html --force"),
        ("old.png", "filter gray.png --kernel sobel -o old.png --force"),
    ):
        Path(name).write_text("an earlier one")
        assert main(command.split()) == 0
        assert Path(name).read_bytes() != b"an earlier one"
