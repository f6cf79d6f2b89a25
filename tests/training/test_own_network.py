"""A network that nobody here knows learns, and its run folder opens without its code."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

import eyeshot
from eyeshot.errors import BadValue, EyeshotError
from eyeshot.runs import METRICS, PROGRAM, WEIGHTS, Run, RunConfig
from eyeshot.training import Settings, Silence, train
from eyeshot.training.checkpoint import Position
from tests.engine.runner import fork, listen, run_folder

from .blobs import blobs
from .cells import write_cells, write_noisy


class Own(nn.Module):
    """Two levels, a dropout, tied layers and a resize to the size of another map."""

    def __init__(self, outputs: int = 2, drop: float = 0.2) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU())
        self.down = nn.Conv2d(6, 6, 3, stride=2, padding=1)
        self.again = self.down
        self.drop, self.head = nn.Dropout2d(drop), nn.Conv2d(12, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        fine = self.first(x)
        coarse = self.drop(functional.relu(self.again(self.down(fine))))
        coarse = functional.interpolate(coarse, size=fine.shape[2:], mode="nearest")
        scores: Tensor = self.head(torch.cat([fine, coarse], 1))
        return scores


class Coarse(nn.Module):
    """An answer for each 4×4 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 8, 3, 2, 1), nn.Conv2d(8, 2, 3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.second(functional.relu(self.first(x)))
        return scores


class Bare(nn.Module):
    """An answer that is three pixels smaller at each side."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 8, 5), nn.Conv2d(8, 2, 3)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.second(functional.relu(self.first(x)))
        return scores


class Flat(nn.Module):
    """A classifier that flattens by a view, which torch allows of one layout alone."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.linear = nn.Conv2d(1, 4, 3, padding=1), nn.Linear(4 * 12 * 12, 3)

    def forward(self, x: Tensor) -> Tensor:
        maps = functional.relu(self.conv(x))
        scores: Tensor = self.linear(maps.view(maps.size(0), -1))
        return scores


class Rows(nn.Module):
    """Every row is read by an LSTM."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 2, 1)
        self.reader = nn.LSTM(4, 4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        maps = self.conv(x)
        n, c, h, w = maps.shape
        read, _ = self.reader(maps.permute(0, 2, 3, 1).reshape(n * h, w, c))
        scores: Tensor = self.head(read.reshape(n, h, w, c).permute(0, 3, 1, 2))
        return scores


class Pooled(Own):
    """A score a class."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).mean((2, 3))


class Pair(Own):
    """Two answers."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        scores = super().forward(x)
        return scores, scores


class Remembers(Own):
    """Adds what it answered last."""

    last: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("last", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = super().forward(x) + self.last
        self.last = scores.mean().detach().view(1)
        return scores


class Divides(Own):
    """By 0."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) / 0


class Decides(Own):
    """By the values of a picture."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x if x.mean() > 0 else -x)


class Asks(Own):
    """For a second argument."""

    def forward(self, x: Tensor, scale: float) -> Tensor:  # type: ignore[override]
        return super().forward(x) * scale


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cells(tmp_path_factory.mktemp("data") / "cells")


def segment(cells: Path, out: Path, net: nn.Module | None = None, **changes: object) -> Run:
    options: dict[str, object] = {"epochs": 2, "steps": 3, "batch_size": 2, "progress": False}
    return train(cells, task="segment", net=net or own(), out=out, **{**options, **changes})  # type: ignore[arg-type]


def own() -> Own:
    torch.manual_seed(0)
    return Own()


@pytest.fixture(scope="module")
def trained(cells: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return segment(cells, tmp_path_factory.mktemp("runs") / "own")


def test_the_module_is_left_alone_and_a_copy_has_learned(cells: Path, tmp_path: Path) -> None:
    net = own()
    before = copy.deepcopy(net.state_dict())
    run = segment(cells, tmp_path / "run", net, epochs=1)
    assert net.training
    assert all(torch.equal(before[name], now) for name, now in net.state_dict().items())
    learned = run.net.state_dict()
    assert learned.keys() == before.keys()
    assert not torch.equal(learned["head.weight"], before["head.weight"])


def test_the_run_computes_what_the_module_computes(trained: Run) -> None:
    net = own().eval()
    eyeshot.runs.load_weights(net, trained.path / WEIGHTS)
    for size in ((40, 48), (37, 51), (9, 4)):
        x = torch.randn(1, 1, *size)
        with torch.no_grad():
            assert torch.equal(trained.net(x), net(x))


def test_the_folder_opens_where_the_code_is_not(trained: Run, tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (150, 131), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "picture.png")
    places = (trained.path, tmp_path / "picture.png", tmp_path / "mask.npy")
    process, results = fork(run_folder, *places)
    (reported,) = listen(results)
    process.join()
    found = eyeshot.evaluate(trained)
    assert isinstance(found, eyeshot.MaskEvaluation)
    assert reported == ([], found.dice)
    net = own().eval()
    eyeshot.runs.load_weights(net, trained.path / WEIGHTS)
    x = trained.normalize(torch.from_numpy(picture)[None, None])
    with torch.no_grad():
        expected = net(x).argmax(1).numpy()
    assert (np.load(tmp_path / "mask.npy") == expected).all()


def test_the_program_of_a_run_holds_what_it_learned(trained: Run) -> None:
    program = torch.export.load(trained.path / PROGRAM)
    learned = trained.net.state_dict()
    assert all(torch.equal(learned[name], one) for name, one in program.state_dict.items())


class Ends(nn.Module):
    """Scores in training mode if ``late``, and what ``end`` makes of them otherwise."""

    def __init__(self, net: nn.Module, end: nn.Module, *, late: bool) -> None:
        super().__init__()
        self.net, self.end, self.late = net, end, late

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.net(x)
        return scores if self.late and self.training else self.end(scores)


class SoftmaxByHand(nn.Module):
    def forward(self, scores: Tensor) -> Tensor:
        powers = (scores - scores.amax(1, keepdim=True)).exp()
        return powers / powers.sum(1, keepdim=True)


def _ends(kind: str, end: nn.Module, cells: Path, out: Path, *, late: bool = False) -> Run:
    torch.manual_seed(0)
    pool = (nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(8, 3))
    flat = nn.Sequential(nn.Conv2d(1, 2, 3), *pool)
    net = Ends(flat if kind == "classify" else Own(), end, late=late)
    if kind == "segment":
        return segment(cells, out, net, epochs=1, steps=1, precision="32-true")
    settings: Settings = {"epochs": 1, "batch_size": 20, "precision": "32-true"}
    return train(blobs(), net=net, out=out, progress=False, **settings)


@pytest.fixture(scope="module")
def plain_runs(cells: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """Of networks that end in their scores."""
    out = tmp_path_factory.mktemp("plain")
    return {kind: _ends(kind, nn.Identity(), cells, out / kind) for kind in ("classify", "segment")}


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize(
    ("kind", "softmax"),
    [("classify", nn.Softmax(1)), ("classify", SoftmaxByHand()), ("segment", nn.Softmax(1))],
    ids=["classify", "by hand", "segment"],
)
def test_a_softmax_at_the_end_is_taken_once(
    kind: str,
    softmax: nn.Module,
    late: bool,
    plain_runs: dict[str, Run],
    cells: Path,
    tmp_path: Path,
) -> None:
    plain, soft = plain_runs[kind], _ends(kind, softmax, cells, tmp_path / "soft", late=late)
    rows = [(run.path / METRICS).read_text().splitlines()[1].split(",") for run in (plain, soft)]
    ours, theirs = (float(row[1]) for row in rows)
    assert ours == pytest.approx(theirs, abs=1e-4)  # the loss
    if kind == "segment":
        return
    picture = np.random.default_rng(0).integers(0, 256, (12, 12), np.uint8)
    for run in (soft, eyeshot.ensemble([soft, soft], tmp_path / "both")):
        (one,), (other,) = (eyeshot.predict(each, [picture]) for each in (plain, run))
        assert dict(one.classes) == pytest.approx(dict(other.classes), abs=1e-4)
    found, same = eyeshot.evaluate(plain, blobs()), eyeshot.evaluate(soft, blobs())
    assert isinstance(found, eyeshot.Evaluation)
    assert isinstance(same, eyeshot.Evaluation)
    assert same.loss == pytest.approx(found.loss, abs=1e-4)
    assert torch.allclose(same.probabilities, found.probabilities, atol=1e-4)


@pytest.mark.parametrize("kind", [Coarse, Bare])
def test_a_map_smaller_than_the_picture(kind: type[nn.Module], cells: Path, tmp_path: Path) -> None:
    torch.manual_seed(1)
    run = segment(cells, tmp_path, kind(), epochs=3, steps=25, learning_rate=0.02, crop=(40, 40))
    found = eyeshot.evaluate(run)
    assert isinstance(found, eyeshot.MaskEvaluation)
    assert found.dice > 0.75
    side = found.confusion.sum()
    assert side == (48 * 48 if kind is Coarse else 42 * 42)


def test_pictures_of_pictures(tmp_path: Path) -> None:
    noisy = write_noisy(tmp_path / "noisy")
    run = train(
        noisy, task="restore", net=Own(1), out=tmp_path / "run", epochs=1, steps=2, progress=False
    )
    assert eyeshot.run(run, noisy / "image" / "0.png").shape == (1, 48, 48)


class StopAt(Silence):
    """Cut the training off after so many steps."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def step(self, position: Position) -> None:
        if self.left == 0:
            raise KeyboardInterrupt
        self.left -= 1


def test_a_resumed_training_is_that_of_one_piece(cells: Path, trained: Run, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        segment(cells, tmp_path / "cut", progress=StopAt(4), checkpoint_seconds=0)
    segment(cells, tmp_path / "cut", resume=True)
    whole, cut = ((path / WEIGHTS).read_bytes() for path in (trained.path, tmp_path / "cut"))
    assert whole == cut
    with pytest.raises(BadValue, match=r"the network, by its program, is .* was started with"):
        segment(cells, tmp_path / "cut", Own(drop=0.3), resume=True)


def test_a_classifier_of_one_layout(tmp_path: Path) -> None:
    run = train(blobs(), net=Flat(), out=tmp_path, epochs=1, batch_size=20, progress=False)
    assert RunConfig.read(tmp_path / "config.yaml").model == "Flat"
    assert run.net(torch.zeros(5, 1, 12, 12)).shape == (5, 3)
    found = eyeshot.evaluate(run, blobs())
    assert isinstance(found, eyeshot.Evaluation)


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (Own(3), "gives 3 channels, and the classes are 2; make its last layer give 2"),
        (nn.Sequential(nn.Flatten(), nn.LazyLinear(2)), "has layers without weights"),
        (Rows(), "no bounded patch of the image decides an output"),
        (Pair(), r"gives 2 outputs \(tuple\) while it trains, and --task segment needs one"),
        (nn.Conv2d(3, 2, 1), "takes 3 channels, and the pictures have 1; make it with 1"),
        (Own().double(), "has weights of torch.float64"),
        (nn.Sequential(Own(), nn.Sigmoid()), "ends in a sigmoid, and the classes exclude"),
        (Pooled(), "gives 2 for a picture, and --task segment needs a map 2xHxW"),
        (nn.MaxPool2d(2), "has no weights to learn"),
        (Remembers(), "changes its buffer last when it runs in eval mode.*while self.training"),
        (Divides(), "gives (nan|-?inf) for noise; look for a division by 0"),
        (Decides(), "whatever the values of a picture are"),
        (Asks(), "missing 1 required.*; give every argument of forward but the picture a default"),
    ],
)
def test_what_is_refused_before_the_first_step(
    net: nn.Module, message: str, cells: Path, tmp_path: Path
) -> None:
    with pytest.raises(EyeshotError, match=message):
        segment(cells, tmp_path / "run", net)
    assert not (tmp_path / "run").exists()
