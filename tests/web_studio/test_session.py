"""What the studio answers: the numbers of see, explain and receptive_field, to the bit."""

from __future__ import annotations

import base64
import copy
import dataclasses
import json
import shutil
import zlib
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import eyeshot
from eyeshot.data.pairs.pair import Legend
from eyeshot.errors import BadFile, BadValue, EyeshotError, UnknownName, Unsupported
from eyeshot.explanation import read_matrix, walk_conv
from eyeshot.language import speaking, tr
from eyeshot.runs import save_tensors
from eyeshot.web_studio import Session, Subject, bundled_digits, of_tensor, other_weights
from eyeshot.web_studio.comparing import Truth
from eyeshot.web_studio.looks import Cancelled
from eyeshot.web_studio.payloads import Payload, Query
from eyeshot.web_studio.session import _QUESTIONS
from eyeshot.web_studio.subjects import Training, is_training
from eyeshot.web_studio.web_page import export_page


class Branched(nn.Module):
    """A stem, a skip, batch norm, pools, up-sampling, a join, and a head of numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.down = nn.MaxPool2d(2)
        self.deep = nn.Conv2d(4, 6, 3, padding=1, groups=2)
        self.up = nn.ConvTranspose2d(6, 4, 2, stride=2)
        self.last = nn.Conv2d(8, 3, 3, dilation=2, stride=2)
        self.head = nn.Linear(3, 5)

    def forward(self, x: Tensor) -> Tensor:
        top = self.norm(self.stem(x)).relu()
        up = self.up(self.deep(self.down(top)).relu())
        joined = torch.cat([top, up], 1)
        answer: Tensor = self.head(self.last(joined).mean((2, 3)))
        return answer


@pytest.fixture(scope="module")
def net() -> nn.Module:
    torch.manual_seed(3)
    found = Branched().eval()
    found.norm.running_mean = torch.randn(4) * 0.1
    found.norm.running_var = torch.rand(4) + 0.5
    return found


@pytest.fixture(scope="module")
def x() -> Tensor:
    return torch.randn(1, 20, 24, generator=torch.Generator().manual_seed(4))


@pytest.fixture(scope="module")
def session(net: nn.Module, x: Tensor) -> Session:
    return Session(Subject("branched", net), [of_tensor(x)])


def ask(session: Session, name: str, body: bytes = b"", **values: Any) -> Payload:
    return session.answer(name, Query({key: str(one) for key, one in values.items()}, body))


def numbers(answer: Payload) -> np.ndarray[Any, np.dtype[Any]]:
    return np.frombuffer(answer.raw, answer.data["dtype"]).reshape(answer.data["shape"])


def test_maps_are_those_of_see(session: Session, net: nn.Module, x: Tensor) -> None:
    seen = eyeshot.see(net, x)
    for layer in ask(session, "state").data["layers"]:
        if not layer["input"]:
            maps = numbers(ask(session, "maps", layer=layer["name"]))
            assert np.array_equal(maps.reshape(seen[layer["name"]].shape), seen[layer["name"]])


@pytest.mark.parametrize(
    ("layer", "unit"),
    [
        ("stem", (2, 0, 5)),
        ("norm", (1, 7, 7)),
        ("relu", (0, 3, 4)),
        ("down", (3, 4, 5)),
        ("deep", (5, 9, 11)),
        ("up", (2, 8, 9)),
        ("cat", (6, 3, 3)),
        ("last", (1, 2, 4)),
        ("mean", (2,)),
        ("head", (4,)),
    ],
)
def test_a_unit_is_that_of_explain_and_receptive_field(
    session: Session, net: nn.Module, x: Tensor, layer: str, unit: tuple[int, ...]
) -> None:
    answer = ask(session, "unit", layer=layer, unit=",".join(map(str, unit))).data
    assert answer["trace"] == eyeshot.explain(net, x, layer=layer, unit=unit).to_dict()
    place = unit[1:] if len(unit) == 3 else (0, 0)
    field = eyeshot.receptive_field(net, tuple(x.shape), layer, place)
    assert answer["field"] == field.to_dict()
    json.dumps(answer, allow_nan=False)


def test_every_link_leads_to_the_number_that_it_stands_for(session: Session) -> None:
    """Each cell of each patch, followed one layer back, is the value that the patch shows."""
    checked = 0
    for layer in ask(session, "state").data["layers"]:
        if layer["input"]:
            continue
        unit = [n // 2 for n in layer["shape"]]
        answer = ask(session, "unit", layer=layer["name"], unit=",".join(map(str, unit))).data
        for part, link in zip(answer["trace"]["parts"], answer["links"], strict=True):
            values = np.array(part["patch"])
            maps = numbers(ask(session, "maps", layer=link["source"]))
            shape = ask(session, "unit", layer=link["source"], unit=_text(link["strongest"]))
            maps = maps.reshape(shape.data["shape"])
            for cell in np.ndindex(*values.shape):
                place = [axis[i] for axis, i in zip(link["axes"], cell, strict=True)]
                if -1 not in place:
                    assert maps[(*link["before"], *place)] == values[cell]
                    checked += 1
    assert checked > 100


def _text(unit: list[int]) -> str:
    return ",".join(map(str, unit))


def test_pixels_are_those_of_attribute(session: Session, net: nn.Module, x: Tensor) -> None:
    scores = net(x[None])[0].detach()
    best, second = scores.argsort(descending=True)[:2].tolist()
    for unit, against, other in ((best, "next", second), (best, "", None), (0, "3", 3)):
        answer = ask(session, "pixels", layer="head", unit=unit, against=against)
        expected = eyeshot.attribute(net, x, unit=(unit,), against=other)
        shares = np.frombuffer(answer.raw, np.float32).reshape(answer.data["shape"])[0]
        np.testing.assert_allclose(shares, expected.map, atol=1e-5)
        assert answer.data["margin"] == pytest.approx(expected.margin, abs=1e-5)
        assert answer.data["against"] == other
        assert answer.data["linear"] is True
        assert answer.data["box"] == [0, 20, 0, 24]
        total = answer.data["pixels"] + answer.data["rest"]
        assert total == pytest.approx(answer.data["margin"], abs=1e-9)


def test_why_ends_at_a_pixel(session: Session) -> None:
    steps = ask(session, "why", layer="head", unit="1").data["steps"]
    names = [step["layer"] for step in steps]
    assert (names[0], names[-1]) == ("head", "x")
    for before, after in pairwise(steps):
        answer = ask(session, "unit", layer=before["layer"], unit=_text(before["unit"])).data
        assert after["layer"] in [link["source"] for link in answer["links"]]


@pytest.mark.parametrize(("layer", "unit"), [("stem", [2, 7, 5]), ("deep", [4, 3, 6])])
def test_why_gives_the_share_of_one_unit(
    session: Session, net: nn.Module, layer: str, unit: list[int]
) -> None:
    """Number times gradient, of the unit that gives most; padding and bias are no unit."""
    look, conv = session.desk.look(Query({})), net.get_submodule(layer)
    assert isinstance(conv, nn.Conv2d)
    assert conv.bias is not None
    (edge,) = look.graph[layer].edges
    before = look.value(edge.source).clone().requires_grad_()
    value = conv(before)[(0, *unit)]
    value.backward()
    sign = value.detach().sign()
    adds = (sign * before.detach() * before.grad)[0]
    most = adds.flatten().argmax().item()
    along = adds.clamp(min=0).sum() + (sign * conv.bias.detach()[unit[0]]).clamp(min=0)
    first, second, *_ = ask(session, "why", layer=layer, unit=_text(unit)).data["steps"]
    assert second["unit"] == [int(at) for at in np.unravel_index(int(most), adds.shape)]
    assert first["share"] == pytest.approx((adds.max() / along).item(), rel=1e-5)


def test_reach_and_field_are_two_sides_of_one_thing(session: Session, net: nn.Module) -> None:
    boxes = ask(session, "reach", pixel="7,9").data["boxes"]
    (top, bottom), (left, right) = boxes["deep"]
    for row in range(10):
        for column in range(12):
            inside = eyeshot_field(session, row, column)
            sees = inside[0][0] <= 7 < inside[0][1] and inside[1][0] <= 9 < inside[1][1]
            assert sees == (top <= row < bottom and left <= column < right)


def eyeshot_field(session: Session, row: int, column: int) -> list[list[int]]:
    found: list[list[int]] = ask(session, "unit", layer="deep", unit=f"0,{row},{column}").data[
        "field"
    ]["inside"]
    return found


def test_a_muted_channel_is_as_if_its_weights_were_zero(net: nn.Module, x: Tensor) -> None:
    session = Session(Subject("branched", net), [of_tensor(x)])
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    edits = json.dumps({"mute": [["deep", 2]], "set": []})
    muted = numbers(ask(session, "maps", layer="head", edits=edits))
    other = copy.deepcopy(net)
    with torch.no_grad():
        other.deep.weight[2] = 0  # type: ignore[union-attr,operator]
        other.deep.bias[2] = 0  # type: ignore[union-attr,operator]
    assert np.array_equal(muted.ravel(), eyeshot.see(other, x)["head"])
    change = numbers(ask(session, "maps", layer="head", edits=edits, difference=1))
    plain = numbers(ask(session, "maps", layer="head"))
    assert np.array_equal(change, muted - plain)
    assert change.any()
    assert all(torch.equal(one, before[name]) for name, one in net.state_dict().items())


@pytest.mark.parametrize("layer", ["stem", "deep", "up"])
def test_a_kernel_that_is_changed_is_used(net: nn.Module, x: Tensor, layer: str) -> None:
    session = Session(Subject("branched", net), [of_tensor(x)])
    kernel = numbers(ask(session, "kernel", layer=layer, channel=1))
    trace = ask(session, "unit", layer=layer, unit="1,2,3").data["trace"]
    assert trace["parts"][0]["kernel"] == kernel[0].tolist()
    changed = [round(float(i), 1) for i in range(kernel[0].size)]
    edits = json.dumps({"mute": [], "set": [[layer, 1, 0, changed]]})
    trace = ask(session, "unit", layer=layer, unit="1,2,3", edits=edits).data["trace"]
    assert np.array(trace["parts"][0]["kernel"]).ravel().tolist() == changed


def test_walks_are_those_of_the_library(session: Session) -> None:
    image, kernel = "1 2 3 / 4 5 6 / 7 8 9", "1 0 / 0 -1"
    walk = walk_conv(read_matrix(image), read_matrix(kernel), padding=1, stride=2)
    answer = ask(
        session, "walk", operation="conv", input=image, kernel=kernel, padding=1, stride=2
    ).data
    assert answer.pop("asked")["stride"] == "2"
    assert answer == {**walk.to_dict(), "made": walk.made.tolist()}


def test_a_walk_reads_no_file(session: Session, tmp_path: Any) -> None:
    secret = tmp_path / "kernel.txt"
    secret.write_text("1 2\n3 4\n")
    with pytest.raises(BadValue, match="no matrix"):
        ask(session, "walk", operation="conv", input=secret, kernel="1")


def test_values_that_do_not_fit_in_memory_are_computed_again(net: nn.Module, x: Tensor) -> None:
    session = Session(Subject("branched", net), [of_tensor(x)], memory=6 * 4000)
    seen = eyeshot.see(net, x)
    for _ in range(2):
        for layer in ("cat", "stem", "head"):
            maps = numbers(ask(session, "maps", layer=layer))
            assert np.array_equal(maps.reshape(seen[layer].shape), seen[layer])


def test_a_computation_that_nobody_waits_for_ends(net: nn.Module, x: Tensor) -> None:
    session = Session(Subject("branched", net), [of_tensor(x)], memory=6 * 4000)

    def gone() -> None:
        raise Cancelled

    session.warm()
    with pytest.raises(Cancelled):
        session.answer("maps", Query({"layer": "stem"}), gone)


@pytest.mark.parametrize(
    ("name", "values", "error"),
    [
        ("nothing", {}, BadValue),
        ("maps", {"layer": "stm"}, UnknownName),
        ("maps", {}, BadValue),
        ("maps", {"layer": "stem", "channel": 9}, BadValue),
        ("maps", {"layer": "stem", "box": "1,2"}, BadValue),
        ("unit", {"layer": "stem", "unit": "0,0"}, BadValue),
        ("unit", {"layer": "stem", "unit": "0,0,99"}, BadValue),
        ("unit", {"layer": "stem", "unit": "a,b,c"}, BadValue),
        ("why", {"layer": "stem", "unit": "0,0,99"}, BadValue),
        ("effective", {"layer": "stem", "unit": "0"}, BadValue),
        ("state", {"picture": "0123"}, BadValue),
        ("maps", {"layer": "stem", "edits": "{"}, BadValue),
        ("maps", {"layer": "stem", "edits": '{"mute": [["stem", 99]]}'}, BadValue),
        ("maps", {"layer": "stem", "edits": '{"set": [["stem", 0, 0, [1, 2]]]}'}, BadValue),
        ("maps", {"layer": "stem", "edits": '{"set": [["stem", 0, 0, [1e999]]]}'}, BadValue),
        ("kernel", {"layer": "relu"}, BadValue),
        ("draw", {"size": "4,4"}, BadValue),
        ("training", {}, BadValue),
        ("walk", {"operation": "sum", "input": "1"}, UnknownName),
        ("reach", {"pixel": "1"}, BadValue),
    ],
)
def test_a_question_that_cannot_be_answered_says_why(
    session: Session, name: str, values: dict[str, Any], error: type[EyeshotError]
) -> None:
    with pytest.raises(error):
        ask(session, name, **values)


def test_every_question_is_asked_in_this_file() -> None:
    text = Path(__file__).read_text()
    missing = [name for name in _QUESTIONS if f'"{name}"' not in text]
    assert missing == []


def test_pictures_strips_and_shares(session: Session, x: Tensor) -> None:
    shown = ask(session, "picture", box="2,6,3,9")
    assert (shown.data["shape"], len(shown.raw)) == ([4, 6, 3], 72)
    strip = ask(session, "strip", layer="stem", most=3)
    count, high, wide = strip.data["shape"]
    assert (count, len(strip.raw)) == (3, 3 * high * wide)
    assert strip.data["of"] == [4, 20, 24]
    dead = ask(session, "dead", edits='{"mute": [["stem", 3]]}').data
    assert dead["channels"]["stem"] == [3]
    assert dead["begins"] == [], "muted by a person"
    shares = ask(session, "dead").data["shares"]
    assert 0 <= shares["relu"] <= 1
    assert shares["stem"] == 0
    assert not {"mean", "head", "x"} & shares.keys(), "numbers and pictures have no channels"
    effective = ask(session, "effective", layer="deep", unit="0,4,4")
    assert effective.data["shape"][1:] == [8, 8]
    assert effective.data["max"] > 0


@pytest.mark.parametrize("channel", [0, 3])
def test_the_sum_of_a_muted_relu_and_of_its_neighbor(session: Session, channel: int) -> None:
    """The muted one has no sum, and says so; the neighbor's is what it was."""
    edits = json.dumps({"mute": [["relu", channel]]})
    muted = ask(session, "unit", layer="relu", unit=_text([channel, 3, 4]), edits=edits).data
    assert (muted["trace"], muted["value"]) == (None, 0)
    assert f"channel {channel} of relu is muted" in muted["refusal"]
    before = ask(session, "unit", layer="relu", unit="1,3,4")
    after = ask(session, "unit", layer="relu", unit="1,3,4", edits=edits)
    assert after.data["trace"] == before.data["trace"]


