"""Dice, IoU and boundary F1 on whole pictures, against their definitions on whole arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from tests.networks import examples
from torch import Tensor, nn
from torch.nn import functional

from eyeshot import nets
from eyeshot.cli.trained import mask_table
from eyeshot.data.pairs import PairReader, load_pairs, open_pair
from eyeshot.engine.networks import trace
from eyeshot.errors import BadValue
from eyeshot.evaluation import MaskEvaluation, passes
from eyeshot.evaluation.pairs import BoundaryCount, judge_masks
from eyeshot.training.tasks import Targets

Labels = NDArray[np.int64]


def edge_of(labels: Labels, label: int) -> NDArray[np.bool_]:
    """Pixels of the class with one of four neighbors that is of another, both judged."""
    edge = np.zeros(labels.shape, bool)
    for y, x in zip(*np.nonzero(labels == label), strict=True):
        for down, right in ((0, 1), (1, 0), (0, -1), (-1, 0)):
            v, u = y + down, x + right
            if 0 <= v < labels.shape[0] and 0 <= u < labels.shape[1]:
                edge[y, x] |= labels[v, u] not in (label, -1)
    return edge


def f1_by_definition(predicted: Labels, truth: Labels, label: int, tolerance: int) -> float | None:
    """By the distance from each boundary pixel to the other boundary."""
    ours, theirs = edge_of(predicted, label), edge_of(truth, label)
    if not ours.any() and not theirs.any():
        return None
    if not ours.any() or not theirs.any():
        return 0.0
    precision = (ndimage.distance_transform_edt(~theirs)[ours] <= tolerance).mean()
    recall = (ndimage.distance_transform_edt(~ours)[theirs] <= tolerance).mean()
    both = precision + recall
    return float(2 * precision * recall / both) if both else 0.0


@given(
    seed=st.integers(0, 9999),
    height=st.integers(1, 30),
    width=st.integers(1, 20),
    classes=st.integers(2, 4),
    tolerance=st.integers(0, 3),
    step=st.integers(1, 12),
)
@examples(60)
def test_boundaries_counted_by_windows_are_those_of_the_whole(
    seed: int, height: int, width: int, classes: int, tolerance: int, step: int
) -> None:
    generator = np.random.default_rng(seed)
    coarse = generator.integers(-1, classes, (2, height // 4 + 1, width // 4 + 1))
    predicted, truth = coarse.repeat(4, 1).repeat(4, 2)[:, :height, :width]
    predicted = np.where(truth < 0, -1, np.abs(predicted))
    count = BoundaryCount(classes, tolerance)
    for start in range(0, height, step):
        stop = min(height, start + step)
        top, bottom = max(0, start - count.halo), min(height, stop + count.halo)
        count.add(predicted[top:bottom], truth[top:bottom], slice(start - top, stop - top))
    expected = [f1_by_definition(predicted, truth, label, tolerance) for label in range(classes)]
    assert count.f1() == [None if e is None else pytest.approx(e) for e in expected]


class Threshold(nn.Module):
    """Class 1 where a pixel is bright, by a convolution that the engine can run."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(1, 2, 1)
        with torch.no_grad():
            self.head.weight.copy_(torch.tensor([-1.0, 1.0]).view(2, 1, 1, 1))
            self.head.bias.copy_(torch.tensor([0.5, -0.5]))  # type: ignore[union-attr]

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.head(x)
        return scores


def write_pair(folder: Path, name: str, picture: Labels, mask: Labels) -> None:
    for kind, pixels in (("image", picture), ("label", mask)):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / kind / f"{name}.png")


def made(root: Path, *, ignore: bool = False) -> tuple[Path, list[Labels], list[Labels]]:
    """A folder whose masks and whose answers (bright or not) are known: those to judge by."""
    generator = np.random.default_rng(4)
    masks, answers = [], []
    for number, size in enumerate(((30, 20), (41, 33), (24, 50))):
        truth = (ndimage.gaussian_filter(generator.normal(size=size), 3) > 0).astype(np.int64)
        predicted = np.where(generator.random(size) < 0.1, 1 - truth, truth)
        hidden = ignore & (generator.random(size) < 0.05)
        part = root / "cells" / ("val" if number else "train")
        write_pair(part, str(number), predicted * 200, np.where(hidden, 7, truth * 255))
        masks.append(np.where(hidden, -1, truth))
        answers.append(predicted)
    if ignore:
        (root / "cells" / "classes.yaml").write_text("ground: 0\ncell: 255\nignore: 7\n")
    return root / "cells", masks[1:], answers[1:]


