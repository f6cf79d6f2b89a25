"""Run folders: written, read back, and refused by name when they are not what they claim."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from tests.networks import examples
from torch import nn

from eyeshot import images, nets, runs
from eyeshot.data import Data, Examples
from eyeshot.errors import BadFile, BadValue
from eyeshot.runs import CONFIG, WEIGHTS, Recipe, RunConfig


def make_config(**changes: Any) -> RunConfig:
    values: dict[str, Any] = {
        "model": "digit_cnn",
        "data": "digits",
        "fingerprint": "0123456789abcdef",
        "classes": ("a", "b", "c"),
        "channels": 1,
        "size": (12, 12),
        "mean": (0.1,),
        "std": (0.3,),
        "recipe": Recipe(epochs=1, batch_size=8, learning_rate=0.01),
        "model_arguments": {"width": 2},
    }
    return RunConfig(**{**values, **changes})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run folder with random weights."""
    config = make_config()
    config.save(tmp_path / CONFIG)
    runs.save_tensors(tmp_path / WEIGHTS, runs.build_net(config).state_dict())
    return tmp_path


def rewrite(folder: Path, **changes: Any) -> None:
    tree = yaml.safe_load((folder / CONFIG).read_text())
    tree.update(changes)
    (folder / CONFIG).write_text(yaml.safe_dump(tree))


@given(
    seed=st.integers(0, 2**40),
    rate=st.floats(1e-8, 10),
    names=st.lists(st.text(min_size=1), min_size=2, max_size=5, unique=True),
    mean=st.floats(-1, 1),
)
@examples(40)
def test_a_configuration_comes_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, seed: int, rate: float, names: list[str], mean: float
) -> None:
    recipe = Recipe(epochs=3, batch_size=4, learning_rate=rate, seed=seed, average=0.5)
    config = make_config(recipe=recipe, classes=tuple(names), mean=(mean,), data_folder="a b")
    path = tmp_path_factory.mktemp("config") / CONFIG
    config.save(path)
    assert RunConfig.read(path) == config


def test_a_run_comes_back_with_its_weights(folder: Path) -> None:
    run = runs.load(folder)
    assert not run.net.training
    assert run.config == make_config()
    saved, _ = runs.read_tensors(folder / WEIGHTS)
    state = run.net.state_dict()
    assert list(state) == sorted(state, key=list(state).index)
    assert all(torch.equal(state[name], saved[name]) for name in saved)
    assert all(parameter.requires_grad for parameter in run.net.parameters())


def test_loading_leaves_the_random_numbers_alone(folder: Path) -> None:
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    runs.load(folder)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_normalize_is_what_it_says(folder: Path) -> None:
    pixels = torch.randint(0, 256, (5, 1, 12, 12)).to(torch.uint8)
    expected = (pixels.double() / 255 - 0.1) / 0.3
    torch.testing.assert_close(runs.load(folder).normalize(pixels).double(), expected)


@pytest.mark.parametrize(
    "pixels",
    [
        torch.zeros(1, 1, 12, 12),
        torch.zeros(1, 12, 12).to(torch.uint8),
        torch.zeros(1, 3, 12, 12).to(torch.uint8),
    ],
)
def test_other_images_are_refused(folder: Path, pixels: torch.Tensor) -> None:
    with pytest.raises(BadValue, match="give uint8"):
        runs.load(folder).normalize(pixels)


def test_a_picture_is_prepared_as_the_network_was_trained(tmp_path: Path, folder: Path) -> None:
    page = np.full((300, 200), 230, np.uint8)
    page[60:240, 90:110] = 20  # a one, dark on light
    images.write(tmp_path / "one.png", page)
    pixels, notes = runs.load(folder).prepare(tmp_path / "one.png")
    assert pixels.dtype == torch.uint8
    assert pixels.shape == (1, 1, 12, 12)
    assert any("inverted" in note for note in notes)

    rewrite(folder, data="photos")  # a folder of classes: only stretched
    pixels, notes = runs.load(folder).prepare(page)
    assert notes == ["stretched from 300×200 to 12×12"]
    assert pixels[0, 0, 0, 0] == 230


def test_a_picture_is_neither_shared_nor_needs_to_be_writable(folder: Path) -> None:
    rewrite(folder, data="photos")
    picture = np.zeros((12, 12), np.uint8)
    picture.setflags(write=False)
    pixels, _ = runs.load(folder).prepare(picture)
    pixels += 1
    assert not picture.any()


