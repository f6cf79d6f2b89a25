"""The loop against the same arithmetic written plainly; and what goes wrong, told in one line."""

from __future__ import annotations

import errno
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from eyeshot.data import Data
from eyeshot.errors import BadFile, BadValue, Failure, UnknownName
from eyeshot.runs import CONFIG, LAST, METRICS, WEIGHTS, Recipe, build_net, load, normalize
from eyeshot.training import Settings, Silence, train
from eyeshot.training.augmentation import shift_pictures
from eyeshot.training.checkpoint import FILE, Position
from eyeshot.training.optimization import Average, learning_rate, make_optimizer
from tests.networks import examples

from .blobs import blobs

PLAIN: Settings = {
    "epochs": 2,
    "batch_size": 25,
    "learning_rate": 0.01,
    "label_smoothing": 0.1,
    "shift": 0,
    "precision": "32-true",
}


def seeded(seed: int) -> Settings:
    return {**PLAIN, "seed": seed}


def plain_training(data: Data, out: Path) -> nn.Module:
    """What ``train`` does, in a dozen lines of plain PyTorch and without its optimizer's fusion."""
    config = load(out).config
    recipe = config.recipe
    torch.manual_seed(recipe.seed)
    net = build_net(config)
    optimizer = torch.optim.AdamW(net.parameters(), lr=recipe.learning_rate, weight_decay=0)
    steps, step = recipe.epochs * math.ceil(len(data.train) / recipe.batch_size), 0
    for epoch in range(recipe.epochs):
        batches = data.train.batches(recipe.batch_size, shuffle_seed=recipe.seed, epoch=epoch)
        for images, labels in batches:
            optimizer.param_groups[0]["lr"] = learning_rate(recipe, step, steps)
            scores = net(normalize(images, config.mean, config.std))
            loss = cross_entropy(scores, labels, label_smoothing=recipe.label_smoothing)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            step += 1
    return net


def test_the_loop_is_the_plain_loop(tmp_path: Path) -> None:
    data = blobs()
    run = train(data, out=tmp_path / "run", progress=False, **PLAIN)
    state = torch.random.get_rng_state()
    expected = plain_training(data, tmp_path / "run").state_dict()
    torch.random.set_rng_state(state)
    for name, tensor in run.net.state_dict().items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("model", ["digit_cnn", "small_vgg"])
def test_it_learns(model: str, tmp_path: Path) -> None:
    data = blobs(train=400, test=100, channels=3)
    run = train(data, model=model, out=tmp_path, progress=False, epochs=6, batch_size=20, shift=0)
    last = (tmp_path / METRICS).read_text().splitlines()[-1].split(",")
    assert float(last[4]) > 0.95
    images, labels = data.test.take(range(100))
    said = run.net(run.normalize(images)).argmax(1)
    assert float((said == labels).double().mean()) == pytest.approx(float(last[4]))


def test_every_file_of_a_run_is_there_and_nothing_half_written(tmp_path: Path) -> None:
    train(blobs(), out=tmp_path, progress=False, **PLAIN)
    files = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file())
    assert files == sorted([CONFIG, f"{LAST}/{FILE}", METRICS, WEIGHTS])


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(tmp_path: Path) -> None:
    contents = []
    for number, seed in enumerate((1, 1, 2)):
        out = tmp_path / str(number)
        train(blobs(), out=out, progress=False, **seeded(seed))
        contents.append((out / WEIGHTS).read_bytes())
    assert contents[0] == contents[1]
    assert contents[0] != contents[2]


def test_an_existing_run_is_not_overwritten(tmp_path: Path) -> None:
    train(blobs(), out=tmp_path, progress=False, **PLAIN)
    before = (tmp_path / WEIGHTS).read_bytes()
    with pytest.raises(BadValue, match="--resume"):
        train(blobs(), out=tmp_path, progress=False, **seeded(5))
    assert (tmp_path / WEIGHTS).read_bytes() == before
    train(blobs(), out=tmp_path, progress=False, force=True, **seeded(5))
    assert (tmp_path / WEIGHTS).read_bytes() != before


@pytest.mark.parametrize("force", [False, True])
def test_a_folder_of_other_things_is_left_alone(force: bool, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(BadFile, match=r"holds thesis\.tex, and no run"):
        train(blobs(), out=tmp_path, progress=False, force=force, **PLAIN)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_is_no_place_for_a_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadFile, match="is a file"):
        train(blobs(), out=tmp_path / "file", progress=False, **PLAIN)


def test_a_run_folder_that_could_not_be_read_back_is_refused_first(tmp_path: Path) -> None:
    with pytest.raises(BadValue, match="a name that is not UTF-8"):
        train(blobs(), out=tmp_path / "run\udcff", progress=False, **PLAIN)
    assert not list(tmp_path.iterdir())