def judged(folder: Path) -> MaskEvaluation:
    pairs = load_pairs(folder)
    return judge_masks(trace(Threshold().eval(), mean=(0.0,), std=(1.0,)), pairs, pairs.validation)


@pytest.mark.parametrize("ignore", [False, True])
@pytest.mark.parametrize("window", [2**21, 100])
def test_figures_by_counting(
    ignore: bool, window: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passes, "_WINDOW", window)
    folder, truths, answers = made(tmp_path, ignore=ignore)
    evaluation = judged(folder)
    truth = np.concatenate([t.ravel() for t in truths])
    predicted = np.concatenate([a.ravel() for a in answers])[truth >= 0]
    truth = truth[truth >= 0]
    assert evaluation.confusion.sum() == len(truth)
    assert evaluation.accuracy == pytest.approx((truth == predicted).mean())
    for label, one in enumerate(evaluation.per_class):
        a, b = predicted == label, truth == label
        assert one.pixels == b.sum()
        assert one.dice == pytest.approx(2 * (a & b).sum() / (a.sum() + b.sum()))
        assert one.iou == pytest.approx((a & b).sum() / (a | b).sum())
        assert one.precision == pytest.approx((a & b).sum() / a.sum())
        assert one.recall == pytest.approx((a & b).sum() / b.sum())
    assert evaluation.dice == pytest.approx(np.mean([one.dice for one in evaluation.per_class]))
    assert [picture.name for picture in evaluation.pictures] == ["1", "2"]
    assert evaluation.to_dict()["boundary_tolerance"] == 2


def test_one_wrong_pixel_of_an_absent_class_does_not_halve_a_picture_s_dice(tmp_path: Path) -> None:
    both, none = np.zeros((10, 10), np.int64), np.zeros((10, 10), np.int64)
    both[:5] = 1
    wrong = none.copy()
    wrong[3, 3] = 1
    write_pair(tmp_path / "cells" / "train", "0", both * 255, both * 255)
    write_pair(tmp_path / "cells" / "val", "1", both * 255, both * 255)
    write_pair(tmp_path / "cells" / "val", "2", wrong * 255, none * 255)
    evaluation = judged(tmp_path / "cells")
    assert [one.dice for one in evaluation.pictures] == [1, pytest.approx(2 * 99 / 199)]
    assert evaluation.dice == pytest.approx((2 * 149 / 299 + 2 * 50 / 101) / 2)


def test_boundary_f1_of_one_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "_WINDOW", 90)
    folder, truths, answers = made(tmp_path)
    for path in (folder / "val").rglob("2.png"):
        path.unlink()
    evaluation = judged(folder)
    for label, one in enumerate(evaluation.per_class):
        expected = f1_by_definition(answers[0], truths[0], label, 2)
        assert one.boundary_f1 == pytest.approx(expected)


def test_a_large_answer_goes_through_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _, _ = made(tmp_path)
    before = judged(folder)
    monkeypatch.setattr(passes, "_HELD", 0)
    monkeypatch.setattr(passes, "_WINDOW", 60)
    after = judged(folder)
    assert after.to_dict() == before.to_dict()


@pytest.mark.parametrize(("more", "precision"), [(-9, None), (9, 0)])
def test_a_class_that_is_nowhere_counts_for_nothing(
    more: int, precision: float | None, tmp_path: Path
) -> None:
    """Said nowhere or everywhere, it has no Dice; only its precision tells the two apart."""
    folder, _, _ = made(tmp_path)
    (folder / "classes.yaml").write_text("ground: 0\ncell: 255\nghost: 9\n")
    pairs = load_pairs(folder)

    class Three(Threshold):
        def forward(self, x: Tensor) -> Tensor:
            scores = super().forward(x)
            return torch.cat([scores, scores.amax(1, keepdim=True) + more], 1)

    evaluation = judge_masks(trace(Three().eval()), pairs, pairs.validation)
    ghost = evaluation.per_class[2]
    assert (ghost.pixels, ghost.dice, ghost.iou, ghost.boundary_f1) == (0, None, None, None)
    assert (ghost.precision, ghost.recall) == (precision, None)
    without = judged(made(tmp_path / "again")[0]).dice
    assert evaluation.dice == pytest.approx(without if more < 0 else 0)
    assert "absent" in str(list(mask_table(evaluation).columns[1].cells))