def test_a_picture_that_cannot_be_prepared_is_named(tmp_path: Path, folder: Path) -> None:
    images.write(tmp_path / "blank.png", np.full((60, 60), 200, np.uint8))
    with pytest.raises(BadValue, match=r"blank\.png: the page is blank"):
        runs.load(folder).prepare(tmp_path / "blank.png")
    with pytest.raises(BadValue, match=r"^array: "):
        runs.load(folder).prepare(np.zeros((2, 3, 4, 5), np.uint8))
    with pytest.raises(BadFile, match=r"none\.png"):
        runs.load(folder).prepare(tmp_path / "none.png")


def test_score_keeps_the_order_and_the_mode() -> None:
    config = make_config()
    net = runs.build_net(config).train()
    images = torch.randint(0, 256, (1203, 1, 12, 12)).to(torch.uint8)
    labels = torch.arange(1203) % 3
    scores, back = runs.score(net, Examples.hold(images, labels), config)
    assert net.training
    assert torch.equal(back, labels)
    net.eval()
    torch.testing.assert_close(scores, net(runs.normalize(images, config.mean, config.std)))


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="no such run folder"):
        runs.load(tmp_path / "nothing")
    with pytest.raises(BadFile, match=f"no {CONFIG} in it"):
        runs.load(tmp_path)


def test_a_file_that_is_no_run(tmp_path: Path) -> None:
    alone = tmp_path / "net.pt"
    torch.save({"weight": torch.zeros(2)}, alone)
    with pytest.raises(
        BadFile, match=r"net.pt: is a file, not a run folder; a .pt does not say .* code"
    ):
        runs.load(alone)
    (tmp_path / CONFIG).write_text("model: digit_cnn")
    with pytest.raises(BadFile, match=f"is a file, not a run folder; name the folder .*{CONFIG}"):
        runs.load(tmp_path / CONFIG)


def test_a_run_that_has_not_finished(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    with pytest.raises(BadFile, match="--resume"):
        runs.load(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "digit_cn"}, "unknown model 'digit_cn'; did you mean 'digit_cnn'"),
        ({"model": "os.system"}, "unknown model 'os.system'"),
        ({"model": 3}, "model is 3"),
        ({"model_arguments": {"width": "3"}}, "width is '3'"),
        ({"model_arguments": {"width": 2.5}}, "model_arguments is 2.5"),
        ({"task": "sing"}, "unknown task 'sing'"),
        ({"model_arguments": {"widht": 3}}, "unknown argument of digit_cnn 'widht'"),
        ({"model_arguments": {"width": -3}}, "width is -3"),
        ({"size": [12]}, r"size is \[12\]"),
        ({"size": [12, 2]}, "12×2 cannot be halved"),
        ({"channels": True}, "channels is True"),
        ({"channels": 0}, "channels is 0"),
        ({"classes": ["one"]}, "1 classes"),
        ({"mean": [0.1, 0.2]}, "mean has 2 values for 1 channels"),
        ({"std": [0.0]}, r"std is \[0.0\]"),
        ({"mean": [float("inf")]}, r"mean is \[inf\]"),
        (
            {"recipe": {"epochs": 1, "batch_size": 2, "learning_rate": 0.1, "weight_decay": 1e999}},
            "weight_decay is inf",
        ),
        ({"color": 1}, "unknown key 'color'"),
        ({"recipe": 5}, "expected keys and values"),
        ({"recipe": {"epochs": 1, "batch_size": 2}}, "the key 'learning_rate' is missing"),
        (
            {"recipe": {"epochs": 1, "batch_size": 2, "learning_rate": float("nan")}},
            "learning_rate is nan",
        ),
    ],
)
def test_a_wrong_configuration_names_the_key(
    folder: Path, changes: dict[str, Any], message: str
) -> None:
    rewrite(folder, **changes)
    with pytest.raises(BadFile, match=message) as caught:
        runs.load(folder)
    assert str(folder / CONFIG) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["[1, 2", "\x00", "just words", "a: !!python/object/apply:os.getcwd []"]
)
def test_a_configuration_that_is_not_plain_yaml(folder: Path, text: str) -> None:
    (folder / CONFIG).write_text(text)
    with pytest.raises(BadFile, match=CONFIG):
        runs.load(folder)


def test_weights_of_another_architecture_name_their_tensors(folder: Path) -> None:
    rewrite(folder, model_arguments={"width": 3})
    with pytest.raises(
        BadFile, match=r"'conv1.weight' has shape \(2, 1, 3, 3\), .* \(3, 1, 3, 3\)"
    ):
        runs.load(folder)
    rewrite(folder, model="small_vgg", model_arguments={"width": 2})
    with pytest.raises(BadFile, match=r"missing: 'norm1.weight'"):
        runs.load(folder)
    rewrite(folder, model="digit_cnn")
    state, _ = runs.read_tensors(folder / WEIGHTS)
    runs.save_tensors(folder / WEIGHTS, {**state, "extra": torch.zeros(1)})
    with pytest.raises(BadFile, match="without a place in the network: 'extra'"):
        runs.load(folder)