def test_force_keeps_what_is_not_of_the_run(tmp_path: Path) -> None:
    train(blobs(), out=tmp_path, progress=False, **PLAIN)
    (tmp_path / "notes.txt").write_text("mine")
    train(blobs(), out=tmp_path, progress=False, force=True, **PLAIN)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_loss_that_is_not_a_number(tmp_path: Path) -> None:
    with pytest.raises(Failure, match=r"the loss is (nan|inf) in epoch \d+, step \d+; .*--lr"):
        train(blobs(), out=tmp_path, progress=False, epochs=40, batch_size=25, learning_rate=1e18)
    assert not (tmp_path / WEIGHTS).exists()


def test_weights_ruined_by_the_very_last_step_are_not_saved(tmp_path: Path) -> None:
    settings: Settings = {**PLAIN, "epochs": 1, "batch_size": 96, "learning_rate": 1e30}
    with pytest.raises(Failure, match=r"the test loss is (nan|inf) after epoch 1; .*--lr"):
        train(blobs(), out=tmp_path, progress=False, **settings)
    assert not (tmp_path / WEIGHTS).exists()


def test_the_checkpoint_before_a_bad_loss_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from eyeshot.training import tasks

    calls = 0

    def spoiled(*arguments: Any, **options: Any) -> Tensor:
        nonlocal calls
        calls += 1
        return cross_entropy(*arguments, **options) * (math.nan if calls == 7 else 1)

    monkeypatch.setattr(tasks, "cross_entropy", spoiled)
    settings: Settings = {**PLAIN, "batch_size": 24}  # four steps and one test an epoch
    with pytest.raises(Failure, match="the loss is nan in epoch 2, step 2"):
        train(blobs(), out=tmp_path / "cut", progress=False, **settings)
    monkeypatch.undo()
    train(blobs(), out=tmp_path / "cut", progress=False, resume=True, **settings)
    train(blobs(), out=tmp_path / "whole", progress=False, **settings)
    assert (tmp_path / "cut" / WEIGHTS).read_bytes() == (tmp_path / "whole" / WEIGHTS).read_bytes()


class FullAfter(Silence):
    """Fill the disk after an epoch."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch

    def finish_epoch(self, row: dict[str, float]) -> None:
        def refuse(path: Path, content: bytes) -> int:
            with path.open("wb") as file:
                file.write(content[:100])
            raise OSError(errno.ENOSPC, "No space left on device", str(path))

        self.monkeypatch.setattr(Path, "write_bytes", refuse)


def test_a_full_disk_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Failure, match="the disk is full"):
        train(blobs(), out=tmp_path / "cut", progress=FullAfter(monkeypatch), **PLAIN)
    monkeypatch.undo()
    left = [path.name for path in (tmp_path / "cut").rglob("*") if path.is_file()]
    assert sorted(left) == sorted([CONFIG, FILE, METRICS, WEIGHTS])
    train(blobs(), out=tmp_path / "cut", progress=False, resume=True, **PLAIN)
    train(blobs(), out=tmp_path / "whole", progress=False, **PLAIN)
    assert (tmp_path / "cut" / WEIGHTS).read_bytes() == (tmp_path / "whole" / WEIGHTS).read_bytes()


class RemovedAfter(Silence):
    """Remove the run folder after a step."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def step(self, position: Position) -> None:
        shutil.rmtree(self.folder)


@pytest.mark.parametrize("log", [None, "tensorboard"])
def test_a_run_folder_that_was_removed_is_one_line(tmp_path: Path, log: str | None) -> None:
    out = tmp_path / "run"
    with pytest.raises(BadFile, match="run/last: no such file or folder; check the path"):
        gone = RemovedAfter(out)
        train(blobs(), out=out, progress=gone, log=log, checkpoint_seconds=0, **PLAIN)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"epochs": 0}, "epochs is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"learning_rate": -1.0}, "learning_rate is -1"),
        ({"learning_rate": math.nan}, "learning_rate is nan"),
        ({"label_smoothing": 1.5}, "label_smoothing is 1.5"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 2**63}, "seed is 9223372036854775808; use less than"),
        ({"checkpoint_seconds": -1}, "checkpoint_seconds is -1; use 0 or more"),
        ({"checkpoint_seconds": float("nan")}, "checkpoint_seconds is nan; use 0 or more"),
        ({"shift": -1}, "shift is -1"),
        ({"shift": 99}, "shift is 99, and the pictures are"),
        ({"devices": 0}, "devices is 0"),
        ({"devices": 5}, "batch_size is 12, which 5 devices cannot share"),
        ({"devices": 2, "batch_size": 98}, "batch_size is 98, and there are 96 pictures"),
    ],
)
def test_settings_out_of_range(setting: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(BadValue, match=message):
        train(blobs(), out=tmp_path / "run", progress=False, **setting)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": "digit-cnn"}, "unknown model 'digit-cnn'; did you mean 'digit_cnn'"),
        ({"device": "gpu"}, "unknown device 'gpu'"),
        ({"precision": "16"}, "unknown precision '16'"),
        ({"epoch": 3}, "unknown setting 'epoch'; did you mean 'epochs'"),
        ({"model_arguments": {"heads": 3}}, "unknown argument of digit_cnn 'heads'"),
    ],
)
def test_unknown_names(arguments: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match=message):
        train(blobs(), out=tmp_path / "run", progress=False, **arguments)
    assert not (tmp_path / "run").exists()