def test_a_picture_that_nobody_has_judged_has_no_score(tmp_path: Path) -> None:
    folder, _, _ = made(tmp_path)
    before = judged(folder)
    size = (20, 20)
    write_pair(folder / "val", "blank", np.zeros(size, np.int64), np.full(size, 7))
    (folder / "classes.yaml").write_text("background: 0\nforeground: 255\nignore: 7\n")
    evaluation = judged(folder)
    assert evaluation.pictures == before.pictures
    assert (evaluation.accuracy, evaluation.dice) == (before.accuracy, before.dice)
    (note,) = evaluation.notes
    assert note.startswith("in 1 of 3 masks no pixel is judged, first ")
    assert "blank.png" in note


def test_where_nothing_is_judged_there_is_no_figure(tmp_path: Path) -> None:
    folder, _, _ = made(tmp_path, ignore=True)
    pairs = load_pairs(folder)
    for pair in pairs.validation:
        Image.fromarray(np.full(pair.size, 7, np.uint8)).save(pair.target)
    net = trace(Threshold().eval())
    with pytest.raises(BadValue, match="no pixel that the network answers is judged"):
        judge_masks(net, pairs, pairs.validation)


def test_without_padding_a_picture_is_read_by_windows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = nets.unet(base=2, depth=1, padding="valid").eval()
    write_pair(tmp_path / "train", "0", picture := noise(40, 40), picture)
    write_pair(tmp_path / "val", "1", picture := noise(71, 53), picture)
    (tmp_path / "classes.yaml").write_text("dark: 0\nbright: 255\n")
    pairs = load_pairs(tmp_path)
    (pair,) = pairs.validation
    whole = torch.from_numpy(picture[:70, :52] / 255).float()[None, None]
    with torch.no_grad():
        expected = net(whole)[0].argmax(0).numpy()
    with open_pair(pair, pairs) as reader:
        monkeypatch.setattr(PairReader, "image", None)  # whole and in float32, as it gives them
        with passes.answered(trace(net, mean=(0.0,), std=(1.0,)), pair, reader) as answer:
            assert answer.offset == (8, 8)
            assert np.array_equal(answer.samples[0], expected)


def noise(height: int, width: int) -> Labels:
    """Black and white pixels at random."""
    return np.random.default_rng(height).integers(0, 2, (height, width)) * 255


class Coarse(Threshold):
    """An answer for each block of four by four pixels; the shape of the answer is ``made``."""

    def __init__(self, made: str) -> None:
        super().__init__()
        self._made = made

    def forward(self, x: Tensor) -> Tensor:
        if self._made == "from the left":  # pixels before the answer alone are left out
            return super().forward(x)[..., 3:]
        if self._made == "by one convolution":
            x = functional.conv2d(x, x.new_full((1, 1, 4, 4), 1 / 16), stride=4)
        else:
            x = functional.max_pool2d(functional.max_pool2d(x, 2), 2)
        if self._made == "up again":
            x = functional.interpolate(x, scale_factor=4.0)
        return super().forward(x)


@pytest.mark.parametrize("length", [40, 41, 42, 43])
@pytest.mark.parametrize("made", ["by pools", "by one convolution", "up again", "from the left"])
def test_answers_are_judged_where_they_belong(made: str, length: int, tmp_path: Path) -> None:
    """What remains at the end of a picture moved them by half of it: a right one was 68 % right."""
    generator = np.random.default_rng(1)
    for number in range(4):
        blocks = generator.integers(0, 2, (11, 11)).repeat(4, 0).repeat(4, 1)[:length, :length]
        write_pair(tmp_path, str(number), blocks * 255, blocks * 255)
    pairs = load_pairs(tmp_path)
    net = trace(Coarse(made).eval(), mean=(0.0,), std=(1.0,))
    evaluation = judge_masks(net, pairs, pairs.validation)
    assert evaluation.accuracy == 1
    side = length - 3 if made == "from the left" else 40
    assert evaluation.confusion.sum() == side * (length if made == "from the left" else 40)
    output = net.geometry.output
    places = torch.arange(length).expand(1, length, length)
    valid = torch.ones(1, length, length, dtype=torch.bool)
    across = side // int(output.stride[1])
    targets = Targets(places, valid).like(torch.zeros(1, 2, across, across), output)
    first = {"from the left": 3, "up again": 0}.get(made, 2)
    assert targets.values[0, 0, :3].tolist() == [
        first + int(output.stride[1]) * n for n in range(3)
    ]
