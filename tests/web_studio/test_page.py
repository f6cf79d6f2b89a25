"""The studio in a real browser: what a person clicks and reads, held against the library."""

from __future__ import annotations

import base64
import copy
import json
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import tifffile
import torch
from torch import Tensor, nn

import eyeshot
from eyeshot.cli.studio import _subject
from eyeshot.web_studio import (
    Picture,
    Session,
    Subject,
    bundled_digits,
    digit_pictures,
    of_tensor,
    open_any,
)
from eyeshot.web_studio.payloads import Query
from eyeshot.web_studio.server import Server
from eyeshot.web_studio.web_page import RENDER, export_page, one_script, read_page_file, reply

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
if CHROMIUM is None:
    pytest.skip("no chromium to show the studio's page in", allow_module_level=True)
playwright = pytest.importorskip("playwright.sync_api", reason="no playwright to drive chromium")


VALUE_IS = "value => Number(document.querySelector('.unit output.value')?.title) === value"


class Residual(nn.Module):
    """A stem and a block with a skip, as in a ResNet."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.block = nn.Sequential(
            nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x)).relu()
        answer: Tensor = (x + self.block(x)).relu()
        return answer


@contextmanager
def serving(session: Session) -> Iterator[str]:
    server = Server(session)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield server.address
    finally:
        server.stop()
        thread.join()


@pytest.fixture(scope="module")
def digits() -> Session:
    session = Session(*bundled_digits())
    session.warm()
    return session


@pytest.fixture(scope="module")
def address(digits: Session) -> Iterator[str]:
    with serving(digits) as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def opened(browser: Any) -> Iterator[Callable[[str], Any]]:
    """A page at an address; no error may be left in its console, and nothing asked of others."""
    with ExitStack() as stack:
        errors: list[str] = []

        def visit(address: str) -> Any:
            page = browser.new_page(viewport={"width": 1440, "height": 900}, accept_downloads=True)
            stack.callback(page.close)
            page.on("pageerror", lambda error: errors.append(str(error)))
            page.on("request", lambda request: _check_own(request.url, address, errors))
            page.goto(address)
            return page

        yield visit
        assert errors == []


def _check_own(url: str, address: str, errors: list[str]) -> None:
    own = re.split("[?#]", address)[0]
    if not url.startswith((own, "data:", "blob:", "file:")):
        errors.append(f"asked {url}")


def number(text: str) -> float:
    return float(text.replace("−", "-"))


def shown_value(page: Any, layer: str) -> float:
    says(page, ".unit h2", f"{layer} [")
    return float(page.locator(".unit output.value").get_attribute("title"))


def says(page: Any, place: str, text: str) -> None:
    page.wait_for_function(
        "([place, text]) => document.querySelector(place)?.textContent.includes(text)",
        arg=[place, text],
    )


def unit_of(page: Any) -> tuple[int, ...]:
    heading = page.locator(".unit h2").inner_text()
    return tuple(int(one) for one in re.findall(r"\d+", heading.partition("[")[2]))


def click_map(page: Any, down: float, right: float) -> None:
    page.wait_for_selector(".layer")
    canvas = page.locator("figure.map canvas.pane")
    box = canvas.bounding_box()
    canvas.click(position={"x": box["width"] * right, "y": box["height"] * down})


def sums_on(page: Any) -> list[float]:
    cells = page.locator(".sum tbody tr td:last-child")
    return [float(one.get_attribute("title")) for one in cells.all()]


def test_a_click_shows_the_sum_that_explain_gives(
    opened: Callable[[str], Any], address: str, digits: Session
) -> None:
    page = opened(address + "#layer=conv2&channel=3")
    click_map(page, 0.45, 0.5)
    value = shown_value(page, "conv2")
    unit = unit_of(page)
    picture = digits.desk.picture(Query({}))[1]
    assert isinstance(picture, Picture)
    trace = eyeshot.explain(digits.subject.net, picture.values, layer="conv2", unit=unit)
    assert value == trace.network_value
    parts = sorted((part.sum for part in trace.parts), key=lambda one: -abs(one))
    assert sums_on(page) == [*parts, trace.bias]
    field = eyeshot.receptive_field(digits.subject.net, (1, 28, 28), "conv2", unit[1:])
    assert "×".join(map(str, field.seen.sizes)) in page.locator(".lead").inner_text()


def test_a_cell_is_a_link_one_layer_back_and_crumbs_lead_home(
    opened: Callable[[str], Any], address: str
) -> None:
    page = opened(address + "#layer=conv2&unit=3,6,7")
    shown_value(page, "conv2")
    cell = page.locator(".sum tbody tr").first.locator("button.cell").first
    reported = cell.get_attribute("title")
    cell.click()
    assert shown_value(page, "pool1") == number(reported.split("  ")[0])
    assert page.locator(".crumbs button").count() == 2
    page.keyboard.press("Backspace")
    shown_value(page, "conv2")
    page.keyboard.press("w")
    page.wait_for_selector(".steps li:last-child button:has-text('x')")


def test_keys_keep_the_unit_from_layer_to_layer(opened: Callable[[str], Any], address: str) -> None:
    page = opened(address + "#layer=relu1&unit=3,12,14")
    shown_value(page, "relu1")
    assert "not negative" in page.locator(".unit").inner_text()
    pane = page.locator("figure.map canvas.pane").bounding_box()
    page.mouse.move(pane["x"] + pane["width"] * 0.6, pane["y"] + pane["height"] * 0.6)
    says(page, ".status", "relu1 [3,")
    page.keyboard.press("]")
    shown_value(page, "pool1")
    assert unit_of(page) == (3, 6, 7)
    says(page, ".status", "pool1 [3,")
    for _ in range(3):  # faster than answers
        page.keyboard.press("]")
    shown_value(page, "pool2")
    assert unit_of(page) == (3, 3, 3)
    page.keyboard.press("]")
    says(page, ".notice", "flatten has none at the same place")
    assert page.locator(".unit h2").count() == 0
    page.keyboard.press("[")
    page.keyboard.press("w")
    says(page, ".notice", "No unit is chosen")


def test_why_7_shows_its_strokes_and_its_lead(
    opened: Callable[[str], Any], address: str, digits: Session
) -> None:
    page = opened(address)
    page.locator("button.read-as").click()
    page.wait_for_selector(".evidence .nine")
    picture = digits.desk.picture(Query({}))[1]
    assert isinstance(picture, Picture)
    scores = digits.subject.net(picture.values)[0].detach()
    best, second = scores.argsort(descending=True)[:2].tolist()
    lead = page.locator(".evidence .lead").inner_text()
    assert lead.startswith(f"{best} leads {second} by {float(scores[best] - scores[second]):.4g}")
    page.wait_for_selector(".steps li:last-child button:has-text('x')")
    assert page.locator(".unit").evaluate("one => one.scrollTop") == 0, "it stands in view"

    page.locator(".evidence select").select_option("9")
    says(page, ".evidence .lead", f"{best} leads 9 by")
    found = digits.answer("pixels", Query({"layer": "fc2", "unit": str(best), "against": "9"})).data
    shown = [number(text) for text in page.locator(".nine span").all_inner_texts()]
    assert shown == pytest.approx(list(found["regions"].values()), rel=0.05, abs=1e-3)
    page.wait_for_url("**pixels=9")
    assert page.locator(".steps li").count(), "the chain is still there"
    assert page.locator(".sum thead").inner_text().split()[:3] == ["relu3", "input", "weight"]
    page.locator(".sum tbody button.link").first.click()
    says(page, ".unit h2", "relu3 [")
    assert page.locator(".unit").evaluate("one => one.scrollTop") == 0, "a link ends at the top"


TINT = """(canvas, [high, wide]) => {
    const context = canvas.getContext("2d");
    const scale = 0.94 * Math.min(canvas.width / wide, canvas.height / high);
    const at = (i, n, side) => Math.floor(side / 2 + (i + 0.5 - n / 2) * scale);
    return Array.from({ length: high * wide }, (_, i) => {
        const x = at(i % wide, wide, canvas.width);
        const y = at(Math.floor(i / wide), high, canvas.height);
        const [red, , blue] = context.getImageData(x, y, 1, 1).data;
        return red - blue;
    });
}"""
"""Red less blue of a fitted picture's pixels on the screen; 0 is gray."""


