"""Masks learned from crops: whole pictures judge, the best is kept, and a kill costs nothing."""

from __future__ import annotations

import copy
import csv
import json
import logging
import signal
import time
from collections import defaultdict
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from torch import Tensor, nn

import eyeshot
from eyeshot import nets
from eyeshot.data.pairs import CropSampler, load_pairs, open_pair
from eyeshot.engine.networks import trace
from eyeshot.engine.outputs import Preparation
from eyeshot.errors import BadFile, BadValue, Failure, UnknownName
from eyeshot.evaluation import MaskEvaluation
from eyeshot.runs import CONFIG, LAST, LAST_WEIGHTS, METRICS, WEIGHTS, Run, RunConfig, read_tensors
from eyeshot.training import Settings, Silence, tasks, train
from eyeshot.training.checkpoint import FILE, Position
from eyeshot.training.configuration import Request, describe_pairs
from eyeshot.training.progress import gather_statistics
from eyeshot.training.tasks import make_task
from tests.engine.runner import fork

from .cells import write_cells

TINY: dict[str, int | str] = {"base": 4, "depth": 1}
QUICK: Settings = {"epochs": 2, "steps": 4, "batch_size": 2, "precision": "32-true"}


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cells(tmp_path_factory.mktemp("data") / "cells")


def segment(cells: Path, out: Path, **changes: Any) -> Run:
    options: dict[str, Any] = {"crop": (32, 32), "model_arguments": TINY, "progress": False}
    return train(cells, task="segment", out=out, **{**options, **QUICK, **changes})


def rows_of(folder: Path) -> list[dict[str, float]]:
    with (folder / METRICS).open() as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def test_it_learns(cells: Path, tmp_path: Path) -> None:
    run = segment(cells, tmp_path, epochs=4, steps=20, learning_rate=0.01)
    found = eyeshot.evaluate(run)
    assert isinstance(found, MaskEvaluation)
    assert found.dice > 0.9
    best = max(rows_of(tmp_path), key=lambda row: row["validation_dice"])
    assert best["validation_dice"] == pytest.approx(found.dice, abs=1e-5)
    assert best["validation_boundary_f1"] == pytest.approx(found.boundary_f1, abs=1e-5)
    assert best["validation_iou"] == pytest.approx(found.iou, abs=1e-5)


def test_the_files_of_a_run(cells: Path, tmp_path: Path) -> None:
    run = segment(cells, tmp_path)
    files = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file())
    kept = [CONFIG, f"{LAST}/{FILE}", LAST_WEIGHTS, METRICS, WEIGHTS]
    assert files == sorted(kept)
    config = run.config
    assert (config.task, config.model, config.size) == ("segment", "unet", (32, 32))
    assert config.model_arguments == TINY
    assert config.outputs == 2
    assert RunConfig.read(tmp_path / CONFIG) == config


def safetensors_of(content: bytes) -> dict[str, Tensor]:
    return safetensors.torch.load(content)