def test_a_dead_channel_is_named_where_it_begins() -> None:
    """Always, if a kernel of zeros leaves a constant; else in this picture only."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 2, 3)
    ).eval()
    first = net[0]
    assert isinstance(first, nn.Conv2d)
    assert first.bias is not None
    with torch.no_grad():
        first.bias[:] = torch.tensor([1.0, -1.0, -9.0, 1.0])
        first.weight[1] = 0
    session = Session(Subject("dead", net), [of_tensor(torch.rand(1, 12, 12))])
    dead = ask(session, "dead").data
    assert dead["channels"] == {"2": [1, 2], "3": [1, 2]}
    assert dead["begins"] == [
        {"layer": "2", "channels": [2], "always": False},
        {"layer": "2", "channels": [1], "always": True},
    ]


def test_a_training_is_followed(tmp_path: Path) -> None:
    """A checkpoint that is newer is taken over, and everything is computed again."""
    from eyeshot.training.checkpoint import Position, save

    subject, (picture, *_) = bundled_digits()
    assert subject.run is not None
    shutil.copy(subject.run.path / "config.yaml", tmp_path / "config.yaml")
    optimizer = torch.optim.AdamW(subject.net.parameters())
    row = {"epoch": 1.0, "loss": 0.5}
    save(tmp_path / "last", subject.net, None, optimizer, Position(epoch=1, rows=[row]))
    assert is_training(tmp_path)
    training = Training(tmp_path)
    session = Session(Subject("live", training.run.net, training.run, training), [picture])
    before = ask(session, "training").data
    assert before == {"rows": [row], "epochs": 8, "stamp": 1}
    scores = numbers(ask(session, "maps", layer="fc2"))
    with torch.no_grad():
        subject.net.get_parameter("fc2.bias").add_(1)
    rows = [row, {**row, "epoch": 2.0}]
    save(tmp_path / "last", subject.net, None, optimizer, Position(epoch=2, rows=rows))
    assert ask(session, "training").data["stamp"] == 2
    after = numbers(ask(session, "maps", layer="fc2"))
    assert np.allclose(after, scores + 1, atol=1e-5)
    weights = tmp_path / "model.safetensors"  # which a training writes after each epoch
    save_tensors(weights, subject.net.state_dict(), {"epoch": "1"})
    assert is_training(tmp_path)
    save_tensors(weights, subject.net.state_dict(), {"epoch": "2 finished"})
    assert not is_training(tmp_path)


@pytest.fixture(scope="module")
def compared(x: Tensor) -> tuple[Session, nn.Module, nn.Module]:
    """Two networks of one architecture, but for the channels of one layer."""
    torch.manual_seed(5)
    one, two = Branched(), Branched()
    two.last, two.head = nn.Conv2d(8, 2, 3, dilation=2, stride=2), nn.Linear(2, 5)
    one.eval(), two.eval()
    session = Session(Subject("one", one), [of_tensor(x)])
    session.put_beside(Session(Subject("two", two), session.desk.pictures()))
    return session, one, two


def test_two_networks_are_compared_layer_by_layer(
    compared: tuple[Session, nn.Module, nn.Module], x: Tensor
) -> None:
    session, one, two = compared
    beside = ask(session, "state").data["beside"]
    assert beside["name"] == "two"
    assert beside["layers"]["last"] == [2, 8, 10]
    seen = [eyeshot.see(net, x) for net in (one, two)]
    for layer, there in beside["layers"].items():
        if there is not True or layer == "x":
            continue
        first, second = (each[layer] for each in seen)
        theirs, change = (
            numbers(ask(session, "maps", layer=layer, of=of)) for of in ("other", "difference")
        )
        assert np.array_equal(theirs.reshape(second.shape), second)
        assert np.array_equal(change.reshape(first.shape), first - second)
    unit = ask(session, "unit", layer="cat", unit="6,2,4", of="other").data
    assert unit["trace"] == eyeshot.explain(two, x, layer="cat", unit=(6, 2, 4)).to_dict()
    channel = ask(session, "maps", layer="stem", channel=2, box="2,6,3,9", of="difference")
    first, second = (each["stem"][2, 2:6, 3:9] for each in seen)
    assert np.array_equal(numbers(channel)[0], first - second)
    assert channel.data["box"] == [2, 6, 3, 9]
    strip = ask(session, "strip", layer="stem", of="difference").data
    assert strip["max"] == [float(one) for one in (seen[0]["stem"] - seen[1]["stem"]).max((1, 2))]


def test_edits_and_paint_reach_the_right_network(
    compared: tuple[Session, nn.Module, nn.Module], x: Tensor
) -> None:
    session, one, two = compared
    edits = json.dumps({"mute": [["stem", 1]], "set": []})
    asked: dict[str, Any] = {"layer": "stem", "edits": edits}
    assert not numbers(ask(session, "maps", **asked))[1].any()
    theirs = numbers(ask(session, "maps", of="other", **asked))
    assert np.array_equal(theirs, eyeshot.see(two, x)["stem"])
    change = numbers(ask(session, "maps", of="difference", **asked))
    assert np.array_equal(change[1], -theirs[1])
    painted = x.clone()
    painted[0, :3] = x.max()
    body = np.zeros((20, 24), np.uint8)
    body[:3] = 2
    identity = ask(session, "paint", body.tobytes()).data["id"]
    for of, net in (("", one), ("other", two)):
        values: dict[str, Any] = {"picture": identity, "layer": "stem", "of": of}
        assert np.array_equal(
            numbers(ask(session, "maps", **values)), eyeshot.see(net, painted)["stem"]
        )


def test_predictions_of_two_networks_are_compared(x: Tensor, tmp_path: Path) -> None:
    torch.manual_seed(6)
    nets = [nn.Conv2d(1, 3, 3, padding=1).eval() for _ in range(2)]
    truth = np.random.default_rng(1).integers(0, 3, (20, 24), np.uint8)
    cv2.imwrite(str(tmp_path / "mask.png"), truth)
    first, second = (Subject(f"net {i}", net) for i, net in enumerate(nets))
    session = Session(first, [of_tensor(x)], truths=[tmp_path / "mask.png"])
    session.put_beside(Session(second, [of_tensor(x)]))
    with torch.no_grad():
        said = [net(x[None])[0].argmax(0).numpy() for net in nets]
    change = ask(session, "overlay", kind="prediction", of="difference")
    assert np.array_equal(bytes_of(change), said[0] != said[1])
    assert change.data["wrong"] == (said[0] != said[1]).sum()
    wrong = ask(session, "overlay", kind="error", of="other")
    assert np.array_equal(bytes_of(wrong), said[1] != truth)


def test_what_cannot_be_compared_is_named(
    compared: tuple[Session, nn.Module, nn.Module], x: Tensor
) -> None:
    session, _, two = compared
    narrow = nn.Sequential(nn.Conv2d(1, 2, 3)).eval()
    with pytest.raises(BadValue, match="no layer has the name and shape"):
        session.put_beside(Session(Subject("narrow", narrow), [of_tensor(x)]))
    with pytest.raises(BadValue, match="takes tensor as 10×24 beside 20×24 pixels"):
        session.put_beside(Session(Subject("small", two), [of_tensor(x[:, :10])]))
    alone = Session(Subject("two", two), [of_tensor(x)])
    refused: list[tuple[tuple[Session, dict[str, Any]], type[EyeshotError], str]] = [
        ((session, {"layer": "stem", "of": "both"}), UnknownName, "side"),
        ((session, {"layer": "stm", "of": "other"}), UnknownName, "layer"),
        ((session, {"layer": "last", "of": "other"}), BadValue, "two: last is 2×8×10"),
        ((alone, {"layer": "stem", "of": "other"}), BadValue, "--beside"),
    ]
    for asked, error, message in refused:
        with pytest.raises(error, match=message):
            ask(asked[0], "maps", **asked[1])
    with pytest.raises(BadValue, match="a difference of why"):
        ask(session, "why", layer="stem", unit="0,0,0", of="difference")


def test_weights_of_another_epoch_are_put_beside(net: nn.Module, tmp_path: Path) -> None:
    subject, _ = bundled_digits()
    assert subject.run is not None
    changed = {name: tensor + 1 for name, tensor in subject.net.state_dict().items()}
    save_tensors(tmp_path / "then.safetensors", changed, {"epoch": "3"})
    found = other_weights(subject, str(tmp_path / "then.safetensors"))
    assert found is not None
    assert found.name == "then (epoch 3)"
    assert torch.equal(found.net.get_parameter("fc2.bias"), changed["fc2.bias"])
    assert found.run is not None
    assert not torch.equal(subject.net.get_parameter("fc2.bias"), changed["fc2.bias"])
    with pytest.raises(BadFile, match="keeps no last weights"):
        other_weights(subject, "last")
    assert other_weights(subject, "runs/another") is None
    with pytest.raises(BadFile, match="no such file"):
        other_weights(subject, str(tmp_path / "none.pt"))


def test_a_page_that_cannot_be_written_is_refused(session: Session, tmp_path: Path) -> None:
    with pytest.raises(BadValue, match="html"):
        export_page(session, tmp_path / "page.png")
    with pytest.raises(UnknownName):
        export_page(session, tmp_path / "page.html", [("stm", (0, 0, 0))])
    assert list(tmp_path.iterdir()) == []


def test_a_file_grows_large_and_says_what_it_leaves_out(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eyeshot.web_studio.web_page._USUAL_UNITS", 7)
    reported: list[str] = []
    page = export_page(session, tmp_path / "page.html", say=reported.append).read_text()
    answers = json.loads(page.partition('id="answers">')[2].partition("</script>")[0])
    left = json.loads(answers["file"])["left"]
    assert left > 0
    assert reported == [
        f"{tmp_path}/page.html: {left} units were left out to keep it small; --unit names others"
    ]
    ways = [key for key in answers if key.startswith("why?")]
    assert len(ways) >= 7
    for key in ways:
        packed = zlib.decompress(base64.b64decode(answers[key]))
        asked = dict(parse_qsl(key.partition("?")[2]))
        assert packed == session.answer("why", Query(asked)).to_bytes()


def test_a_widget_answers_and_names_mistakes(net: nn.Module, x: Tensor) -> None:
    pytest.importorskip("anywidget", reason="no anywidget to show the studio in a notebook")
    widget = eyeshot.studio(net, x)
    sent: list[Any] = []
    widget.send = lambda content, buffers=(): sent.append((content, buffers))
    widget._handle_custom_msg({"number": 4, "name": "state", "values": {}}, [])
    widget._handle_custom_msg({"number": 5, "name": "maps", "values": {"layer": "stm"}}, [])
    assert sent[0][0] == {"number": 4}
    assert len(sent[0][1]) == 1
    assert sent[1][0]["number"] == 5
    assert "stm" in sent[1][0]["error"]


@pytest.mark.parametrize("size", [None, (1, 9), (1, 8, 8, 8), (1, 9, 9)])
@pytest.mark.parametrize("layer", [nn.Conv1d(1, 2, 3), nn.Conv3d(1, 2, 3)])
def test_signals_and_volumes_are_refused_in_one_line(
    layer: nn.Module, size: tuple[int, ...] | None
) -> None:
    with pytest.raises(Unsupported, match="shows pictures; use eyeshot see and eyeshot explain"):
        Session(Subject("other", layer.eval()), size=size)


@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("classes", [1, 3])
def test_overlays_are_the_largest_score_the_mask_and_where_they_differ(
    tmp_path: Path, padding: int, classes: int
) -> None:
    torch.manual_seed(classes)
    net = nn.Conv2d(1, classes, 3, padding=padding).eval()
    x = torch.randn(1, 20, 24)
    random = np.random.default_rng(0)
    mask = random.integers(0, max(2, classes), (20, 24), np.uint8)
    cv2.imwrite(str(tmp_path / "mask.png"), mask * (255 if classes == 1 else 1))
    session = Session(Subject("net", net), [of_tensor(x)], truths=[tmp_path / "mask.png"])
    known = ask(session, "state").data["overlay"]
    assert (known["truth"], known["pixel"]) == ("mask.png", (1 - padding, 1 - padding))
    with torch.no_grad():
        scores = net(x[None])[0].numpy()
    said = scores.argmax(0) if classes > 1 else scores[0] > 0
    truth = mask[1:-1, 1:-1] if padding == 0 else mask
    for kind, expected in (("prediction", said), ("truth", mask), ("error", said != truth)):
        answer = ask(session, "overlay", kind=kind)
        assert np.array_equal(bytes_of(answer), expected)
        part = bytes_of(ask(session, "overlay", kind=kind, box="3,11,2,9", step=2))
        assert np.array_equal(part, expected[3:11:2, 2:9:2])
    assert answer.data["wrong"] == (said != truth).sum()
    assert answer.data["labeled"] == truth.size


def bytes_of(answer: Payload) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.frombuffer(answer.raw, np.uint8).reshape(answer.data["shape"])


def test_a_mask_is_read_by_the_legend_of_the_run(tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    cv2.imwrite(str(path), np.array([[0, 7], [9, 7]], np.uint8))
    legend = Legend(("cell", "edge"), (7, 0), ignore=9)
    assert Truth(path, (2, 2), 2, legend).read((0, 2), (0, 2)).tolist() == [[1, 0], [255, 0]]
    with pytest.raises(BadFile, match=r"mask.png: 7 stands for no class; use a mask of class num"):
        Truth(path, (2, 2), 2, None).read((0, 2), (0, 2))
    with pytest.raises(BadFile, match="a mask of 2×2 pixels, and 3×2 are looked at"):
        Truth(path, (3, 2), 2, legend)
    gray = tmp_path / "gray.png"
    cv2.imwrite(str(gray), np.array([[[0, 0, 255]]], np.uint8))
    with pytest.raises(BadFile, match="mask with 3 channels; save it with class numbers"):
        Truth(gray, (1, 1), 2, None)
    np.save(tmp_path / "half.npy", np.array([[0.0, 0.7]], np.float32))
    with pytest.raises(BadFile, match="mask of float32; save it with class numbers, in 8 bits"):
        Truth(tmp_path / "half.npy", (1, 2), 2, None)


@pytest.mark.parametrize(
    ("values", "classes", "expected"),
    [
        ([[0, 255], [255, 0]], 2, [[0, 1], [1, 0]]),
        ([[0, 1], [255, 0]], 2, [[0, 1], [255, 0]]),
        ([[0, 255], [255, 0]], 3, [[0, 255], [255, 0]]),
    ],
)
def test_the_whole_mask_says_what_255_is(
    tmp_path: Path, values: list[list[int]], classes: int, expected: list[list[int]]
) -> None:
    path = tmp_path / "mask.png"
    cv2.imwrite(str(path), np.array(values, np.uint8))
    truth = Truth(path, (2, 2), classes, None)
    for row in (0, 1):  # each window as in the whole
        assert truth.read((row, row + 1), (0, 2)).tolist() == expected[row : row + 1]
    assert truth.read((-1, 1), (1, 3)).tolist() == [[255, 255], [expected[0][1], 255]]
    assert truth.read((3, 5), (0, 1)).tolist() == [[255], [255]]


def test_a_mask_with_a_palette_is_read_as_in_training(tmp_path: Path) -> None:
    """Indices stand for classes; the color of each has to be the one of the training masks."""
    samples = np.array([[0, 7, 7], [7, 0, 0]], np.uint8)
    colors = {0: (0, 0, 0), 7: (200, 10, 20)}
    for name, red in (("mask.png", 200), ("other.png", 100)):
        image = Image.fromarray(samples)
        image.putpalette([0] * 21 + [red, 10, 20], "RGB")
        image.save(tmp_path / name)
    packed = [r << 16 | g << 8 | b for r, g, b in colors.values()]
    legend = Legend(("rest", "cell"), (0, 7), palette=tuple(packed))
    expected = (samples == 7).astype(np.uint8)
    truth = Truth(tmp_path / "mask.png", (2, 3), 2, legend)
    assert np.array_equal(truth.read((0, 2), (0, 3)), expected)
    assert np.array_equal(
        Truth(tmp_path / "mask.png", (2, 3), 8, None).read((0, 2), (0, 3)), samples
    )
    with pytest.raises(BadFile, match=r"gives 7 the color \[100, 10, 20\].*save it with the pal"):
        Truth(tmp_path / "other.png", (2, 3), 2, legend)


@pytest.mark.parametrize("last", [nn.Sigmoid(), nn.Identity()])
def test_one_probability_is_compared_with_a_half(last: nn.Module, x: Tensor) -> None:
    torch.manual_seed(2)
    net = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), last, nn.Dropout()).eval()
    session = Session(Subject("net", net), [of_tensor(x)])
    with torch.no_grad():
        expected = net[0](x[None])[0, 0].numpy() > 0
    assert 0 < expected.mean() < 1
    assert np.array_equal(bytes_of(ask(session, "overlay", kind="prediction")), expected)


def test_an_output_larger_than_the_picture_is_compared_inside_it(tmp_path: Path, x: Tensor) -> None:
    torch.manual_seed(5)
    net = nn.Conv2d(1, 2, 3, padding=2).eval()
    mask = np.random.default_rng(1).integers(0, 2, (20, 24), np.uint8)
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    session = Session(Subject("net", net), [of_tensor(x)], truths=[tmp_path / "mask.png"])
    with torch.no_grad():
        said = net(x[None])[0].argmax(0).numpy()
    expected = np.full((22, 26), 255, np.uint8)
    expected[1:-1, 1:-1] = said[1:-1, 1:-1] != mask
    answer = ask(session, "overlay", kind="error")
    assert np.array_equal(bytes_of(answer), expected)
    assert answer.data["labeled"] == mask.size
    assert answer.data["wrong"] == (expected == 1).sum()


def test_more_classes_than_a_byte_numbers_are_not_laid_over() -> None:
    subject, pictures = bundled_digits()
    assert subject.run is not None
    config = dataclasses.replace(
        subject.run.config, task="segment", classes=tuple(map(str, range(300)))
    )
    net = nn.Conv2d(1, 300, 1).eval()
    many = Subject("many", net, dataclasses.replace(subject.run, config=config, net=net))
    session = Session(many, pictures[:1])
    with pytest.raises(BadValue, match="prediction of many of 300 classes: the studio lays at"):
        ask(session, "overlay", kind="prediction")
    assert ask(session, "state").data["overlay"] is None


def test_a_drawing_and_what_is_looked_at_outlive_strokes(net: nn.Module) -> None:
    session = Session(Subject("branched", net), [of_tensor(torch.rand(1, 8, 8)) for _ in range(40)])
    for identity, _ in session.desk.names():
        ask(session, "picture", picture=identity)  # as many as were given
    random = np.random.default_rng(0)
    drawn, other = (ask(session, "draw", random.bytes(64), size="8,8").data["id"] for _ in range(2))
    body = bytearray(64)
    for at in range(50):
        body[at] = 2
        last = ask(session, "paint", bytes(body), picture=drawn).data["id"]
        ask(session, "picture", picture=other)
    assert session.desk.root(last) == drawn
    for _ in range(40):
        ask(session, "paint", random.integers(1, 4, 64, np.uint8).tobytes(), picture=last)
    for identity in (drawn, last):
        ask(session, "picture", picture=identity)
    with pytest.raises(BadValue, match="is gone; choose or draw another"):
        ask(session, "picture", picture=other)
    first = session.desk.listed[0]
    assert ask(session, "paint", bytes(64), picture=first).data["id"] == first
    assert "painted on" not in ask(session, "state").data["picture"]["notes"]


def test_a_painted_picture_is_answered_with_values_of_its_own(net: nn.Module, x: Tensor) -> None:
    session = Session(Subject("branched", net), [of_tensor(x)])
    brush = np.zeros((20, 24), np.uint8)
    brush[2:5, 3], brush[7, 7:9], brush[0, 0] = 1, 2, 3
    painted = ask(session, "paint", brush.tobytes()).data["id"]
    expected = x.clone()
    expected[:, 2:5, 3], expected[:, 7, 7:9] = x.min(), x.max()
    expected[:, 0, 0] = x.flatten(1).mean(1)
    seen = eyeshot.see(net, expected)
    for layer in ("stem", "cat"):
        maps = numbers(ask(session, "maps", layer=layer, picture=painted))
        assert np.array_equal(maps, seen[layer])
    with pytest.raises(BadValue, match="3 bytes for 20×24; send one a pixel"):
        ask(session, "paint", b"123")


def test_overlays_that_there_are_not_are_named(session: Session, x: Tensor) -> None:
    assert ask(session, "state").data["overlay"] is None  # it gives one vector
    with pytest.raises(BadValue, match="prediction of branched; use a network of classes"):
        ask(session, "overlay", kind="prediction")
    dense = Session(Subject("dense", nn.Conv2d(1, 2, 4, stride=2).eval()), [of_tensor(x)])
    assert ask(dense, "state").data["overlay"]["pixel"] is None
    with pytest.raises(BadValue, match="no truth without a true mask"):
        ask(dense, "overlay", kind="truth")
    with pytest.raises(UnknownName):
        ask(dense, "overlay", kind="guess")


def test_findings_are_in_the_language_of_the_page(session: Session, net: nn.Module) -> None:
    for language in ("zh", "en"):
        with speaking(language):
            listed = eyeshot.inspect(net, (1, 20, 24)).findings
            expected = {(tr(one.title), one.cause, one.cure) for one in listed}
        found = ask(session, "state", language=language).data["findings"]
        assert found
        assert {(one["title"], one["cause"], one["cure"]) for one in found} <= expected
    with pytest.raises(UnknownName, match="language"):
        ask(session, "state", language="klingon")


def test_a_shape_mistake_is_shown_beyond_the_fault() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(3, 5, 3), nn.ReLU()).eval()
    state = ask(Session(Subject("broken", net), size=(1, 16, 16)), "state").data
    assert state["network"]["runs"] is False
    assert state["prediction"] is None
    assert [layer["name"] for layer in state["layers"]][-1] == "2"
    assert any(one["severity"] == "error" for one in state["findings"])


@pytest.mark.parametrize("end", [nn.Identity(), nn.Softmax(1)])
def test_a_classifier_that_ends_in_a_softmax_gives_its_own_shares(end: nn.Module) -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), end).eval()
    x = torch.randn(1, 1, 12, 12)
    session = Session(Subject("net", net), [of_tensor(x)])
    found = ask(session, "state").data["prediction"]["top"]
    with torch.no_grad():
        shares = net[:3](x)[0].softmax(0)
    right = [float(shares[one["index"]]) for one in found]
    assert [one["probability"] for one in found] == pytest.approx(right, abs=1e-6)
