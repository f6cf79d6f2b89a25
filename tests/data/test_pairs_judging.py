"""Pairs to judge a network by that has learned already: no split, and its own legend."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from eyeshot import images
from eyeshot.data import Legend, load_pairs
from eyeshot.data.pairs import load_judged
from eyeshot.data.pairs.listing import guess_task, has_parts
from eyeshot.errors import BadFile
from tests.data.pairs import mask, picture, write_flat, write_pair

LEGEND = Legend(("ground", "cell", "wall"), (0, 255, 7))


def test_one_pair_that_lacks_a_class_is_enough(tmp_path: Path) -> None:
    write_pair(tmp_path, "slice", picture(1), np.full((9, 7), 255, np.uint8))
    pairs = load_judged(tmp_path, legend=LEGEND)
    assert [pair.name for pair in pairs.validation] == ["slice"]
    assert (pairs.train, pairs.legend, pairs.classes) == ((), LEGEND, LEGEND.classes)
    assert pairs.channels == 1
    assert pairs.notes == (
        "no mask to judge by holds ground, wall: it counts neither in the mean Dice nor in the "
        "choice of the best epoch",
    )


def test_masks_that_the_legend_does_not_fit_are_refused_by_code_and_name(tmp_path: Path) -> None:
    write_flat(tmp_path, 2, values=(0, 1))
    words = r"label/00.png: holds 1 .* none of the classes 0 \(ground\), 255 \(cell\), 7 \(wall\)"
    with pytest.raises(BadFile, match=words):
        load_judged(tmp_path, legend=LEGEND)


def test_the_legend_of_the_folder_goes_first(tmp_path: Path) -> None:
    write_flat(tmp_path, 2, values=(0, 1))
    (tmp_path / "classes.yaml").write_text("ground: 0\ncell: 1\nwall: 2\n")
    legend = load_judged(tmp_path, legend=LEGEND).legend
    assert legend == Legend(("ground", "cell", "wall"), (0, 1, 2))


def test_what_was_learned_from_is_left_out_whatever_it_is_called(tmp_path: Path) -> None:
    before = load_pairs(write_flat(tmp_path / "cells", 6))
    learned = {pair.digest for pair in before.train}
    again = load_judged(tmp_path / "cells", learned=learned)
    assert (again.train, again.validation) == (before.train, before.validation)
    assert again.fingerprint == before.fingerprint
    first = before.train[0]
    for path in (first.image, first.target):
        path.rename(path.with_name("zebra.png"))
    renamed = load_judged(tmp_path / "cells", learned=learned)
    assert renamed.validation == before.validation
    assert renamed.fingerprint != before.fingerprint
    assert renamed.notes == ("5 of 6 pictures were used for training and are left out",)


def test_where_all_was_learned_from_it_is_judged(tmp_path: Path) -> None:
    write_flat(tmp_path, 3)
    every = {pair.digest for pair in load_judged(tmp_path).validation}
    assert len(load_judged(tmp_path, learned=every).validation) == len(every) == 3


def test_of_a_folder_with_parts_its_own_is_judged(tmp_path: Path) -> None:
    for number, part in enumerate(("train", "val")):
        write_pair(tmp_path / part, str(number), picture(number), mask(number))
    pairs = load_judged(tmp_path)
    assert [pair.name for pair in pairs.validation] == ["1"]


def test_masks_without_one_judged_pixel_are_refused(tmp_path: Path) -> None:
    write_pair(tmp_path, "0", picture(0), np.full((9, 7), 9, np.uint8))
    legend = Legend(("ground", "cell"), (0, 255), ignore=9)
    with pytest.raises(BadFile, match="the 1 masks to judge by hold 'ignore' and nothing else"):
        load_judged(tmp_path, legend=legend)


def test_target_pictures_need_no_legend(tmp_path: Path) -> None:
    write_pair(tmp_path, "0", picture(0), picture(1))
    pairs = load_judged(tmp_path, task="restore")
    assert (len(pairs.validation), pairs.legend) == (1, None)


def test_how_a_folder_is_laid_out(tmp_path: Path) -> None:
    flat, split, noisy = tmp_path / "flat", tmp_path / "split", tmp_path / "noisy"
    write_flat(flat, 1)
    write_flat(split / "train", 1)
    for side in ("image", "target"):
        (noisy / side).mkdir(parents=True)
    (flat / "train").mkdir()  # pictures beside it: it is no part
    images.write(noisy / "image" / "0.png", picture(1))
    folders = (flat, split, noisy, tmp_path, tmp_path / "nowhere")
    assert [has_parts(folder) for folder in folders] == [False, True, False, False, False]
    assert [guess_task(folder) for folder in folders] == [
        "segment",
        "segment",
        "restore",
        None,
        None,
    ]
