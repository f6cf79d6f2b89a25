"""A wide picture is looked at by parts, and every number is that of the whole."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import eyeshot
from eyeshot.errors import BadValue, Unsupported
from eyeshot.web_studio import Session, Subject, WidePicture, looks, of_tensor, open_any
from eyeshot.web_studio.payloads import Query


class Deep(nn.Module):
    """Strides, a skip, up-sampling by weights and by bilinear resizing; and a gate over all."""

    def __init__(self, gate: bool = False) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 3, 3, padding=1)
        self.down = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.deep = nn.Conv2d(4, 4, 5, padding=2)
        self.up = nn.ConvTranspose2d(4, 3, 2, stride=2)
        self.resize = nn.Upsample(scale_factor=2, mode="bilinear")
        self.head = nn.Conv2d(10, 2, 3, padding=1)
        self.gate = gate

    def forward(self, x: Tensor) -> Tensor:
        top = self.stem(x).relu()
        low = self.deep(self.down(top)).relu()
        joined = torch.cat([top, self.up(low), self.resize(low)], 1)
        if self.gate:
            joined = joined * joined.mean((2, 3), keepdim=True).sigmoid()
        answer: Tensor = self.head(joined)
        return answer


@pytest.fixture(scope="module")
def net() -> nn.Module:
    torch.manual_seed(5)
    return Deep().eval()


@pytest.fixture(scope="module")
def image() -> NDArray[np.float32]:
    return np.random.default_rng(6).random((1, 420, 396), dtype=np.float32)


@pytest.fixture(scope="module")
def session(net: nn.Module, image: NDArray[np.float32]) -> Session:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(looks, "WHOLE", 1000)
        patch.setattr(looks, "_SIDE", 64)
        subject = Subject("deep", net)
        picture = open_any(subject, image)
        assert isinstance(picture, WidePicture)
        return Session(subject, [picture])


def ask(session: Session, name: str, **values: Any) -> Any:
    return session.answer(name, Query({key: str(one) for key, one in values.items()}))


def close(one: NDArray[Any], other: NDArray[Any]) -> bool:
    return bool(np.abs(one - other).max() <= 1e-5 * max(1.0, float(np.abs(other).max())))


def test_maps_in_view_are_those_of_the_whole(
    session: Session, net: nn.Module, image: NDArray[np.float32]
) -> None:
    seen = eyeshot.see(net, image)
    for layer in ("stem", "relu", "deep", "up", "resize", "cat", "head"):
        whole = seen[layer]
        high, wide_ = whole.shape[1:]
        for box in ((0, 20, 0, 30), (high // 2, high // 2 + 9, 7, 40), (high - 5, high, 0, wide_)):
            top, bottom, left, right = box
            answer = ask(session, "maps", layer=layer, box=",".join(map(str, box)), step=2)
            made = np.frombuffer(answer.raw, np.float32).reshape(answer.data["shape"])
            assert close(made, whole[:, top:bottom:2, left:right:2])


def test_the_prediction_in_view_is_that_of_the_whole(
    session: Session, net: nn.Module, image: NDArray[np.float32]
) -> None:
    scores = eyeshot.see(net, image)["head"]
    clear = np.abs(scores[0] - scores[1]) > 1e-4
    for box in ((0, 20, 0, 30), (210, 219, 7, 40), (415, 420, 0, 396)):
        top, bottom, left, right = box
        view = slice(top, bottom, 2), slice(left, right, 2)
        answer = ask(session, "overlay", kind="prediction", box=",".join(map(str, box)), step=2)
        made = np.frombuffer(answer.raw, np.uint8).reshape(answer.data["shape"])
        same = made == scores.argmax(0)[view]
        assert same[clear[view]].all()


@pytest.fixture(scope="module")
def whole(net: nn.Module, image: NDArray[np.float32]) -> Session:
    """The same picture computed at once, whose numbers other tests hold against the library."""
    return Session(Subject("deep", net), [of_tensor(torch.from_numpy(image))])


@pytest.mark.parametrize("place", [(0, 0), (419, 395), (0, 395), (210, 200), (211, 3), (33, 34)])
def test_a_unit_is_that_of_the_whole(
    session: Session, whole: Session, place: tuple[int, int]
) -> None:
    for layer in ("head", "cat", "stem"):
        unit = ",".join(map(str, (1, *place)))
        answer = ask(session, "unit", layer=layer, unit=unit).data
        expected = ask(whole, "unit", layer=layer, unit=unit).data
        trace, other = answer["trace"], expected["trace"]
        assert trace["unit"] == [1, *place]
        assert trace["total"] == pytest.approx(other["total"], abs=1e-5)
        sums = [[part["sum"] for part in one["parts"]] for one in (trace, other)]
        assert close(*map(np.array, sums))
        assert answer["links"] == expected["links"]
        assert answer["field"] == expected["field"]
        assert answer["boxes"] == expected["boxes"]


def test_why_leads_to_a_pixel_of_the_picture(session: Session, image: NDArray[np.float32]) -> None:
    steps = ask(session, "why", layer="head", unit="0,300,310").data["steps"]
    assert steps[-1]["layer"] == "x"
    channel, row, column = steps[-1]["unit"]
    assert steps[-1]["value"] == pytest.approx(float(image[channel, row, column]))


def test_what_pixels_add_is_that_of_the_whole(session: Session, whole: Session) -> None:
    for place in ((300, 310), (0, 395)):
        unit = ",".join(map(str, (1, *place)))
        asked = {"layer": "head", "unit": unit, "against": "next"}
        answer, expected = ask(session, "pixels", **asked), ask(whole, "pixels", **asked)
        top, bottom, left, right = answer.data["box"]
        shares, all_shares = (
            np.frombuffer(one.raw, np.float32).reshape(one.data["shape"])[0]
            for one in (answer, expected)
        )
        assert close(shares, all_shares[top:bottom, left:right])
        assert np.abs(all_shares).sum() == pytest.approx(np.abs(shares).sum(), rel=1e-5)
        assert answer.data["rest"] == pytest.approx(expected.data["rest"], abs=1e-4)
        assert answer.data["unit"] == expected.data["unit"]


def test_strips_show_what_is_exact_in_a_window(
    session: Session, net: nn.Module, image: NDArray[np.float32]
) -> None:
    seen = eyeshot.see(net, image)["head"]
    strip = ask(session, "strip", layer="head", at="200,200").data
    assert 0 < strip["of"][1] < 420
    assert seen[0].min() - 1e-5 <= strip["min"][0] <= strip["max"][0] <= seen[0].max() + 1e-5
    effective = ask(session, "effective", layer="head", unit="0,200,200").data
    assert effective["box"] == [a for side in _inside(session) for a in side]
    assert ask(session, "dead", at="200,200").data["shares"]["head"] == 0


def _inside(session: Session) -> list[list[int]]:
    inside: list[list[int]] = ask(session, "unit", layer="head", unit="0,200,200").data["field"][
        "inside"
    ]
    return inside


def test_the_picture_is_shown_near_and_far(
    session: Session, image: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    near = ask(session, "picture", box="10,30,20,50")
    shown = np.frombuffer(near.raw, np.uint8).reshape(near.data["shape"])
    assert np.array_equal(shown[..., 0], np.rint(image[0, 10:30, 20:50] * 255))
    monkeypatch.setattr(looks, "WHOLE", 10)
    monkeypatch.setattr(looks, "_OVERVIEW", 100)
    far = ask(session, "picture", box="0,420,0,396", step=4)
    shown = np.frombuffer(far.raw, np.uint8).reshape(far.data["shape"])
    step = far.data["step"]
    assert np.array_equal(shown[..., 0], np.rint(image[0, ::step, ::step] * 255))


def test_what_takes_too_long_is_computed_only_on_request(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looks, "_MOST_POSITIONS", 1000)
    with pytest.raises(BadValue, match="megapixels"):
        ask(session, "maps", layer="stem", box="0,100,0,100")
    assert ask(session, "maps", layer="stem", box="0,100,0,100", anyway=1).data["shape"][0] == 3


def test_what_cannot_be_decided_by_parts_is_refused(
    net: nn.Module, image: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch, session: Session
) -> None:
    with pytest.raises(BadValue, match="changes"):
        ask(session, "maps", layer="stem", box="0,9,0,9", edits='{"mute": [["stem", 0]]}')
    monkeypatch.setattr(looks, "WHOLE", 1000)
    subject = Subject("gated", Deep(gate=True).eval())
    gated = Session(subject, [open_any(subject, image)])
    with pytest.raises(Unsupported, match="whole picture"):
        ask(gated, "unit", layer="head", unit="0,9,9")
