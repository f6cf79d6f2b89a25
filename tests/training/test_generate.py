"""A generator: trained by the loop of every task, sampled, judged by numbers, shown on a page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import eyeshot
from eyeshot import nets
from eyeshot.cli import main
from eyeshot.data import Data, Examples
from eyeshot.data.examples import HeldPictures
from eyeshot.errors import BadFile, BadValue
from eyeshot.evaluation.labels import (
    _ask,
    draw_latents,
    find_nearest,
    frechet_distance,
    walk_latents,
)
from eyeshot.report import write_report
from eyeshot.runs import Run
from eyeshot.training import Progress
from eyeshot.training.tasks import Adversaries, _losses
from tests.training.test_resume import Stop, StopAt, weights

WIDTH: dict[str, int | str] = {"width": 4, "latent": 8}
CENTERS = torch.tensor([(3.0, 3.0), (3.0, 8.0), (8.0, 5.0)])


def spots(channels: int = 1) -> Data:
    """Soft spots of many sizes around one of three places, 12×12: 256 to learn from."""
    parts = (_spots(256, channels, 0), _spots(200, channels, 1))
    levels = (0.3,) * channels
    return Data("spots", *parts, ("a", "b", "c"), channels, (12, 12), levels, levels)


def _spots(count: int, channels: int, seed: int) -> Examples:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 3, (count,), generator=generator)
    places = CENTERS[labels] + torch.rand(count, 2, generator=generator) * 2 - 1
    widths = 1.5 + torch.rand(count, 1, 1, generator=generator)
    rows = torch.arange(12.0).view(1, 12, 1) - places[:, 0].view(-1, 1, 1)
    columns = torch.arange(12.0) - places[:, 1].view(-1, 1, 1)
    spots = 255 * torch.exp(-(rows**2 + columns**2) / (2 * widths**2))
    return Examples.hold(spots.to(torch.uint8)[:, None].repeat(1, channels, 1, 1), labels)


def train(out: Path, progress: Progress | bool = False, **settings: Any) -> Run:
    """A short training of a small network."""
    settings = {"epochs": 2, "batch_size": 128, **settings}
    return eyeshot.train(
        spots(), task="generate", model_arguments=WIDTH, out=out, progress=progress, **settings
    )


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(tmp_path_factory.mktemp("short") / "run")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("generator") / "run"
    return eyeshot.train(
        spots(),
        task="generate",
        model_arguments={"width": 8, "latent": 8},
        out=out,
        progress=False,
        epochs=40,
        batch_size=32,
        average=0.9,
    )


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("judge") / "run"
    return eyeshot.train(spots(), out=out, progress=False, epochs=8, label_smoothing=0.0)


def test_neither_network_moves_the_other() -> None:
    """The gradients of the one loss are those of the two losses, each for its own network."""
    torch.manual_seed(0)
    generator = nets.generator(8, size=(12, 12), width=4)
    discriminator = nets.discriminator(size=(12, 12), width=4)
    pictures = torch.rand(6, 1, 12, 12) * 2 - 1
    torch.manual_seed(1)
    scores = Adversaries(generator, discriminator)(pictures)
    softplus = torch.nn.functional.softplus
    sum(_losses(scores)).backward()  # type: ignore[union-attr]
    found = [[p.grad for p in net.parameters()] for net in (generator, discriminator)]

    torch.manual_seed(1)
    made = generator(torch.randn(6, 8, 1, 1))
    fooling = softplus(-discriminator(made)).mean()
    telling = softplus(-discriminator(pictures)).mean()
    telling = telling + softplus(discriminator(made.detach())).mean()
    some = pictures[:2].clone().requires_grad_()
    (slope,) = torch.autograd.grad(discriminator(some).sum(), some, create_graph=True)
    telling = telling + 144 / 80 / 2 * slope.square().sum() / len(some)
    expected = [
        torch.autograd.grad(fooling, list(generator.parameters())),
        torch.autograd.grad(telling, list(discriminator.parameters())),
    ]
    for ours, plain in zip(found, expected, strict=True):
        assert len(ours) == len(plain) > 0
        for one, other in zip(ours, plain, strict=True):
            torch.testing.assert_close(one, other)


def test_a_generator_learns_to_make_every_kind(run: Run, judge: Run) -> None:
    """Its pictures are as near to real ones as new real ones nearly are, and none is left out."""
    found = eyeshot.evaluate(run, spots(), judge=judge, count=200)
    assert isinstance(found, eyeshot.SampleEvaluation)
    assert min(found.shares.values()) > 0.15
    assert found.sure is not None
    assert found.sure > 0.7
    assert found.closest > 0
    assert found.nearest < 0.15
    assert found.entropy is not None
    assert 1.4 < found.entropy <= 1.585
    assert sum(found.shares.values()) == pytest.approx(1)


def test_cut_off_after_any_step_it_gives_the_same_weights(short: Run, tmp_path: Path) -> None:
    strips = sorted((short.path / "samples").iterdir())
    assert [path.name for path in strips] == ["epoch-001.png", "epoch-002.png"]
    for steps in range(4):
        folder = tmp_path / f"cut{steps}"
        with pytest.raises(Stop):
            train(folder, progress=StopAt(steps), checkpoint_seconds=0)
        train(folder, resume=True)
        assert weights(folder) == weights(short.path)
        for strip in strips:
            assert (folder / "samples" / strip.name).read_bytes() == strip.read_bytes()


def test_force_throws_old_samples_away(tmp_path: Path) -> None:
    train(tmp_path / "run")
    (tmp_path / "run" / "samples" / "epoch-009.png").write_bytes(b"old")
    train(tmp_path / "run", force=True)
    names = sorted(path.name for path in (tmp_path / "run" / "samples").iterdir())
    assert names == ["epoch-001.png", "epoch-002.png"]


def test_samples_depend_on_their_seed_alone(run: Run) -> None:
    ten = eyeshot.sample(run, 10, seed=4)
    assert ten.shape == (10, 12, 12, 1)
    assert ten.dtype == np.uint8
    assert np.array_equal(ten[:3], eyeshot.sample(run.path, 3, seed=4))
    assert not np.array_equal(ten, eyeshot.sample(run, 10, seed=5))


def test_a_walk_keeps_to_the_lengths_of_latents(run: Run) -> None:
    walk = walk_latents(64, 7, seed=2)
    ends = draw_latents(64, 2, seed=2)
    torch.testing.assert_close(walk[[0, -1]], ends)
    lengths = walk.flatten(1).norm(dim=1)
    assert lengths.min() > 0.9 * ends.flatten(1).norm(dim=1).min()
    assert eyeshot.sample(run, 5, walk=True).shape == (5, 12, 12, 1)


def test_frechet_distance_by_its_formula() -> None:
    """Of features that vary independently it is Σ (m₁ − m₂)² + (s₁ − s₂)²."""
    generator = torch.Generator().manual_seed(0)
    scales, shift = torch.tensor([1.0, 2.0, 0.0]), torch.tensor([0.0, 3.0, 1.0])
    first = torch.randn(200_000, 3, generator=generator)
    second = torch.randn(200_000, 3, generator=generator) * scales + shift
    expected = float((shift**2 + (1 - scales) ** 2).sum())
    assert frechet_distance(first, second) == pytest.approx(expected, rel=0.01)
    assert frechet_distance(first, first) == pytest.approx(0, abs=1e-9)


def test_a_single_held_out_picture_has_no_distribution(tmp_path: Path) -> None:
    """It ended in a traceback of LAPACK, after the first epoch."""
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number in range(5):
        pixels = np.random.default_rng(number).integers(0, 255, (12, 12), np.uint8)
        Image.fromarray(pixels).save(pictures / f"{number}.png")
    with pytest.raises(BadValue, match=r"held-out part of .*: 1 picture, .* 8 or more"):
        eyeshot.train(pictures, task="generate", epochs=1, out=tmp_path / "run")
    with pytest.raises(BadValue, match="features: 1 picture"):
        frechet_distance(torch.rand(1, 4), torch.rand(9, 4))


def test_the_nearest_picture_is_found() -> None:
    learned = spots().train
    asked = learned.take([90, 3])[0].clone()
    asked[1, 0, 0, 0] = 255 - asked[1, 0, 0, 0]
    distances, places = find_nearest(asked, learned)
    assert places.tolist() == [90, 3]
    apart = abs(int(asked[1, 0, 0, 0]) - int(learned.take([3])[0][0, 0, 0, 0])) / 255 / 12
    assert distances.tolist() == pytest.approx([0, apart], abs=1e-3)


def test_the_commands(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sheet, walk, bare = (tmp_path / name for name in ("sheet.png", "walk.png", "bare.npy"))
    assert main(["sample", str(run.path), "-o", str(sheet), "--count", "9"]) == 0
    assert main(["sample", str(run.path), "-o", str(walk), "--walk", "--count", "4"]) == 0
    assert main(["sample", str(run.path), "-o", str(bare), "--count", "5", "--seed", "3"]) == 0
    assert np.array_equal(np.load(bare), eyeshot.sample(run, 5, seed=3))
    with Image.open(sheet) as square, Image.open(walk) as strip:
        assert square.size[0] == square.size[1]
        assert strip.size[0] > 3 * strip.size[1]
    capsys.readouterr()
    assert main(["sample", str(run.path), "-o", "sheet.gif"]) == 2
    assert "end the name in .png or .npy" in capsys.readouterr().err


def test_the_report_shows_each_epoch_and_the_nearest(run: Run, tmp_path: Path) -> None:
    page = write_report(run, tmp_path / "page.html", data=spots()).read_text()
    for said in ("after epoch 40", "Does it copy?", "transpose1", "held-out pictures"):
        assert said in page
    assert write_report(run, tmp_path / "again.html", data=spots()).read_text() == page


def test_mistakes_are_named(run: Run, judge: Run) -> None:
    with pytest.raises(BadValue, match=r"trained to classify.*--task generate"):
        eyeshot.sample(judge)
    with pytest.raises(BadValue, match="count is 0"):
        eyeshot.sample(run, 0)
    with pytest.raises(BadValue, match="makes no pictures of its own; leave out --judge"):
        eyeshot.evaluate(judge, spots(), judge=judge)
    with pytest.raises(BadValue, match="knows no classes of pictures"):
        eyeshot.evaluate(run, spots(), judge=run)
    without = replace(judge, net=nn.Sequential(nn.Conv2d(1, 2, 12), nn.Flatten()))
    with pytest.raises(BadValue, match=r"has no linear layer.*ends in one"):
        eyeshot.evaluate(run, spots(), judge=without)
    with pytest.raises(BadValue, match="is 3×12×12, and the generator makes 1×12×12"):
        eyeshot.evaluate(run, spots(channels=3))
    with pytest.raises(BadValue, match="which halving does not bring to between 4 and 8"):
        nets.generator(size=(30, 30))
    with pytest.raises(BadValue, match="eyeshot sample"):
        eyeshot.predict(run, ["seven.png"])


def test_a_plain_folder_of_pictures(tmp_path: Path) -> None:
    folder = tmp_path / "faces" / "deep"
    folder.mkdir(parents=True)
    for number in range(40):
        noise = np.random.default_rng(number).integers(0, 255, (16, 16, 3), dtype=np.uint8)
        place = folder if number % 2 else folder.parent
        Image.fromarray(noise).save(place / f"{number}.png")
    run = eyeshot.train(
        folder.parent,
        task="generate",
        model_arguments=WIDTH,
        epochs=1,
        out=tmp_path / "run",
        progress=False,
    )
    assert eyeshot.sample(run, 2).shape == (2, 16, 16, 3)
    found = eyeshot.evaluate(run, count=20)
    assert isinstance(found, eyeshot.SampleEvaluation)
    assert found.sure is None
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(BadFile, match="holds no pictures"):
        eyeshot.train(empty, task="generate", out=tmp_path / "none", progress=False)


def test_other_commands_know_what_a_generator_takes(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", str(run.path)]) == 0
    assert "8×1×1" in capsys.readouterr().out
    picture = tmp_path / "a.png"
    Image.fromarray(np.zeros((12, 12), np.uint8)).save(picture)
    assert main(["see", str(run.path), str(picture)]) == 2
    assert "its network takes latents, and no picture" in capsys.readouterr().err


def test_copies_are_at_distance_0_and_one_level_is_not() -> None:
    """The products of a fast distance round to more than one level of one pixel."""
    source = torch.Generator().manual_seed(0)
    known = torch.randint(0, 256, (300, 1, 28, 28), generator=source, dtype=torch.uint8)
    learned = Examples(HeldPictures(known), torch.zeros(len(known), dtype=torch.long))
    distances, places = find_nearest(known, learned)
    assert distances.tolist() == [0] * 300
    assert places.tolist() == list(range(300))
    other = known.clone()
    other[:, 0, 3, 4] ^= 1
    both = Examples.hold(torch.cat([other, known]), torch.zeros(600, dtype=torch.long))
    distances, places = find_nearest(known, both)
    assert distances.tolist() == [0] * 300
    assert places.tolist() == list(range(300, 600)), "the copy, not the picture that is nearly one"
    distances, _ = find_nearest(other, learned)
    np.testing.assert_allclose(distances, 1 / 255 / 28, rtol=1e-5)


class HeadFirst(nn.Module):
    """Its last linear layer is named first."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(5, 3)
        self.trunk = nn.Sequential(nn.Flatten(), nn.Linear(144, 5), nn.ReLU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.head(self.trunk(x))
        return scores


def test_the_judges_last_layer_is_the_one_that_runs_last(judge: Run) -> None:
    net, pictures = HeadFirst().eval(), spots().test.take(torch.arange(7))[0]
    features, probabilities = _ask(replace(judge, net=net), pictures)
    with torch.no_grad():
        truth = net.trunk(judge.normalize(pictures))
    assert torch.equal(features, truth)
    assert torch.equal(probabilities, net.head(truth).softmax(1))
