"""Networks of Keras 3, exported by Keras, give Keras' own numbers; skipped where it is missing."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import eyeshot
from tests.frontends.onnx.files import apart, numbers


@pytest.fixture
def keras(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Keras on PyTorch's backend."""
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    if importlib.util.find_spec("keras") is None:
        pytest.skip("keras is not installed: pip install keras")
    return importlib.import_module("keras")


def _digits(keras: Any, image: Any) -> Any:
    x, one = image, keras.layers
    for channels in (4, 6):
        x = one.Conv2D(channels, 3, padding="same", activation="relu")(x)
        x = one.MaxPooling2D()(x)
    return one.Dense(10)(one.Dense(16, activation="relu")(one.Flatten()(x)))


def _u_net(keras: Any, image: Any) -> Any:
    one = keras.layers
    high = one.Conv2D(6, 3, padding="same", activation="relu")(image)
    x = one.Conv2D(8, 3, padding="same")(one.MaxPooling2D()(high))
    x = one.Conv2DTranspose(6, 3, strides=2, padding="same")(one.LeakyReLU()(x))
    return one.Conv2D(2, 1, activation="sigmoid")(one.Concatenate()([x, high]))


def _strided_same(keras: Any, image: Any) -> Any:
    one = keras.layers
    x = one.Conv2D(6, 3, strides=2, padding="same")(image)
    x = one.SeparableConv2D(6, 3, padding="same")(one.BatchNormalization()(x))
    x = one.DepthwiseConv2D(5, strides=2, padding="same")(one.ReLU()(x))
    return one.MaxPooling2D(3, strides=2, padding="same")(x)


def _upsampled(keras: Any, image: Any) -> Any:
    one = keras.layers
    x = one.UpSampling2D(2)(one.ZeroPadding2D(((1, 2), (3, 0)))(image))
    x = one.PReLU(shared_axes=[1, 2])(one.Conv2D(4, 3)(x))
    return one.UpSampling2D(2, interpolation="bilinear")(x)


_NETS = {
    _digits: ((28, 28, 1), ((28, 28),)),
    _u_net: ((16, 16, 3), ((16, 16), (24, 38))),
    _strided_same: ((16, 16, 3), ((16, 16), (21, 39), (23, 26))),
    _upsampled: ((16, 16, 3), ((16, 16), (19, 22))),
}


def _model(keras: Any, build: Any, shape: Sequence[int | None]) -> Any:
    image = keras.Input(shape)
    return keras.Model(image, build(keras, image))


@pytest.mark.parametrize("build", _NETS, ids=lambda one: one.__name__.strip("_"))
def test_a_network_of_keras_gives_its_numbers_at_every_size(
    build: Any, keras: Any, tmp_path: Path
) -> None:
    shape, sizes = _NETS[build]
    model = _model(keras, build, shape)
    for seed, weight in enumerate(model.weights):
        weight.assign(np.abs(numbers(*weight.shape, seed=seed, scale=0.3)))
    anywhere = model if build is _digits else _model(keras, build, (None, None, shape[-1]))
    anywhere.set_weights(model.get_weights())
    model(numbers(1, *shape))  # Keras exports what it has called
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PyTorch's exporter
        model.export(tmp_path / "net.onnx", format="onnx", verbose=False)
    net = eyeshot.load_onnx(tmp_path / "net.onnx")
    for size in sizes:
        image = numbers(1, *size, shape[-1], seed=7)
        expected = anywhere(image).detach().numpy()
        ours = torch.from_numpy(np.ascontiguousarray(image.transpose(0, 3, 1, 2)))
        assert apart(net(ours).detach(), expected) < 1e-5
        assert apart(eyeshot.run(net, ours[0]), expected[0]) < 1e-5
