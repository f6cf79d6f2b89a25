"""What is written for other tools computes what the network computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

import eyeshot
from eyeshot.cli import main
from eyeshot.errors import BadFile, BadValue, Unsupported
from eyeshot.exporting.onnx_files import TOLERANCE, Target, noise
from eyeshot.runs import Recipe, Run, RunConfig


class Chance(nn.Module):
    """Draws noise whenever it is run."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.linear(x.flatten(1) + torch.randn(64))
        return y


@pytest.fixture(scope="module")
def net() -> nn.Module:
    torch.manual_seed(0)
    return eyeshot.nets.unet(in_channels=1, classes=2, base=2, depth=1).eval()


@pytest.fixture(scope="module")
def written(net: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> eyeshot.Exported:
    return eyeshot.export(net, tmp_path_factory.mktemp("onnx") / "net.onnx", size=(1, 32, 32))


def outputs(path: Path, x: torch.Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (result,) = session.run(None, {"image": x.numpy()})
    array: np.ndarray[tuple[int, ...], np.dtype[np.float32]] = result
    return array


def test_one_file_serves_every_batch_and_size(net: nn.Module, written: eyeshot.Exported) -> None:
    assert len(written.tried) == 3
    assert written.apart <= TOLERANCE
    for shape in ((4, 1, 32, 34), (1, 1, 45, 51), (2, 1, 64, 33)):
        x = noise(shape, seed=3)
        with torch.no_grad():
            whole = net(x).numpy()
        assert np.abs(outputs(written.path, x) - whole).max() <= TOLERANCE * np.abs(whole).max()


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_each_channel_has_its_own_mean(dims: int) -> None:
    """Also of signals and volumes: it was subtracted along another axis, or from another sample."""
    net = nn.Identity().eval()
    config = RunConfig(
        model="unet",
        data="scans",
        fingerprint="",
        classes=("a", "b"),
        channels=2,
        size=(8,) * dims,
        mean=(10.0, -20.0),
        std=(1.0, 5.0),
        recipe=Recipe(epochs=1, batch_size=1, learning_rate=1.0),
        task="segment",
        own_scale=True if dims == 3 else None,
    )
    target = Target(net, (2, *config.size), Run(Path("run"), config, net))
    x = noise((3, 2, *config.size))
    result = target.from_unit(x)
    assert result.shape == x.shape
    for channel in range(2):
        expected = (x[:, channel] - config.mean[channel]) / config.std[channel]
        torch.testing.assert_close(result[:, channel], expected)
    own = "samples of the training images' own scale"
    assert target.samples == ("samples in 0 … 1" if config.in_unit else own)


def test_the_free_sizes_are_named(written: eyeshot.Exported) -> None:
    model = onnx.load(written.path)
    (image,) = model.graph.input
    sizes = [dim.dim_param or dim.dim_value for dim in image.type.tensor_type.shape.dim]
    assert sizes == ["N", 1, "H", "W"]
    assert model.opset_import[0].version == 18


def test_a_program_is_read_again_without_code(net: nn.Module, tmp_path: Path) -> None:
    exported = eyeshot.export(net, tmp_path / "net.pt2", size=(1, 32, 32))
    assert exported.apart == 0
    assert len({shape[2:] for shape in exported.tried}) == 3
    assert main(["inspect", str(exported.path)]) == 0


@pytest.mark.parametrize(
    ("suffix", "dtype"),
    [("onnx", torch.float16), ("pt2", torch.float64), ("pt2", torch.bfloat16)],
)
def test_a_network_of_other_numbers(suffix: str, dtype: torch.dtype, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1)).eval().to(dtype)
    out = tmp_path / f"net.{suffix}"
    eyeshot.export(net, out, size=(1, 9, 8))
    x = noise((2, 1, 11, 9)).to(dtype)
    with torch.no_grad():
        whole = net(x).double().numpy()
    result = outputs(out, x) if suffix == "onnx" else torch.export.load(out).module()(x)
    apart = np.abs(np.asarray(torch.as_tensor(result).detach().double()) - whole).max()
    assert apart <= 16 * torch.finfo(dtype).eps * np.abs(whole).max()


class Mask(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x > 0.5


@pytest.mark.parametrize("suffix", ["onnx", "pt2"])
def test_a_network_of_masks(suffix: str, tmp_path: Path) -> None:
    out = tmp_path / f"net.{suffix}"
    assert eyeshot.export(Mask().eval(), out, size=(1, 9, 8)).apart == 0
    x = noise((2, 1, 11, 9))
    result = outputs(out, x) if suffix == "onnx" else torch.export.load(out).module()(x)
    assert np.array_equal(np.asarray(result), (x > 0.5).numpy())


class WritesIntoItsInput(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mul_(2).add_(1)


@pytest.mark.parametrize("name", ["net.pt2", "net.onnx"])
def test_a_network_that_writes_into_its_input_is_compared_on_the_same_input(
    tmp_path: Path, name: str
) -> None:
    exported = eyeshot.export(WritesIntoItsInput().eval(), tmp_path / name, size=(1, 8, 9))
    assert exported.path.exists()


def test_a_network_of_one_size_keeps_it_and_any_batch(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2 * 6 * 6, 3)).eval()
    exported = eyeshot.export(net, tmp_path / "net.onnx", size=(1, 8, 8))
    assert exported.tried == ((1, 1, 8, 8), (2, 1, 8, 8), (3, 1, 8, 8))
    x = noise((5, 1, 8, 8))
    with torch.no_grad():
        assert np.abs(outputs(exported.path, x) - net(x).numpy()).max() < 1e-4


def test_what_is_random_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="largest value away"):
        eyeshot.export(Chance().eval(), tmp_path / "net.onnx", size=(1, 8, 8))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("net.h5", {}, "end it in .onnx"),
        ("net.onnx", {"opset": 9}, "opset is 9"),
        ("net.onnx", {"size": (3, 32, 32)}, "does not take it"),
    ],
)
def test_files_that_cannot_be_written_are_refused(
    net: nn.Module, tmp_path: Path, name: str, options: dict[str, object], message: str
) -> None:
    with pytest.raises(BadValue, match=message):
        eyeshot.export(net, tmp_path / name, **options)  # type: ignore[arg-type]