class Worse(Silence):
    """Spoil nothing, and remember the weights after each epoch."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.kept: list[bytes] = []
        self.standings: list[str] = []

    def finish_epoch(self, row: dict[str, float]) -> None:
        self.kept.append((self.folder / WEIGHTS).read_bytes())
        self.standings.append(eyeshot.load(self.folder).standing)


def test_the_best_epoch_is_kept_and_the_last_beside_it(
    cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from eyeshot.training.tasks import Segmentation

    dices = iter([0.3, 0.8, 0.8, 0.5])
    monkeypatch.setattr(Segmentation, "judge", lambda self, net: {"validation_dice": next(dices)})
    kept = Worse(tmp_path)
    segment(cells, tmp_path, epochs=4, progress=kept)
    first, second, third, fourth = kept.kept
    assert first != second == third == fourth  # no better is not better
    assert [said.partition("of epoch ")[2] for said in kept.standings] == [
        "1 of 4",
        *["2 of 4"] * 3,
    ]
    run = eyeshot.load(tmp_path)
    assert (run.epoch, run.finished, run.standing) == (2, True, "")
    best, _ = read_tensors(tmp_path / WEIGHTS)
    assert all(torch.equal(best[name], one) for name, one in safetensors_of(second).items())
    last, _ = read_tensors(tmp_path / LAST_WEIGHTS)
    state, _ = read_tensors(tmp_path / LAST / FILE)
    assert all(torch.equal(last[name], state[f"average/{name}"]) for name in last)


def test_the_judge_sees_whole_pictures_as_the_net_gives_them(cells: Path, tmp_path: Path) -> None:
    run = segment(cells, tmp_path, epochs=1)
    pairs = load_pairs(cells)
    right = total = 0
    for pair in pairs.validation:
        with open_pair(pair, pairs) as reader:
            image = torch.from_numpy(reader.image((0, pair.size[0]), (0, pair.size[1])))
            truth = reader.target((0, pair.size[0]), (0, pair.size[1]))
        mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (run.config.mean, run.config.std))
        with torch.no_grad():
            said = run.net(((image - mean) / std)[None]).argmax(1)[0].numpy()
        right, total = right + int((said == truth).sum()), total + truth.size
    (row,) = rows_of(tmp_path)
    assert row["validation_accuracy"] == pytest.approx(right / total, abs=1e-3)


@pytest.mark.parametrize("bits", [8, 16])
def test_a_run_sees_samples_as_the_training_did(bits: int, tmp_path: Path) -> None:
    folder = write_cells(tmp_path / "cells", bits=bits)
    pairs = load_pairs(folder)
    request = Request("segment", folder, None, TINY, {"augment": "none"}, crop=(48, 48))
    config = describe_pairs(request, pairs)
    task = make_task(config, pairs)
    batch = next(task.batches(0, 0))
    inputs, _ = task.prepare(batch, (0, 0, 0), slice(None), torch.device("cpu"))
    number, top, left = batch.places[0]
    stored = np.array(Image.open(pairs.train[number].image))
    assert stored.dtype == (np.uint8 if bits == 8 else np.uint16)
    height, width = inputs.shape[2:]
    window = stored[top : top + height, left : left + width]
    prepare = Preparation(torch.float32, torch.device("cpu"), mean=config.mean, std=config.std)
    assert torch.equal(prepare(window[None])[0], inputs[0])


STEPS = 8


class Stop(Exception):
    """The training was cut off."""


class StopAt(Silence):
    """Cut the training off after so many steps."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def step(self, position: Position) -> None:
        if self.left == 0:
            raise Stop
        self.left -= 1


def contents(folder: Path) -> list[bytes]:
    return [(folder / name).read_bytes() for name in (WEIGHTS, LAST_WEIGHTS)]


@pytest.mark.parametrize(("precision", "cuts"), [("32-true", (3,)), ("bf16-mixed", (0, 6))])
def test_cut_off_after_any_step(
    precision: str, cuts: tuple[int, ...], cells: Path, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"precision": precision, "checkpoint_seconds": 0}
    segment(cells, tmp_path / "whole", **options)
    for steps in cuts:
        with pytest.raises(Stop):
            segment(cells, tmp_path / "cut", progress=StopAt(steps), **options, force=True)
        if steps < QUICK["steps"]:  # type: ignore[operator]
            with pytest.raises(BadFile, match="--resume"):
                eyeshot.evaluate(tmp_path / "cut")
        else:
            assert "of epoch 1 of 2" in eyeshot.load(tmp_path / "cut").standing
        segment(cells, tmp_path / "cut", resume=True, **options)
        assert contents(tmp_path / "cut") == contents(tmp_path / "whole")
    whole, cut = (rows_of(tmp_path / name) for name in ("whole", "cut"))
    for one, other in zip(whole, cut, strict=True):
        assert all(one[k] == other[k] for k in one if k not in ("seconds", "images_per_second"))


LONG: dict[str, Any] = {"epochs": 3, "steps": 25, "precision": None}


def learn(cells: Path, folder: Path, _: Connection) -> None:
    """In a process of its own, to be killed."""
    segment(cells, folder, resume=True, checkpoint_seconds=0.02, **LONG)


def test_kill_9_while_it_learns(cells: Path, tmp_path: Path) -> None:
    process, _ = fork(learn, cells, tmp_path / "cut")
    state = tmp_path / "cut" / LAST / FILE
    end = time.monotonic() + 60
    while process.is_alive() and not state.exists():
        assert time.monotonic() < end, "no checkpoint was written"
        time.sleep(0.005)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    process, _ = fork(learn, cells, tmp_path / "cut")
    process.join()
    assert process.exitcode == 0
    segment(cells, tmp_path / "whole", **LONG)
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


