"""Weights go to Paddle and come back; with Paddle installed, it computes the same with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import eyeshot
from eyeshot.cli import main
from eyeshot.errors import BadFile, BadValue
from eyeshot.exporting import from_paddle, to_paddle
from eyeshot.runs import Recipe, RunConfig, save_tensors


def vgg() -> nn.Module:
    torch.manual_seed(0)
    net = eyeshot.nets.small_vgg(width=4, depth=2)
    for name, tensor in net.state_dict().items():
        if "running" in name:
            tensor.copy_(torch.rand(tensor.shape) + 0.5)
    return net.eval()


def test_names_and_layouts_are_paddle_s() -> None:
    net = vgg()
    turned = to_paddle(net)
    assert {"norm1._mean", "norm1._variance", "norm1.weight", "conv1.weight"} <= set(turned)
    assert turned["fc.weight"].shape == (8, 10)
    assert not any("num_batches" in name for name in turned)


def test_what_comes_back_is_what_went() -> None:
    net, other = vgg(), eyeshot.nets.small_vgg(width=4, depth=2).eval()
    with torch.no_grad():
        from_paddle(other, to_paddle(net))
        x = torch.rand(2, 1, 28, 28)
        assert torch.equal(net(x), other(x))


def test_a_run_goes_and_comes_back(tmp_path: Path) -> None:
    torch.manual_seed(0)
    run = tmp_path / "run"
    run.mkdir()
    net = eyeshot.nets.digit_cnn(width=2, hidden=8)
    arguments = {"width": 2, "hidden": 8}
    config = RunConfig(
        "digit_cnn", "digits", "", tuple("0123456789"), 1, (28, 28), (0.3,), (0.2,),
        Recipe(epochs=1, batch_size=1, learning_rate=0.1), model_arguments=arguments,
    )  # fmt: skip
    config.save(run / "config.yaml")
    save_tensors(run / "model.safetensors", net.state_dict())
    weights, back = str(tmp_path / "paddle.safetensors"), tmp_path / "back"
    assert main(["convert", str(run), "-o", weights]) == 0
    assert main(["convert", weights, "--like", str(run), "-o", str(back)]) == 0
    for name, tensor in eyeshot.load(back).net.state_dict().items():
        assert torch.equal(tensor, net.state_dict()[name])
    assert main(["convert", weights, "-o", str(tmp_path / "other")]) == 2
    assert main(["convert", str(run), "-o", weights]) == 2, "it exists"


def test_weights_of_another_network_are_refused() -> None:
    weights = to_paddle(vgg())
    with pytest.raises(BadValue, match=r"no weight conv2a"), torch.no_grad():
        from_paddle(vgg(), {k: v for k, v in weights.items() if "conv2a" not in k})
    with pytest.raises(BadValue, match="of no layer"), torch.no_grad():
        from_paddle(vgg(), {**weights, "more": torch.zeros(1)})
    with pytest.raises(BadValue, match=r"fc.weight is 8x10|fc.weight is 8×10"), torch.no_grad():
        from_paddle(vgg(), {**weights, "fc.weight": weights["fc.weight"].T})


def test_a_pickle_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "net.pdparams").write_bytes(b"\x80\x04.")
    with pytest.raises(BadFile, match="neither a run folder"):
        eyeshot.exporting.convert(tmp_path / "net.pdparams", tmp_path / "out")


def test_paddle_computes_the_same_with_the_weights() -> None:
    paddle: Any = pytest.importorskip("paddle", reason="PaddlePaddle is not installed")
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(),
                        nn.Linear(4 * 36, 5)).eval()  # fmt: skip
    for name in ("running_mean", "running_var"):
        net.state_dict()[f"1.{name}"].uniform_(0.5, 1.5)
    theirs = paddle.nn.Sequential(
        paddle.nn.Conv2D(1, 4, 3), paddle.nn.BatchNorm2D(4), paddle.nn.ReLU(),
        paddle.nn.Flatten(), paddle.nn.Linear(4 * 36, 5),
    )  # fmt: skip
    theirs.set_state_dict({k: paddle.to_tensor(v.numpy()) for k, v in to_paddle(net).items()})
    theirs.eval()
    x = torch.rand(2, 1, 8, 8)
    with torch.no_grad():
        mine = net(x).numpy()
    answer = theirs(paddle.to_tensor(x.numpy())).numpy()
    assert np.abs(answer - mine).max() <= 1e-5 * np.abs(mine).max()