def tints(page: Any, shares: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Those that are seen, and those that shares ask for."""
    sizes = np.sort(np.abs(shares[shares != 0]))
    alpha = np.minimum(1, np.abs(shares) / sizes[-1 - len(sizes) // 20])
    seen = page.locator("figure:not(.map) canvas.pane").evaluate(TINT, list(shares.shape))
    return np.stack([np.reshape(seen, shares.shape), alpha * np.where(shares > 0, 137, -128)])


def check_tints(seen: np.ndarray[Any, Any], asked: np.ndarray[Any, Any]) -> None:
    assert np.abs(seen - asked).max() <= 2
    assert not seen[asked == 0].any(), "a pixel that adds nothing is gray"


def test_only_pixels_that_add_something_are_colored(
    opened: Callable[[str], Any], address: str, digits: Session
) -> None:
    """A unit of a middle layer is no class, and one thing at a time lies over the picture."""
    page = opened(address + "#layer=conv2&unit=0,7,6&pixels=next")
    says(page, ".evidence .lead", "conv2 [0, 7, 6]: −1.696")
    answer = digits.answer("pixels", Query({"layer": "conv2", "unit": "0,7,6"}))
    seen, asked = tints(page, np.frombuffer(answer.raw, np.float32).reshape(28, 28))
    assert asked.any()
    check_tints(seen, asked)
    words = page.locator(".evidence").inner_text()
    assert "raises this unit" in words
    assert "for 0" not in words
    assert page.locator(".nine").count() == 0, "its field lies in one third of the picture"
    page.keyboard.press("e")
    says(page, ".legend", "size of the gradient")
    assert not page.locator(".evidence input").is_checked()
    page.locator(".evidence input").check()
    page.wait_for_selector(".legend", state="hidden")


def test_it_says_where_all_pixels_speak_against_the_answer(opened: Callable[[str], Any]) -> None:
    linear = nn.Linear(3 * 6 * 6, 2)
    net = nn.Sequential(nn.Flatten(), linear).eval()
    with torch.no_grad():
        for one in net.parameters():
            one.zero_()
        linear.weight[0, :15] = torch.linspace(-0.0033, 0.001, 15)
        linear.bias[0] = 0.5
    x = torch.rand(3, 6, 6)
    with serving(Session(Subject("flat", net), [of_tensor(x)])) as address:
        page = opened(address + "#layer=1&unit=0&pixels=1")
        page.wait_for_selector(".balance")
        found = eyeshot.attribute(net, x, layer="1", unit=(0,), against=1)
        words = page.locator(".balance").inner_text()
        assert words.startswith("All pixels together speak against output 0 (−0.0")
        assert words.endswith("the rest (biases and an empty picture) decides: +0.5.")
        assert number(words.split("(")[1].split(")")[0]) == pytest.approx(
            found.pixels.sum(), rel=0.01
        )
        seen, asked = tints(page, found.map)
        check_tints(seen, asked)
        wide = "all => all.every(one => one.scrollWidth <= one.clientWidth)"
        assert page.locator(".nine span").evaluate_all(wide)


@pytest.mark.parametrize(
    ("end", "place"), [("AdaptiveAvgPool2d(1)", ".answer"), ("ReLU()", ".chips")]
)
def test_an_untrained_network_says_so(
    opened: Callable[[str], Any], tmp_path: Path, end: str, place: str
) -> None:
    """At its answer, or above the maps of one that has no classes."""
    layers = f"nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.{end}"
    flat = ", nn.Flatten()" if place == ".answer" else ""
    file = tmp_path / "net.py"
    file.write_text(f"from torch import nn\ndef make(): return nn.Sequential({layers}{flat})\n")
    subject = _subject(f"{file}:make", None)
    with serving(Session(subject, [of_tensor(torch.rand(1, 8, 8))])) as address:
        page = opened(address)
        says(page, f"{place} .warning", "20 of 24 weights are random numbers")


def test_a_dead_channel_is_a_finding_and_a_share_in_the_language_asked_for(
    opened: Callable[[str], Any], address: str
) -> None:
    page = opened(address + "?lang=zh#layer=relu2&unit=14,6,7")
    says(page, ".findings", "第 14 个通道：在这幅图像中处处为 0")
    says(page, ".gallery", "死通道：第 14 个")
    page.get_by_label("Language").select_option("en")
    page.wait_for_url("**?lang=en**")
    says(page, ".findings", "channel 14: 0 everywhere in this picture")
    found = page.locator(".finding", has_text="channel 14")
    assert found.locator(".mono").all_text_contents() == [" relu2"], "not at pool2 once more"
    says(page, ".unit", "is negative, so 0")
    page.get_by_label("Color by").select_option("dead")
    says(page, "#layer-relu2 .figure", "6 %")
    figures = page.locator(".figure:not(:empty)").all_inner_texts()
    assert figures == ["0 %"] * 3 + ["6 %"] * 2, "of maps; numbers have no channels"
    assert page.locator(".layer.colored").count() == 2


def test_a_drawn_digit_is_read_and_its_address_can_be_opened_again(
    opened: Callable[[str], Any], address: str
) -> None:
    page = opened(address + "#layer=fc2&unit=1")
    shown_value(page, "fc2")
    page.keyboard.press("w")
    page.wait_for_selector(".steps li")
    board = page.locator("canvas.board")
    board.scroll_into_view_if_needed()
    box = board.bounding_box()
    points = [(0.5, 0.15), (0.5, 0.5), (0.5, 0.85)]
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=6)
    page.mouse.up()
    page.wait_for_function("() => document.querySelector('.verdict')?.textContent === '1'")
    page.wait_for_function("() => location.hash.includes('picture=')")
    page.wait_for_function(
        "() => document.querySelector('.steps .value')?.textContent ==="
        " Number(Number(document.querySelector('.unit output.value').title).toPrecision(4)) + ''"
    )
    assert page.locator(".unit .steps-head").inner_text().split() == [
        "unit",
        "value",
        "next",
        "adds",
    ]
    page.get_by_label("Language").select_option("zh")
    says(page, ".dead-mark", "死通道：")
    says(page, ".zooms", "适应窗口")
    ink = "canvas => canvas.getContext('2d').getImageData(112, 112, 1, 1).data[0]"
    assert page.locator("canvas.board").evaluate(ink) == 255
    page.get_by_label("Language").select_option("en")
    again = opened(page.url)
    again.wait_for_function("() => document.querySelector('.verdict')?.textContent === '1'")


def test_a_muted_channel_shows_as_a_difference(opened: Callable[[str], Any], address: str) -> None:
    page = opened(address + "#layer=fc2&unit=7")
    before = shown_value(page, "fc2")
    edits = json.dumps({"mute": [["conv2", 3]], "set": []})
    muted = opened(address + f"#layer=fc2&unit=7&edits={edits}&difference=1")
    after = shown_value(muted, "fc2")
    muted.wait_for_selector(".number[aria-pressed=true]")
    change = muted.locator(".number").nth(7).get_attribute("title")
    assert float(change.split(" ")[1]) == pytest.approx(after - before, abs=1e-5)
    assert after != before
    muted.get_by_role("button", name="Undo all").click()
    muted.wait_for_function(VALUE_IS, arg=before)


def test_two_networks_stand_side_by_side(opened: Callable[[str], Any], tmp_path: Path) -> None:
    """Both values, both sums and the map of the difference are those of the library."""
    session = Session(*bundled_digits())
    net = copy.deepcopy(session.subject.net)
    torch.manual_seed(0)
    with torch.no_grad():
        for one in net.parameters():
            one.add_(torch.randn_like(one) * one.std() / 2)
    other = Subject("earlier", net, session.subject.run)
    session.put_beside(Session(other, digit_pictures(other)))
    picture = session.desk.pictures()[0]
    assert isinstance(picture, Picture)
    x = picture.values
    unit = (3, 6, 7)
    traces = [
        eyeshot.explain(each, x, layer="conv2", unit=unit) for each in (session.subject.net, net)
    ]
    values = [one.network_value for one in traces]
    sums = [[part.sum for part in one.parts] for one in traces]
    shown = "all => all.map(one => Number(one.title))"
    with serving(session) as address:
        page = opened(address + "#layer=conv2&unit=3,6,7")
        assert shown_value(page, "conv2") == values[0]
        page.wait_for_selector(".both")
        assert page.locator(".both button").evaluate_all(shown) == [*values, values[0] - values[1]]
        order = sorted(range(8), key=lambda i: -abs(sums[0][i]))
        twins = page.locator(".sum tbody td.twin").evaluate_all(shown)
        assert twins == [*(sums[1][i] for i in order), traces[1].bias]
        page.keyboard.press("b")  # the other network
        page.wait_for_function("() => location.hash.includes('beside=other')")
        page.wait_for_function(
            f"() => document.querySelector('output.value').title === '{values[1]}'"
        )
        page.get_by_role("radio", name="difference").click()
        says(page, ".sum thead", "earlier")
        changes = [one - two for one, two in zip(*sums, strict=True)]
        changes = [
            *sorted(changes, key=lambda one: -abs(one)),
            (traces[0].bias or 0) - (traces[1].bias or 0),
        ]
        assert page.locator(".sum tbody td:last-child").evaluate_all(shown) == changes
        page.wait_for_function("() => location.hash.includes('beside=difference')")
        again = opened(page.url)
        says(again, ".map figcaption", "difference")
        again.locator(".menu summary").click()
        with again.expect_download() as waiting:
            again.get_by_role("button", name="map as CSV").click()
        table = np.loadtxt(waiting.value.path(), delimiter=",", dtype=np.float32)
        seen = [eyeshot.see(each, x[0])["conv2"][3] for each in (session.subject.net, net)]
        assert np.array_equal(table, seen[0] - seen[1])
    file = export_page(session, tmp_path / "both.html", [("conv2", unit)]).as_uri()
    page = opened(file + "#layer=conv2&unit=3,6,7&beside=difference")
    page.wait_for_function(VALUE_IS, arg=values[0] - values[1])


def test_kernels_can_be_typed_over(opened: Callable[[str], Any], address: str) -> None:
    page = opened(address + "#layer=conv1&unit=2,10,10")
    before = shown_value(page, "conv1")
    page.get_by_role("button", name="Edit kernel").click()
    cell = page.locator(".editing input").first
    cell.fill("5")
    cell.press("Tab")
    page.wait_for_selector(".edits .chip")
    page.wait_for_function(
        "value => Number(document.querySelector('.unit output.value').title) !== value", arg=before
    )


def test_the_playground_walks_with_what_is_typed(
    opened: Callable[[str], Any], address: str
) -> None:
    page = opened(address)
    page.get_by_role("tab", name="Kernel playground").click()
    page.wait_for_selector(".formula")
    cell = page.get_by_label("Input 0, 0", exact=True)
    cell.fill("7")
    cell.press("Tab")
    page.wait_for_function("() => document.querySelector('.formula').textContent.startsWith('7·1')")
    assert page.locator(".formula").inner_text().endswith("= 10")
    page.get_by_role("tab", name="transposed convolution").click()
    page.wait_for_function("() => document.querySelectorAll('.matrix').length === 4")


@pytest.mark.parametrize("name", ["unet", "residual"])
def test_other_networks_show_the_same_numbers(opened: Callable[[str], Any], name: str) -> None:
    torch.manual_seed(1)
    net = (eyeshot.nets.build("unet", in_channels=1, classes=2, size=(32, 32), base=4, depth=2)
           if name == "unet" else Residual()).eval()  # fmt: skip
    x = torch.rand(1 if name == "unet" else 3, 32, 48)
    layer = "first.conv2" if name == "unet" else "add"
    with serving(Session(Subject(name, net), [of_tensor(x)])) as address:
        page = opened(f"{address}#layer={layer}&channel=1")
        click_map(page, 0.4, 0.6)
        value = shown_value(page, layer)
        trace = eyeshot.explain(net, x, layer=layer, unit=unit_of(page))
        assert value == trace.network_value
        assert page.locator(".arcs path").count() > 0
        rule = (
            "patch times its kernel" if name == "unet" else "The numbers at this place, added up."
        )
        says(page, ".unit", rule)
        page.locator(".evidence input").check()
        page.get_by_label("Overlay").select_option("prediction")
        page.wait_for_selector(".overlay .swatches")
        assert not page.locator(".evidence input").is_checked(), "one at a time"
        picture = page.locator("canvas.pane").first
        middle = picture.bounding_box()
        picture.hover(position={"x": middle["width"] / 2 + 2, "y": middle["height"] / 2 + 2})
        row, column = map(int, re.findall(r"\d+", page.locator(".status").inner_text())[:2])
        with torch.no_grad():
            said = net(x[None])[0].argmax(0)
        if name == "unet":
            says(page, ".status", f"prediction {said[row, column]}")
        page.get_by_role("button", name="Paint").click()
        page.get_by_label("Brush size").first.fill("9")
        with page.expect_request("**/paint*") as sent:
            picture.click(position={"x": middle["width"] / 2, "y": middle["height"] / 2})
        strokes = np.frombuffer(sent.value.post_data_buffer, np.uint8).reshape(32, 48)
        assert all(8 <= strokes.any(axis).sum() <= 10 for axis in (0, 1))
        page.wait_for_function("() => location.hash.includes('picture=')")
        assert page.locator(".unit h2").inner_text().startswith(layer)  # painting chooses no unit
        page.get_by_role("button", name="Undo all").click()
        page.wait_for_function("() => !document.querySelector('.brush').innerText.includes('Undo')")


def test_each_class_has_a_color_of_its_own(opened: Callable[[str], Any]) -> None:
    torch.manual_seed(1)
    x, net = torch.rand(1, 16, 16), nn.Conv2d(1, 100, 3, padding=1).eval()
    with serving(Session(Subject("many", net), [of_tensor(x)])) as address:
        page = opened(f"{address}#overlay=prediction,1")
        page.wait_for_selector(".swatches")
        colors = page.locator(".swatches i").evaluate_all(
            "all => all.map(one => one.style.background)"
        )
        assert len(colors) == len(set(colors)) == 100


def test_undone_strokes_do_not_come_back(opened: Callable[[str], Any]) -> None:
    """Not with an answer that was under way, and not on another picture."""
    torch.manual_seed(1)
    net = nn.Conv2d(1, 2, 3, padding=1).eval()
    pictures = [of_tensor(torch.rand(1, 16, 16), name) for name in ("one", "two")]
    session = Session(Subject("net", net), pictures)
    with serving(session) as address:
        page = opened(address)
        undo = page.get_by_role("button", name="Undo all")
        page.get_by_role("button", name="Paint").click()
        pane = page.locator("canvas.pane").first
        held: list[Any] = []
        acts = (undo.click, lambda: page.get_by_label("Picture").first.select_option("two"))
        for act, expected in zip(acts, session.desk.listed, strict=True):
            pane.click()
            undo.wait_for()
            held.clear()
            page.route("**/paint*", lambda route: held.append(route))
            with page.expect_request("**/paint*"):
                pane.click(position={"x": 30, "y": 30})
            act()
            undo.wait_for(state="hidden")
            with page.expect_response("**/paint*") as answer:
                held[0].continue_()
            assert answer.value.ok
            page.unroute("**/paint*")
            page.wait_for_timeout(150)
            assert not undo.is_visible()
            shown = f"picture={expected}"
            page.wait_for_function("name => location.hash.includes(name)", arg=shown)


def test_a_network_with_a_shape_mistake_is_shown(opened: Callable[[str], Any]) -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(3, 5, 3), nn.ReLU()).eval()
    with serving(Session(Subject("broken", net), size=(1, 16, 16))) as address:
        page = opened(address)
        page.wait_for_selector(".finding.error")
        assert page.locator(".layer").count() == 4
        says(page, ".map-note", "does not run")
        assert "3" in page.locator(".finding.error").inner_text()


def test_what_is_wrong_is_reported(opened: Callable[[str], Any], address: str) -> None:
    page = opened(address + "#layer=conv2&unit=99,0,0")
    page.wait_for_selector(".notice:not([hidden])")
    assert "at most 15,13,13" in page.locator(".notice").inner_text()
    gone = opened(address + "#picture=0000")
    gone.wait_for_selector(".layer")
    assert "gone" in gone.locator(".notice").inner_text()
    stranger = opened(re.sub(r"(\d+)/[^/]+/$", r"\1/wrong/", address))
    assert "no valid token" in stranger.locator("body").inner_text()


def test_a_damaged_part_of_a_picture_is_reported_and_the_rest_is_shown(
    opened: Callable[[str], Any], tmp_path: Path
) -> None:
    path = tmp_path / "damaged.tif"
    image = np.random.default_rng(0).integers(0, 256, (1200, 1024), dtype=np.uint8)
    tifffile.imwrite(path, image, tile=(256, 256), compression="deflate")
    with tifffile.TiffFile(path) as tiff:
        start, count = tiff.pages[0].dataoffsets[0], tiff.pages[0].databytecounts[0]
    with path.open("r+b") as file:
        file.seek(start + count // 2)
        file.write(bytes(64))
    torch.manual_seed(1)
    subject = Subject("net", nn.Conv2d(1, 2, 3, padding=1).eval())
    with serving(Session(subject, [open_any(subject, path)])) as address:
        page = opened(address + "#view=100,100,8")
        page.wait_for_selector(".notice:not([hidden])")
        assert "damaged.tif" in page.locator(".notice").inner_text()
        page.goto(address + "#view=1000,900,8&layer=conv2d&unit=1,1000,900")
        page.reload()
        value = shown_value(page, "conv2d")
        whole = eyeshot.see(subject.net, image[None] / np.float32(255))["conv2d"]
        assert value == pytest.approx(float(whole[1, 1000, 900]), abs=1e-5)


def test_views_are_saved(
    opened: Callable[[str], Any], address: str, digits: Session, tmp_path: Path
) -> None:
    page = opened(address + "#layer=pool2&unit=3,4,3")
    shown_value(page, "pool2")
    cells = page.locator(".sum .cell").all_inner_texts()
    saved = {}
    for name, ending in (
        *(
            ("as PNG", "png"),
            ("map as CSV", "csv"),
            ("sum as CSV", "sum.csv"),
            ("sum as SVG", "sum.svg"),
        ),
        *(("view as SVG", "view.svg"), ("network as SVG", "network.svg")),
    ):
        page.locator(".menu summary").click()
        with page.expect_download() as waiting:
            page.get_by_role("button", name=name).click()
        saved[ending] = tmp_path / ending
        waiting.value.save_as(saved[ending])
    assert saved["png"].read_bytes().startswith(b"\x89PNG")
    table = np.loadtxt(saved["csv"], delimiter=",")
    assert table.shape == (7, 7)
    assert "total" in saved["sum.csv"].read_text()
    written = list(ElementTree.parse(saved["sum.svg"]).getroot().itertext())
    assert written[0].startswith("pool2 [3, 4, 3] = ")
    assert sum(one in written for one in cells) == len(cells) == 4
    boxes = ElementTree.parse(saved["view.svg"]).getroot().iter("{http://www.w3.org/2000/svg}rect")
    assert sum(1 for one in boxes) == 3  # the paper, the field, the unit
    drawn = "".join(ElementTree.parse(saved["network.svg"]).getroot().itertext())
    assert all(one["name"] in drawn for one in digits.answer("state", Query({})).data["layers"])


def test_the_single_file_needs_no_server(
    opened: Callable[[str], Any], digits: Session, tmp_path: Path
) -> None:
    target = export_page(digits, tmp_path / "page.html", [("conv2", (3, 4, 5)), ("fc2", (7,))])
    page = opened(target.as_uri() + "#layer=conv2&channel=0")
    click_map(page, 0.9, 0.9)  # the nearest unit that the file holds, of any channel
    says(page, ".unit h2", "conv2 [")
    assert unit_of(page) == (3, 4, 5)
    trace = digits.answer("unit", Query({"layer": "conv2", "unit": "3,4,5"})).data["trace"]
    assert shown_value(page, "conv2") == trace["network_value"]
    page.keyboard.press("w")
    page.wait_for_selector(".steps li:last-child button:has-text('x')")
    page.goto(target.as_uri() + "#layer=fc2&unit=7&pixels=next")
    page.reload()
    page.wait_for_selector(".evidence .nine")
    page.get_by_role("tab", name="Kernel playground").click()
    says(page, ".formula", "= 4")


def test_a_notebook_shows_the_same_page(browser: Any, digits: Session) -> None:
    """The widget's module, with a model whose messages this process answers as a kernel does."""
    page = browser.new_page(viewport={"width": 1300, "height": 700})

    def answer(message: dict[str, Any]) -> list[Any]:
        sent: list[tuple[Any, Any]] = []

        class Widget:
            def send(self, content: Any, buffers: Any = ()) -> None:
                sent.append((content, buffers))

        reply(Widget(), digits, message, [])
        (content, buffers) = sent[0]
        return [content, [base64.b64encode(one).decode() for one in buffers]]

    page.expose_function("answer", answer)
    page.goto("about:blank")
    page.add_style_tag(content=read_page_file("studio.css"))
    page.evaluate(
        """async (code) => {
          const blob = new Blob([code], { type: "text/javascript" });
          const module = await import(URL.createObjectURL(blob));
          let hear = null;
          const model = { on: (_, f) => { hear = f; }, send: async (message) => {
            const [content, buffers] = await window.answer(message);
            hear(content, buffers.map((one) => {
              const bytes = Uint8Array.from(atob(one), (letter) => letter.charCodeAt(0));
              return new DataView(bytes.buffer);
            }));
          } };
          const el = document.createElement("div");
          document.body.append(el);
          module.default.render({ model, el });
        }""",
        one_script() + RENDER,
    )
    click_map(page, 0.5, 0.5)
    says(page, ".unit h2", "relu1 [")
    page.close()


def test_keys_languages_and_themes(opened: Callable[[str], Any], address: str) -> None:
    page = opened(address + "#layer=conv1&unit=0,10,10")
    shown_value(page, "conv1")
    page.keyboard.press("ArrowDown")
    page.wait_for_function(
        "() => document.querySelector('.unit h2').textContent.includes('11, 10')"
    )
    page.keyboard.press("]")
    page.wait_for_function(
        "() => document.querySelector('.map figcaption').textContent.includes('relu1')"
    )
    page.keyboard.press("l")
    assert page.locator("[data-theme=dark]").count() > 0
    page.get_by_label("Language").select_option("zh")
    assert "卷积" in page.locator(".layers").inner_text()
    says(page, ".findings", "感受野")  # what `inspect --lang zh` says
    page.locator(".layers").focus()
    page.keyboard.press("ArrowUp")
    says(page, ".map figcaption", "conv1")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("?")
    page.wait_for_selector("dialog kbd")