@given(
    reach=st.integers(0, 4),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    channels=st.integers(1, 3),
    seed=st.integers(0, 99),
)
@examples(40)
def test_shifted_pictures(reach: int, height: int, width: int, channels: int, seed: int) -> None:
    images = torch.randint(1, 256, (6, channels, height, width)).to(torch.uint8)
    shifted = shift_pictures(images, reach, (seed, 1, 2))
    assert shifted.shape == images.shape
    for before, after in zip(images, shifted, strict=True):
        assert any(
            torch.equal(after, moved(before, down, right))
            for down in range(-reach, reach + 1)
            for right in range(-reach, reach + 1)
        )
    assert torch.equal(shifted, shift_pictures(images, reach, (seed, 1, 2)))


def moved(image: Tensor, down: int, right: int) -> Tensor:
    result = torch.zeros_like(image)
    _, height, width = image.shape
    for y in range(height):
        for x in range(width):
            if 0 <= y - down < height and 0 <= x - right < width:
                result[:, y, x] = image[:, y - down, x - right]
    return result


def test_shifts_go_everywhere() -> None:
    images = torch.zeros(500, 1, 5, 5)
    images[:, 0, 2, 2] = 1
    seen = shift_pictures(images, 2, (0, 0, 0)).sum(0)[0]
    assert (seen > 5).all()


@given(
    epochs=st.integers(1, 5),
    steps=st.integers(1, 50),
    warmup=st.floats(0, 0.99),
    peak=st.floats(1e-4, 1),
)
@examples(60)
def test_the_learning_rate_rises_then_falls(
    epochs: int, steps: int, warmup: float, peak: float
) -> None:
    recipe = Recipe(epochs=epochs, batch_size=1, learning_rate=peak, warmup=warmup)
    total = epochs * steps
    rates = [learning_rate(recipe, step, total) for step in range(total)]
    assert all(0 < rate <= peak * (1 + 1e-9) for rate in rates)
    top = rates.index(max(rates))
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)


def test_the_average_is_the_weighted_mean() -> None:
    net = nn.Linear(2, 1)
    average = Average(net, 0.5)
    expected = net.weight.detach().clone()
    for step in range(30):
        torch.nn.init.constant_(net.weight, float(step))
        average.update(net, step)
        keep = min(0.5, (1 + step) / (10 + step))
        expected = keep * expected + (1 - keep) * step
    assert isinstance(average.net, nn.Linear)
    torch.testing.assert_close(average.net.weight.detach(), expected)
    assert average.net.weight is not net.weight


def test_biases_are_not_decayed() -> None:
    net = nn.Linear(2, 2)
    torch.nn.init.ones_(net.bias)
    torch.nn.init.ones_(net.weight)
    recipe = Recipe(epochs=1, batch_size=1, learning_rate=0.1, weight_decay=0.5)
    optimizer = make_optimizer(net, recipe)
    (net(torch.zeros(1, 2)) * 0).sum().backward()
    optimizer.step()
    assert torch.equal(net.bias.detach(), torch.ones(2))
    torch.testing.assert_close(net.weight.detach(), torch.full((2, 2), 0.95))


class Told(Silence):
    """Remember what was told."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, int]] = []
        self.rows: list[dict[str, float]] = []

    def step(self, position: Position) -> None:
        self.steps.append((position.epoch, position.step))

    def finish_epoch(self, row: dict[str, float]) -> None:
        self.rows.append(row)


def test_progress_is_reported_of_every_step_and_epoch(tmp_path: Path) -> None:
    message = Told()
    train(blobs(train=50), out=tmp_path, progress=message, **PLAIN)
    assert message.steps == [(0, 1), (0, 2), (1, 1), (1, 2)]
    assert [row["epoch"] for row in message.rows] == [1, 2]
    assert list(message.rows[0]) == (tmp_path / METRICS).read_text().splitlines()[0].split(",")
