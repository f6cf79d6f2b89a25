"""The report: whole, self-contained, the same each time, and true to the run."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from eyeshot import cli, filters, runs
from eyeshot.errors import BadFile, BadValue
from eyeshot.features import LayerMaps, see
from eyeshot.pages import Cards, Figure, Matrix, Table
from eyeshot.report import Material, gather, render, write_report
from eyeshot.report.classifier import (
    apply,
    confusion_section,
    fully_connected,
    kernels_section,
    mistakes_section,
    parameters_section,
    read_photograph,
)
from eyeshot.report.classifier import steps_section as steps_of
from eyeshot.report.curves import read_epochs

VOID = {"meta", "img", "br", "link", "line", "circle", "polyline"}


class Page(HTMLParser):
    """Whether tags close, and what the page holds."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def material(digits_run: Path) -> Material:
    return gather(runs.load(digits_run))


@pytest.fixture(scope="module")
def text(material: Material) -> str:
    return render(material)


def test_every_tag_closes_and_every_picture_says_what_it_shows(text: str) -> None:
    page = Page(text)
    assert page.open == []
    pictures = page.all("img")
    assert len(pictures) > 4 + len(filters.NAMES)
    for picture in pictures:
        assert picture["alt"]
        kind, _, content = (picture["src"] or "").partition(";base64,")
        assert kind in ("data:image/png", "data:image/jpeg")
        Image.open(io.BytesIO(base64.b64decode(content))).verify()
    for drawing in page.all("svg"):
        assert drawing["aria-label"]


def test_the_page_needs_nothing_else(text: str) -> None:
    page = Page(text)
    assert "http" not in re.sub(r"base64,[^\"]+", "", text)
    assert "@import" not in text
    assert not page.all("script")
    assert not page.all("link")
    anchors = {section["id"] for section in page.all("section")}
    assert {link["href"] for link in page.all("a")} == {f"#{anchor}" for anchor in anchors}
    assert "color-scheme: light dark" in text


def test_the_same_run_gives_the_same_bytes(digits_run: Path, text: str, tmp_path: Path) -> None:
    path = write_report(digits_run, tmp_path / "page.html")
    assert path.read_text() == text


def test_the_head_tells_what_evaluate_tells(material: Material, text: str) -> None:
    assert f"{material.evaluation.accuracy:.2%}" in text
    parameters = sum(p.numel() for p in material.run.net.parameters())
    assert f"{parameters:,}" in text


def test_the_matrix_is_that_of_the_evaluation(material: Material) -> None:
    (matrix,) = (p for p in confusion_section(material).parts if isinstance(p, Matrix))
    counts = [[count for count, _, _ in row] for row in matrix.cells]
    assert counts == material.evaluation.confusion.tolist()
    for place, row in enumerate(matrix.cells):
        assert sum(share for _, share, _ in row) == pytest.approx(1)
        assert [right for _, _, right in row].index(True) == place


def test_mistakes_are_mistakes_and_the_surest_come_first(material: Material) -> None:
    (shown,) = mistakes_section(material).parts
    assert isinstance(shown, Cards)
    assert len(shown.cards) == 24
    sure = [float(card.note.split("%")[0]) for card in shown.cards]
    assert sure == sorted(sure, reverse=True)
    for card in shown.cards:
        truth, predicted = card.title.split(" taken for ")
        assert truth != predicted
    said_most, at = material.evaluation.probabilities.max(1)
    wrong = at != material.evaluation.labels
    assert sure[0] == pytest.approx(100 * float(said_most[wrong].max()), abs=0.06)


def test_every_kernel_is_shown_with_its_weights(material: Material) -> None:
    section = kernels_section(material)
    assert section is not None
    (shown,) = section.parts
    assert isinstance(shown, Cards)
    weights = material.run.net.get_submodule("conv1").get_parameter("weight").detach().numpy()
    assert len(shown.cards) == len(weights)
    for card, kernel in zip(shown.cards, weights, strict=True):
        numbers = [float(number) for number in re.findall(r"-?\d\.\d+", card.images[0].alt)]
        np.testing.assert_allclose(numbers, kernel.ravel(), atol=0.0051)


