"""The report: its table adds up, its words are true, it leaves the network as it was."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import eyeshot
from eyeshot.errors import BadValue, UnknownName, Unsupported
from eyeshot.inspection import Inspection
from tests import zoo


@pytest.fixture(scope="module")
def resnet() -> Inspection:
    with torch.device("meta"):
        net = zoo.resnet(18)
    return eyeshot.inspect(net, (3, 224, 224))


def _printed_costs(text: str) -> dict[str, list[int]]:
    """The rows of the printed cost table: name -> its whole numbers."""
    table = text.partition("\nCost\n")[2].partition("FLOPs are twice")[0]
    rows: dict[str, list[int]] = {}
    for line in table.splitlines():
        cells = re.match(
            r"^ (\S+(?: others)?) +(\S+) +(\S+) +(\S+) +(\S+) +(\S+) +(\S+) +(\S+)", line
        )
        if cells and cells[2] not in ("parameters",) and "─" not in line:
            numbers = [cells[i] for i in (2, 4, 5, 6, 7, 8)]
            if all(re.fullmatch(r"[\d,]+|·|shared", one) for one in numbers):
                rows[f"{len(rows)} {cells[1]}"] = [
                    int(one.replace(",", "")) if one[0].isdigit() else 0 for one in numbers
                ]
    return rows


@pytest.mark.parametrize("name", ["resnet", "unet", "squeeze-excite"])
def test_the_printed_rows_add_up_to_the_printed_total(name: str, resnet: Inspection) -> None:
    inspection = {
        "resnet": lambda: resnet,
        "unet": lambda: eyeshot.inspect(zoo.UNet(2, 4), (1, 32, 32)),
        "squeeze-excite": lambda: eyeshot.inspect(zoo.se_net(), (3, 32, 32)),
    }[name]()
    rows = _printed_costs(str(inspection))
    (whole,) = [numbers for key, numbers in rows.items() if key.endswith(" total")]
    others = [numbers for key, numbers in rows.items() if not key.endswith(" total")]
    assert len(others) > 3
    assert [sum(column) for column in zip(*others, strict=True)] == whole
    assert whole[:3] == [
        inspection.total.parameters,
        inspection.total.multiply_adds,
        inspection.total.flops,
    ]


def test_the_table_has_a_row_a_layer_and_fits_120_columns(resnet: Inspection) -> None:
    text = str(resnet)
    assert max(map(len, text.splitlines())) <= 120
    table = text.partition("\nLayers\n")[2].partition("\nCost\n")[0]
    names = [row.name for row in resnet.rows]
    printed = [line.split()[0] for line in table.splitlines() if line.startswith(" ")]
    assert [name for name in printed if name in names] == names
    assert re.search(r"stages\.3\.1\.relu +relu +512×7×7 +435 +32 +217 +0", table)
    assert re.search(r"stem\.0 +conv2d +7×7 /2 pad 3 +64×112×112 +7 +2 +3 +0", table)


def test_halo_alignment_kinds_and_sizes(resnet: Inspection) -> None:
    unet = eyeshot.inspect(zoo.UNet(4, 2), (1, 64, 64))
    axis = unet.reaches[0].axes[0]
    assert (axis.unit_halo, axis.block_halo, axis.alignment) == ((107, 107), (94, 94), 16)
    assert "107 on each side" in str(unet)
    assert {one.kind for one in unet.operators} == {"local"}
    kinds = {(one.kind, one.operator): one for one in resnet.operators}
    assert kinds["statistic", "adaptive_avg_pool2d"].layers == ("avgpool",)
    assert resnet.reaches[0].status == "whole image"
    assert resnet.reaches[1].layer == "stages.3.1.relu"


def test_json_is_plain_and_whole(resnet: Inspection) -> None:
    data = json.loads(json.dumps(resnet.to_dict(), allow_nan=False))
    assert data["total"]["parameters"] == 11_689_512
    assert sum(row["parameters"] for row in data["layers"]) == 11_689_512
    assert sum(row["parameter_share"] for row in data["layers"]) == pytest.approx(1)
    conv = next(row for row in data["layers"] if row["name"] == "stem.0")
    assert conv["options"]["kernel"] == [7, 7]
    assert conv["receptive_field"][0] == {
        "smallest": 7,
        "largest": 7,
        "stride": 2,
        "padding": 3,
        "center": 0,
    }


class _Balanced(HTMLParser):
    """Every tag that is opened is closed, and nothing is fetched from elsewhere."""

    VOID = ("meta", "br", "link", "img")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.cells: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        fetched = [value or "" for name, value in attributes if name in ("src", "href")]
        assert all(address.startswith("#") for address in fetched)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.cells.append(data)


def test_the_page_is_whole_and_stands_alone(tmp_path: Path) -> None:
    net = nn.Sequential()
    net.add_module("a<b>", nn.Conv2d(1, 2, 3))  # a name that would be a tag
    inspection = eyeshot.inspect(net.eval(), (1, 8, 8))
    page = inspection.save(tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    piece = inspection._repr_html_()
    assert "<html" not in piece
    for shown in (page, piece):
        parser = _Balanced()
        parser.feed(shown)
        assert not parser.open
        assert "a<b>" in parser.cells
        assert "runs at this size" in shown


def test_nothing_of_the_network_is_changed() -> None:
    net = zoo.se_net().train()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    state = torch.random.get_rng_state()
    eyeshot.inspect(net, (3, 24, 24))
    assert net.training
    assert all(module.training for module in net.modules())
    for name, tensor in net.state_dict().items():
        assert not tensor.is_meta
        assert torch.equal(tensor, before[name])
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_shape_mistake_is_a_finding_and_the_table_is_still_shown() -> None:
    class Wrong(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Conv2d(1, 32, 3, padding=1)
            self.b = nn.Conv2d(32, 8, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = self.a(x)
            joined: Tensor = self.b(torch.cat([x, x], 1))
            return joined

    inspection = eyeshot.inspect(Wrong().eval(), (1, 16, 16))
    assert str(inspection.findings[0].severity) == "error"
    assert "in_channels=64" in str(inspection)
    assert inspection.accepted == ()
    assert "does not run at this size" in str(inspection)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ((3, 224), "2 numbers; this network takes channels x height x width, such as 3x224x224"),
        ((3, 1, 8, 8), "4 numbers"),
        ((3, 0, 224), "3x0x224; give positive numbers"),
        ((3, 10**9, 8), "3x1000000000x8; use at most 10,000,000 along an axis"),
        ((3, 8, 10**20), "use at most 10,000,000 along an axis"),
        ((3, 8, -2), "positive"),
        ((), "of nothing"),
    ],
)
def test_impossible_sizes_are_refused(size: tuple[int, ...], message: str) -> None:
    with pytest.raises(BadValue, match=re.escape(message)):
        eyeshot.inspect(zoo.se_net(), size)


class _Branches(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 0:
            return x
        return -x


class _Item(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[..., : int(x.max().item())]


class _ToNumpy(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.from_numpy(x.numpy().copy())


class _Mask(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[x.abs() > 1]


@pytest.mark.parametrize(
    ("net", "line", "expected", "cure"),
    [
        (_Branches(), "if x.sum() > 0:", "branches on the values", "torch.where"),
        (_Item(), "int(x.max().item())", "into Python numbers", "keep them in a tensor"),
        (_ToNumpy(), "x.numpy()", "leaves torch for NumPy", "torch functions"),
        (_Mask(), "x[x.abs() > 1]", "as many values as", "multiply by a mask"),
    ],
)
def test_a_network_that_cannot_be_traced_names_the_line_at_fault(
    net: nn.Module, line: str, expected: str, cure: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(Unsupported) as caught:
        eyeshot.inspect(net, (1, 8, 8))
    message = str(caught.value)
    assert re.search(r"test_inspect\.py:\d+, `.*" + re.escape(line), message)
    assert expected in message
    assert cure in message
    assert "\n" not in message
    assert capfd.readouterr() == ("", "")  # torch's own pages about it are kept quiet


def test_two_inputs_and_one_or_three_axes() -> None:
    class Two(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return x + y

    assert eyeshot.inspect(Two(), [(1, 4, 5), (1, 4, 5)]).sizes == ((1, 4, 5), (1, 4, 5))
    line = eyeshot.inspect(nn.Conv1d(1, 1, 3), (1, 9))
    assert "length: every size from 3 on" in str(line)
    volume = eyeshot.inspect(nn.Conv3d(1, 1, (1, 3, 5)), (1, 4, 9, 9))
    assert "1×3×5" in str(volume)


def test_one_unit_s_field() -> None:
    net = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.MaxPool2d(2), nn.Upsample(scale_factor=2))
    field = eyeshot.receptive_field(net, (1, 8, 8), unit=(0, 3))
    assert [str(side) for side in field.box or ()] == ["[-1, 3)", "[1, 5)"]
    assert [str(side) for side in field.inside or ()] == ["[0, 3)", "[1, 5)"]
    assert field.status == "exact"
    assert field.phase == (0, 1)
    assert field.to_dict()["layer_phases"] == [[[-1, 3], [-1, 3]]] * 2
    assert "of which [0, 3) × [1, 5) lies in the picture" in str(field)
    assert eyeshot.receptive_field(net, (1, 8, 8), "0").unit == (4, 4)
    with pytest.raises(UnknownName, match="unknown layer '3'"):
        eyeshot.receptive_field(net, (1, 8, 8), "3")
    with pytest.raises(BadValue, match="lies outside"):
        eyeshot.receptive_field(net, (1, 8, 8), "0", (8, 0))


def test_a_field_behind_an_unknown_operator_is_not_guessed() -> None:
    class Sums(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cumsum(x, 2).relu()

    field = eyeshot.receptive_field(Sums(), (1, 4, 4))
    assert field.box is None
    assert field.status == "unsupported: cumsum at cumsum"
    assert str(field).endswith("unsupported: cumsum at cumsum")


def test_printing_for_the_first_time_draws_no_random_numbers() -> None:
    """In a process of its own, since rich draws some when it is imported."""
    code = (
        "import gc, os, random, eyeshot; gc.disable(); from torch import nn\n"
        "found = eyeshot.inspect(nn.Conv2d(1, 1, 3), (1, 9, 9)); state = random.getstate()\n"
        "assert str(found) and random.getstate() == state\n"
        "os._exit(0)"  # Python takes half a second to end
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)


@pytest.mark.parametrize("size", [np.array([1, 9, 7]), (np.int64(1), 9, 7), [[1, 9, 7]]])
def test_a_size_may_be_of_numpy(size: Any) -> None:
    assert eyeshot.inspect(nn.Conv2d(1, 2, 3), size).sizes == ((1, 9, 7),)


@pytest.mark.parametrize("size", [28, "1x9x7", (1.5, 9, 7), (1, "9"), None])
def test_a_size_of_something_else_is_refused(size: Any) -> None:
    with pytest.raises(BadValue, match="give whole numbers, such as"):
        eyeshot.inspect(nn.Conv2d(1, 2, 3), size)