def test_a_configuration_that_asks_for_terabytes_is_refused_at_once(folder: Path) -> None:
    rewrite(folder, model_arguments={"width": 2, "hidden": 10**11})
    with pytest.raises(BadFile, match=r"fc1\.weight.*100000000000"):
        runs.load(folder)


@pytest.mark.parametrize("keep", [0, 5, 300, -4])
def test_truncated_weights(folder: Path, keep: int) -> None:
    path = folder / WEIGHTS
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(BadFile, match=WEIGHTS):
        runs.load(folder)


class Evil:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("raise SystemExit('unpickled')",))


def test_a_pt_of_tensors_is_loaded(folder: Path) -> None:
    state, _ = runs.read_tensors(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    torch.save(state, folder / "model.pt")
    run = runs.load(folder)
    assert all(torch.equal(run.net.state_dict()[name], state[name]) for name in state)


@pytest.mark.parametrize(
    "content", [Evil(), {"net": Evil()}, {"epoch": 3}, {3: [torch.ones(2)]}, nn.ReLU()]
)
def test_a_pt_of_anything_else_is_refused_with_the_reason(tmp_path: Path, content: object) -> None:
    path = tmp_path / "model.pt"
    torch.save(content, path)
    with pytest.raises(BadFile, match="save only the state dict"):
        runs.load_weights(nn.Linear(2, 2), path)


def test_a_damaged_pt(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    for content in (b"", b"nonsense", pickle.dumps({"a": 1})[:5]):
        path.write_bytes(content)
        with pytest.raises(BadFile, match=r"model\.pt"):
            runs.load_weights(nn.Linear(2, 2), path)
    with pytest.raises(BadFile, match="no such file"):
        runs.load_weights(nn.Linear(2, 2), tmp_path / "none.pt")


def test_a_pt_that_claims_more_than_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    huge = torch.zeros(1).expand(2, 2)  # strides of 0: any size for four bytes
    torch.save({"weight": huge, "bias": torch.zeros(2)}, path)
    with pytest.raises(BadFile, match="'weight' does not hold all of its numbers"):
        runs.load_weights(nn.Linear(2, 2), path)
    with zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("archive/data.pkl", bytes(2**22))
    with pytest.raises(BadFile, match="members claim 4194304 bytes in a file of"):
        runs.load_weights(nn.Linear(2, 2), tmp_path / "bomb.pt")
    torch.save({"weight": torch.zeros(2, 2).to_sparse(), "bias": torch.zeros(2)}, path)
    with pytest.raises(BadFile, match="'weight'"):
        runs.load_weights(nn.Linear(2, 2), path)


def test_a_pt_damaged_anywhere_is_named(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save(nn.Linear(2, 2).state_dict(), path)
    with zipfile.ZipFile(path) as old:
        members = {name: old.read(name) for name in old.namelist()}
    (pickled,) = (name for name in members if name.endswith("data.pkl"))
    for place in range(2, len(members[pickled])):
        with zipfile.ZipFile(path, "w") as new:
            for name, content in members.items():
                cut = content[: place - 1] + b"u" + content[place:] if name == pickled else content
                new.writestr(name, cut)
        try:
            runs.load_weights(nn.Linear(2, 2), path)
        except BadFile as error:
            assert str(path) in str(error)  # noqa: PT017


def test_refused_weights_leave_the_net_alone(folder: Path) -> None:
    net = nets.digit_cnn(width=5)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    with pytest.raises(BadFile):
        runs.load_weights(net, folder / WEIGHTS)
    assert all(torch.equal(net.state_dict()[name], before[name]) for name in before)


def tiny(value: int, label: int, classes: tuple[str, ...] = ("a", "b")) -> Data:
    examples = Examples.hold(
        torch.full((2, 1, 4, 4), value, dtype=torch.uint8), torch.tensor([label, 0])
    )
    return Data("tiny", examples, examples, classes, 1, (4, 4), (0.5,), (0.5,))


def test_a_fingerprint_tells_sets_apart() -> None:
    sets = [tiny(1, 0), tiny(2, 0), tiny(1, 1), tiny(1, 0, ("a", "c"))]
    assert len({runs.fingerprint(data) for data in sets}) == len(sets)
    assert runs.fingerprint(tiny(1, 0)) == runs.fingerprint(tiny(1, 0))


def test_a_size_without_lengths_is_refused() -> None:
    with pytest.raises(BadValue, match="size has 0 lengths"):
        make_config(size=())