def test_an_existing_file_is_not_overwritten(net: nn.Module, tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_text("mine")
    with pytest.raises(BadFile, match="exists"):
        eyeshot.export(net, tmp_path / "net.onnx")
    assert (tmp_path / "net.onnx").read_text() == "mine"


@pytest.mark.parametrize("suffix", ["onnx", "pt2"])
def test_a_run_s_file_takes_samples_from_0_to_1(suffix: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = RunConfig(
        model="digit_cnn",
        data="digits",
        fingerprint="",
        classes=tuple("0123456789"),
        channels=1,
        size=(28, 28),
        mean=(0.3,),
        std=(0.2,),
        recipe=Recipe(epochs=1, batch_size=1, learning_rate=0.1),
    )
    run = eyeshot.Run(tmp_path, config, eyeshot.nets.digit_cnn().eval())
    exported = eyeshot.export(run, tmp_path / f"digits.{suffix}")
    assert exported.apart <= TOLERANCE
    assert "0 … 1" in exported.notes[-1]
    pictures = torch.randint(0, 256, (4, 1, 28, 28), dtype=torch.uint8)
    with torch.no_grad():
        scores = run.net(run.normalize(pictures)).numpy()
    x, out = pictures / 255, exported.path
    result = outputs(out, x) if suffix == "onnx" else torch.export.load(out).module()(x)
    result = np.asarray(torch.as_tensor(result).detach())
    assert np.abs(result - scores).max() < 1e-4 * np.abs(scores).max()