def test_a_resumed_run_of_other_settings_is_refused(cells: Path, tmp_path: Path) -> None:
    segment(cells, tmp_path, epochs=1)
    for change, message in (
        ({"crop": (40, 40)}, r"--crop is \(40, 40\)"),
        ({"augment": "none"}, "--augment is 'none'"),
        ({"class_weights": "balanced"}, "--class-weights is"),
        ({"validation": 2}, "--validation is 2"),
    ):
        with pytest.raises(BadValue, match=message):
            segment(cells, tmp_path, resume=True, **{"epochs": 1, **change})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shift": 2}, "shift is for the task classify, and the task is segment"),
        ({"label_smoothing": 0.1}, "label_smoothing is for the task classify"),
        ({"size": (9, 9)}, "size is for the task classify"),
        ({"loss": "l1"}, "loss is for the task restore"),
        ({"model": "digit_cnn"}, "model is digit_cnn, which is not for the task segment"),
        ({"resume": True, "force": True}, "resume and force together"),
        ({"crop": (0, 5)}, "crop is 0×5"),
        ({"crop": (8, 8)}, "crop"),
        ({"steps": 0}, "steps is 0"),
        ({"devices": 2}, "use one device"),
        ({"class_weights": [1.0, -1.0]}, "class_weights are"),
        ({"model_arguments": {"base": "big"}}, "base is 'big'"),
        ({"model_arguments": {"padding": "valid", "depth": 1}, "crop": (33, 33)}, "use 32 or 34"),
    ],
)
def test_what_makes_no_sense_is_refused(
    options: dict[str, Any], message: str, cells: Path, tmp_path: Path
) -> None:
    with pytest.raises(BadValue, match=message):
        segment(cells, tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"augment": "flip"}, "unknown augmentation 'flip'; did you mean 'flips'"),
        ({"class_weights": "equal"}, "unknown class weights 'equal'"),
        ({"precision": "bf16"}, "unknown precision 'bf16'"),
        ({"model": "unett"}, "did you mean 'unet'"),
        ({"model_arguments": {"up": "sideways"}}, "sideways"),
    ],
)
def test_unknown_names(options: dict[str, Any], message: str, cells: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match=message):
        segment(cells, tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_a_task_unheard_of(cells: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="did you mean 'segment'"):
        train(cells, task="segments", out=tmp_path / "run", progress=False)
    pairs = load_pairs(cells)
    with pytest.raises(BadValue, match="is for segment"):
        train(pairs, task="classify", out=tmp_path / "run", progress=False)


def test_loaded_pairs_bring_their_task(cells: Path, tmp_path: Path) -> None:
    pairs = load_pairs(cells, validation=2)
    run = train(pairs, out=tmp_path, progress=False, model_arguments=TINY, crop=(32, 32), **QUICK)
    assert run.config.task == "segment"
    found = eyeshot.evaluate(run)
    assert isinstance(found, MaskEvaluation)
    assert [picture.name for picture in found.pictures] == [p.name for p in pairs.validation]
    assert not any("changed" in note for note in found.notes)


def test_weights_that_are_no_numbers_are_a_failure(cells: Path, tmp_path: Path) -> None:
    with pytest.raises(Failure, match=r"the loss is (nan|inf).*--lr|no number.*--lr"):
        segment(cells, tmp_path, learning_rate=1e30, epochs=6, average=0.0)
    assert not (tmp_path / WEIGHTS).exists()


def test_weights_ruined_by_the_last_step_are_a_failure(cells: Path, tmp_path: Path) -> None:
    with pytest.raises(Failure, match="--lr"):
        segment(cells, tmp_path, learning_rate=1e38, epochs=1, steps=1, average=0.0, warmup=0.0)


def test_a_network_without_padding(cells: Path, tmp_path: Path) -> None:
    arguments: dict[str, int | str] = {"base": 4, "depth": 1, "padding": "valid"}
    run = segment(cells, tmp_path, model_arguments=arguments, epochs=1, crop=(40, 40))
    found = eyeshot.evaluate(run)
    assert isinstance(found, MaskEvaluation)
    pairs = load_pairs(cells)
    inside = sum(_taken(h) * _taken(w) for h, w in (pair.size for pair in pairs.validation))
    assert found.confusion.sum() == inside
    assert 0 <= found.accuracy <= 1


def _taken(side: int) -> int:
    """Of a side, the outputs of two convolutions, a pool, two, twice the size, and two more."""
    return side // 2 * 2 - 16


def test_what_is_chosen_for_a_folder(cells: Path) -> None:
    pairs = load_pairs(cells)
    config = describe_pairs(Request("segment", cells, None, {}, {}), pairs)
    assert config.size == (48, 56)  # no larger than the largest pictures
    assert config.recipe.batch_size * 48 * 56 >= 2**20
    assert config.recipe.steps == 50
    shallow = describe_pairs(Request("segment", cells, None, {"depth": 1, "base": 2}, {}), pairs)
    height, width = shallow.size
    task = make_task(shallow, pairs)
    batch = next(task.batches(0, 0))
    assert (height, width) <= (48, 56)
    assert batch.valid.float().mean() >= 0.5


@pytest.mark.parametrize(
    ("units", "expected"),
    [({"amx_bf16"}, "bf16-mixed"), ({"avx512_bf16"}, "bf16-mixed"), (set(), "32-true")],
)
def test_precision_is_written_as_what_it_became(
    units: set[str], expected: str, cells: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: dict.fromkeys(units, True))
    request = Request("segment", cells, None, TINY, {"device": "cpu"})
    assert describe_pairs(request, load_pairs(cells)).recipe.precision == expected


def test_a_configuration_from_before_there_were_tasks(cells: Path, tmp_path: Path) -> None:
    run = segment(cells, tmp_path, epochs=1)
    lines = (tmp_path / CONFIG).read_text().splitlines()
    new = ("task", "validation", "  steps", "  loss", "  class_weights", "  augment")
    old = [line for line in lines if not line.startswith(new)]
    assert len(lines) - len(old) == len(new)
    (tmp_path / "old.yaml").write_text("\n".join(old))
    read = RunConfig.read(tmp_path / "old.yaml")
    assert (read.task, read.validation, read.recipe.steps) == ("classify", None, 0)
    assert read.recipe.learning_rate == run.config.recipe.learning_rate
    assert json.loads(json.dumps(read.model_arguments)) == TINY


def test_batch_norm_knows_the_crops_as_they_are(cells: Path, tmp_path: Path) -> None:
    run = segment(cells, tmp_path, epochs=1)
    pairs = load_pairs(cells)
    found, expected = run.net, copy.deepcopy(run.net)
    make_task(run.config, pairs).judge(found)
    spec = eyeshot.output_geometry(nets.unet(base=4, depth=1))
    sampler = CropSampler(pairs, (32, 32), spec.halo, 0, alignment=spec.alignment)
    mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (run.config.mean, run.config.std))
    batches = [(sampler.batch(0, n, 2).images - mean) / std for n in range(sampler.steps(2))]
    inputs: dict[nn.Module, list[Tensor]] = defaultdict(list)
    norms = [layer for layer in expected.modules() if isinstance(layer, nn.BatchNorm2d)]
    for layer in norms:
        layer.register_forward_pre_hook(lambda layer, x: inputs[layer].append(x[0].detach()))
    expected.train()
    for batch in batches:
        expected(batch)
    ours = [layer for layer in found.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert len(batches) > 1
    for layer, like in zip(ours, norms, strict=True):
        pixels = torch.cat([x.transpose(0, 1).flatten(1) for x in inputs[like]], 1).double()
        assert layer.running_mean is not None
        assert layer.running_var is not None
        torch.testing.assert_close(
            layer.running_mean.double(), pixels.mean(1), rtol=1e-3, atol=1e-4
        )
        torch.testing.assert_close(layer.running_var.double(), pixels.var(1), rtol=1e-3, atol=1e-4)
    assert not found.training


def test_statistics_are_of_all_pixels_whatever_the_batches() -> None:
    """PyTorch's own update takes the mean of the batches' variances, and so is no oracle here."""
    norm = nn.BatchNorm2d(2)
    net = nn.Sequential(norm)
    dark, bright = torch.randn(1, 2, 4, 4), 9 + torch.randn(3, 2, 8, 8)
    gather_statistics(net, [dark, bright])
    pixels = torch.cat([dark.transpose(0, 1).flatten(1), bright.transpose(0, 1).flatten(1)], 1)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    torch.testing.assert_close(norm.running_mean, pixels.mean(1))
    torch.testing.assert_close(norm.running_var, pixels.var(1, correction=0))
    assert norm.training
    before = norm.running_var.clone()
    gather_statistics(net, [])
    torch.testing.assert_close(norm.running_var, before)


def test_as_many_sizes_are_kept_traced_as_are_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    traced = mock.Mock(side_effect=trace)
    monkeypatch.setattr(tasks, "trace", traced)
    cells = write_cells(tmp_path / "cells", [(40 + n % 4, 48) for n in range(6)])
    segment(cells, tmp_path / "run", epochs=3, steps=1, validation=3)
    judged = {pair.size for pair in load_pairs(cells, validation=3).validation}
    assert len(judged) > 1
    assert [call.kwargs["keep"] for call in traced.call_args_list] == [len(judged)]


def test_fabric_logs_as_much_as_before(cells: Path, tmp_path: Path) -> None:
    logger = logging.getLogger("lightning_fabric")
    level = logger.level
    try:
        logger.setLevel(logging.DEBUG)
        segment(cells, tmp_path, epochs=1, steps=1)
        assert logger.level == logging.DEBUG
    finally:
        logger.setLevel(level)