def test_each_step_of_the_network_is_shown(material: Material) -> None:
    titles = [part.title for part in steps_of(material).parts if isinstance(part, Figure)]
    assert titles == [
        "The picture",
        "convolution + ReLU (conv1+relu1)",
        "max pooling (pool1)",
        "convolution + ReLU (conv2+relu2)",
        "max pooling (pool2)",
    ]


def test_parameters_add_up_beside_fully_connected_layers(material: Material) -> None:
    (table,) = parameters_section(material).parts
    assert isinstance(table, Table)
    columns = list(zip(*table.rows, strict=True))
    for place in (4, 5):
        numbers = [int(str(text).replace(",", "")) for text in columns[place]]
        assert sum(numbers) == int(str(table.total[place]).replace(",", ""))
    own = sum(p.numel() for p in material.run.net.parameters())
    assert table.total[4] == f"{own:,}"


def test_parameters_of_a_layer_that_is_called_twice_are_counted_once(material: Material) -> None:
    conv = nn.Conv2d(2, 2, 3, padding=1)
    seen = see(nn.Sequential(conv, conv).eval(), torch.randn(1, 2, 6, 6))
    (table,) = parameters_section(replace(material, features=seen)).parts
    assert isinstance(table, Table)
    assert [row[4] for row in table.rows] == ["38", "the 38 shared"]
    assert table.total[4] == "38"


def test_the_equal_layer_is_as_large_as_the_one_of_torch() -> None:
    maps = np.zeros((4, 5, 6))
    layer = LayerMaps("conv", "Conv2d", maps, np.zeros(4, bool), (2, 7, 8), 76)
    equal = nn.Linear(2 * 7 * 8, 4 * 5 * 6, bias=False)
    assert fully_connected(layer) == equal.weight.numel()


def test_a_report_is_not_written_over_a_run(colors_run: Path) -> None:
    before = (colors_run / "config.yaml").read_bytes()
    assert cli.main(["report", str(colors_run), "-o", str(colors_run / "config.yaml")]) == 2
    assert (colors_run / "config.yaml").read_bytes() == before


def test_color_classes_with_strange_names(colors_run: Path, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    assert cli.main(["report", str(colors_run), "-o", str(path)]) == 0
    text = path.read_text()
    page = Page(text)
    assert page.open == []
    assert "grass &amp; moss" in text
    assert "grass & moss" not in text
    assert "drawn as colors" in text
    assert "small_vgg on photos" in text


def test_a_run_without_metrics_says_so(digits_run: Path, material: Material) -> None:
    assert read_epochs(digits_run / "none.csv") == ()
    bare = Material(
        material.run, material.data, material.evaluation, (), material.shown, material.features
    )
    assert "no metrics.csv" in render(bare)


@pytest.mark.parametrize(
    "text", ["epoch,loss\n1,2\n", "epoch,loss,accuracy,test_loss,test_accuracy\n1,2,x,3,4\n"]
)
def test_a_damaged_table_of_epochs_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text(text)
    with pytest.raises(BadFile, match=r"metrics\.csv: not a table"):
        read_epochs(path)


def test_data_of_other_classes_is_refused(digits_run: Path, material: Material) -> None:
    other = replace(material.data, classes=tuple("abcdefghij"))
    with pytest.raises(BadValue, match="classes"):
        write_report(digits_run, data=other)
    assert not (digits_run / "report.html").exists()


def test_a_data_folder_whose_name_is_not_utf8(
    digits_run: Path, material: Material, tmp_path: Path
) -> None:
    run = runs.load(digits_run)
    run = replace(run, config=replace(run.config, data="/pictures/\udcff"))
    page = write_report(run, tmp_path / "page.html", data=material.data)
    assert " on ? · Eyeshot</title>" in page.read_text(encoding="utf-8")


def test_the_command_names_its_page(digits_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["report", str(digits_run)]) == 0
    path = digits_run / "report.html"
    assert capsys.readouterr().out.strip() == str(path)
    path.unlink()
    assert cli.main(["report", str(digits_run / "none")]) == 2
    assert "no such run folder" in capsys.readouterr().err


def test_a_signed_filter_is_gray_where_nothing_changes() -> None:
    flat = np.full((20, 20, 3), 77, np.uint8)
    assert set(np.unique(apply(flat, "laplacian"))) <= {127, 128}
    assert not apply(flat, "sobel").any()
    np.testing.assert_array_equal(apply(flat, "identity"), flat)
    assert read_photograph().shape == (232, 198, 3)
