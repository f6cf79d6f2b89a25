"""Which crops are learned from: batches that are full where they can be, and true counts."""

from __future__ import annotations

from pathlib import Path
from typing import Unpack

import numpy as np
import pytest
import torch
from PIL import Image

from eyeshot import nets
from eyeshot.data.pairs import CropSampler, Pairs, load_pairs
from eyeshot.errors import BadValue
from eyeshot.frontends.net_geometry import NetGeometry
from eyeshot.runs import RunConfig
from eyeshot.runs.inputs import geometry_of_named
from eyeshot.training import Settings, train
from eyeshot.training.configuration import Request, describe_pairs
from eyeshot.training.cropping import choose_crop, make_sampler

from .cells import write_cells

SHALLOW: dict[str, int | str] = {"base": 2, "depth": 1}


def describe(
    folder: Path, arguments: dict[str, int | str], **settings: Unpack[Settings]
) -> tuple[RunConfig, CropSampler]:
    pairs = load_pairs(folder)
    config = describe_pairs(Request("segment", folder, None, arguments, settings), pairs)
    return config, make_sampler(pairs, config.size, geometry_of_named(config), 0)


def seen(config: RunConfig, sampler: CropSampler) -> list[int]:
    """How many crops each step of an epoch really shows."""
    batch = config.recipe.batch_size
    return [len(sampler.batch(0, step, batch)) for step in range(config.recipe.steps)]


def test_an_epoch_passes_over_pictures_of_many_sizes(tmp_path: Path) -> None:
    sizes = [(24 + n % 9, 24 + n % 11) for n in range(90)]
    config, sampler = describe(write_cells(tmp_path / "many", sizes), {"base": 2, "depth": 3})
    assert len(sampler.sizes) > 60  # no crop of all is of use to so deep a network
    assert sum(sampler.sizes.values()) == sampler.crops
    assert config.recipe.steps >= sampler.steps(config.recipe.batch_size) > 60
    assert sum(seen(config, sampler)) >= sampler.crops


def test_pictures_of_many_small_sizes_share_batches(tmp_path: Path) -> None:
    sizes = [(26 + n % 4, 28 + n % 5) for n in range(24)]
    folder = write_cells(tmp_path / "mixed", sizes)
    config, sampler = describe(folder, SHALLOW, batch_size=4)
    halo = NetGeometry(nets.unet(base=2, depth=1)).output.halo
    smallest = tuple(min(pair.size[axis] for pair in sampler.pairs.train) for axis in (0, 1))
    assert config.size == smallest
    assert min(smallest) < 4 * halo
    assert sampler.valid_share >= 0.2
    assert list(sampler.sizes) == [smallest]


def test_of_crops_with_little_to_learn_from_a_pass_is_left_unfinished(tmp_path: Path) -> None:
    folder = write_cells(tmp_path / "large", [(400, 400)] * 2)
    pairs = load_pairs(folder)
    geometry = NetGeometry(nets.unet(base=2, depth=1))
    crop = (2 * geometry.output.halo + 2,) * 2
    request = Request("segment", folder, None, SHALLOW, {"batch_size": 4}, crop=crop)
    recipe = describe_pairs(request, pairs).recipe
    sampler = make_sampler(pairs, crop, geometry, 0)
    assert sampler.steps(4) * 4 * crop[0] * crop[1] > 16 * 400 * 400
    computed = recipe.steps * 4 * crop[0] * crop[1]
    assert computed == pytest.approx(16 * 400 * 400, rel=0.1)  # what it is judged by has a say


def test_a_batch_of_nothing_is_refused(tmp_path: Path) -> None:
    folder = write_cells(tmp_path / "cells")
    with pytest.raises(BadValue, match="batch_size is 0; use 1 or more"):
        describe(folder, SHALLOW, batch_size=0)


def test_a_crop_left_over_joins_the_batch_before(tmp_path: Path) -> None:
    """Of four crops in batches of three, one would be a single pixel for batch norm."""
    folder = write_cells(tmp_path / "tiny", [(16, 16)] * 5)
    train(
        folder,
        task="segment",
        out=tmp_path / "run",
        model_arguments={"base": 2, "depth": 4},
        epochs=1,
        steps=2,
        batch_size=3,
        progress=False,
    )


def test_a_batch_that_batch_norm_cannot_take(tmp_path: Path) -> None:
    count = 1
    folder = write_cells(tmp_path / "tiny", [(16, 16)] * 5)
    deep: dict[str, int | str] = {"base": 2, "depth": 4}
    with pytest.raises(BadValue, match=r"a batch of one crop of 16×16, .*depth of 3 or less"):
        describe(folder, deep, batch_size=count)
    for change in ({"norm": "none"}, {"depth": 3}):
        train(
            folder,
            task="segment",
            out=tmp_path / f"run-{next(iter(change))}",
            model_arguments={**deep, **change},
            epochs=1,
            steps=2,
            batch_size=count,
            progress=False,
        )
    describe(folder, deep, batch_size=2)


def test_what_a_network_without_padding_takes(tmp_path: Path) -> None:
    pairs: Pairs = load_pairs(write_cells(tmp_path / "cells", [(41, 43), (45, 47), (41, 47)] * 3))
    net = NetGeometry(nets.unet(base=2, depth=1, padding="valid"))
    crop = choose_crop(net, pairs, None)
    assert net.sizes.takes(*crop)
    with pytest.raises(BadValue, match="use 40 or 42"):
        choose_crop(net, pairs, (41, 40))


def test_crops_are_drawn_where_labels_are(tmp_path: Path) -> None:
    folder = write_cells(tmp_path / "cells", ((96, 96),) * 3)
    for path in (folder / "label").iterdir():
        mask = np.full((96, 96), 77, np.uint8)
        mask[:6, :8], mask[:6, 8:16] = 0, 255
        Image.fromarray(mask).save(path)
    (folder / "classes.yaml").write_text("ground: 0\ncell: 255\nignore: 77\n")
    pairs = load_pairs(folder, validation=1)
    sampler = CropSampler(pairs, (32, 32), 4, 0)
    batches = [sampler.batch(0, step, 4) for step in range(5)]
    assert all(crop.any() for batch in batches for crop in batch.valid)
    again = CropSampler(pairs, (32, 32), 4, 0).batch(0, 3, 4)
    assert torch.equal(again.images, batches[3].images)
